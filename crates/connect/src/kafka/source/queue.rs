//! The queue of one partition within the client: records come out of it in batches, in the client's own memory.

use super::super::client::Hearing;
use millstream_core::source::Waker;
use millstream_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Messages that are taken at once: few enough that they are still in the processor's caches when they are decoded.
const AT_ONCE: usize = 512;

/// The queue of one partition.
pub(super) struct PartitionQueue {
    queue: NonNull<native::rd_kafka_queue_t>,
    wake: Box<Wake>,
    /// The client outlives the queue.
    _client: Arc<BaseConsumer<Hearing>>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for PartitionQueue {}

struct Wake {
    /// Whether something may be in the queue.
    ready: AtomicBool,
    waker: Waker,
}

/// Called by the client's threads, with the queue's lock held, when the queue is no longer empty.
unsafe extern "C" fn on_ready(_client: *mut native::rd_kafka_t, wake: *mut c_void) {
    // SAFETY: `wake` is the box of a queue that has not been dropped: its drop takes the callback back first, under the lock.
    let wake = unsafe { &*wake.cast::<Wake>() };
    wake.ready.store(true, Ordering::Release);
    (wake.waker)();
}

impl PartitionQueue {
    /// The queue of a partition that is assigned afterwards, so that none of its records go to the client's common queue.
    pub fn new(
        client: &Arc<BaseConsumer<Hearing>>,
        topic: &str,
        partition: i32,
        waker: Waker,
    ) -> Result<PartitionQueue> {
        let name = CString::new(topic).map_err(|_| Error::internal("a topic's name holds a zero"))?;
        let mut wake = Box::new(Wake { ready: AtomicBool::new(true), waker });
        let opaque: *mut Wake = &mut *wake;
        // SAFETY: the client and the name live during the calls; the box lives as long as the callback may be called.
        let queue = unsafe {
            let queue = native::rd_kafka_queue_get_partition(client.client().native_ptr(), name.as_ptr(), partition);
            if let Some(queue) = NonNull::new(queue) {
                native::rd_kafka_queue_forward(queue.as_ptr(), std::ptr::null_mut());
                native::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(on_ready), opaque.cast());
            }
            NonNull::new(queue)
        };
        let queue = queue.ok_or_else(|| Error::internal(format!("partition {partition} of '{topic}' has no queue")))?;
        Ok(PartitionQueue { queue, wake, _client: client.clone() })
    }

    /// Puts what is there, at most `most`, in place of the messages that were passed; never waits.
    pub fn take(&self, most: usize, messages: &mut Messages) {
        assert!(messages.is_empty(), "messages are taken when those before them were passed");
        messages.at = 0;
        messages.all.clear();
        if !self.wake.ready.swap(false, Ordering::AcqRel) {
            return;
        }
        let most = most.clamp(1, AT_ONCE);
        messages.all.reserve(most);
        // SAFETY: the buffer has room for as many as are asked for, and so many of them as are told are written.
        unsafe {
            let all = messages.all.as_mut_ptr();
            let count = native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, all, most);
            messages.all.set_len(usize::try_from(count).unwrap_or(0));
        }
        if !messages.is_empty() {
            // There may be more.
            self.wake.ready.store(true, Ordering::Release);
        }
    }

    /// Whether something may be there.
    pub fn is_ready(&self) -> bool {
        self.wake.ready.load(Ordering::Acquire)
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: after the first call no callback is under way or will be; the queue is given back once.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, std::ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Records and events of one partition, in order, in the client's memory; what is passed is given back at once.
#[derive(Default)]
pub(super) struct Messages {
    all: Vec<*mut native::rd_kafka_message_t>,
    at: usize,
}

// SAFETY: messages belong to who took them out of the queue, on any thread.
unsafe impl Send for Messages {}

/// A record, or an event of its partition.
#[derive(Clone, Copy)]
pub(super) struct RawMessage<'a>(&'a native::rd_kafka_message_t);

impl Messages {
    /// The next one.
    pub fn peek(&self) -> Option<RawMessage<'_>> {
        // SAFETY: the pointers are valid until they are given back, which needs exclusive access.
        self.all.get(self.at).map(|message| RawMessage(unsafe { &**message }))
    }
    /// Gives the next one back to the client.
    pub fn pass(&mut self) {
        if let Some(message) = self.all.get(self.at) {
            self.at += 1;
            // SAFETY: each is given back once, since `at` only rises.
            unsafe { native::rd_kafka_message_destroy(*message) };
        }
    }
    pub fn is_empty(&self) -> bool {
        self.at >= self.all.len()
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        while !self.is_empty() {
            self.pass();
        }
    }
}

impl<'a> RawMessage<'a> {
    /// What the partition has to say instead of a record.
    pub fn error(self) -> Option<RDKafkaErrorCode> {
        let code = self.0.err;
        (code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }
    /// The client's words for the error.
    pub fn reason(self) -> String {
        // SAFETY: the text lives as long as the message.
        unsafe {
            let text = native::rd_kafka_message_errstr(self.0);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }
    pub fn offset(self) -> i64 {
        self.0.offset
    }
    /// `None`: there is no value, which is not the same as an empty one.
    pub fn value(self) -> Option<&'a [u8]> {
        // SAFETY: the client's buffer lives as long as the message.
        (!self.0.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.0.payload.cast(), self.0.len) })
    }
    /// `None`: there is no key.
    pub fn key(self) -> Option<&'a [u8]> {
        // SAFETY: the client's buffer lives as long as the message.
        (!self.0.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.0.key.cast(), self.0.key_len) })
    }
    pub fn size(self) -> usize {
        self.0.len + self.0.key_len
    }
    /// Milliseconds, and what they are the time of.
    pub fn timestamp(self) -> (i64, &'static str) {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: reads the message.
        let ms = unsafe { native::rd_kafka_message_timestamp(self.0, &mut kind) };
        match kind {
            native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => (ms, "CreateTime"),
            native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => (ms, "LogAppendTime"),
            native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (ms, "NoTimestampType"),
        }
    }
    /// `None`: it isn't known.
    pub fn leader_epoch(self) -> Option<i32> {
        // SAFETY: reads the message.
        let epoch = unsafe { native::rd_kafka_message_leader_epoch(self.0) };
        (epoch >= 0).then_some(epoch)
    }
    /// Names and values in order.
    pub fn headers(self) -> Vec<(&'a [u8], &'a [u8])> {
        let mut found = Vec::new();
        let mut headers = std::ptr::null_mut();
        // SAFETY: names and values live as long as the message, which owns the headers.
        unsafe {
            let message: *const native::rd_kafka_message_t = self.0;
            if native::rd_kafka_message_headers(message, &mut headers)
                != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return found;
            }
            let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
            let done = native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            while native::rd_kafka_header_get_all(headers, found.len(), &mut name, &mut value, &mut size) == done {
                let bytes: &[u8] = match value.is_null() {
                    true => &[],
                    false => std::slice::from_raw_parts(value.cast(), size),
                };
                found.push((CStr::from_ptr(name).to_bytes(), bytes));
            }
        }
        found
    }
}
