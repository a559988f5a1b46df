//! At-least-once: rows go to Kafka as they come, and an epoch ends when all of them have arrived.

use super::Plan;
use super::outlet::{Outlets, hear, is_flushed};
use super::producer::{Said, of_record, producer_config};
use super::rows::RecordEncoder;
use super::watch::{TopicWatch, Unconfirmed};
use crate::kafka::client::refused;
use crate::kafka::options::DeliveryGuarantee;
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::sink::{SinkContext, SinkWriter};
use millstream_core::source::Waker;
use millstream_core::{Batch, Error, Result, fail_point};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Records that may be under way before the writer takes no more rows.
const UNDER_WAY: i32 = 50_000;
/// Between looks at what the client has to say: that something went wrong.
const LOOK: Duration = Duration::from_millis(100);
/// Between looks whether there is room again.
const ROOM: Duration = Duration::from_millis(2);

/// What the client says: as for transactions, and that servers are out of reach counts as a call made again.
#[derive(Clone)]
struct Watch {
    said: Said,
    metrics: MetricsRef,
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.said.log(level, fac, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        add(&self.metrics.retries, 1);
        self.said.error(error, reason);
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.said.note_delivery(result);
    }
}

/// A writer without a log.
pub(super) struct DirectWriter {
    plan: Arc<Plan>,
    encoder: RecordEncoder,
    /// Declared before the producer, which they must not outlive.
    outlets: Outlets,
    producer: Arc<BaseProducer<Watch>>,
    shared: Arc<Shared>,
    serving: Thread,
}

/// What the writer and the thread that serves the client tell each other.
#[derive(Default)]
struct Shared {
    is_closed: AtomicBool,
    /// The writer waits for room.
    needs_room: AtomicBool,
    /// That the topic is gone, once that is clear.
    lost: Mutex<Option<Error>>,
}

impl Shared {
    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectWriter {
    pub(super) fn open(plan: Arc<Plan>, ctx: SinkContext) -> Result<Self> {
        let mut config = producer_config(&plan.table);
        if config.get("message.timeout.ms").is_none() {
            // A server that is away holds the job back; it doesn't end it.
            config.set("message.timeout.ms", "0");
        }
        let encoder = plan.encoder(ctx.metrics.clone())?;
        let watch = Watch { said: Said::default(), metrics: ctx.metrics };
        let producer: BaseProducer<Watch> = config.create_with_context(watch).map_err(|e| refused(&plan.table, &e))?;
        let slot = u32::try_from(ctx.instance).map_err(|_| Error::internal("more instances than fit a number"))?;
        let (producer, shared) = (Arc::new(producer), Arc::new(Shared::default()));
        let watch = Arc::new(TopicWatch::new(&plan.table));
        let outlets = Outlets::new(&plan.table, slot, &watch);
        let serving = serve(producer.clone(), shared.clone(), watch, ctx.waker)?;
        Ok(DirectWriter { encoder, plan, outlets, producer, shared, serving })
    }

    fn failure(&self) -> Result<()> {
        match (self.producer.context().said.undelivered(), &*self.shared.lost()) {
            (_, Some(error)) => Err(error.clone()),
            (Some(code), None) => Err(of_record(&self.plan.table, code)),
            (None, None) => Ok(()),
        }
    }
}

/// Serves the client's callbacks, and wakes the worker when there is room again.
fn serve(
    producer: Arc<BaseProducer<Watch>>,
    shared: Arc<Shared>,
    watch: Arc<TopicWatch>,
    waker: Waker,
) -> Result<Thread> {
    let serving = move || {
        let unconfirmed = Unconfirmed::new(producer.context().metrics.clone());
        while !shared.is_closed.load(Ordering::Acquire) {
            std::thread::park_timeout(if shared.needs_room.load(Ordering::Acquire) { ROOM } else { LOOK });
            hear(&producer);
            let said = &producer.context().said;
            let (confirmed, under_way) = (said.confirmed(&producer), producer.in_flight_count());
            if under_way == 0 {
                unconfirmed.begin(confirmed);
            }
            let looked = match under_way > 0 && unconfirmed.is_stuck(confirmed) {
                true => watch.look(),
                false => watch.look_sometimes(),
            };
            if let Err(error) = looked {
                shared.lost().get_or_insert(error);
                waker();
            }
            let has_room = under_way < UNDER_WAY && shared.needs_room.swap(false, Ordering::AcqRel);
            if has_room || said.undelivered().is_some() {
                waker();
            }
        }
    };
    let thread = std::thread::Builder::new().name("kafka-sink".into()).spawn(serving);
    let thread = thread.map_err(|e| Error::from(e).context("start the thread that serves Kafka's client"))?;
    Ok(thread.thread().clone())
}

impl Drop for DirectWriter {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.serving.unpark();
    }
}

impl SinkWriter for DirectWriter {
    fn is_ready(&mut self) -> Result<bool> {
        self.failure()?;
        let has_room = self.producer.in_flight_count() < UNDER_WAY;
        if !has_room {
            self.shared.needs_room.store(true, Ordering::Release);
            self.serving.unpark();
        }
        Ok(has_room)
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let DirectWriter { plan, encoder, outlets, producer, shared, .. } = self;
        encoder.encode(batch, &mut |record| {
            let topic = outlets.of(producer.client(), record.topic)?;
            loop {
                match topic.send(producer, record) {
                    Ok(true) => {
                        producer.context().said.note_sent(1);
                        return Ok(());
                    }
                    Ok(false) => {
                        if let Some(error) = &*shared.lost() {
                            return Err(error.clone());
                        }
                        std::thread::sleep(ROOM);
                    }
                    Err(code) => return Err(of_record(&plan.table, code)),
                }
            }
        })
    }

    fn prepare_commit(&mut self, _epoch: u64, ended: bool) -> Result<Vec<Vec<u8>>> {
        if self.plan.guarantee == DeliveryGuarantee::None && !ended {
            return Ok(vec![]);
        }
        while !is_flushed(&self.producer, LOOK) && self.failure().is_ok() {}
        self.failure()?;
        fail_point!("kafka::flushed")?;
        Ok(vec![])
    }
}
