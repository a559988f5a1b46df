//! UNNEST: a row for each element of a collection.

use super::stateless::MapBatch;
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, UInt8Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::{Int32Type, SchemaRef};
use millstream_core::graph::Unnest as Spec;
use millstream_core::operator::{Context, TARGET_BATCH_ROWS};
use millstream_core::{Batch, Error, Result, Schema, TypeKind};
use std::ops::Range;
use std::sync::Arc;

/// Emits the kept columns, the element's, and its number.
pub(super) struct Unnest {
    spec: Spec,
    schema: SchemaRef,
}

/// A collection's elements.
struct Elements {
    /// Row i's are those from `offsets[i]` to `offsets[i + 1]`.
    offsets: Vec<usize>,
    columns: Vec<ArrayRef>,
    /// Elements that are NULL themselves: all of their columns are.
    nulls: Option<ArrayRef>,
    /// How often each is there, of a MULTISET.
    copies: Option<ArrayRef>,
}

impl Unnest {
    pub(super) fn new(spec: &Spec, output: &Schema) -> Self {
        Unnest { spec: spec.clone(), schema: output.arrow().clone() }
    }

    fn elements(&self, array: &ArrayRef) -> Result<Elements> {
        let wrong = || Error::internal("UNNEST of something that is no collection");
        let (offsets, values, copies) = match &self.spec.collection.data_type().kind {
            TypeKind::Array(_) => {
                let list = array.as_list_opt::<i32>().ok_or_else(wrong)?;
                (list.value_offsets(), vec![list.values().clone()], None)
            }
            TypeKind::Map(..) => {
                let map = array.as_map_opt().ok_or_else(wrong)?;
                (map.value_offsets(), vec![map.keys().clone(), map.values().clone()], None)
            }
            TypeKind::Multiset(_) => {
                let map = array.as_map_opt().ok_or_else(wrong)?;
                (map.value_offsets(), vec![map.keys().clone()], Some(map.values().clone()))
            }
            _ => return Err(wrong()),
        };
        let offsets = offsets.iter().map(|offset| *offset as usize).collect();
        let is_rows = matches!(
            &self.spec.collection.data_type().kind,
            TypeKind::Array(element) | TypeKind::Multiset(element) if matches!(element.kind, TypeKind::Row(_))
        );
        let (columns, nulls) = match values.as_slice() {
            [rows] if is_rows => (rows.as_struct_opt().ok_or_else(wrong)?.columns().to_vec(), Some(rows.clone())),
            _ => (values, None),
        };
        Ok(Elements { offsets, columns, nulls, copies })
    }
}

/// Rows to emit: of the batch, of the elements, and their elements' numbers.
#[derive(Default)]
struct Picks {
    rows: Vec<u32>,
    elements: Vec<Option<u32>>,
    ordinals: Vec<Option<i32>>,
}

impl Picks {
    fn push(&mut self, row: u32, element: Option<u32>, ordinal: Option<i32>) {
        self.rows.push(row);
        self.elements.push(element);
        self.ordinals.push(ordinal);
    }

    /// Those for which `holds` is true.
    fn filtered(&self, holds: &BooleanBuffer) -> Picks {
        let mut picks = Picks::default();
        for at in holds.set_indices() {
            picks.push(self.rows[at], self.elements[at], self.ordinals[at]);
        }
        picks
    }

    /// With one of NULLs for each row of `all` that has none.
    fn completed(self, all: &Range<u32>) -> Picks {
        let (mut picks, mut at) = (Picks::default(), 0);
        for row in all.clone() {
            let before = at;
            while self.rows.get(at) == Some(&row) {
                picks.push(row, self.elements[at], self.ordinals[at]);
                at += 1;
            }
            if at == before {
                picks.push(row, None, None);
            }
        }
        picks
    }
}

impl Unnest {
    /// The output's rows for `picks`.
    fn rows(&self, batch: &Batch, elements: &Elements, picks: &Picks) -> Result<Batch> {
        let (rows, picked) = (UInt32Array::from_iter_values(picks.rows.iter().copied()), &picks.elements);
        let picked = UInt32Array::from_iter(picked.iter().copied());
        let mut columns = vec![];
        for index in &self.spec.kept {
            columns.push(take(batch.column(*index), &rows, None)?);
        }
        for column in &elements.columns {
            columns.push(take(column, &picked, None)?);
        }
        if self.spec.ordinality {
            columns.push(Arc::new(Int32Array::from_iter(picks.ordinals.iter().copied())));
        }
        let kinds = match &batch.kinds {
            None => None,
            Some(kinds) => Some(UInt8Array::from(take(kinds, &rows, None)?.to_data())),
        };
        Ok(Batch::from_columns(self.schema.clone(), columns, rows.len())?.with_kinds(kinds))
    }

    /// Emits what is picked of `rows`.
    fn emit(
        &self,
        batch: &Batch,
        elements: &Elements,
        picks: Picks,
        rows: Range<u32>,
        ctx: &mut Context<'_>,
    ) -> Result<()> {
        let mut picks = picks;
        if let Some(condition) = &self.spec.condition {
            let candidates = self.rows(batch, elements, &picks)?;
            let holds = condition.evaluate(&candidates, &ctx.eval())?.into_array(candidates.num_rows())?;
            let holds = holds.as_boolean();
            let is_true = match holds.nulls() {
                Some(valid) => holds.values() & valid.inner(),
                None => holds.values().clone(),
            };
            picks = picks.filtered(&is_true);
        }
        if self.spec.keeps_empty {
            picks = picks.completed(&rows);
        }
        match picks.rows.is_empty() {
            true => Ok(()),
            false => ctx.emit(self.rows(batch, elements, &picks)?),
        }
    }
}

impl MapBatch for Unnest {
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let array = self.spec.collection.evaluate(&batch, &ctx.eval())?.into_array(batch.num_rows())?;
        let elements = self.elements(&array)?;
        let copies = elements.copies.as_ref().map(|copies| copies.as_primitive::<Int32Type>());
        let (mut picks, mut first) = (Picks::default(), 0);
        for row in 0..batch.num_rows() {
            let (from, to) = match array.is_null(row) {
                true => (0, 0),
                false => (elements.offsets[row], elements.offsets[row + 1]),
            };
            let mut ordinal = 0;
            for element in from..to {
                let is_there = elements.nulls.as_ref().is_none_or(|rows| rows.is_valid(element));
                // A row that is NULL is no element (as in Flink, where ORDINALITY fails for it).
                if !is_there && !self.spec.ordinality {
                    continue;
                }
                for _ in 0..copies.map_or(1, |copies| copies.value(element)) {
                    ordinal += 1;
                    picks.push(row as u32, is_there.then_some(element as u32), Some(ordinal));
                }
            }
            if picks.rows.len() >= TARGET_BATCH_ROWS {
                self.emit(&batch, &elements, std::mem::take(&mut picks), first..row as u32 + 1, ctx)?;
                first = row as u32 + 1;
            }
        }
        self.emit(&batch, &elements, picks, first..batch.num_rows() as u32, ctx)
    }
}
