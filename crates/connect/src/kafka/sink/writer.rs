//! The writer of the epoch log: rows to records, records to objects, on a thread of their own.

use super::ledger::RunId;
use super::log::{Buffer, LogObject};
use super::protocol::{Committable, VERSION};
use super::rows::RecordEncoder;
use super::{Plan, SlotBacklog};
use millstream_core::sink::{EpochStorage, SinkContext, SinkWriter};
use millstream_core::source::Waker;
use millstream_core::{Batch, Error, Result, fail_point};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Objects are about this large, unless a transaction is to be smaller.
const OBJECT_BYTES: usize = 4 << 20;
/// Objects that may wait to be stored before the writer takes no more rows.
const OBJECTS_WAITING: usize = 4;

/// One slot's part of the log.
pub(super) struct LogWriter {
    plan: Arc<Plan>,
    encoder: RecordEncoder,
    lineage: String,
    run: RunId,
    slot: u32,
    /// The epoch that is being written, and the last one before it that had records.
    epoch: u64,
    committed: Option<u64>,
    buffer: Buffer,
    /// Bytes of the epoch that have gone to the thread.
    sent_bytes: u64,
    object_bytes: usize,
    thread: Sender<Job>,
    shared: Arc<Shared>,
    backlog: Arc<SlotBacklog>,
}

enum Job {
    Store {
        epoch: u64,
        buffer: Buffer,
    },
    /// Says when all before it are stored.
    Seal(Sender<()>),
}

struct Shared {
    waiting: AtomicUsize,
    stored: Mutex<Result<Vec<LogObject>>>,
    waker: Waker,
}

impl Shared {
    fn run(&self, storage: &dyn EpochStorage, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Store { epoch, buffer } => {
                    if self.lock().is_ok() {
                        let outcome = LogObject::store(storage, epoch, buffer);
                        let mut stored = self.lock();
                        match (outcome, &mut *stored) {
                            (Ok(object), Ok(stored)) => stored.push(object),
                            (Err(error), stored) => *stored = Err(error.context("write the Kafka sink's log")),
                            (Ok(_), Err(_)) => {}
                        }
                    }
                    self.waiting.fetch_sub(1, Ordering::SeqCst);
                    (self.waker)();
                }
                // Nobody waits if the job is over.
                Job::Seal(done) => drop(done.send(())),
            }
        }
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, Result<Vec<LogObject>>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn failure(&self) -> Result<()> {
        match &*self.lock() {
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        }
    }
}

impl LogWriter {
    pub(super) fn open(plan: Arc<Plan>, ctx: SinkContext) -> Result<Self> {
        let Some(storage) = ctx.storage else {
            return Err(Error::script("'sink.delivery-guarantee' = 'exactly-once' needs checkpoints")
                .at(crate::kafka::client::place(&plan.table, "sink.delivery-guarantee"))
                .hint("give the job a state directory"));
        };
        let slot = u32::try_from(ctx.instance).map_err(|_| Error::internal("more instances than fit a number"))?;
        let (thread, jobs) = channel();
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            stored: Mutex::new(Ok(Vec::new())),
            waker: ctx.waker.clone(),
        });
        let of_thread = shared.clone();
        std::thread::Builder::new()
            .name("kafka-log".into())
            .spawn(move || of_thread.run(storage.as_ref(), &jobs))
            .map_err(|e| Error::from(e).context("start the thread that writes the Kafka sink's log"))?;
        Ok(LogWriter {
            encoder: plan.encoder(ctx.metrics)?,
            lineage: ctx.job_id,
            run: RunId { attempt: ctx.attempt, run: ctx.run },
            slot,
            epoch: ctx.first_epoch,
            committed: None,
            buffer: Buffer::default(),
            sent_bytes: 0,
            object_bytes: OBJECT_BYTES.min(usize::try_from(plan.transaction_bytes).unwrap_or(OBJECT_BYTES)),
            thread,
            shared,
            backlog: plan.backlog(slot, ctx.waker),
            plan,
        })
    }

    fn store(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.sent_bytes += buffer.len() as u64;
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        let ended = |_| Error::internal("the thread that writes the Kafka sink's log has ended");
        self.thread.send(Job::Store { epoch: self.epoch, buffer }).map_err(ended)
    }
}

impl SinkWriter for LogWriter {
    fn is_ready(&mut self) -> Result<bool> {
        self.shared.failure()?;
        let has_room = self.shared.waiting.load(Ordering::SeqCst) < OBJECTS_WAITING;
        // While the epoch before waits to be committed the log grows; else the epoch will soon end.
        let is_full = self.sent_bytes + self.buffer.len() as u64 >= self.plan.log_bytes && self.backlog.is_waiting();
        Ok(has_room && !is_full)
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        // A large batch is cut, so that objects, and with them transactions, stay small.
        let rows_at_once = if self.object_bytes < OBJECT_BYTES { 16 } else { usize::MAX };
        let mut offset = 0;
        while offset < batch.num_rows() {
            let rows = rows_at_once.min(batch.num_rows() - offset);
            let buffer = &mut self.buffer;
            self.encoder.encode(&batch.slice(offset, rows), &mut |record| {
                buffer.push(record);
                Ok(())
            })?;
            offset += rows;
            if self.buffer.len() >= self.object_bytes {
                self.store()?;
            }
        }
        Ok(())
    }

    fn prepare_commit(&mut self, epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        assert!(epoch >= self.epoch, "epochs are prepared in order");
        if !self.buffer.is_empty() {
            self.store()?;
        }
        let (done, is_done) = channel();
        let ended = "the thread that writes the Kafka sink's log has ended";
        self.thread.send(Job::Seal(done)).map_err(|_| Error::internal(ended))?;
        is_done.recv().map_err(|_| Error::internal(ended))?;
        let objects = std::mem::replace(&mut *self.shared.lock(), Ok(Vec::new()))?;
        fail_point!("kafka::sealed")?;
        if !objects.is_empty() {
            self.backlog.wait_for(epoch);
        }
        let chunks = into_chunks(objects, self.plan.transaction_bytes);
        let committable = Committable {
            version: VERSION,
            lineage: self.lineage.clone(),
            run: self.run,
            slot: self.slot,
            epoch,
            committed: self.committed,
            chunks,
        };
        if !committable.chunks.is_empty() {
            self.committed = Some(epoch);
        }
        (self.epoch, self.sent_bytes) = (epoch + 1, 0);
        Ok(vec![committable.encode()?])
    }
}

/// Objects by transaction: as many as fit into so many bytes, at least one.
fn into_chunks(objects: Vec<LogObject>, bytes: u64) -> Vec<Vec<LogObject>> {
    let mut chunks: Vec<Vec<LogObject>> = Vec::new();
    for object in objects {
        match chunks.last_mut() {
            Some(chunk) if chunk.iter().map(|o| o.bytes).sum::<u64>() + object.bytes <= bytes => chunk.push(object),
            _ => chunks.push(vec![object]),
        }
    }
    chunks
}
