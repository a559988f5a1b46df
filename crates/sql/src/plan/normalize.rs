//! Where a full changelog is made of one that lacks old rows or may repeat itself: right behind the table's scan.

use crate::bind::place::Placed;
use crate::rel::{Rel, RelOp, RelRef};
use millstream_core::settings::CDC_DUPLICATES;
use millstream_core::{Error, Result};

/// The plan with the changelogs of tables made full where they aren't; `duplicates`: any changes may come twice.
///
/// # Errors
///
/// Such a table has no primary key.
pub fn normalize(rel: &RelRef, duplicates: bool) -> Result<RelRef> {
    let RelOp::Scan { table, source, kept, .. } = &rel.op else {
        return rel.map_inputs(|input| normalize(input, duplicates));
    };
    let mode = source.changelog();
    let is_upsert = mode.update && !mode.update_before;
    if mode.is_insert_only() || !is_upsert && !duplicates {
        return Ok(rel.clone());
    }
    let place = |name: &String| kept.iter().position(|column| table.columns[*column].name == *name);
    let keys: Option<Vec<usize>> = table.primary_key.iter().map(place).collect();
    match keys {
        Some(keys) if !keys.is_empty() => {
            Ok(Rel::new(RelOp::Normalize { input: rel.clone(), keys }, rel.columns.clone()))
        }
        _ => {
            let reason = match is_upsert {
                true => format!("its changes, {mode}, come without the old rows"),
                false => format!("'{CDC_DUPLICATES}' says that its changes may come twice"),
            };
            Err(Error::script(format!("table '{}' needs a primary key", table.name))
                .detail(reason)
                .hint("add PRIMARY KEY (..) NOT ENFORCED to its columns")
                .at_place(table.at))
        }
    }
}
