//! PERCENTILE: exact, over the rows that a group has kept.

use super::collect::ranges;
use arrow::array::{ArrayRef, AsArray, Float64Array, Float64Builder, ListBuilder};
use arrow::datatypes::{Float64Type, Int64Type};
use millstream_core::{Error, Result};
use std::sync::Arc;

/// The percentiles of consecutive groups of these lengths: one each, or an array of them.
pub(super) fn evaluate(
    columns: &[ArrayRef],
    lengths: &[usize],
    percentages: &[f64],
    wants_array: bool,
) -> Result<ArrayRef> {
    let argument = |index: usize| columns.get(index);
    let values = argument(0).ok_or_else(|| Error::internal("PERCENTILE without its argument"))?;
    let values = values.as_primitive::<Float64Type>();
    let frequencies = argument(1).map(|column| column.as_primitive::<Int64Type>());
    let groups = ranges(lengths).map(|range| {
        let counted = |row| (values.value(row), frequencies.map_or(1, |f| f.value(row)));
        Counted::new(range.map(counted).filter(|(_, count)| *count > 0).collect())
    });
    if !wants_array {
        let one = |group: Counted| group.percentile(percentages.first().copied()?);
        return Ok(Arc::new(groups.map(one).collect::<Float64Array>()));
    }
    let mut lists = ListBuilder::new(Float64Builder::new());
    for group in groups {
        let found: Option<Vec<f64>> = percentages.iter().map(|p| group.percentile(*p)).collect();
        let found = found.filter(|found| !found.is_empty());
        lists.values().append_slice(found.as_deref().unwrap_or_default());
        lists.append(found.is_some());
    }
    Ok(Arc::new(lists.finish()))
}

/// Sorted values, each with the number of values up to it.
struct Counted(Vec<(f64, i64)>);

impl Counted {
    fn new(mut values: Vec<(f64, i64)>) -> Self {
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut total = 0i64;
        for (_, count) in &mut values {
            total = total.saturating_add(*count);
            *count = total;
        }
        Counted(values)
    }

    /// `None` if there is no value.
    fn percentile(&self, percentage: f64) -> Option<f64> {
        let (_, total) = self.0.last()?;
        let position = (total - 1) as f64 * percentage;
        let (below, above) = (self.value(position.floor())?, self.value(position.ceil())?);
        Some(if below == above {
            below
        } else {
            (position.ceil() - position) * below + (position - position.floor()) * above
        })
    }

    /// The value at a position, from 0.
    fn value(&self, position: f64) -> Option<f64> {
        let at = self.0.partition_point(|(_, up_to)| *up_to as f64 <= position);
        self.0.get(at).map(|(value, _)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::Counted;

    #[test]
    fn a_frequency_stands_for_so_many_equal_values() {
        let spread = Counted::new(vec![(4.0, 1), (1.0, 1), (1.0, 1), (2.0, 1), (4.0, 1)]);
        let counted = Counted::new(vec![(4.0, 2), (1.0, 2), (2.0, 1)]);
        for p in 0..=20 {
            let p = f64::from(p) / 20.0;
            assert_eq!(spread.percentile(p), counted.percentile(p), "{p}");
        }
        assert_eq!(counted.percentile(0.625), Some(3.0));
        assert_eq!(Counted::new(vec![]).percentile(0.5), None);
    }
}
