//! What a lookup join asks a table for: by which of its columns, for which of them, and which of its rows count.

use super::joins::{Reads, all_of, conjuncts, reads};
use crate::bind::build::{and, columns_of, rebind, replace_columns};
use crate::catalog::Table;
use crate::rel::{RelOp, RelRef};
use millstream_core::graph::{LookupKey, RetryMissing};
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result, Schema, TypeKind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a LOOKUP hint says about a table (flink docs: "LOOKUP" hint); what it doesn't say the settings do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupHints {
    /// `async`
    pub is_async: Option<bool>,
    /// `output-mode`
    pub ordered: Option<bool>,
    /// `capacity`
    pub capacity: Option<u64>,
    /// `timeout`, milliseconds.
    pub timeout_ms: Option<u64>,
    /// `retry-predicate`, `retry-strategy`, `fixed-delay`, `max-attempts`.
    pub retry_missing: Option<RetryMissing>,
}

/// A table as the right side of a lookup join has it: filtered and projected.
pub struct Seen {
    /// The table.
    pub table: Arc<Table>,
    /// Whether hints inside a view change its options.
    pub has_hints: bool,
    /// Which of its rows count, over what is read of it.
    pub filter: Option<ExprRef>,
    /// The columns, over what is read of it.
    pub columns: Vec<ExprRef>,
}

/// The table under calcs; `None` if there is more than that.
pub fn seen(rel: &RelRef, zone: &SessionZone) -> Result<Option<Seen>> {
    match &rel.op {
        RelOp::Scan { table, kept, variant, .. } => {
            let columns = kept.iter().map(|i| table.expressions[*i].clone()).collect();
            Ok(Some(Seen { table: table.clone(), has_hints: !variant.is_empty(), filter: None, columns }))
        }
        RelOp::Calc { input, filter, project } => {
            let Some(below) = seen(input, zone)? else { return Ok(None) };
            let over = |expr: &ExprRef| replace_columns(expr, &|index| below.columns[index].clone());
            let columns = project.iter().map(over).collect();
            let filter = and(below.filter.clone(), filter.as_ref().map(over), zone)?;
            Ok(Some(Seen { filter, columns, ..below }))
        }
        _ => Ok(None),
    }
}

/// A column of the right side that must equal a value.
pub struct Equal {
    /// The column, among the right side's.
    pub column: usize,
    /// What it equals, over the left side's columns.
    pub value: ExprRef,
}

/// The keys of a condition over both sides, and its other parts; `columns` are the right side's.
pub fn keys(condition: Option<&ExprRef>, width: usize, columns: &[ExprRef]) -> (Vec<Equal>, Vec<ExprRef>) {
    let (mut keys, mut rest) = (vec![], vec![]);
    for part in condition.map(conjuncts).unwrap_or_default() {
        match equal(&part, width, columns) {
            Some(key) => keys.push(key),
            None => rest.push(part),
        }
    }
    (keys, rest)
}

fn equal(part: &ExprRef, width: usize, columns: &[ExprRef]) -> Option<Equal> {
    let children = part.children();
    let (Some("="), [a, b]) = (part.as_call(), children.as_slice()) else { return None };
    let is_key = |a: &ExprRef, b: &ExprRef| {
        let column = a.as_column()?.checked_sub(width)?;
        columns.get(column)?.as_column()?;
        let is_value = matches!(reads(b, width), Reads::Left | Reads::Nothing) && b.is_deterministic();
        let same_type = a.data_type().arrow() == b.data_type().arrow();
        let comparable = !matches!(
            a.data_type().kind,
            TypeKind::Null
                | TypeKind::Float
                | TypeKind::Double
                | TypeKind::Row(_)
                | TypeKind::Array(_)
                | TypeKind::Map(..)
                | TypeKind::Multiset(_)
                | TypeKind::Bitmap
                | TypeKind::Variant
        );
        (is_value && same_type && comparable).then(|| Equal { column, value: b.clone() })
    };
    is_key(a, b).or_else(|| is_key(b, a))
}

/// What is asked for.
pub struct Lookups {
    /// By which columns.
    pub keys: Vec<LookupKey>,
    /// For which.
    pub read: Schema,
    /// Which rows count, over `read`.
    pub filter: Option<ExprRef>,
    /// The right side's columns, over `read`.
    pub columns: Vec<ExprRef>,
    /// What else must be TRUE of a pair.
    pub condition: Option<ExprRef>,
    /// Whether a primary key is among the keys.
    pub is_unique: bool,
}

/// What a join whose left side has `width` columns asks a table for.
pub fn lookups(width: usize, seen: &Seen, condition: Option<&ExprRef>, zone: &SessionZone) -> Result<Lookups> {
    let (equal, rest) = keys(condition, width, &seen.columns);
    let all = &seen.table.read.fields;
    let mut used = BTreeSet::new();
    seen.columns.iter().chain(&seen.filter).for_each(|expr| columns_of(expr, &mut used));
    let read = Schema::new(used.iter().map(|i| all[*i].clone()).collect());
    let over = |expr: &ExprRef| {
        rebind(expr, &|index| {
            let at = used.range(..index).count();
            (at, all[index].data_type.clone(), all[index].name.clone())
        })
    };
    let keys: Vec<LookupKey> = equal
        .into_iter()
        .filter_map(|key| {
            let column = all[seen.columns[key.column].as_column()?].name.clone();
            Some(LookupKey { column, value: key.value })
        })
        .collect();
    let primary_key = &seen.table.primary_key;
    let is_unique = !primary_key.is_empty() && primary_key.iter().all(|name| keys.iter().any(|k| k.column == *name));
    Ok(Lookups {
        keys,
        filter: seen.filter.as_ref().map(over).transpose()?,
        columns: seen.columns.iter().map(over).collect::<Result<_>>()?,
        condition: all_of(rest, zone)?,
        is_unique,
        read,
    })
}
