//! BITMAP_BUILD_AGG, BITMAP_AND_AGG, BITMAP_OR_AGG, BITMAP_XOR_AGG, and how many values their bitmaps have.

use super::{Accumulator, argument, for_each, kept, no_retraction, state_column};
use ahash::AHashMap;
use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::array::{Int32Builder, Int64Builder, MapBuilder, MapFieldNames};
use arrow::datatypes::{Int32Type, Int64Type};
use millstream_core::bitmap::{self, RoaringBitmap};
use millstream_core::graph::{AggregateFunction, BitmapOperation};
use millstream_core::{DataType, Result, TypeKind};
use std::sync::Arc;

/// Of rows that stay.
pub(super) fn of_rows(operation: BitmapOperation, cardinality: bool) -> Box<dyn Accumulator> {
    Box::new(Sets { operation, cardinality, groups: vec![] })
}

/// Of rows that may be taken back, and the types of its state.
pub(super) fn of_changes(operation: BitmapOperation, cardinality: bool) -> (Box<dyn Accumulator>, Vec<DataType>) {
    let count = || TypeKind::BigInt.nullable();
    match operation {
        // What is taken back is added once more.
        BitmapOperation::Xor => (of_rows(operation, cardinality), vec![count(), TypeKind::Bitmap.nullable()]),
        _ => {
            let counts = TypeKind::Map(Box::new(TypeKind::Int.not_null()), Box::new(TypeKind::BigInt.not_null()));
            (Box::new(Counts { operation, cardinality, groups: vec![] }), vec![count(), counts.nullable()])
        }
    }
}

/// Bitmaps, or how many values they have; `None` is NULL.
fn results(sets: impl Iterator<Item = Option<RoaringBitmap>>, cardinality: bool) -> ArrayRef {
    match cardinality {
        true => Arc::new(sets.map(|set| set.map(|set| set.len() as i64)).collect::<Int64Array>()),
        false => Arc::new(sets.map(|set| set.map(bitmap::write)).collect::<BinaryArray>()),
    }
}

/// What one row brings: a value, or a bitmap.
fn row_of(operation: BitmapOperation, array: &ArrayRef, row: usize) -> Result<RoaringBitmap> {
    match operation {
        BitmapOperation::Build => Ok([array.as_primitive::<Int32Type>().value(row) as u32].into_iter().collect()),
        _ => bitmap::read(array.as_binary::<i32>().value(row)),
    }
}

/// How many rows there are, and the bitmap that they make.
type Set = (i64, RoaringBitmap);

struct Sets {
    operation: BitmapOperation,
    cardinality: bool,
    groups: Vec<Set>,
}

impl Sets {
    fn add(&mut self, group: usize, rows: i64, set: RoaringBitmap) {
        let (count, known) = &mut self.groups[group];
        match self.operation {
            BitmapOperation::Build | BitmapOperation::Or => *known |= set,
            BitmapOperation::And if *count == 0 => *known = set,
            BitmapOperation::And => *known &= set,
            BitmapOperation::Xor => *known ^= set,
        }
        *count += rows;
    }
}

impl Accumulator for Sets {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Set::default());
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let array = argument(args)?;
        let mut done = Ok(());
        for_each(groups, Some(array), signs, |row, group, sign| {
            if done.is_err() {
                return;
            }
            if sign < 0 && self.operation != BitmapOperation::Xor {
                let function = AggregateFunction::Bitmap { operation: self.operation, cardinality: self.cardinality };
                done = Err(no_retraction(&function));
                return;
            }
            match self.operation {
                BitmapOperation::Build => {
                    let (count, set) = &mut self.groups[group];
                    set.insert(array.as_primitive::<Int32Type>().value(row) as u32);
                    *count += sign;
                }
                operation => match row_of(operation, array, row) {
                    Ok(set) => self.add(group, sign, set),
                    Err(e) => done = Err(e),
                },
            }
        });
        done
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        let counts = state_column(state, 0)?.as_primitive::<Int64Type>();
        let sets = state_column(state, 1)?.as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            // Of no rows there is no bitmap, which is another one than that which nothing is in.
            if counts.value(row) != 0 || self.operation == BitmapOperation::Xor {
                self.add(*group as usize, counts.value(row), bitmap::read(sets.value(row))?);
            }
        }
        Ok(())
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let of = |group: &u32| &self.groups[*group as usize];
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| of(group).0));
        let sets = BinaryArray::from_iter_values(groups.iter().map(|group| bitmap::write(of(group).1.clone())));
        Ok(vec![Arc::new(counts), Arc::new(sets)])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let of = |group: &u32| {
            let (count, set) = &self.groups[*group as usize];
            (*count > 0).then(|| set.clone())
        };
        Ok(results(groups.iter().map(of), self.cardinality))
    }
    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Set::default();
    }
    fn keep(&mut self, groups: &[u32]) {
        self.groups = kept(&self.groups, groups);
    }
}

/// How many rows there are, and how many of them have each value; less than none where a row was taken back first.
type Counted = (i64, AHashMap<u32, i64>);

/// Of BUILD, AND and OR, of rows that may be taken back.
struct Counts {
    operation: BitmapOperation,
    cardinality: bool,
    groups: Vec<Counted>,
}

impl Counts {
    fn add(counts: &mut AHashMap<u32, i64>, value: u32, by: i64) {
        let count = counts.entry(value).or_insert(0);
        *count += by;
        if *count == 0 {
            counts.remove(&value);
        }
    }

    /// `None` if there are no rows; for BUILD, if there is no value.
    fn set(&self, group: u32) -> Option<RoaringBitmap> {
        let (rows, counts) = &self.groups[group as usize];
        let least = if self.operation == BitmapOperation::And { *rows } else { 1 };
        let set: RoaringBitmap = counts.iter().filter(|(_, count)| **count >= least).map(|(value, _)| *value).collect();
        let is_there = if self.operation == BitmapOperation::Build { !set.is_empty() } else { *rows > 0 };
        is_there.then_some(set)
    }
}

impl Accumulator for Counts {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups, Counted::default());
    }
    fn update(&mut self, groups: &[u32], args: &[ArrayRef], signs: Option<&[i8]>) -> Result<()> {
        let array = argument(args)?;
        let mut done = Ok(());
        for_each(groups, Some(array), signs, |row, group, sign| {
            let (rows, counts) = &mut self.groups[group];
            *rows += sign;
            match row_of(self.operation, array, row) {
                Ok(set) => set.iter().for_each(|value| Self::add(counts, value, sign)),
                Err(e) => done = Err(e),
            }
        });
        done
    }
    fn merge(&mut self, groups: &[u32], state: &[ArrayRef]) -> Result<()> {
        let rows = state_column(state, 0)?.as_primitive::<Int64Type>();
        let maps = state_column(state, 1)?.as_map();
        let (values, by) = (maps.keys().as_primitive::<Int32Type>(), maps.values().as_primitive::<Int64Type>());
        for (row, group) in groups.iter().enumerate() {
            let (known, counts) = &mut self.groups[*group as usize];
            *known += rows.value(row);
            for at in maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize {
                Self::add(counts, values.value(at) as u32, by.value(at));
            }
        }
        Ok(())
    }
    fn state(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        let mut maps = MapBuilder::new(Some(names), Int32Builder::new(), Int64Builder::new());
        for group in groups {
            let mut entries: Vec<_> = self.groups[*group as usize].1.iter().collect();
            entries.sort_unstable();
            for (value, count) in entries {
                maps.keys().append_value(*value as i32);
                maps.values().append_value(*count);
            }
            maps.append(true)?;
        }
        let rows = Int64Array::from_iter_values(groups.iter().map(|group| self.groups[*group as usize].0));
        Ok(vec![Arc::new(rows), Arc::new(maps.finish())])
    }
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(results(groups.iter().map(|group| self.set(*group)), self.cardinality))
    }
    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Counted::default();
    }
    fn keep(&mut self, groups: &[u32]) {
        self.groups = kept(&self.groups, groups);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use BitmapOperation::*;
    use arrow::array::{Array, Int32Array};

    type Rows<'a> = &'a [(i8, Option<&'a [i32]>)];

    fn column(operation: BitmapOperation, rows: Rows<'_>) -> ArrayRef {
        let set = |values: &[i32]| bitmap::write(values.iter().map(|v| *v as u32).collect());
        match operation {
            Build => Arc::new(rows.iter().map(|row| row.1.map(|values| values[0])).collect::<Int32Array>()),
            _ => Arc::new(rows.iter().map(|row| row.1.map(set)).collect::<BinaryArray>()),
        }
    }

    fn text(mut accumulator: Box<dyn Accumulator>, operation: BitmapOperation, rows: Rows<'_>) -> String {
        accumulator.resize(1);
        let signs: Vec<i8> = rows.iter().map(|row| row.0).collect();
        accumulator.update(&vec![0; rows.len()], &[column(operation, rows)], Some(&signs)).unwrap();
        let result = accumulator.evaluate(&[0]).unwrap();
        match result.as_binary_opt::<i32>() {
            Some(sets) if sets.is_valid(0) => {
                let mut out = String::new();
                bitmap::write_text(&mut out, &bitmap::read(sets.value(0)).unwrap());
                out
            }
            None if result.is_valid(0) => result.as_primitive::<Int64Type>().value(0).to_string(),
            _ => "NULL".into(),
        }
    }

    /// Whole, and cut in two at every place with its state handed over.
    fn check(operation: BitmapOperation, changes: bool, rows: Rows<'_>, expect: &str) {
        let make = |cardinality| match changes {
            true => of_changes(operation, cardinality).0,
            false => of_rows(operation, cardinality),
        };
        assert_eq!(text(make(false), operation, rows), expect, "{operation:?} of {rows:?}");
        let count = match expect {
            "NULL" => expect.to_string(),
            "{}" => "0".into(),
            set => set.split(',').count().to_string(),
        };
        assert_eq!(text(make(true), operation, rows), count, "{operation:?} of {rows:?}");
        for at in 0..=rows.len() {
            let (mut first, mut second) = (make(false), make(false));
            first.resize(1);
            second.resize(1);
            let update = |accumulator: &mut Box<dyn Accumulator>, rows: Rows<'_>| {
                let signs: Vec<i8> = rows.iter().map(|row| row.0).collect();
                accumulator.update(&vec![0; rows.len()], &[column(operation, rows)], Some(&signs)).unwrap();
            };
            update(&mut first, &rows[..at]);
            second.merge(&[0], &first.state(&[0]).unwrap()).unwrap();
            update(&mut second, &rows[at..]);
            let whole = second.evaluate(&[0]).unwrap();
            let mut once = make(false);
            once.resize(1);
            update(&mut once, rows);
            assert_eq!(&whole, &once.evaluate(&[0]).unwrap(), "{operation:?} of {rows:?} cut at {at}");
        }
    }

    /// The cases of Flink's `BitmapAggFunctionITCase`.
    #[test]
    fn rows_that_stay_make_flinks_bitmaps() {
        let abc: Rows<'_> = &[(1, Some(&[1, 2, 3])), (1, Some(&[2, 3, 4])), (1, Some(&[1, 3, 5])), (1, None)];
        for changes in [false, true] {
            check(Build, changes, &[(1, Some(&[1])), (1, None), (1, Some(&[4])), (1, Some(&[-1]))], "{1,4,4294967295}");
            check(And, changes, abc, "{3}");
            check(Or, changes, abc, "{1,2,3,4,5}");
            check(Xor, changes, abc, "{3,4,5}");
            for operation in [Build, And, Or, Xor] {
                check(operation, changes, &[], "NULL");
                check(operation, changes, &[(1, None), (1, None)], "NULL");
            }
            check(And, changes, &[(1, Some(&[1])), (1, Some(&[2]))], "{}");
            check(Or, changes, &[(1, Some(&[]))], "{}");
        }
    }

    #[test]
    fn rows_that_are_taken_back_leave_flinks_bitmaps() {
        for operation in [Build, And, Or, Xor] {
            check(operation, true, &[(1, Some(&[1])), (1, None), (-1, Some(&[1]))], "NULL");
        }
        // The second is taken back before it came.
        let build: Rows<'_> = &[
            (1, Some(&[3])),
            (-1, Some(&[2])),
            (1, Some(&[-1])),
            (1, Some(&[2])),
            (1, Some(&[2])),
            (-1, Some(&[3])),
            (1, Some(&[1])),
        ];
        check(Build, true, build, "{1,2,4294967295}");
        let or: Rows<'_> = &[
            (1, Some(&[-1, 0, 2, 3, 4])),
            (-1, Some(&[2, 4, 6])),
            (1, Some(&[2, 3, 4, 5, 6])),
            (1, Some(&[2, 4, 6])),
            (1, Some(&[2, 4, 6])),
            (-1, Some(&[2, 4, 6])),
            (1, Some(&[3, 4, 5])),
        ];
        check(Or, true, or, "{0,2,3,4,5,6,4294967295}");
        check(And, true, &[(1, Some(&[1, 2])), (1, Some(&[2, 3])), (-1, Some(&[1, 2]))], "{2,3}");
        check(Xor, true, &[(1, Some(&[1, 2])), (1, Some(&[2, 3])), (-1, Some(&[1, 2]))], "{2,3}");
    }
}
