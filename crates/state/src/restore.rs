//! Giving a table's rows back to the workers of a later process.

use crate::manifest::{Segment, StoredTable};
use crate::merge::merge;
use crate::segment::{batch_of, decode_schema};
use crate::store::CheckpointStore;
use arrow::array::RecordBatch;
use millstream_core::key::HashRange;
use millstream_core::operator::TableSpec;
use millstream_core::{Error, Place, Result};

/// Gives each live key of `range` once, in batches of the table's schema. Stored state that is
/// damaged or of another shape than `spec` is a State error.
pub fn restore_table(
    store: &CheckpointStore,
    stored: &StoredTable,
    spec: &TableSpec,
    range: HashRange,
    emit: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    check_shape(stored, spec)?;
    let segments: Vec<&Segment> = stored.segments.iter().collect();
    merge(store, stored, &segments, range, false, &mut |(columns, _, ops)| {
        emit(batch_of(spec.schema.arrow(), columns, ops.len())?)
    })
    .map_err(|e| e.context(format!("restore table {}", stored.name)))
}

/// Compares a stored table's shape with what the operator expects; the State error names the first
/// column that differs.
pub fn check_shape(stored: &StoredTable, spec: &TableSpec) -> Result<()> {
    let differs = |detail: String| {
        Error::state("the stored state does not fit the script")
            .at(Place::Named(format!("state table {}", spec.name)))
            .detail(detail)
            .hint("go back to the script that wrote it, or start with --from none to begin without state")
    };
    let old = decode_schema(&stored.schema.0).map_err(|e| e.context(format!("restore table {}", spec.name)))?;
    let new = spec.schema.arrow();
    for (i, new) in new.fields().iter().enumerate() {
        match old.fields().get(i) {
            None => return Err(differs(format!("column {} is new", new.name()))),
            Some(old) if old.name() != new.name() => {
                return Err(differs(format!("column {} was {}", new.name(), old.name())));
            }
            Some(old) if old.data_type() != new.data_type() => {
                let (name, old, new) = (new.name(), old.data_type(), new.data_type());
                return Err(differs(format!("column {name} has the type {new}, it was {old}")));
            }
            Some(_) => {}
        }
    }
    if let Some(gone) = old.fields().get(new.fields().len()) {
        return Err(differs(format!("column {} is gone", gone.name())));
    }
    let names = |columns: &[usize]| {
        let names = columns.iter().map(|i| old.fields().get(*i).map_or("?", |f| f.name().as_str()));
        names.collect::<Vec<_>>().join(", ")
    };
    let parts = [("key", &stored.key, &spec.key), ("partitioning", &stored.partition_by, &spec.partition_by)];
    for (what, old, new) in parts {
        if old != new {
            return Err(differs(format!("the {what} is ({}), it was ({})", names(new), names(old))));
        }
    }
    if stored.time != spec.time {
        let name = |time: Option<usize>| time.map_or("none".to_string(), |i| names(&[i]));
        return Err(differs(format!("the time column is {}, it was {}", name(spec.time), name(stored.time))));
    }
    Ok(())
}
