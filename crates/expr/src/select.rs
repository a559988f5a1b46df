//! Choosing between two columns row by row.

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::ArrowNativeType;
use millstream_core::Result;
use millstream_core::expr::Columnar;

/// `yes` in the rows of `mask`, `no` in the others; both are of one type.
pub(crate) fn select(mask: &BooleanBuffer, yes: &Columnar, no: &Columnar) -> Result<ArrayRef> {
    let data_type = yes.array().data_type();
    let make = match data_type.primitive_width() {
        _ if data_type != no.array().data_type() => None,
        Some(4) => Some(pick::<u32> as fn(&BooleanBuffer, Side<'_>, Side<'_>) -> Buffer),
        Some(8) => Some(pick::<u64> as _),
        Some(16) => Some(pick::<i128> as _),
        _ => None,
    };
    let Some(make) = make else {
        let mask = BooleanArray::new(mask.clone(), None);
        return Ok(zip(&mask, &*yes.datum(), &*no.datum())?);
    };
    let (y, n) = (yes.array().to_data(), no.array().to_data());
    let values = make(mask, (&y, yes.is_scalar()), (&n, no.is_scalar()));
    let nulls = match (valid(yes, mask.len()), valid(no, mask.len())) {
        (None, None) => None,
        (Some(yes), None) => Some(&yes | &!mask),
        (None, Some(no)) => Some(&no | mask),
        (Some(yes), Some(no)) => Some(&(&yes & mask) | &(&no & &!mask)),
    };
    let data =
        ArrayData::builder(data_type.clone()).len(mask.len()).add_buffer(values).nulls(nulls.map(NullBuffer::new));
    Ok(make_array(data.build()?))
}

/// A column, or a constant.
type Side<'a> = (&'a ArrayData, bool);

/// Which rows have a value; `None` if all have.
fn valid(column: &Columnar, rows: usize) -> Option<BooleanBuffer> {
    let nulls = column.array().nulls().filter(|nulls| nulls.null_count() > 0)?;
    Some(if column.is_scalar() { BooleanBuffer::new_unset(rows) } else { nulls.inner().clone() })
}

fn pick<T: ArrowNativeType>(mask: &BooleanBuffer, (yes, one_yes): Side<'_>, (no, one_no): Side<'_>) -> Buffer {
    let (yes, no) = (yes.buffer::<T>(0), no.buffer::<T>(0));
    let mut picked: Vec<T> = Vec::with_capacity(mask.len());
    let mut add = |bits: u64, count: usize| {
        let start = picked.len();
        let all = |side: &[T], one: bool, picked: &mut Vec<T>| match one {
            true => picked.resize(start + count, side[0]),
            false => picked.extend_from_slice(&side[start..start + count]),
        };
        match bits.count_ones() as usize {
            0 => all(no, one_no, &mut picked),
            ones if ones == count => all(yes, one_yes, &mut picked),
            _ => picked.extend((0..count).map(|i| {
                let y = yes[if one_yes { 0 } else { start + i }];
                let n = no[if one_no { 0 } else { start + i }];
                if bits >> i & 1 == 1 { y } else { n }
            })),
        }
    };
    let chunks = mask.bit_chunks();
    chunks.iter().for_each(|bits| add(bits, 64));
    add(chunks.remainder_bits(), chunks.remainder_len());
    Buffer::from_vec(picked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Decimal128Array, Int32Array, Int64Array, StringArray};
    use std::sync::Arc;

    /// Every row against the row it must come from, with masks of runs and of single rows, over sliced columns.
    fn check(yes: ArrayRef, no: ArrayRef) {
        let rows = yes.len() - 1;
        for period in [1, 2, 3, 64, 100, 1000] {
            let mask = BooleanBuffer::collect_bool(rows, |i| i / period % 2 == 1);
            let sides = |array: &ArrayRef| {
                let (null, one) = (array.slice(0, 1), array.slice(1, 1));
                [Columnar::Array(array.slice(1, rows)), Columnar::Scalar(null), Columnar::Scalar(one)]
            };
            for (yes, no) in sides(&yes).iter().flat_map(|yes| sides(&no).map(|no| (yes.clone(), no))) {
                let chosen = select(&mask, &yes, &no).unwrap();
                assert_eq!(chosen.len(), rows);
                for i in 0..rows {
                    let side = if mask.value(i) { &yes } else { &no };
                    let from = if side.is_scalar() { 0 } else { i };
                    assert_eq!(&chosen.slice(i, 1), &side.array().slice(from, 1), "row {i} of runs of {period}");
                }
            }
        }
    }

    #[test]
    fn each_row_comes_from_the_side_that_the_mask_says() {
        let numbers = |step: i64| (0..301i64).map(move |i| (i % step != 0).then_some(i * step));
        check(Arc::new(numbers(3).collect::<Int64Array>()), Arc::new(numbers(5).collect::<Int64Array>()));
        let narrow = |step| Arc::new(numbers(step).map(|v| v.map(|v| v as i32)).collect::<Int32Array>());
        check(narrow(2), narrow(7));
        let wide = |step| Arc::new(numbers(step).map(|v| v.map(i128::from)).collect::<Decimal128Array>());
        check(wide(2), wide(7));
        let text = |step| Arc::new(numbers(step).map(|v| v.map(|v| v.to_string())).collect::<StringArray>());
        check(text(2), text(3));
    }

    #[test]
    fn a_column_without_nulls_stays_so() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let mask = BooleanBuffer::from(vec![true, false]);
        let chosen = select(&mask, &Columnar::Array(column.clone()), &Columnar::Scalar(column.slice(0, 1))).unwrap();
        assert_eq!(chosen.as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 1]);
        assert!(chosen.nulls().is_none());
    }
}
