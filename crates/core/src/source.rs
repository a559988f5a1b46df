//! The source's contract: readers that are polled for batches and know their position.

use crate::graph::ChangelogMode;
use crate::metrics::MetricsRef;
use crate::time::ClockRef;
use crate::{Batch, Error, Result, Schema};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A table that can be read: the plan-time half of a source connector.
pub trait Source: Send + Sync + fmt::Debug {
    /// The columns that its batches have.
    fn schema(&self) -> &Schema;
    /// The same source giving only `schema`: a subset of the columns, in any order, in which `ROW`
    /// columns may have only some of their fields. What isn't asked for isn't decoded.
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>>;
    /// Which kinds of rows it gives.
    fn changelog(&self) -> ChangelogMode {
        ChangelogMode::INSERT_ONLY
    }
    /// Whether it ends by itself.
    fn is_bounded(&self) -> bool;
    /// A line for `explain`, such as `filesystem(path=flights.json, format=json)`.
    fn describe(&self) -> String;
    /// Decides, once for the whole job, what a job that starts anew reads, such as the files that are
    /// there; what it returns is given to [`Source::starting_at`] in every process, so that all instances
    /// agree. `None`: there is nothing to agree on.
    fn start(&self) -> Result<Option<String>> {
        Ok(None)
    }
    /// The same source, whose readers start anew from what [`Source::start`] returned. A source that
    /// returns something there has to have this, too.
    fn starting_at(&self, _start: &str) -> Result<Arc<dyn Source>> {
        Err(Error::internal(format!("{} can't be told where to start", self.describe())))
    }
    /// How many instances, from the first on, can have something to read in a job that starts anew; `None`: all. Event
    /// time never waits for the others.
    fn instances_max(&self) -> Option<usize> {
        None
    }
    /// Opens the reader of one instance.
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>>;
}

/// What a reader is given.
pub struct SourceContext {
    /// Which instance it is, from 0.
    pub instance: usize,
    /// How many instances there are in the whole job.
    pub instances: usize,
    /// What every instance returned from [`SourceReader::snapshot`], if the job resumes; the number
    /// of old instances may differ. The readers share the positions out among themselves by a rule
    /// of their own, so that each split is taken by exactly one of them. `None` starts anew.
    pub restored: Option<Vec<Vec<u8>>>,
    /// Wakes the worker when a reader that said [`SourcePoll::Wait`] has something.
    pub waker: Waker,
    /// Counters.
    pub metrics: MetricsRef,
    /// Processing time.
    pub clock: ClockRef,
}

/// Wakes the worker of a source; cheap, callable from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What a poll found.
#[derive(Debug)]
pub enum SourcePoll {
    /// Rows of one split; splits number from 0 within the instance. Each has a watermark of its own.
    Rows {
        /// The split they come from.
        split: u32,
        /// The rows.
        batch: Batch,
    },
    /// A split that has given no rows yet: event time waits for it from here on, and, other than for a split that just gives
    /// rows, until it has said [`SourcePoll::SplitAtEnd`]; only then can being without rows make it idle.
    SplitAdded(u32),
    /// The split, once added, has nothing more just now: all that it had has been given.
    SplitAtEnd(u32),
    /// The split will give no more rows; its watermark no longer counts.
    SplitEnded(u32),
    /// Nothing now: poll again after this time, or when woken.
    Wait(Option<Duration>),
    /// Like `Wait`, of an instance that has no split: event time doesn't wait for it until it gives rows.
    Idle(Option<Duration>),
    /// Nothing ever again.
    End,
}

/// One instance of a source. Never blocks: I/O happens on threads of its own, decoding here.
///
/// ```text
/// ( poll | hold_back | snapshot at_epoch_end | committed )*
/// ```
///
/// What `snapshot` returns must make a new reader go on right after the last row polled.
pub trait SourceReader: Send {
    /// The next rows, about `max_rows` of them at most.
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll>;
    /// The position, encoded and versioned.
    fn snapshot(&mut self) -> Result<Vec<u8>>;
    /// What [`SourceReader::snapshot`] has just returned is where `epoch` ended.
    fn at_epoch_end(&mut self, _epoch: u64) {}
    /// Gives no rows of these splits, which are too far ahead of others in event time, until the next call leaves them out.
    /// Default: it gives them.
    fn hold_back(&mut self, _splits: &[u32]) {}
    /// The checkpoint of `epoch` is durable.
    fn committed(&mut self, _epoch: u64) -> Result<()> {
        Ok(())
    }
}
