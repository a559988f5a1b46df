//! The logical plan: relational operators over typed columns that know which of them carry time.

use crate::bind::place::At;
use crate::catalog::Table;
use crate::plan::lookup::LookupHints;
use millstream_core::graph::{AggregateCall, FromChangelog, JoinKind, OverCall, Rank, SortKey, ToChangelog};
use millstream_core::graph::{Unnest, WindowAggregate, WindowSpec};
use millstream_core::lookup::LookupSource;
use millstream_core::pattern::MatchRecognize;
use millstream_core::source::Source;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, ExprRef, Field, Result, Schema, TypeKind};
use std::sync::Arc;

/// A shared relation.
pub type RelRef = Arc<Rel>;

/// An operator with its output columns.
#[derive(Clone, Debug)]
pub struct Rel {
    /// What it does.
    pub op: RelOp,
    /// What it gives.
    pub columns: Vec<Column>,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type.
    pub data_type: DataType,
    /// What it means for time.
    pub role: Role,
}

/// What a column means for time. Kept while the column is passed through, lost by any expression over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Nothing.
    Plain,
    /// The event-time attribute.
    RowTime,
    /// A processing-time attribute.
    ProcTime,
    /// `window_start` of a window function.
    WindowStart(WindowInfo),
    /// `window_end` of a window function.
    WindowEnd(WindowInfo),
    /// `window_time` of a window function: a time attribute again.
    WindowTime(WindowInfo),
}

/// What windows that were cut earlier have in common with windows over them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowInfo {
    /// Whether they close by the watermark (else by the clock).
    pub event_time: bool,
    /// Whether their time attribute is TIMESTAMP_LTZ.
    pub local_time_zone: bool,
    /// The zone in whose local time they were cut.
    pub zone: SessionZone,
}

/// The logical operators.
#[derive(Clone, Debug)]
pub enum RelOp {
    /// Columns of a table.
    Scan {
        /// The table.
        table: Arc<Table>,
        /// Its source, unprojected.
        source: Arc<dyn Source>,
        /// Tells scans of one table with different hints apart; empty without hints.
        variant: String,
        /// Which of the table's columns, by number; pruning drops some.
        kept: Vec<usize>,
    },
    /// Constant rows.
    Values {
        /// One expression a column, without column references.
        rows: Vec<Vec<ExprRef>>,
    },
    /// Filter, then project.
    Calc {
        /// The rows.
        input: RelRef,
        /// Which rows stay.
        filter: Option<ExprRef>,
        /// The output columns.
        project: Vec<ExprRef>,
    },
    /// Several rows for each row.
    Expand {
        /// The rows.
        input: RelRef,
        /// The output columns, a list for each output row.
        projections: Vec<Vec<ExprRef>>,
    },
    /// `UNION ALL`
    Union {
        /// Relations of the same column types.
        inputs: Vec<RelRef>,
    },
    /// Each row as often as its last column says, which is left out.
    Replicate {
        /// The rows.
        input: RelRef,
    },
    /// A row for each element of a collection: the kept columns, then the element's.
    Unnest {
        /// The rows.
        input: RelRef,
        /// Which collection.
        unnest: Unnest,
    },
    /// A window table function: appends `window_start`, `window_end`, `window_time`.
    Window {
        /// The rows.
        input: RelRef,
        /// Which windows.
        window: WindowSpec,
        /// SESSION's `PARTITION BY`.
        session_keys: Vec<usize>,
    },
    /// `MATCH_RECOGNIZE`: gives the partition's columns, then the measures.
    Match {
        /// The rows.
        input: RelRef,
        /// What is looked for.
        search: Box<MatchRecognize>,
    },
    /// A windowed aggregate, in a single phase.
    Aggregate {
        /// The rows.
        input: RelRef,
        /// What is computed.
        aggregate: WindowAggregate,
    },
    /// A join: the columns of both; of SEMI and ANTI those of the first.
    Join {
        /// The first relation.
        left: RelRef,
        /// The second.
        right: RelRef,
        /// Which rows come out.
        kind: JoinKind,
        /// What must be TRUE of a pair, over the columns of both.
        condition: Option<ExprRef>,
        /// How long rows of each side live without use, if hints say so; milliseconds, 0: for ever.
        ttl_ms: [Option<i64>; 2],
    },
    /// A join with the versions of a table: the columns of both.
    TemporalJoin {
        /// The rows.
        left: RelRef,
        /// The versions.
        right: RelRef,
        /// LEFT rather than INNER.
        outer: bool,
        /// The rows' event time.
        left_time: usize,
        /// From when a version holds.
        right_time: usize,
        /// What must be TRUE of a row and its version, over the columns of both.
        condition: Option<ExprRef>,
    },
    /// A join with a table as it is when rows arrive: the columns of both.
    LookupJoin {
        /// The rows.
        left: RelRef,
        /// The table under calcs, which is looked up in rather than read.
        right: RelRef,
        /// The table itself.
        source: Arc<dyn LookupSource>,
        /// LEFT rather than INNER.
        outer: bool,
        /// What must be TRUE of a pair, over the columns of both.
        condition: Option<ExprRef>,
        /// How it is to be looked up in.
        hints: LookupHints,
    },
    /// `TO_CHANGELOG`: the columns, then what each row was.
    ToChangelog {
        /// The changes.
        input: RelRef,
        /// What they are called.
        changes: ToChangelog,
    },
    /// `FROM_CHANGELOG`: the columns without the one that says what each row is.
    FromChangelog {
        /// The rows.
        input: RelRef,
        /// What they are.
        changes: FromChangelog,
    },
    /// A full changelog, made of one that lacks old rows or repeats itself.
    Normalize {
        /// The changes.
        input: RelRef,
        /// The columns that tell rows apart.
        keys: Vec<usize>,
    },
    /// Functions over rows in an order: appends a column a call. Without calls the rows are sorted by time.
    Over {
        /// The rows.
        input: RelRef,
        /// The columns that rows are apart by.
        partition: Vec<usize>,
        /// The order.
        order: Vec<SortKey>,
        /// The functions.
        calls: Vec<OverCall>,
        /// What the columns of the order mean for time.
        roles: Vec<Role>,
        /// The end of the windows that the partitions are in, if they are.
        window: Option<(usize, WindowInfo)>,
        /// Where it is in the script.
        at: At,
    },
    /// The first rows of each partition: appends their rank, if wanted.
    Rank {
        /// The rows.
        input: RelRef,
        /// Which of them; the timing is that of an append-only input.
        rank: Rank,
    },
    /// An aggregate without a window: keys, then aggregates.
    GroupAggregate {
        /// The rows.
        input: RelRef,
        /// The columns that make a group.
        keys: Vec<usize>,
        /// What is computed.
        aggregates: Vec<AggregateCall>,
        /// How long a group lives without use, if a hint says so; milliseconds, 0: for ever.
        ttl_ms: Option<i64>,
    },
}

impl Role {
    /// Whether it is an event-time attribute.
    pub fn is_event_time(self) -> bool {
        match self {
            Role::RowTime => true,
            Role::WindowTime(info) => info.event_time,
            Role::Plain | Role::ProcTime | Role::WindowStart(_) | Role::WindowEnd(_) => false,
        }
    }
    /// Whether it is a processing-time attribute.
    pub fn is_proctime(self) -> bool {
        match self {
            Role::ProcTime => true,
            Role::WindowTime(info) => !info.event_time,
            Role::Plain | Role::RowTime | Role::WindowStart(_) | Role::WindowEnd(_) => false,
        }
    }
}

impl Column {
    /// A column that means nothing for time.
    pub fn plain(name: impl Into<String>, data_type: DataType) -> Self {
        Column { name: name.into(), data_type, role: Role::Plain }
    }
    /// Whether windows can be cut by it.
    pub fn is_time_attribute(&self) -> bool {
        matches!(self.role, Role::RowTime | Role::ProcTime | Role::WindowTime(_))
    }
    /// Whether it is processing time.
    pub fn is_proctime(&self) -> bool {
        self.role.is_proctime()
    }
    /// Whether its type is TIMESTAMP_LTZ.
    pub fn is_local_time_zone(&self) -> bool {
        matches!(self.data_type.kind, TypeKind::TimestampLtz(_))
    }
}

impl Rel {
    /// A relation.
    pub fn new(op: RelOp, columns: Vec<Column>) -> RelRef {
        Arc::new(Rel { op, columns })
    }
    /// The same over other inputs, of the same columns, which `change` makes from its own.
    pub fn map_inputs(&self, mut change: impl FnMut(&RelRef) -> Result<RelRef>) -> Result<RelRef> {
        let mut op = self.op.clone();
        match &mut op {
            RelOp::Scan { .. } | RelOp::Values { .. } => {}
            RelOp::Calc { input, .. }
            | RelOp::Expand { input, .. }
            | RelOp::Replicate { input }
            | RelOp::Unnest { input, .. }
            | RelOp::Window { input, .. }
            | RelOp::Match { input, .. }
            | RelOp::Normalize { input, .. }
            | RelOp::ToChangelog { input, .. }
            | RelOp::FromChangelog { input, .. }
            | RelOp::Aggregate { input, .. }
            | RelOp::GroupAggregate { input, .. }
            | RelOp::Over { input, .. }
            | RelOp::LookupJoin { left: input, .. }
            | RelOp::Rank { input, .. } => *input = change(input)?,
            RelOp::Join { left, right, .. } | RelOp::TemporalJoin { left, right, .. } => {
                (*left, *right) = (change(left)?, change(right)?);
            }
            RelOp::Union { inputs } => {
                for input in inputs {
                    *input = change(input)?;
                }
            }
        }
        Ok(Rel::new(op, self.columns.clone()))
    }
    /// A join or an aggregate whose rows live as long as hints say, of each input.
    pub fn with_ttl(rel: &RelRef, hints: [Option<i64>; 2]) -> RelRef {
        let mut op = rel.op.clone();
        match &mut op {
            RelOp::Join { ttl_ms, .. } => *ttl_ms = hints,
            RelOp::GroupAggregate { ttl_ms, .. } => *ttl_ms = hints[0],
            _ => return rel.clone(),
        }
        Rel::new(op, rel.columns.clone())
    }
    /// The columns as a schema.
    pub fn schema(&self) -> Schema {
        schema_of(&self.columns)
    }
    /// A filter that passes all columns through.
    pub fn filter(input: RelRef, filter: ExprRef) -> RelRef {
        let columns = input.columns.clone();
        let project = columns.iter().enumerate().map(|(i, c)| crate::bind::build::column(i, c)).collect();
        Rel::new(RelOp::Calc { input, filter: Some(filter), project }, columns)
    }
}

/// The columns as a schema.
pub fn schema_of(columns: &[Column]) -> Schema {
    Schema::new(columns.iter().map(|c| Field::new(&c.name, c.data_type.clone())).collect())
}
