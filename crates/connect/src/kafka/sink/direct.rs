//! At-least-once: rows go to Kafka as they come, and an epoch ends when all of them have arrived.

use super::Plan;
use super::producer::{Said, fixed_partition, of_record, producer_config, send};
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
use std::time::Duration;

/// Records that may be under way before the writer takes no more rows.
const UNDER_WAY: i32 = 50_000;
/// Between looks at what the client has to say.
const LOOK: Duration = Duration::from_millis(2);

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
    producer: Arc<BaseProducer<Watch>>,
    partition: Option<i32>,
    /// That the topic is gone, once that is clear.
    lost: Lost,
    /// Ends the thread that serves the client.
    is_open: Arc<AtomicBool>,
}

type Lost = Arc<Mutex<Option<Error>>>;

impl DirectWriter {
    pub(super) fn open(plan: Arc<Plan>, ctx: SinkContext) -> Result<Self> {
        let mut config = producer_config(&plan.table);
        if config.get("message.timeout.ms").is_none() {
            // A server that is away holds the job back; it doesn't end it.
            config.set("message.timeout.ms", "0");
        }
        let watch = Watch { said: Said::default(), metrics: ctx.metrics };
        let producer: BaseProducer<Watch> = config.create_with_context(watch).map_err(|e| refused(&plan.table, &e))?;
        let slot = u32::try_from(ctx.instance).map_err(|_| Error::internal("more instances than fit a number"))?;
        let partition = fixed_partition(&plan.table, producer.client(), &plan.topic, slot)?;
        let (producer, is_open) = (Arc::new(producer), Arc::new(AtomicBool::new(true)));
        let watch = TopicWatch::new(&plan.table, &plan.topic);
        let lost = Lost::default();
        serve(producer.clone(), is_open.clone(), (watch, lost.clone()), ctx.waker)?;
        Ok(DirectWriter { encoder: plan.format.encoder()?, plan, producer, partition, lost, is_open })
    }

    fn failure(&self) -> Result<()> {
        let said = &self.producer.context().said;
        match (said.undelivered(), &*self.lost.lock().unwrap_or_else(PoisonError::into_inner)) {
            (_, Some(error)) => Err(error.clone()),
            (Some(code), None) => Err(of_record(&self.plan.table, code)),
            (None, None) => Ok(()),
        }
    }
}

/// Serves the client's callbacks, and wakes the worker when there is room again.
fn serve(
    producer: Arc<BaseProducer<Watch>>,
    is_open: Arc<AtomicBool>,
    (watch, lost): (TopicWatch, Lost),
    waker: Waker,
) -> Result<()> {
    let serving = move || {
        let mut was_full = false;
        let unconfirmed = Unconfirmed::new(producer.context().metrics.clone());
        while is_open.load(Ordering::Acquire) {
            producer.poll(LOOK);
            let (under_way, confirmed) = (producer.in_flight_count(), producer.context().said.confirmed());
            if under_way == 0 {
                unconfirmed.begin(confirmed);
            }
            let looked = match under_way > 0 && unconfirmed.is_stuck(confirmed) {
                true => watch.look(),
                false => watch.look_sometimes(),
            };
            if let Err(error) = looked {
                lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                waker();
            }
            let is_full = under_way >= UNDER_WAY;
            if was_full && !is_full || producer.context().said.undelivered().is_some() {
                waker();
            }
            was_full = is_full;
        }
    };
    let thread = std::thread::Builder::new().name("kafka-sink".into()).spawn(serving);
    thread.map(drop).map_err(|e| Error::from(e).context("start the thread that serves Kafka's client"))
}

impl Drop for DirectWriter {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Release);
    }
}

impl SinkWriter for DirectWriter {
    fn is_ready(&mut self) -> Result<bool> {
        self.failure()?;
        Ok(self.producer.in_flight_count() < UNDER_WAY)
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let DirectWriter { plan, encoder, producer, partition, lost, .. } = self;
        encoder.encode(batch, &mut |record| {
            loop {
                match send(producer, &plan.topic, *partition, record) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {
                        if let Some(error) = &*lost.lock().unwrap_or_else(PoisonError::into_inner) {
                            return Err(error.clone());
                        }
                        std::thread::sleep(LOOK);
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
        while self.producer.in_flight_count() > 0 && self.failure().is_ok() {
            std::thread::sleep(LOOK);
        }
        self.failure()?;
        fail_point!("kafka::flushed")?;
        Ok(vec![])
    }
}
