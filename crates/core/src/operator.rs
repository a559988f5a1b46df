//! The operator's contract: batches and watermarks in, batches, watermarks and state deltas out.

use crate::expr::EvalContext;
use crate::metrics::{self, OperatorMetrics};
use crate::{Batch, Result, Schema, Watermark};
use arrow::array::{RecordBatch, UInt32Array};

/// Which input a batch arrives on, from 0.
pub type Port = usize;

/// Whether a call has emitted all that it has to emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing is left.
    Done,
    /// More is waiting: call again once there is room downstream.
    More,
}

/// What an operator that asks other systems waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// Nothing.
    Nothing,
    /// Answers, but it takes more rows.
    Some,
    /// So many answers that it takes no more rows.
    Full,
}

/// One parallel instance of a node in the job graph.
///
/// Its worker calls it from one thread, in this order:
///
/// ```text
/// restore* ─▶ ( process | on_watermark | on_timer | flush | snapshot )* ─▶ on_end?
/// ```
///
/// so an operator holds plain fields: no locks, nothing to await.
///
/// # Contract
///
/// - Watermarks only rise, and every instance of an operator has seen the same watermark when
///   `snapshot` is called. A row that an operator drops as *late* goes through [`Context::drop_late`].
/// - What is emitted before `snapshot` returns belongs to that epoch, what follows to the next.
///   Exactly-once inside a job rests on this alone. `flush` is called, until `Done`, right before.
/// - A call that has much to emit emits a batch or so (about [`TARGET_BATCH_ROWS`] rows) and returns
///   [`Progress::More`]; without [`Context::has_room`], `on_watermark`, `on_timer` and `on_end` emit no row but note
///   what they are told. The caller calls again until `Done`. Until then what is due but not emitted is part of the
///   operator's state, and the caller may call, in between,
///   - after `on_watermark`: `process`, `flush`, `snapshot`, and `on_watermark` with a later watermark, which supersedes
///     the earlier one: only the later is called again;
///   - after `on_timer`: the same, without calling `on_timer` again by itself: `next_timer` tells that it is due;
///   - after `on_end`: `flush` and `snapshot`;
///   - after `flush`: nothing.
/// - What a restored operator had due it emits before what a later watermark completes; `next_timer` asks for a call.
/// - An operator that asks other systems never waits in a call: answers wake the worker, and `next_timer` asks for
///   `on_timer`. While any is in flight no epoch ends, the operator isn't called `idle` or ended, and `snapshot` isn't
///   called; such an operator also emits in `on_timer` without [`Context::has_room`].
/// - The same calls in the same order emit the same rows: clocks and random numbers come from `ctx`.
/// - The watermark that `on_watermark` brings is passed on by the operator itself, with
///   `ctx.emit_watermark`, after the rows that it completes.
pub trait Operator: Send {
    /// Takes over a part of the restored state; called any number of times before all else. Rows
    /// come only from the instance's own [`crate::key::HashRange`].
    fn restore(&mut self, part: Restored) -> Result<()>;
    /// Handles a batch that arrived on `port`.
    fn process(&mut self, port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()>;
    /// Handles event time having reached `watermark` on the minimum of the inputs.
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress>;
    /// Handles processing time having reached what [`Operator::next_timer`] asked for.
    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress>;
    /// The processing time, milliseconds since 1970 UTC, at which `on_timer` is wanted next; the past while something
    /// is due that no other call is made for.
    fn next_timer(&self) -> Option<i64>;
    /// What it waits for from other systems.
    fn in_flight(&self) -> InFlight {
        InFlight::Nothing
    }
    /// Emits what is held back only for the sake of batching (a local aggregate's partial results,
    /// then the watermark that waited for them). Called every few milliseconds and before `snapshot`.
    fn flush(&mut self, ctx: &mut Context<'_>) -> Result<Progress>;
    /// All inputs have ended, and `on_watermark(Watermark::MAX)` is done: emits what still waits for
    /// processing time. Nothing follows but `flush` and `snapshot`.
    fn on_end(&mut self, ctx: &mut Context<'_>) -> Result<Progress>;
    /// Hands over what changed since the last snapshot (since the start or restore, the first time).
    ///
    /// There is no default: an operator that forgot it would lose data in silence.
    fn snapshot(&mut self, epoch: u64) -> Result<StateDelta>;
}

/// Batches aim at this many rows.
pub const TARGET_BATCH_ROWS: usize = 8192;

/// Where an operator's results go.
pub trait Collector {
    /// Takes a batch of the node's output schema.
    fn emit(&mut self, batch: Batch) -> Result<()>;
    /// Takes the node's own watermark; only rises.
    fn emit_watermark(&mut self, watermark: Watermark) -> Result<()>;
    /// See [`Context::has_room`].
    fn has_room(&self) -> bool {
        true
    }
    /// Whether someone takes the late rows of a port.
    fn wants_late(&self, _port: Port) -> bool {
        false
    }
    /// Takes rows that arrived on a port behind the watermark.
    fn emit_late(&mut self, _port: Port, _rows: Batch, _watermark: Watermark) -> Result<()> {
        Ok(())
    }
}

/// What an operator may use while it handles a call.
pub struct Context<'a> {
    /// Where results go.
    pub out: &'a mut dyn Collector,
    /// Processing time of this call, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// The operator's counters. The caller counts rows in and out; the operator the rest.
    pub metrics: &'a OperatorMetrics,
}

impl Context<'_> {
    /// Emits a batch; an empty one is dropped.
    pub fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.num_rows() == 0 { Ok(()) } else { self.out.emit(batch) }
    }
    /// Passes event time on.
    pub fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.out.emit_watermark(watermark)
    }
    /// Whether there is room downstream for what has become due. There may be none while an epoch is to end: the rows
    /// before its end are still handed over.
    pub fn has_room(&self) -> bool {
        self.out.has_room()
    }
    /// Drops rows of a batch that arrived on `port`, since event time, which has reached `watermark`, has passed what
    /// they belong to: they are counted, and go where late rows are wanted.
    pub fn drop_late(&mut self, port: Port, batch: &Batch, rows: Vec<u32>, watermark: Watermark) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        metrics::add(&self.metrics.late_rows, rows.len() as u64);
        match self.out.wants_late(port) {
            true => self.out.emit_late(port, batch.take(&UInt32Array::from(rows))?, watermark),
            false => Ok(()),
        }
    }
    /// For evaluating expressions.
    pub fn eval(&self) -> EvalContext {
        EvalContext::at(self.now_ms)
    }
}

/// The shape of one state table of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name, unique within the operator and stable across versions of the program.
    pub name: String,
    /// All columns; keys first by convention.
    pub schema: Schema,
    /// The columns that together identify a row.
    pub key: Vec<usize>,
    /// The columns, among the key, whose [`crate::key::hash_columns`] says which worker owns a row;
    /// empty for a global table, owned by worker 0.
    pub partition_by: Vec<usize>,
    /// An Int64 column, or one in timestamp milliseconds, of event or processing time by which rows
    /// expire in bulk (see [`TableDelta::expired_below`]).
    pub time: Option<usize>,
}

/// What changed in an operator's state since its last snapshot.
#[derive(Clone, Debug, Default)]
pub struct StateDelta {
    /// Changes of the tables; a table that did not change may be left out.
    pub tables: Vec<TableDelta>,
    /// What is not keyed: this instance's own small state (an encoded, versioned value), whole
    /// each time. At restore every instance is given those of all old instances.
    pub instance: Option<Vec<u8>>,
}

/// What changed in one table. Applied in this order: expiry, deletes, upserts.
#[derive(Clone, Debug, Default)]
pub struct TableDelta {
    /// The table's name.
    pub table: String,
    /// Rows whose time column is below this are gone.
    pub expired_below: Option<i64>,
    /// Keys that are gone: batches of the key columns only, in `TableSpec::key` order.
    pub deletes: Vec<RecordBatch>,
    /// New or changed rows, whole: batches of the table's schema, each key at most once.
    pub upserts: Vec<RecordBatch>,
}

/// A part of restored state.
#[derive(Clone, Debug)]
pub enum Restored {
    /// Rows of a table, each key once in all.
    Rows {
        /// The table's name.
        table: String,
        /// Rows of the table's schema.
        rows: RecordBatch,
    },
    /// What each old instance handed over as [`StateDelta::instance`].
    Instances(Vec<Vec<u8>>),
}
