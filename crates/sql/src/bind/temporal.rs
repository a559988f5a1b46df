//! Joins with a table as it was: `JOIN versions FOR SYSTEM_TIME AS OF o.ts AS r ON o.key = r.key`
//! (flink docs: "Joins", event time temporal join).

use super::build::{column, replace_columns};
use super::expr::{ExprBinder, Scope};
use super::place::{At, Placed, at_expr, error};
use super::query::QueryBinder;
use crate::plan::joins::{all_of, conjuncts, equality};
use crate::plan::keys::{Key, unique_keys};
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use millstream_core::graph::JoinKind;
use millstream_core::{Error, ExprRef, Result};
use sqlparser::ast::{Expr, JoinConstraint, TableFactor, TableVersion};

/// The time at which a join wants a table, if it says so.
pub(super) fn as_of(factor: &TableFactor) -> Option<&Expr> {
    match factor {
        TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(time)), .. } => Some(time),
        _ => None,
    }
}

/// The columns of a temporal join: time goes on as the first input's.
pub fn columns(left: &[Column], right: &[Column], outer: bool) -> Vec<Column> {
    let of_right = |column: &Column| {
        let nullable = column.data_type.nullable || outer;
        Column::plain(&column.name, column.data_type.clone().with_nullable(nullable))
    };
    left.iter().cloned().chain(right.iter().map(of_right)).collect()
}

impl QueryBinder<'_> {
    /// Joins what is bound so far with the versions of a table at `time`.
    pub(super) fn temporal_join(
        &mut self,
        left: (RelRef, Scope),
        factor: &TableFactor,
        time: &Expr,
        (kind, constraint): (JoinKind, &JoinConstraint),
        at: At,
    ) -> Result<(RelRef, Scope)> {
        let outer = match kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            _ => {
                return Err(Error::unsupported("a join with FOR SYSTEM_TIME AS OF that is neither INNER nor LEFT")
                    .at_place(at_expr(time)));
            }
        };
        let mut plain = factor.clone();
        if let TableFactor::Table { version, .. } = &mut plain {
            *version = None;
        }
        let Some(left_time) = self.time_of_left(&left, time)? else {
            return self.lookup_join(left, &plain, time, (kind, constraint), at);
        };
        let right = self.factor(&plain, at)?;
        let name = right.1.tables.first().map_or_else(|| "the table".to_string(), |(name, ..)| format!("'{name}'"));
        let right_time = right.0.columns.iter().position(|c| c.role == Role::RowTime);
        let Some(right_time) = right_time else {
            return Err(Error::script(format!("{name} has no versions in time: it has no column of event time"))
                .hint("declare WATERMARK FOR its time, and keep that column in a view over it")
                .at_place(at_expr(time)));
        };
        let keys = unique_keys(&right.0);
        if keys.is_empty() {
            return Err(Error::script(format!("{name} has no versions: nothing says which rows are of one key"))
                .hint(
                    "declare PRIMARY KEY (..) NOT ENFORCED, or join with a view of each key's last row by ROW_NUMBER()",
                )
                .at_place(at_expr(time)));
        }
        let (left_column, right_column) = (&left.0.columns[left_time], &right.0.columns[right_time]);
        if left_column.is_local_time_zone() != right_column.is_local_time_zone() {
            let (a, b) = (&left_column.data_type, &right_column.data_type);
            return error(at_expr(time), format!("the times of both sides differ in type: {a} and {b}"));
        }
        let place = match constraint {
            JoinConstraint::On(on) => at_expr(on),
            _ => at,
        };
        self.joined(left, right, (kind, constraint), at, |left, right, condition| {
            self.versioned(left, right, (left_time, right_time), outer, condition, &keys, place)
        })
    }

    /// The column of the first input that a table's version is asked for by; `None` if it is processing time.
    fn time_of_left(&self, (rel, scope): &(RelRef, Scope), time: &Expr) -> Result<Option<usize>> {
        let bound = ExprBinder::new(scope, self.zone()).bind(time)?;
        let column = bound.as_column().and_then(|index| rel.columns.get(index).map(|column| (index, column)));
        match column {
            Some((_, column)) if column.is_proctime() => Ok(None),
            Some((index, column)) if column.is_time_attribute() => Ok(Some(index)),
            _ => Err(Error::script("FOR SYSTEM_TIME AS OF needs the time attribute of the table on the left")
                .hint("name the column that WATERMARK FOR is declared for, as it comes from the table")
                .at_place(at_expr(time))),
        }
    }

    #[allow(clippy::too_many_arguments)] // it is the end of `temporal_join`
    fn versioned(
        &self,
        left: RelRef,
        right: RelRef,
        (left_time, right_time): (usize, usize),
        outer: bool,
        condition: Option<ExprRef>,
        keys: &[Key],
        at: At,
    ) -> Result<RelRef> {
        let (width, plain_columns) = (left.columns.len(), columns(&left.columns, &right.columns, outer));
        // What the versions' columns are compared with becomes columns, too.
        let mut more: Vec<ExprRef> = vec![];
        let mut compared = Key::new();
        let parts = condition.as_ref().map(conjuncts).unwrap_or_default();
        let mut as_keys = vec![];
        for part in &parts {
            let key = equality(part, width).and_then(|(a, b, _)| Some((a, b.as_column()? - width)));
            if let Some((_, index)) = key {
                compared.insert(index);
            }
            let computed = key.filter(|(a, _)| a.as_column().is_none() && a.is_deterministic());
            as_keys.push(computed.map(|(a, index)| {
                more.push(a);
                (width + more.len() - 1, index)
            }));
        }
        if !keys.iter().any(|key| key.is_subset(&compared)) {
            let shown = |key: &Key| key.iter().map(|i| right.columns[*i].name.as_str()).collect::<Vec<_>>().join(", ");
            let wanted = keys.first().map(shown).unwrap_or_default();
            return Err(Error::script("the condition of a join with versions must compare the whole key for equality")
                .detail(format!("the key: {wanted}"))
                .hint(format!("add an equality for each of: {wanted}"))
                .at_place(at));
        }
        let added = more.len();
        let left = match added {
            0 => left,
            _ => {
                let mut all = left.columns.clone();
                let mut project: Vec<ExprRef> = all.iter().enumerate().map(|(i, c)| column(i, c)).collect();
                for (number, expr) in more.into_iter().enumerate() {
                    all.push(Column::plain(format!("$key{number}"), expr.data_type().clone()));
                    project.push(expr);
                }
                Rel::new(RelOp::Calc { input: left, filter: None, project }, all)
            }
        };
        let both: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let shifted = |index: usize| if index < width { index } else { index + added };
        let mut moved = vec![];
        for (part, as_key) in parts.iter().zip(as_keys) {
            moved.push(match (as_key, part.as_call()) {
                (Some((own, index)), Some(name)) => {
                    let other = width + added + index;
                    let sides = vec![column(own, &both[own]), column(other, &both[other])];
                    millstream_expr::build::call(name, sides, &self.zone())?
                }
                _ => replace_columns(part, &|index| column(shifted(index), &both[shifted(index)])),
            });
        }
        let condition = all_of(moved, &self.zone())?;
        let columns = columns(&left.columns, &right.columns, outer);
        let joined = Rel::new(RelOp::TemporalJoin { left, right, outer, left_time, right_time, condition }, columns);
        if added == 0 {
            return Ok(joined);
        }
        let project = (0..plain_columns.len()).map(|i| column(shifted(i), &joined.columns[shifted(i)])).collect();
        Ok(Rel::new(RelOp::Calc { input: joined, filter: None, project }, plain_columns))
    }
}
