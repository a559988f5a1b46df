//! What a changelog leaves: its rows as a multiset.

use millstream_core::Batch;
use std::collections::BTreeMap;

/// Rows as text, with how often each is there; never 0. Below 0: it was taken back more often than it came.
pub type Folded = BTreeMap<String, i64>;

/// Adds a changelog up. With a `key` a row replaces the one of the same values in these columns, as in a table that is
/// written without `-U`. `text` writes the given columns of a row; equal values must give equal texts.
pub fn fold(changes: &[Batch], key: Option<&[usize]>, text: &dyn Fn(&Batch, usize, &[usize]) -> String) -> Folded {
    let mut rows = Folded::new();
    let mut by_key = BTreeMap::new();
    for batch in changes {
        let all: Vec<usize> = (0..batch.rows.num_columns()).collect();
        for row in 0..batch.num_rows() {
            let adds = batch.kind(row).is_addition();
            match key {
                None => *rows.entry(text(batch, row, &all)).or_default() += if adds { 1 } else { -1 },
                Some(key) if adds => {
                    by_key.insert(text(batch, row, key), text(batch, row, &all));
                }
                Some(key) => {
                    by_key.remove(&text(batch, row, key));
                }
            }
        }
    }
    by_key.into_values().for_each(|row| *rows.entry(row).or_default() += 1);
    rows.retain(|_, count| *count != 0);
    rows
}
