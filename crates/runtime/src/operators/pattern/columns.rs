//! What conditions and measures read: columns that are made of the rows of matches.

use super::keys::{KeyRows, Note};
use super::nfa::Match;
use crate::operators::aggregate::accumulator;
use crate::operators::row_store::{RowRef, RowStore};
use arrow::array::{ArrayRef, AsArray, BooleanArray, NullArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::expr::EvalContext;
use millstream_core::graph::AggregateCall;
use millstream_core::pattern::MatchColumn;
use millstream_core::{Batch, ExprRef, Result};
use std::sync::Arc;

/// The rows of a match; while a row is tested for a variable, with it as the variable's last.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) key: &'a KeyRows,
    /// `None`: not begun.
    pub(super) of: Option<&'a Match>,
    /// The variable that it is tested for, and the row.
    pub(super) candidate: Option<(usize, RowRef)>,
    /// When it was certain that the match counts.
    pub(super) time: i64,
}

impl View<'_> {
    /// How many rows a variable (`None`: any) has.
    fn len(&self, variable: Option<usize>) -> usize {
        let is_candidate = |(of, _): (usize, RowRef)| variable.is_none_or(|variable| variable == of);
        self.known(variable) + usize::from(self.candidate.is_some_and(is_candidate))
    }

    /// The same without the candidate.
    fn known(&self, variable: Option<usize>) -> usize {
        match (self.of, variable) {
            (None, _) => 0,
            (Some(of), None) => of.len() as usize,
            (Some(of), Some(variable)) => of.count(variable) as usize,
        }
    }

    /// The `index`-th of a variable's rows.
    fn row(&self, variable: Option<usize>, index: usize) -> Option<RowRef> {
        if index < self.known(variable) {
            let of = self.of?;
            let first = variable.map_or(Some(of.start), |variable| of.first_of(variable))?;
            return Some(self.key.row(first + index as i64));
        }
        (index < self.len(variable)).then_some(self.candidate?.1)
    }
}

/// One column over some views.
fn column(wanted: &MatchColumn, views: &[View<'_>], store: &RowStore<Note>) -> Result<ArrayRef> {
    match wanted {
        MatchColumn::Row { variable, from_last, offset, column } => {
            let row = |view: &View<'_>| {
                let (len, offset) = (view.len(*variable), *offset as usize);
                if offset >= len {
                    return None;
                }
                view.row(*variable, if *from_last { len - 1 - offset } else { offset })
            };
            let rows: Vec<Option<RowRef>> = views.iter().map(row).collect();
            store.gather_some(*column, &rows)
        }
        MatchColumn::Aggregate { variable, call } => aggregate(*variable, call, views, store),
        MatchColumn::RowTime { local_time_zone } => {
            let times = TimestampMillisecondArray::from(views.iter().map(|view| view.time).collect::<Vec<_>>());
            Ok(Arc::new(if *local_time_zone { times.with_timezone("UTC") } else { times }))
        }
    }
}

fn aggregate(
    variable: Option<usize>,
    call: &AggregateCall,
    views: &[View<'_>],
    store: &RowStore<Note>,
) -> Result<ArrayRef> {
    let (mut rows, mut groups) = (vec![], vec![]);
    for (group, view) in views.iter().enumerate() {
        rows.extend((0..view.len(variable)).filter_map(|index| view.row(variable, index)));
        groups.resize(rows.len(), group as u32);
    }
    let args = call.args.iter().map(|column| store.gather(*column, &rows)).collect::<Result<Vec<_>>>()?;
    let mut accumulator = accumulator(call)?;
    accumulator.resize(views.len());
    accumulator.update(&groups, &args, None)?;
    accumulator.evaluate(&(0..views.len() as u32).collect::<Vec<_>>())
}

fn type_of(wanted: &MatchColumn, input: &Schema) -> ArrowType {
    match wanted {
        MatchColumn::Row { column, .. } => input.field(*column).data_type().clone(),
        MatchColumn::Aggregate { call, .. } => call.result.arrow(),
        MatchColumn::RowTime { local_time_zone } => {
            ArrowType::Timestamp(TimeUnit::Millisecond, local_time_zone.then(|| "UTC".into()))
        }
    }
}

/// An expression over the input's columns of the candidate, and columns made of the rows of matches.
pub(super) struct Computed {
    expr: ExprRef,
    /// The columns that it reads keep their places; in the others' there is nothing.
    schema: SchemaRef,
    input: Vec<usize>,
    made: Vec<MatchColumn>,
    /// The places of `made`.
    places: Vec<usize>,
}

impl Computed {
    /// `width`: how many columns of the input come before `made`.
    pub(super) fn new(expr: &ExprRef, input: &Schema, width: usize, made: &[MatchColumn]) -> Self {
        let mut is_read = vec![false; width + made.len()];
        mark(expr, &mut is_read);
        let data_type = |(place, is_read): (usize, &bool)| match (*is_read, place.checked_sub(width)) {
            (false, _) => ArrowType::Null,
            (true, None) => input.field(place).data_type().clone(),
            (true, Some(made_at)) => type_of(&made[made_at], input),
        };
        let types = is_read.iter().enumerate().map(data_type);
        let fields = types.enumerate().map(|(i, t)| Field::new(format!("c{i}"), t, true)).collect::<Vec<_>>();
        let places: Vec<usize> = (width..width + made.len()).filter(|place| is_read[*place]).collect();
        Computed {
            expr: expr.clone(),
            schema: Arc::new(Schema::new(fields)),
            input: (0..width).filter(|place| is_read[*place]).collect(),
            made: places.iter().map(|place| made[place - width].clone()).collect(),
            places,
        }
    }

    /// Whether it reads the candidate only.
    pub(super) fn is_simple(&self) -> bool {
        self.made.is_empty()
    }

    /// Its values for candidates and the views in which they are tested (none, if it is simple).
    fn evaluate(
        &self,
        candidates: &[RowRef],
        views: &[View<'_>],
        store: &RowStore<Note>,
        eval: &EvalContext,
    ) -> Result<ArrayRef> {
        let count = candidates.len().max(views.len());
        let nothing: ArrayRef = Arc::new(NullArray::new(count));
        let mut columns = vec![nothing; self.schema.fields().len()];
        for place in &self.input {
            columns[*place] = store.gather(*place, candidates)?;
        }
        for (place, made) in self.places.iter().zip(&self.made) {
            columns[*place] = column(made, views, store)?;
        }
        let batch = Batch::from_columns(self.schema.clone(), columns, count)?;
        self.expr.evaluate(&batch, eval)?.into_array(count)
    }

    /// Whether it is TRUE for each candidate.
    pub(super) fn test(
        &self,
        candidates: &[RowRef],
        views: &[View<'_>],
        store: &RowStore<Note>,
        eval: &EvalContext,
    ) -> Result<Vec<bool>> {
        let values = self.evaluate(candidates, views, store, eval)?;
        let values: &BooleanArray = values.as_boolean();
        Ok(values.iter().map(|value| value == Some(true)).collect())
    }

    /// Its values for matches.
    pub(super) fn measure(&self, views: &[View<'_>], store: &RowStore<Note>, eval: &EvalContext) -> Result<ArrayRef> {
        self.evaluate(&[], views, store, eval)
    }
}

fn mark(expr: &ExprRef, is_read: &mut [bool]) {
    if let Some(column) = expr.as_column() {
        is_read[column] = true;
    }
    expr.children().into_iter().for_each(|child| mark(child, is_read));
}
