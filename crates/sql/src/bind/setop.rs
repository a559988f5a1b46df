//! UNION, INTERSECT and EXCEPT, each distinct and ALL.

use super::aggregate::distinct;
use super::build;
use super::place::{At, Placed, unsupported};
use super::query::QueryBinder;
use crate::plan::simplify::identity;
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use millstream_core::graph::{AggregateCall, AggregateFunction};
use millstream_core::{Error, ExprRef, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::{SetOperator, SetQuantifier};

impl QueryBinder<'_> {
    /// Two relations as one; `at` is where the second one stands.
    pub(super) fn set_operation(
        &self,
        left: RelRef,
        right: RelRef,
        op: SetOperator,
        quantifier: SetQuantifier,
        at: At,
    ) -> Result<RelRef> {
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::None | SetQuantifier::Distinct => false,
            other => return unsupported(at, format!("{op} {other}")),
        };
        if op == SetOperator::Minus {
            return Err(Error::unsupported("MINUS").hint("write EXCEPT").at_place(at));
        }
        let name = if all { format!("{op} ALL") } else { op.to_string() };
        let (columns, sides) = self.sides(left, right, &name, at)?;
        match op {
            SetOperator::Union => {
                let mut inputs = vec![];
                for side in sides {
                    match &side.op {
                        RelOp::Union { inputs: inner } => inputs.extend(inner.iter().cloned()),
                        _ => inputs.push(side),
                    }
                }
                let union = Rel::new(RelOp::Union { inputs }, columns);
                Ok(if all { union } else { distinct(union) })
            }
            _ => self.counted(columns, sides, op == SetOperator::Intersect, all),
        }
    }

    /// Both sides with common column types.
    fn sides(&self, left: RelRef, right: RelRef, name: &str, at: At) -> Result<(Vec<Column>, [RelRef; 2])> {
        let (n, m) = (left.columns.len(), right.columns.len());
        if n != m {
            let message = format!("the two sides of {name} have different numbers of columns: {n} and {m}");
            return Err(Error::script(message).hint("columns are matched by their place").at_place(at));
        }
        let mut columns = vec![];
        for (number, (l, r)) in left.columns.iter().zip(&right.columns).enumerate() {
            let Some(data_type) = exprs::least_restrictive(&[l.data_type.clone(), r.data_type.clone()]) else {
                let (l, r) = (&l.data_type, &r.data_type);
                let message = format!("column {} of {name} is {l} on one side and {r} on the other", number + 1);
                return Err(Error::script(message).hint("CAST one of them").at_place(at));
            };
            let role = match (l.role, r.role) {
                (a, b) if a == b => a,
                _ if l.is_time_attribute() && r.is_time_attribute() && !l.is_proctime() && !r.is_proctime() => {
                    Role::RowTime
                }
                _ => Role::Plain,
            };
            columns.push(Column { name: l.name.clone(), data_type, role });
        }
        let sides = [self.cast_to(left, &columns)?, self.cast_to(right, &columns)?];
        Ok((columns, sides))
    }

    /// INTERSECT and EXCEPT: equal rows of both sides are counted together, and come out as often as the counts say.
    fn counted(&self, columns: Vec<Column>, sides: [RelRef; 2], intersect: bool, all: bool) -> Result<RelRef> {
        let zone = self.zone();
        let width = columns.len();
        let plain = |c: &Column| Column { role: Role::Plain, ..c.clone() };
        let counts = || ["$left", "$right"].map(|name| Column::plain(name, TypeKind::BigInt.not_null()));
        let marked: Vec<Column> = columns.iter().map(plain).chain(counts()).collect();
        let mut inputs = vec![];
        for (number, side) in sides.into_iter().enumerate() {
            let mut project = identity(&side);
            project.extend([0, 1].map(|column| build::bigint(i64::from(column == number))));
            inputs.push(Rel::new(RelOp::Calc { input: side, filter: None, project }, marked.clone()));
        }
        let union = Rel::new(RelOp::Union { inputs }, marked.clone());
        let sum = |index: usize| AggregateCall {
            function: AggregateFunction::Sum0,
            args: vec![index],
            arg_types: vec![TypeKind::BigInt.not_null()],
            distinct: false,
            filter: None,
            result: TypeKind::BigInt.not_null(),
        };
        let aggregates = vec![sum(width), sum(width + 1)];
        let keys = (0..width).collect();
        let grouped = Rel::new(RelOp::GroupAggregate { input: union, keys, aggregates, ttl_ms: None }, marked);
        let (left, right) =
            (build::column(width, &grouped.columns[width]), build::column(width + 1, &grouped.columns[width + 1]));
        let call = |name: &str, args: Vec<ExprRef>| exprs::call(name, args, &zone);
        let (none, one) = (build::bigint(0), build::bigint(1));
        let copies = match (intersect, all) {
            (true, true) => call("CASE", vec![call("<", vec![left.clone(), right.clone()])?, left, right])?,
            (false, true) => call("-", vec![left, right])?,
            (_, false) => {
                let test = if intersect { ">" } else { "=" };
                let is_left = call(">", vec![left, none.clone()])?;
                let holds = call("AND", vec![is_left, call(test, vec![right, none.clone()])?])?;
                call("CASE", vec![holds, one, none])?
            }
        };
        let mut project: Vec<ExprRef> = identity(&grouped).into_iter().take(width).collect();
        project.push(copies);
        let mut with_copies: Vec<Column> = grouped.columns[..width].to_vec();
        with_copies.push(Column::plain("$copies", TypeKind::BigInt.not_null()));
        let input = Rel::new(RelOp::Calc { input: grouped, filter: None, project }, with_copies);
        Ok(Rel::new(RelOp::Replicate { input }, columns.iter().map(plain).collect()))
    }

    /// Casts each column to another type where it isn't of it.
    fn cast_to(&self, rel: RelRef, to: &[Column]) -> Result<RelRef> {
        if rel.columns.iter().zip(to).all(|(a, b)| a.data_type.kind == b.data_type.kind) {
            return Ok(rel);
        }
        let mut project = vec![];
        for (i, (from, to)) in rel.columns.iter().zip(to).enumerate() {
            let column = build::column(i, from);
            project.push(match from.data_type.kind == to.data_type.kind {
                true => column,
                false => {
                    let target = to.data_type.clone().with_nullable(from.data_type.nullable);
                    exprs::cast(column, target, false, &self.zone())?
                }
            });
        }
        Ok(Rel::new(RelOp::Calc { input: rel, filter: None, project }, to.to_vec()))
    }
}
