//! What rankings and OVER windows compute: rows in an order, their ranks, and aggregates over their neighbours.

use crate::graph::{AggregateCall, AggregateFunction, GroupAggregate, WindowTime};

/// A column that rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The column of the input.
    pub column: usize,
    /// Whether the highest value is first.
    pub descending: bool,
    /// Whether NULL is before all else.
    pub nulls_first: bool,
}

/// Which number a row has among those of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFunction {
    /// `ROW_NUMBER`: its place; equal rows in the order of arrival.
    RowNumber,
    /// `RANK`: one more than there are rows before it.
    Rank,
    /// `DENSE_RANK`: one more than there are different rows before it.
    DenseRank,
}

/// The rows of each partition whose rank is within a range: output columns are the input's, then, if wanted, the rank,
/// then one a call.
#[derive(Clone, Debug)]
pub struct Rank {
    /// What numbers the rows.
    pub function: RankFunction,
    /// The partition's columns; also what the input is partitioned by. None: one partition, on one worker.
    pub partition: Vec<usize>,
    /// The order, the most significant column first.
    pub order: Vec<SortKey>,
    /// Whether of equal rows the one that arrived last is first.
    pub latest_first: bool,
    /// The lowest rank that comes out, from 1.
    pub from: u64,
    /// The highest.
    pub to: u64,
    /// Whether the rank is a column of the output (BIGINT, the last).
    pub outputs_rank: bool,
    /// Functions over the rows of the partition up to each row, in its order; then all rows come out.
    pub calls: Vec<OverCall>,
    /// When rows come out.
    pub timing: RankTiming,
    /// A partition without rows for this long is forgotten; milliseconds, `None`: never.
    pub ttl_ms: Option<i64>,
}

/// When the rows of a [`Rank`] come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankTiming {
    /// At once; what a later row displaces is taken back.
    Continuous,
    /// At once, for good: the rows are ranked in the order of their arrival.
    Arrival,
    /// A partition's first row by a time attribute, once the watermark reaches it.
    RowTime {
        /// The time attribute, the only column of the order.
        column: usize,
    },
    /// When the window that the rows are in, a part of the partition, is over.
    Window {
        /// Its end's column.
        end: usize,
        /// Whether it is over by the watermark (else by the clock).
        event_time: bool,
        /// In whose local time it ends.
        zone: crate::types::SessionZone,
    },
}

/// Functions over the rows of a partition up to each row, in the order of time: output columns are the input's, then
/// one a call. Event time: rows wait for the watermark to pass them, late ones are dropped. Append-only.
#[derive(Clone, Debug)]
pub struct Over {
    /// The partition's columns; also what the input is partitioned by. None: all on one worker.
    pub partition: Vec<usize>,
    /// What orders the rows.
    pub time: WindowTime,
    /// Orders rows of the same time; then the order of arrival.
    pub then: Vec<SortKey>,
    /// The functions; none: the rows are just sorted.
    pub calls: Vec<OverCall>,
    /// Aggregates over all rows so far are forgotten when no row came for so long; milliseconds, `None`: never.
    pub ttl_ms: Option<i64>,
}

/// A function over a frame of rows.
#[derive(Clone, Debug)]
pub struct OverCall {
    /// Which.
    pub function: OverFunction,
    /// The rows.
    pub frame: Frame,
}

/// The functions of OVER.
#[derive(Clone, Debug)]
pub enum OverFunction {
    /// An aggregate of the frame.
    Aggregate(AggregateCall),
    /// `ROW_NUMBER`, `RANK`, `DENSE_RANK`
    Rank(RankFunction),
    /// `LAG`: a column's value so many rows before the frame's last row.
    Lag {
        /// The column.
        column: usize,
        /// How many rows before.
        offset: usize,
        /// The column that stands in where there is no such row, or a NULL; `None`: NULL.
        default: Option<usize>,
    },
}

/// A frame that ends with the current row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// `ROWS`; else `RANGE`, which has all rows of the current row's time.
    pub is_rows: bool,
    /// How many rows, or milliseconds, before the current row it begins; `None`: with the first row.
    pub preceding: Option<i64>,
}

impl Over {
    /// The aggregates of all rows so far, one for each call whose frame begins with the first row (ranks are made of
    /// counts); over the input's columns, as many as `width`, and a BOOLEAN behind those that is TRUE in the first row
    /// of each time.
    pub fn running(&self, width: usize) -> Option<GroupAggregate> {
        let count = |filter: Option<usize>| AggregateCall {
            function: AggregateFunction::Count,
            args: vec![],
            arg_types: vec![],
            distinct: false,
            filter,
            result: crate::TypeKind::BigInt.not_null(),
        };
        let aggregates: Vec<AggregateCall> = self
            .calls
            .iter()
            .filter(|call| call.frame.preceding.is_none())
            .filter_map(|call| match &call.function {
                OverFunction::Aggregate(aggregate) => Some(aggregate.clone()),
                OverFunction::Rank(RankFunction::DenseRank) => Some(count(Some(width))),
                OverFunction::Rank(RankFunction::RowNumber | RankFunction::Rank) => Some(count(None)),
                OverFunction::Lag { .. } => None,
            })
            .collect();
        let spec = GroupAggregate { keys: self.partition.clone(), aggregates, ttl_ms: self.ttl_ms };
        (!spec.aggregates.is_empty()).then_some(spec)
    }

    /// Whether rows are looked back at.
    pub fn has_history(&self) -> bool {
        self.calls
            .iter()
            .any(|call| call.frame.preceding.is_some() || matches!(call.function, OverFunction::Lag { .. }))
    }

    /// Whether no function needs more than the rows of its frame.
    pub fn is_bounded(&self) -> bool {
        let is_bounded =
            |call: &OverCall| call.frame.preceding.is_some() && !matches!(call.function, OverFunction::Lag { .. });
        !self.calls.is_empty() && self.calls.iter().all(is_bounded)
    }

    /// Whether rows are kept: until the watermark passes them, or to be looked back at.
    pub fn keeps_rows(&self) -> bool {
        self.time != WindowTime::Processing || self.has_history()
    }
}
