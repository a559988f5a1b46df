//! The table that late rows go to (`table.exec.late-rows.sink`): which operators drop rows as late, and what the table
//! is told of them.

use super::not_null::NotNull;
use crate::bind::build::{column, columns_of, null};
use crate::bind::insert::casts_implicitly;
use crate::bind::place::{At, Placed, with_nearest};
use crate::rel::{Rel, RelOp, RelRef};
use millstream_core::graph::{AggregatePhase, LateRows, OperatorSpec, RankTiming, WindowShape, WindowSpec, WindowTime};
use millstream_core::sink::Sink;
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Field, Result, Schema, TypeKind};
use millstream_expr::build::{Value, call, cast, literal};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A table that late rows go to.
#[derive(Clone, Debug)]
pub struct LateTable {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Schema,
    /// What writes it.
    pub sink: Arc<dyn Sink>,
    /// Where the setting is made.
    pub at: At,
}

/// The columns that tell of a row; any other is the row's own column of that name.
const TOLD: [&str; 6] = ["operator", "row_time", "watermark", "processing_time", "row_kind", "row"];

/// By what a row is late.
#[derive(Clone, Copy, Debug)]
pub enum LateBy {
    /// Its own time attribute.
    Time(usize),
    /// The end of its window, in the zone's local time.
    WindowEnd(usize, SessionZone),
}

/// The ports on which an operator drops rows as late, and by what they are late.
pub fn late_ports(spec: &OperatorSpec) -> Vec<(usize, LateBy)> {
    let of_time = |time: &WindowTime| match time {
        WindowTime::Event { column } => vec![(0, LateBy::Time(*column))],
        WindowTime::Processing => vec![],
    };
    let of_window = |window: &WindowSpec| match (window.shape, window.time) {
        (WindowShape::Attached { end, .. }, WindowTime::Event { .. }) => vec![(0, LateBy::WindowEnd(end, window.zone))],
        (_, time) => of_time(&time),
    };
    match spec {
        OperatorSpec::WindowAggregate(aggregate) if aggregate.phase == AggregatePhase::Single => {
            of_window(&aggregate.window)
        }
        OperatorSpec::WindowAssign { window, .. } if matches!(window.shape, WindowShape::Session { .. }) => {
            of_window(window)
        }
        OperatorSpec::Join(join) => match &join.time {
            Some(time) if time.drops_late => {
                vec![(0, LateBy::WindowEnd(time.left.0, time.zone)), (1, LateBy::WindowEnd(time.right.0, time.zone))]
            }
            _ => vec![],
        },
        OperatorSpec::Over(over) => of_time(&over.time),
        OperatorSpec::Match(search) => of_time(&search.time),
        OperatorSpec::Rank(rank) => match rank.timing {
            RankTiming::RowTime { column } => vec![(0, LateBy::Time(column))],
            RankTiming::Window { end, event_time: true, zone } => vec![(0, LateBy::WindowEnd(end, zone))],
            _ => vec![],
        },
        _ => vec![],
    }
}

/// The input of an aggregate with the columns that its keys and arguments are computed of, so that a late row tells
/// what came, not only what was made of it. The computed columns' names begin with `$`.
pub fn with_read_columns(input: &RelRef) -> RelRef {
    let RelOp::Calc { input: below, filter, project } = &input.op else { return input.clone() };
    let (mut columns, mut project, mut read) = (input.columns.clone(), project.clone(), BTreeSet::new());
    for (column, expr) in columns.iter_mut().zip(&project) {
        column.name = match expr.as_column() {
            Some(index) => below.columns[index].name.clone(),
            None => format!("${}", column.name),
        };
        columns_of(expr, &mut read);
    }
    for index in read {
        if !project.iter().any(|expr| expr.as_column() == Some(index)) {
            columns.push(below.columns[index].clone());
            project.push(column(index, &below.columns[index]));
        }
    }
    Rel::new(RelOp::Calc { input: below.clone(), filter: filter.clone(), project }, columns)
}

/// The rows' own columns by their names, those made on the way left out; of equal names the later ones get numbers.
fn own_columns(input: &Schema) -> Vec<(String, usize)> {
    let mut names: Vec<(String, usize)> = vec![];
    for (index, field) in input.fields.iter().enumerate().filter(|(_, field)| !field.name.starts_with('$')) {
        let is_new = |name: &String| !names.iter().any(|(known, _)| known == name);
        let numbered = (0..).map(|number| format!("{}{number}", field.name));
        let name = std::iter::once(field.name.clone()).chain(numbered).find(is_new);
        names.extend(name.map(|name| (name, index)));
    }
    names
}

/// A value that has a form in JSON, of any: times as the format `json` reads them.
fn in_json(value: ExprRef, zone: &SessionZone) -> Result<ExprRef> {
    let text = || TypeKind::STRING.nullable();
    match &value.data_type().kind {
        TypeKind::TimestampLtz(_) => {
            let utc = cast(value, text(), false, &SessionZone::UTC)?;
            let z = literal(Value::String("Z".into()), TypeKind::STRING.not_null());
            call("||", vec![utc, z], zone)
        }
        TypeKind::Date | TypeKind::Time(_) | TypeKind::Timestamp(_) => cast(value, text(), false, zone),
        _ if call("JSON_STRING", vec![value.clone()], zone).is_ok() => Ok(value),
        _ => cast(value, text(), false, zone),
    }
}

impl LateTable {
    /// What the table is told of rows that are late on a port of an operator; notes in `found` which columns those have.
    pub fn rows_of(
        &self,
        operator: &str,
        port: (usize, LateBy),
        input: &Schema,
        zone: &SessionZone,
        found: &mut BTreeSet<String>,
    ) -> Result<LateRows> {
        let own = own_columns(input);
        let mut fields = input.fields.to_vec();
        fields.push(Field::new("$watermark", TypeKind::TimestampLtz(3).not_null()));
        fields.push(Field::new("$kind", TypeKind::STRING.not_null()));
        let input = Schema::new(fields);
        let at = |index: usize| {
            let field = &input.fields[index];
            millstream_expr::build::column(index, field.data_type.clone(), &field.name)
        };
        let text = |text: &str| literal(Value::String(text.into()), TypeKind::STRING.not_null());
        let told = |name: &str| -> Result<Option<ExprRef>> {
            Ok(Some(match (name, port.1) {
                ("operator", _) => text(operator),
                ("row_time", LateBy::Time(time)) => at(time),
                ("row_time", LateBy::WindowEnd(end, _)) => {
                    let millisecond = literal(Value::Int(1), TypeKind::IntervalDayTime.not_null());
                    call("-", vec![at(end), millisecond], zone)?
                }
                ("watermark", by) => {
                    let (of, local) = match by {
                        LateBy::Time(time) => (time, SessionZone::UTC),
                        LateBy::WindowEnd(end, local) => (end, local),
                    };
                    let watermark = at(input.len() - 2);
                    match input.fields[of].data_type.kind {
                        TypeKind::Timestamp(_) => cast(watermark, TypeKind::Timestamp(3).not_null(), false, &local)?,
                        _ => watermark,
                    }
                }
                ("processing_time", _) => call("PROCTIME", vec![], zone)?,
                ("row_kind", _) => at(input.len() - 1),
                ("row", _) => {
                    let mut args = vec![text("NULL"), text(&"V".repeat(own.len()))];
                    for (name, index) in &own {
                        args.extend([text(name), in_json(at(*index), zone)?]);
                    }
                    call("JSON_OBJECT", args, zone)?
                }
                _ => return Ok(None),
            }))
        };
        let mut project = vec![];
        for field in &self.columns.fields {
            let value = match (told(&field.name)?, own.iter().find(|(name, _)| *name == field.name)) {
                (Some(value), _) => value,
                (None, Some((_, index))) => at(*index),
                (None, None) => null(field.data_type.kind.clone()),
            };
            if TOLD.contains(&field.name.as_str()) || value.as_column().is_some() {
                found.insert(field.name.clone());
            }
            let (from, to) = (value.data_type().clone(), &field.data_type);
            if !casts_implicitly(&from.kind, &to.kind) {
                return Err(Error::script(format!(
                    "column '{}' of table '{}', which late rows go to, is {}",
                    field.name, self.name, to.kind
                ))
                .detail(format!("what it takes from the operator {operator} is {}", from.kind))
                .hint(format!("declare it {}", from.kind))
                .at_place(self.at));
            }
            let value = match from.kind == to.kind {
                true => value,
                false => cast(value, to.clone().with_nullable(from.nullable), false, zone)?,
            };
            project.push(match !to.nullable && value.data_type().nullable {
                true => Arc::new(NotNull::new(value, &field.name)),
                false => value,
            });
        }
        Ok(LateRows { port: port.0, input, project })
    }

    /// Refuses columns that no late row has; `rows` are the columns that late rows have.
    pub fn check(&self, found: &BTreeSet<String>, rows: &BTreeSet<String>) -> Result<()> {
        match self.columns.fields.iter().find(|field| !found.contains(&field.name)) {
            None => Ok(()),
            Some(unknown) => {
                let message = format!("no late row has the column '{}' of table '{}'", unknown.name, self.name);
                let error = Error::script(message)
                    .detail("late rows have the columns that the query reads of them")
                    .at_place(self.at);
                Err(with_nearest(error, &unknown.name, TOLD.into_iter().chain(rows.iter().map(String::as_str))))
            }
        }
    }
}

/// The names of the columns that the late rows of an input have.
pub fn names_of(input: &Schema) -> impl Iterator<Item = String> {
    own_columns(input).into_iter().map(|(name, _)| name)
}
