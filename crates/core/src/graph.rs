//! The job graph: what the SQL planner hands to the runtime. Pure data, but for its expressions,
//! sources and sinks.

use crate::lookup::LookupSource;
use crate::operator::TableSpec;
use crate::sink::Sink;
use crate::source::Source;
use crate::{Error, ExprRef, Result, RowKind, Schema};
use std::fmt;
use std::sync::Arc;

pub use crate::aggregates::{AggregateCall, AggregateFunction, BitmapOperation};
pub use crate::ranking::{Frame, Over, OverCall, OverFunction, Rank, RankFunction, RankTiming, SortKey};

/// A node's place in [`JobGraph::nodes`].
pub type NodeIndex = usize;

/// A job: nodes in topological order (inputs before their users).
#[derive(Clone, Debug)]
pub struct JobGraph {
    /// The job's name.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// One node, run by every worker.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its stable id: derives from what it means (its place in the statement, its table's name),
    /// survives edits elsewhere in the script; state is found by it.
    pub id: String,
    /// What it is called in `explain` and in metrics.
    pub name: String,
    /// What it does.
    pub kind: NodeKind,
    /// Where its rows come from; one port each, in order. Empty for a source.
    pub inputs: Vec<Edge>,
    /// The columns it emits; for a sink: those it takes.
    pub schema: Schema,
    /// Which kinds of rows it emits.
    pub changelog: ChangelogMode,
    /// Of rows that change: the sets of columns of which no two rows are equal at a time, as far as they are known.
    pub upsert_keys: Vec<Vec<usize>>,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// Reads a table.
    Source(SourceNode),
    /// Transforms rows.
    Operator(OperatorSpec),
    /// Writes a table.
    Sink(Arc<dyn Sink>),
}

/// A source with what is done to its rows before anything else.
#[derive(Clone, Debug)]
pub struct SourceNode {
    /// The source, already projected.
    pub source: Arc<dyn Source>,
    /// The table's columns from the source's: one expression for each column of the node's schema.
    /// `None`: the node's schema is the source's.
    pub columns: Option<Vec<ExprRef>>,
    /// How event time is told.
    pub watermark: Option<WatermarkSpec>,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug)]
pub struct WatermarkSpec {
    /// The time attribute: a column of the node's schema, TIMESTAMP(3) or TIMESTAMP_LTZ(3).
    pub column: usize,
    /// The watermark of a row, over the node's schema; of a timestamp type with milliseconds. A NULL is no
    /// watermark. A NULL in the time attribute itself fails the job (as in Flink).
    pub expression: ExprRef,
    /// A row that moves the watermark by more than this emits it; milliseconds.
    pub interval_ms: i64,
    /// A split without rows for this long is idle; milliseconds, `None`: never.
    pub idle_timeout_ms: Option<i64>,
    /// Holds back splits that are ahead of others, if asked for.
    pub alignment: Option<WatermarkAlignment>,
}

/// How far the splits of a source, and of others in its group, may be apart in event time
/// (flink docs: "Watermark alignment").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkAlignment {
    /// The splits of all sources of the same group wait for each other.
    pub group: String,
    /// A split whose watermark is further ahead than this of the slowest one that still has rows is held back; milliseconds.
    pub max_drift_ms: i64,
    /// How often the slowest is looked for; milliseconds.
    pub update_interval_ms: i64,
}

/// An input of a node.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The node it comes from.
    pub from: NodeIndex,
    /// Which worker each row goes to.
    pub partitioning: Partitioning,
}

/// Which worker each row of an edge goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// It stays where it is; the two nodes run fused.
    Forward,
    /// By the hash of these columns ([`crate::key`]); no columns: all to worker 0.
    Hash(Vec<usize>),
    /// Round robin by batch.
    Rebalance,
}

/// Which kinds of rows a stream has, or a sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangelogMode {
    /// `-U` and `+U`; without `update_before`, `+U` alone (an upsert stream).
    pub update: bool,
    /// Whether `-U` comes before `+U`.
    pub update_before: bool,
    /// `-D`
    pub delete: bool,
}

impl ChangelogMode {
    /// `+I` only.
    pub const INSERT_ONLY: ChangelogMode = ChangelogMode { update: false, update_before: false, delete: false };
    /// All four kinds.
    pub const ALL: ChangelogMode = ChangelogMode { update: true, update_before: true, delete: true };
    /// All but `-U`.
    pub const UPSERT: ChangelogMode = ChangelogMode { update: true, update_before: false, delete: true };

    /// Whether there are only `+I`.
    pub fn is_insert_only(self) -> bool {
        self == ChangelogMode::INSERT_ONLY
    }
    /// The kinds of both.
    pub fn union(self, other: ChangelogMode) -> ChangelogMode {
        ChangelogMode {
            update: self.update || other.update,
            update_before: self.update_before || other.update_before,
            delete: self.delete || other.delete,
        }
    }
}

impl fmt::Display for ChangelogMode {
    /// As in Flink's `EXPLAIN CHANGELOG_MODE`: `[I,UB,UA,D]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[I")?;
        if self.update_before {
            f.write_str(",UB")?;
        }
        if self.update {
            f.write_str(",UA")?;
        }
        if self.delete {
            f.write_str(",D")?;
        }
        f.write_str("]")
    }
}

/// What a node is connected to.
#[derive(Clone, Debug)]
pub struct Connections {
    /// What arrives on each port.
    pub inputs: Vec<Stream>,
    /// What the node emits.
    pub output: Stream,
}

/// The rows of an edge.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Their columns.
    pub schema: Schema,
    /// Their kinds.
    pub changelog: ChangelogMode,
}

impl Connections {
    /// Of append-only streams.
    pub fn insert_only(inputs: &[Schema], output: &Schema) -> Self {
        let stream = |schema: &Schema| Stream { schema: schema.clone(), changelog: ChangelogMode::INSERT_ONLY };
        Connections { inputs: inputs.iter().map(stream).collect(), output: stream(output) }
    }
    /// Whether rows that arrived on a port are changed or taken back later.
    pub fn retracts(&self, port: usize) -> bool {
        self.inputs.get(port).is_some_and(|stream| !stream.changelog.is_insert_only())
    }
    /// The columns that arrive on a port.
    pub fn input(&self, port: usize) -> Result<&Schema> {
        let missing = || Error::internal(format!("an operator without its input {port}"));
        self.inputs.get(port).map(|stream| &stream.schema).ok_or_else(missing)
    }
}

impl JobGraph {
    /// What a node is connected to.
    pub fn connections(&self, node: &Node) -> Connections {
        if let NodeKind::Operator(OperatorSpec::LateRows(late)) = &node.kind {
            return Connections::insert_only(std::slice::from_ref(&late.input), &node.schema);
        }
        let stream = |node: &Node| Stream { schema: node.schema.clone(), changelog: node.changelog };
        Connections { inputs: node.inputs.iter().map(|e| stream(&self.nodes[e.from])).collect(), output: stream(node) }
    }
}

/// The operators that there are, with their parameters.
#[derive(Clone, Debug)]
pub enum OperatorSpec {
    /// Filter, then project. Keeps the kinds.
    Calc {
        /// Rows for which this BOOLEAN is not TRUE are dropped.
        filter: Option<ExprRef>,
        /// One expression an output column.
        project: Vec<ExprRef>,
    },
    /// For each row, one row by each of these lists of expressions (grouping sets).
    Expand {
        /// All of the output schema.
        projections: Vec<Vec<ExprRef>>,
    },
    /// All inputs' rows; ports of one schema.
    Union,
    /// Each row as often as a column says. It emits `+I` and `-D` only: of an update of the count, whose old and new
    /// row stand next to each other, the difference.
    Replicate {
        /// The column, a BIGINT, which the output doesn't have; NULL or less than 1: not at all.
        count: usize,
    },
    /// A row for each element of a collection.
    Unnest(Unnest),
    /// A window table function without an aggregate: a row for each window that it is in, with
    /// `window_start`, `window_end`, `window_time` appended. TUMBLE, HOP, CUMULATE: stateless; SESSION
    /// keeps the rows until their session is over.
    WindowAssign {
        /// Which windows.
        window: WindowSpec,
        /// For SESSION: the columns that the sessions, and so the input, are partitioned by.
        session_keys: Vec<usize>,
    },
    /// A windowed aggregate.
    WindowAggregate(WindowAggregate),
    /// An aggregate that is kept up to date.
    GroupAggregate(GroupAggregate),
    /// A join of two streams.
    Join(Join),
    /// `MATCH_RECOGNIZE`
    Match(crate::pattern::MatchRecognize),
    /// A join of rows with the versions of a table.
    TemporalJoin(TemporalJoin),
    /// A join of rows with those of a table outside, as it is when they arrive.
    LookupJoin(LookupJoin),
    /// Makes a full changelog of one that lacks old rows or repeats itself.
    ChangelogNormalize(ChangelogNormalize),
    /// `TO_CHANGELOG`: each row as a `+I`, with one more column at the end that says what it was.
    ToChangelog(ToChangelog),
    /// `FROM_CHANGELOG`: each row as what a column says that it is, without that column.
    FromChangelog(FromChangelog),
    /// The rows of each partition whose rank is within a range.
    Rank(Rank),
    /// Functions over the rows before each row, in the order of time.
    Over(Over),
    /// Takes not what its input's node emits, but what that drops as late.
    LateRows(LateRows),
    /// An operator that the graph's author brings along.
    Custom(Arc<dyn OperatorFactory>),
}

/// The names of the operators' state tables: part of the state's identity, with the node's id.
pub mod state_tables {
    /// Partial results of a windowed aggregate by key and slice of time.
    pub const SLICES: &str = "slices";
    /// Partial results of a windowed aggregate by key and session.
    pub const SESSIONS: &str = "sessions";
    /// Rows that are kept as they came: until their session ends, while a match may need them, as the last of their key.
    pub const ROWS: &str = "rows";
    /// The rows of a join's first input.
    pub const LEFT: &str = "left";
    /// The rows of a join's second input.
    pub const RIGHT: &str = "right";
    /// The versions of a table's rows, by key and time.
    pub const VERSIONS: &str = "versions";
    /// How many rows of each partition have come out.
    pub const TAKEN: &str = "taken";
    /// The aggregates of each group.
    pub const GROUPS: &str = "groups";
    /// How often each value of an argument occurs in each group; with the number of the first aggregate of it behind.
    pub const VALUES: &str = "values";
    /// What has ended but had no room to leave when a snapshot was taken.
    pub const DUE: &str = "due";
    /// The partial matches of each key, and the complete ones that wait for earlier ones to fail.
    pub const MATCHES: &str = "matches";
}

impl OperatorSpec {
    /// The names of its state tables; none if it keeps no state.
    pub fn state_tables(&self, connections: &Connections) -> Vec<String> {
        let is_session = |window: &WindowSpec| matches!(window.shape, WindowShape::Session { .. });
        let with_due = |table: &str| vec![table.into(), state_tables::DUE.into()];
        match self {
            OperatorSpec::Calc { .. }
            | OperatorSpec::Expand { .. }
            | OperatorSpec::Union
            | OperatorSpec::Replicate { .. }
            | OperatorSpec::LookupJoin(_)
            | OperatorSpec::LateRows(_)
            | OperatorSpec::ToChangelog(_)
            | OperatorSpec::FromChangelog(_)
            | OperatorSpec::Unnest(_) => vec![],
            OperatorSpec::WindowAssign { window, .. } if is_session(window) => with_due(state_tables::ROWS),
            OperatorSpec::WindowAssign { .. } => vec![],
            OperatorSpec::WindowAggregate(aggregate) => match aggregate.phase {
                AggregatePhase::Local => vec![],
                _ if is_session(&aggregate.window) => with_due(state_tables::SESSIONS),
                AggregatePhase::Single | AggregatePhase::Global => with_due(state_tables::SLICES),
            },
            OperatorSpec::Join(_) => vec![state_tables::LEFT.into(), state_tables::RIGHT.into()],
            OperatorSpec::TemporalJoin(_) => vec![state_tables::LEFT.into(), state_tables::VERSIONS.into()],
            OperatorSpec::ChangelogNormalize(_) => vec![state_tables::ROWS.into()],
            OperatorSpec::Match(_) => vec![state_tables::ROWS.into(), state_tables::MATCHES.into()],
            OperatorSpec::Rank(rank) => match rank.timing {
                RankTiming::Arrival => vec![state_tables::TAKEN.into()],
                RankTiming::RowTime { .. } => vec![state_tables::TAKEN.into(), state_tables::ROWS.into()],
                RankTiming::Continuous | RankTiming::Window { .. } => vec![state_tables::ROWS.into()],
            },
            OperatorSpec::Over(over) => {
                let mut tables = vec![];
                if over.keeps_rows() {
                    tables.push(state_tables::ROWS.to_string());
                }
                if let Some(running) = over.running(connections.inputs.first().map_or(0, |i| i.schema.len())) {
                    tables.extend(running.state_tables(false));
                }
                tables
            }
            OperatorSpec::GroupAggregate(aggregate) => aggregate.state_tables(connections.retracts(0)),
            OperatorSpec::Custom(factory) => factory.tables().into_iter().map(|table| table.name).collect(),
        }
    }
}

/// The rows that a node drops as late, made rows of another table: `+I`, whatever they were.
#[derive(Clone, Debug)]
pub struct LateRows {
    /// Of which of the node's ports.
    pub port: usize,
    /// That port's columns, then the watermark behind which a row came (TIMESTAMP_LTZ(3)) and its kind (STRING).
    pub input: Schema,
    /// The output's columns, over `input`.
    pub project: Vec<ExprRef>,
}

/// A row for each element of a collection: output columns are the kept ones, the element's (of a ROW: its fields; of a
/// MAP: key and value), and its number, an INT that counts from 1.
#[derive(Clone, Debug)]
pub struct Unnest {
    /// An ARRAY, MAP or MULTISET over the input's columns; a NULL has no elements.
    pub collection: ExprRef,
    /// The input's columns that the output has.
    pub kept: Vec<usize>,
    /// Whether the output has the element's number (`WITH ORDINALITY`).
    pub ordinality: bool,
    /// Whether a row without elements comes out once, with NULLs (`LEFT JOIN UNNEST`).
    pub keeps_empty: bool,
    /// A predicate over the output: what it is not TRUE of is no element (`LEFT JOIN UNNEST ... ON`).
    pub condition: Option<ExprRef>,
}

/// Makes instances of an operator that is not one of [`OperatorSpec`]'s own.
pub trait OperatorFactory: Send + Sync + fmt::Debug {
    /// The shapes of its state tables.
    fn tables(&self) -> Vec<TableSpec>;
    /// Makes one instance.
    fn create(&self, instance: usize, instances: usize) -> Result<Box<dyn crate::operator::Operator>>;
    /// A line for `explain`.
    fn describe(&self) -> String;
}

/// Which windows a row is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    /// The shape.
    pub shape: WindowShape,
    /// Where its time comes from.
    pub time: WindowTime,
    /// Windows are cut in this zone's local time (TIMESTAMP_LTZ and processing time; UTC for TIMESTAMP).
    pub zone: crate::types::SessionZone,
}

/// The shape of windows; all lengths in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowShape {
    /// Windows of `size_ms`, each row in one.
    Tumble {
        /// Length.
        size_ms: i64,
        /// Shift of the windows' start.
        offset_ms: i64,
    },
    /// Windows of `size_ms`, starting every `slide_ms` (which need not divide it).
    Hop {
        /// Length.
        size_ms: i64,
        /// Distance of their starts.
        slide_ms: i64,
        /// Shift of the windows' start.
        offset_ms: i64,
    },
    /// Windows that start together and end every `step_ms` up to `size_ms`.
    Cumulate {
        /// The longest.
        size_ms: i64,
        /// Distance of their ends.
        step_ms: i64,
        /// Shift of the windows' start.
        offset_ms: i64,
    },
    /// Windows that end after a gap without rows of the same partition.
    Session {
        /// The gap.
        gap_ms: i64,
    },
    /// The windows are in the rows: an earlier window function's columns.
    Attached {
        /// The column `window_start` of the input.
        start: usize,
        /// The column `window_end` of the input.
        end: usize,
    },
}

/// Where a window's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowTime {
    /// A time attribute of the input: windows close by the watermark.
    Event {
        /// The column, TIMESTAMP or TIMESTAMP_LTZ of any precision.
        column: usize,
    },
    /// The clock at the row's arrival: windows close by timers.
    Processing,
}

/// A windowed aggregate: output columns are the keys, then the aggregates, then the window properties.
///
/// Emits each window's groups once, when the watermark (or the clock) passes its end: append-only.
#[derive(Clone, Debug)]
pub struct WindowAggregate {
    /// Which windows.
    pub window: WindowSpec,
    /// The group's columns in the input; also what the input is partitioned by, unless empty.
    pub keys: Vec<usize>,
    /// For SESSION: how many of `keys`, from the front, partition the sessions (the rest group within
    /// them, which Flink allows only when it is none: then this is `keys.len()`).
    pub session_keys: usize,
    /// The aggregates, one output column each.
    pub aggregates: Vec<AggregateCall>,
    /// The window's properties at the end of the output, in order.
    pub properties: Vec<WindowProperty>,
    /// Whether the rows have been partly aggregated before the exchange.
    pub phase: AggregatePhase,
}

/// A join: output columns are the first input's, then the second's; of SEMI and ANTI only the first's.
#[derive(Clone, Debug)]
pub struct Join {
    /// Which rows come out.
    pub kind: JoinKind,
    /// Columns that must be equal; also what the inputs are partitioned by. None: all pairs, on one worker.
    pub keys: Vec<JoinKey>,
    /// What else must be TRUE of a pair, over the columns of both inputs.
    pub condition: Option<ExprRef>,
    /// Set if event time says when rows can't find a match any more: they leave then, and what has found none is told
    /// then, so that nothing needs to be taken back.
    pub time: Option<JoinTime>,
    /// Rows of each input that are not used for this long are forgotten; milliseconds, `None`: never.
    pub ttl_ms: [Option<i64>; 2],
}

/// Which rows come out of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and rows of the first input without a match, padded with NULLs.
    Left,
    /// Pairs, and rows of the second input without a match.
    Right,
    /// Pairs, and rows of both without a match.
    Full,
    /// Rows of the first input that have a match.
    Semi,
    /// Rows of the first input that have none.
    Anti,
}

/// Columns, of one type, that must be equal for rows to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinKey {
    /// Of the first input.
    pub left: usize,
    /// Of the second.
    pub right: usize,
    /// Whether NULL matches NULL (IS NOT DISTINCT FROM).
    pub null_safe: bool,
}

/// When rows leave a join: once event time, in the zone's local time, has reached a column's plus so many milliseconds.
#[derive(Clone, Debug)]
pub struct JoinTime {
    /// The column of the first input, and how much later.
    pub left: (usize, i64),
    /// The column of the second.
    pub right: (usize, i64),
    /// Whether a row whose time to leave has passed when it arrives is late, and dropped.
    pub drops_late: bool,
    /// Whose local time the columns are in; UTC for instants.
    pub zone: crate::types::SessionZone,
}

/// A join of each row of the first input with the version that held at the row's time of the row of the second input that
/// has its key: output columns are the first input's, then the second's. The rows of the second input are versions, each of
/// which holds until the next one of its key; a `-D` ends the last one. A row waits until event time has passed it.
#[derive(Clone, Debug)]
pub struct TemporalJoin {
    /// LEFT rather than INNER: rows without a version come out, too, padded with NULLs.
    pub outer: bool,
    /// Columns that must be equal; also what the inputs are partitioned by.
    pub keys: Vec<JoinKey>,
    /// What else must be TRUE of a row and its version, over the columns of both inputs.
    pub condition: Option<ExprRef>,
    /// The first input's column of event time.
    pub left_time: usize,
    /// The second's: from when a version holds.
    pub right_time: usize,
}

/// A join of each row with the rows that a table outside has for it when it arrives: output columns are the input's, then
/// the table's. Keeps the order of the rows unless told otherwise, and no state: what is under way is waited for before
/// an epoch ends.
#[derive(Clone, Debug)]
pub struct LookupJoin {
    /// The table.
    pub table: Arc<dyn LookupSource>,
    /// LEFT rather than INNER: rows without a match come out, too, padded with NULLs.
    pub outer: bool,
    /// What is looked up; one key at least.
    pub keys: Vec<LookupKey>,
    /// The table's columns that are asked for.
    pub read: Schema,
    /// Which of the table's rows count, over `read`.
    pub filter: Option<ExprRef>,
    /// The table's columns in the output, over `read`.
    pub columns: Vec<ExprRef>,
    /// What else must be TRUE of a pair, over the output's columns.
    pub condition: Option<ExprRef>,
    /// Whether a row has one match at most.
    pub is_unique: bool,
    /// How the table is asked.
    pub calls: LookupCalls,
}

/// A column of a table that is looked up by its value.
#[derive(Clone, Debug)]
pub struct LookupKey {
    /// The column's name.
    pub column: String,
    /// The value, over the input's columns; NULL matches nothing.
    pub value: ExprRef,
}

/// How a table that rows are looked up in is asked (flink docs: "LOOKUP" hint, `table.exec.async-lookup.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupCalls {
    /// No batch is taken while as many rows wait for an answer; 0: while any does.
    pub capacity: u64,
    /// Rows come out in the order in which they came; else as they are answered, but not past a watermark.
    pub ordered: bool,
    /// An answer that takes longer, with all that is tried again, fails the job; milliseconds.
    pub timeout_ms: u64,
    /// What happens if a key has no row.
    pub retry_missing: Option<RetryMissing>,
}

/// A key without a row is looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryMissing {
    /// So often at most.
    pub max_attempts: u32,
    /// So long after the last time; milliseconds.
    pub delay_ms: u64,
}

/// Keeps the last row of each key, and emits what changes: each `+U` with its `-U` if someone wants it, each `-D` with all
/// columns, nothing for what is known already.
#[derive(Clone, Debug)]
pub struct ChangelogNormalize {
    /// The columns of the key; also what the input is partitioned by.
    pub keys: Vec<usize>,
    /// A row that is not put again for this long is forgotten; milliseconds, `None`: never.
    pub ttl_ms: Option<i64>,
}

/// An aggregate without a window: output columns are the keys, then the aggregates. Each batch updates the groups that
/// it has rows of; what has not changed is not emitted.
#[derive(Clone, Debug)]
pub struct GroupAggregate {
    /// The group's columns in the input; also what the input is partitioned by. None: one group, of all rows, which
    /// is there once a row was.
    pub keys: Vec<usize>,
    /// The aggregates, one output column each.
    pub aggregates: Vec<AggregateCall>,
    /// A group without rows for this long is forgotten; milliseconds, `None`: never.
    pub ttl_ms: Option<i64>,
}

impl GroupAggregate {
    /// The names of its state tables, given whether rows may be taken back.
    pub fn state_tables(&self, retracts: bool) -> Vec<String> {
        let sets = self.value_sets(retracts).into_iter();
        let values = sets.map(|calls| format!("{}{}", state_tables::VALUES, calls[0]));
        std::iter::once(state_tables::GROUPS.to_string()).chain(values).collect()
    }
    /// The calls whose values are counted in state tables of their own, given whether rows may be taken back: those
    /// with the same arguments share one.
    pub fn value_sets(&self, retracts: bool) -> Vec<Vec<usize>> {
        let mut sets: Vec<Vec<usize>> = vec![];
        for (number, call) in self.aggregates.iter().enumerate() {
            let is_extremum = matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
            if !(call.distinct || retracts && is_extremum) {
                continue;
            }
            match sets.iter_mut().find(|set| self.aggregates[set[0]].args == call.args) {
                Some(set) => set.push(number),
                None => sets.push(vec![number]),
            }
        }
        sets
    }
}

/// How an aggregate is shared out around an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregatePhase {
    /// Rows in, results out.
    Single,
    /// Rows in, partial results out, before the exchange. Its output: the keys, a BIGINT column of slice
    /// ends (epoch milliseconds), then each accumulator's state columns
    /// (see the runtime's accumulators, which both phases share). Adaptive: stops combining when
    /// that doesn't reduce.
    Local,
    /// Partial results in, results out; `WindowAggregate::keys` are columns `0 .. keys.len()`.
    Global,
}

/// A property of a window, as an output column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowProperty {
    /// Its first instant: TIMESTAMP(3), local time.
    Start,
    /// The instant after its last: TIMESTAMP(3), local time.
    End,
    /// Its last millisecond (`window_time`, `TUMBLE_ROWTIME`), of the time attribute's type.
    RowTime {
        /// Whether it is TIMESTAMP_LTZ(3) (else TIMESTAMP(3)).
        local_time_zone: bool,
    },
}

/// How the kinds of rows are written into a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToChangelog {
    /// The code of each kind, by its number (`RowKind as usize`); rows of a kind without one are dropped.
    pub codes: [Option<String>; 4],
    /// Whether the old versions of updated rows are wanted.
    pub update_before: bool,
}

/// How the kinds of rows are read from a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromChangelog {
    /// The column of the input that has the codes, a text.
    pub column: usize,
    /// What the codes stand for.
    pub kinds: Vec<(String, RowKind)>,
}

impl FromChangelog {
    /// Which kinds there may be.
    pub fn changelog(&self) -> ChangelogMode {
        let has = |wanted: RowKind| self.kinds.iter().any(|(_, kind)| *kind == wanted);
        ChangelogMode {
            update: has(RowKind::UpdateAfter),
            update_before: has(RowKind::UpdateBefore),
            delete: has(RowKind::Delete),
        }
    }
}
