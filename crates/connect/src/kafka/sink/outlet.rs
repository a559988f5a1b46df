//! Topics as a producer's client knows them: records go in without looking the topic up by its name each time.

use super::log::Record;
use super::producer::fixed_partition;
use super::watch::TopicWatch;
use crate::kafka::client::place;
use crate::kafka::options::KafkaTable;
use millstream_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;

/// What librdkafka takes for a partition that the key decides.
const BY_THE_KEY: i32 = -1;

/// The topics that a producer writes to. They must go before the producer does.
pub(super) struct Outlets {
    table: KafkaTable,
    slot: u32,
    watch: Arc<TopicWatch>,
    known: RefCell<BTreeMap<String, Arc<Outlet>>>,
}

impl Outlets {
    /// None yet. `slot`: that of the producer.
    pub(super) fn new(table: &KafkaTable, slot: u32, watch: &Arc<TopicWatch>) -> Outlets {
        Outlets { table: table.clone(), slot, watch: watch.clone(), known: RefCell::default() }
    }

    /// The topic of that name; without a name, the table's only one.
    pub(super) fn of(&self, client: &Client<impl ClientContext>, name: Option<&str>) -> Result<Arc<Outlet>> {
        let Some(name) = name.or(self.table.topics.single()) else {
            return Err(Error::state("records that are to be committed were written for a table of a single topic")
                .at(place(&self.table, self.table.topics.key()))
                .hint("start the job once with the 'topic' that the table had"));
        };
        if let Some(known) = self.known.borrow().get(name) {
            return Ok(known.clone());
        }
        self.watch.note(name);
        let partition = fixed_partition(&self.table, client, name, self.slot)?;
        let outlet = Arc::new(Outlet::new(client, name, partition)?);
        self.known.borrow_mut().insert(name.to_string(), outlet.clone());
        Ok(outlet)
    }
}

/// A topic to write to.
pub(super) struct Outlet {
    name: String,
    topic: NonNull<native::rd_kafka_topic_t>,
    /// None: the key decides.
    partition: Option<i32>,
}

// SAFETY: librdkafka's topics may be used from any thread, and by several at once.
unsafe impl Send for Outlet {}
// SAFETY: the same.
unsafe impl Sync for Outlet {}

impl Outlet {
    /// The topic `name` of a producer's.
    pub(super) fn new(client: &Client<impl ClientContext>, name: &str, partition: Option<i32>) -> Result<Outlet> {
        let text = CString::new(name).map_err(|_| Error::internal("a topic's name holds a zero"))?;
        // SAFETY: client and name live during the call; without settings of its own the topic has the client's.
        let topic = unsafe { native::rd_kafka_topic_new(client.native_ptr(), text.as_ptr(), null_mut()) };
        match NonNull::new(topic) {
            Some(topic) => Ok(Outlet { name: name.to_string(), topic, partition }),
            None => Err(Error::internal(format!("the client takes no topic '{name}'"))),
        }
    }

    /// Writes a record; `Ok(false)`: there is no room just now.
    pub(super) fn send<C>(
        &self,
        producer: &BaseProducer<C>,
        record: &Record,
    ) -> std::result::Result<bool, RDKafkaErrorCode>
    where
        C: ProducerContext<NoCustomPartitioner, DeliveryOpaque = ()>,
    {
        let refused = match is_plain(record) {
            true => self.send_plain(record),
            false => self.send_with_more(producer, record),
        };
        match refused {
            None => Ok(true),
            Some(RDKafkaErrorCode::QueueFull) => Ok(false),
            Some(code) => Err(code),
        }
    }

    fn send_plain(&self, record: &Record) -> Option<RDKafkaErrorCode> {
        let ((value, value_len), (key, key_len)) = (of_bytes(record.value), of_bytes(record.key));
        let (topic, partition) = (self.topic.as_ptr(), self.partition.unwrap_or(BY_THE_KEY));
        let copy = native::RD_KAFKA_MSG_F_COPY;
        // SAFETY: key and value live during the call, which copies them.
        unsafe {
            match native::rd_kafka_produce(topic, partition, copy, value, value_len, key, key_len, null_mut()) {
                0 => None,
                _ => Some(native::rd_kafka_last_error().into()),
            }
        }
    }

    fn send_with_more<C>(&self, producer: &BaseProducer<C>, record: &Record) -> Option<RDKafkaErrorCode>
    where
        C: ProducerContext<NoCustomPartitioner, DeliveryOpaque = ()>,
    {
        let mut base = BaseRecord::<[u8], [u8]>::to(&self.name);
        (base.key, base.payload, base.partition, base.timestamp) =
            (record.key, record.value, self.partition, record.timestamp_ms);
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            base.headers = Some(
                record.headers.iter().fold(headers, |all, (key, value)| all.insert(Header { key, value: *value })),
            );
        }
        let (error, _) = producer.send(base).err()?;
        Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
    }

    /// Writes as many of the parcel's records as there is room for, in order, and takes them out of it; gives how many.
    pub(super) fn send_all(&self, parcel: &mut Parcel<'_>) -> std::result::Result<usize, RDKafkaErrorCode> {
        let messages = &mut parcel.messages;
        let count = c_int::try_from(messages.len()).unwrap_or(c_int::MAX);
        let (topic, partition) = (self.topic.as_ptr(), self.partition.unwrap_or(BY_THE_KEY));
        let copy = native::RD_KAFKA_MSG_F_COPY;
        // SAFETY: there are so many messages, and their keys and values live as long as the parcel; they are copied.
        let taken = unsafe { native::rd_kafka_produce_batch(topic, partition, copy, messages.as_mut_ptr(), count) };
        if taken == count {
            messages.clear();
            return Ok(taken as usize);
        }
        // Once there is no room for one there is none for those that follow.
        messages.retain(|message| message.err != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        let codes = messages.iter().map(|message| RDKafkaErrorCode::from(message.err));
        match codes.into_iter().find(|code| *code != RDKafkaErrorCode::QueueFull) {
            Some(code) => Err(code),
            None => Ok(usize::try_from(taken).unwrap_or(0)),
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // SAFETY: it is given back once, while the client is there.
        unsafe { native::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

/// Records that go to a topic together: the client then looks at the clock, and takes the topic's lock, once for all of them.
#[derive(Default)]
pub(super) struct Parcel<'a> {
    messages: Vec<native::rd_kafka_message_t>,
    records: PhantomData<&'a [u8]>,
}

impl<'a> Parcel<'a> {
    /// Takes a record up, if it has nothing but key and value; whether it has.
    pub(super) fn take(&mut self, record: &Record<'a>) -> bool {
        if !is_plain(record) {
            return false;
        }
        // SAFETY: numbers and pointers, for which all zeros are values.
        let mut message: native::rd_kafka_message_t = unsafe { std::mem::zeroed() };
        (message.payload, message.len) = of_bytes(record.value);
        (message.key, message.key_len) = of_bytes(record.key);
        self.messages.push(message);
        true
    }
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// Whether a record has nothing but key and value.
fn is_plain(record: &Record) -> bool {
    record.headers.is_empty() && record.timestamp_ms.is_none()
}

/// An empty text is not the same as none: its pointer is not null.
fn of_bytes(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

/// Has what is under way sent at once, and waits until the servers have confirmed it; whether they have before the time is
/// over. What could not be written counts as under way until the client was polled for it.
pub(super) fn is_flushed<C>(producer: &BaseProducer<C>, within: Duration) -> bool
where
    C: ProducerContext<NoCustomPartitioner>,
{
    let within = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client lives during the call.
    let outcome = unsafe { native::rd_kafka_flush(producer.client().native_ptr(), within) };
    outcome == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Hears all that the client has to say, and never waits: the client's own waiting keeps a processor busy for the last
/// millisecond, and its look without waiting takes up one matter alone.
pub(super) fn hear<C>(producer: &BaseProducer<C>)
where
    C: ProducerContext<NoCustomPartitioner>,
{
    // SAFETY: the client lives during the calls; the queue is given back once.
    let matters = unsafe {
        let queue = native::rd_kafka_queue_get_main(producer.client().native_ptr());
        let matters = native::rd_kafka_queue_length(queue);
        native::rd_kafka_queue_destroy(queue);
        matters
    };
    for _ in 0..matters {
        producer.poll(Duration::ZERO);
    }
}
