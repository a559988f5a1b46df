//! Which topics a client has come to know: librdkafka says in its log that a topic has another id than before, and nowhere else.

use super::super::client::Hearing;
use millstream_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

/// The log of a client, in a queue of its own.
pub(super) struct IdLog {
    queue: NonNull<native::rd_kafka_queue_t>,
    /// It outlives the queue.
    client: Arc<BaseConsumer<Hearing>>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for IdLog {}

/// Has a client that is made from `config` say which ids it learns.
pub(super) fn configure(config: &mut ClientConfig) {
    let debug = config.get("debug").map_or("topic".to_string(), |debug| format!("{debug},topic"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
}

impl IdLog {
    /// The log of a client that [`configure`] has seen.
    pub(super) fn new(client: &Arc<BaseConsumer<Hearing>>) -> Result<IdLog> {
        let native_client = client.client().native_ptr();
        // SAFETY: the client lives during the calls, and keeps a reference of its own to the queue that its log goes to.
        let queue = unsafe {
            let queue = native::rd_kafka_queue_new(native_client);
            let code = native::rd_kafka_set_log_queue(native_client, queue);
            NonNull::new(queue).filter(|_| code == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
        };
        match queue {
            Some(queue) => Ok(IdLog { queue, client: client.clone() }),
            None => Err(Error::internal("the client's log has no queue")),
        }
    }

    /// Topics and the ids that the client has learned since the last call; of one that it knew before, this is another topic of
    /// its name. It is told before any record of that one comes out of a queue of the client's, if the servers give out records
    /// by topic id (Kafka 3.1 and later).
    pub(super) fn take(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        // SAFETY: the queue lives; the event's texts are used before it is destroyed, once.
        unsafe {
            loop {
                let event = native::rd_kafka_queue_poll(self.queue.as_ptr(), 0);
                if event.is_null() {
                    return found;
                }
                let (mut facility, mut text, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                if native::rd_kafka_event_log(event, &mut facility, &mut text, &mut level) == 0 {
                    let [facility, text] = [facility, text].map(|text| CStr::from_ptr(text).to_string_lossy());
                    found.extend(learned(&text));
                    self.client.context().log(level_of(level), &facility, text.trim());
                }
                native::rd_kafka_event_destroy(event);
            }
        }
    }
}

impl Drop for IdLog {
    fn drop(&mut self) {
        // SAFETY: it is given back once.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// The topic and its id, of a line that says that it has another one than before.
fn learned(line: &str) -> Option<(String, String)> {
    let (topic, ids) = line.split_once(" changed id from ")?;
    Some((topic.rsplit(' ').next()?.to_string(), ids.split_once(" to ")?.1.trim().to_string()))
}

/// syslog's levels
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}
