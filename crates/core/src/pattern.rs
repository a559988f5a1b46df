//! MATCH_RECOGNIZE as the planner hands it to the runtime: a pattern of rows, its conditions, and what a match gives.

use crate::ExprRef;
use crate::graph::{AggregateCall, WindowTime};
use std::fmt;

/// A search for a pattern in the rows of each key (flink docs: "Pattern Recognition"). Takes and gives `+I` rows only.
///
/// The rows of a key are searched in the order of their time, then of `order`, then of their arrival; in event time
/// when the watermark has passed them. Each match gives one row: the keys, then the measures.
#[derive(Clone, Debug)]
pub struct MatchRecognize {
    /// `PARTITION BY`: columns of the input, by which it is partitioned; none: one worker searches all rows.
    pub keys: Vec<usize>,
    /// The time attribute that `ORDER BY` starts with.
    pub time: WindowTime,
    /// The rest of `ORDER BY`.
    pub order: Vec<SortColumn>,
    /// `PATTERN`: the variables in the order in which rows are mapped to them, without rows between.
    pub variables: Vec<PatternVariable>,
    /// What the conditions read beside the candidate row: one column each, after the input's columns.
    pub define_columns: Vec<MatchColumn>,
    /// What the measures read: one column each.
    pub measure_columns: Vec<MatchColumn>,
    /// `MEASURES`: expressions over `measure_columns`.
    pub measures: Vec<ExprRef>,
    /// `AFTER MATCH`
    pub skip: AfterMatch,
    /// `WITHIN`: a match whose rows are this many milliseconds apart, or more, is none.
    pub within_ms: Option<i64>,
}

impl MatchRecognize {
    /// What stored partial matches depend on: the pattern, its conditions, keys, order and limits; `column` tells what a
    /// column of the input is.
    pub fn meaning(&self, column: &dyn Fn(usize) -> String) -> String {
        let list = |columns: &[usize]| columns.iter().map(|c| column(*c)).collect::<Vec<_>>().join(", ");
        let conditions = self.variables.iter().map(|v| match &v.condition {
            Some(condition) => format!("{v} AS {condition}"),
            None => v.to_string(),
        });
        let made = |made: &MatchColumn| match made {
            MatchColumn::Row { variable, from_last, offset, column: of } => {
                let which = if *from_last { "last" } else { "first" };
                format!("{which} {offset} of {variable:?} {}", column(*of))
            }
            MatchColumn::Aggregate { variable, call } => {
                format!("{:?}({}) of {variable:?}", call.function, list(&call.args))
            }
            MatchColumn::RowTime { .. } => "row time".to_string(),
        };
        let order = self.order.iter().map(|by| {
            let SortColumn { column: by, descending, nulls_first } = *by;
            format!(", {} {descending} {nulls_first}", column(by))
        });
        let time = match self.time {
            WindowTime::Event { column: time } => column(time),
            WindowTime::Processing => "processing time".to_string(),
        };
        format!(
            "[{}] reading [{}] within {:?} ms by ({}) in the order of {time}{}",
            conditions.collect::<Vec<_>>().join(", "),
            self.define_columns.iter().map(made).collect::<Vec<_>>().join(", "),
            self.within_ms,
            list(&self.keys),
            order.collect::<String>(),
        )
    }
}

impl fmt::Display for PatternVariable {
    /// As PATTERN has it: `B{2,}?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (self.min, self.max) {
            (1, Some(1)) => return Ok(()),
            (0, None) => f.write_str("*")?,
            (1, None) => f.write_str("+")?,
            (0, Some(1)) => f.write_str("?")?,
            (min, None) => write!(f, "{{{min},}}")?,
            (min, Some(max)) if min == max => write!(f, "{{{min}}}")?,
            (min, Some(max)) => write!(f, "{{{min},{max}}}")?,
        }
        if self.greedy { Ok(()) } else { f.write_str("?") }
    }
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortColumn {
    /// The column.
    pub column: usize,
    /// `DESC`
    pub descending: bool,
    /// Whether NULL comes before all values.
    pub nulls_first: bool,
}

/// A variable of a pattern with its quantifier.
#[derive(Clone, Debug)]
pub struct PatternVariable {
    /// Its name.
    pub name: String,
    /// The fewest rows that it takes.
    pub min: u32,
    /// The most rows that it takes, 1 or more; `None`: any number.
    pub max: Option<u32>,
    /// Whether a row that can be mapped to it is never mapped to the next variable instead (Flink's meaning of greedy).
    pub greedy: bool,
    /// `DEFINE`: a BOOLEAN over the input's columns and `define_columns`; `None`: always true.
    pub condition: Option<ExprRef>,
}

/// A value that is read from the rows that are mapped to a variable; while a row is tested for a variable, it counts
/// as the variable's last.
#[derive(Clone, Debug)]
pub enum MatchColumn {
    /// A column of one of the rows; NULL if there is no such row.
    Row {
        /// Which variable's rows; `None`: the rows of all.
        variable: Option<usize>,
        /// `LAST`: counts from the last row (else from the first).
        from_last: bool,
        /// How many rows from there; 0: the first or last itself.
        offset: u32,
        /// The column of the input.
        column: usize,
    },
    /// An aggregate of the rows.
    Aggregate {
        /// Which variable's rows; `None`: the rows of all.
        variable: Option<usize>,
        /// The aggregate, over columns of the input.
        call: AggregateCall,
    },
    /// In measures: when it was certain that the match counts. That is the time of its last row, unless an earlier
    /// partial match had to fail first.
    RowTime {
        /// Whether it is TIMESTAMP_LTZ(3) (else TIMESTAMP(3)).
        local_time_zone: bool,
    },
}

/// Where the search goes on after a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterMatch {
    /// After the match's first row.
    ToNextRow,
    /// After the match's last row.
    PastLastRow,
    /// At the first row of a variable (by number). It fails the job if there is none, or if it is the match's first.
    ToFirst(usize),
    /// At the last row of a variable, likewise.
    ToLast(usize),
}
