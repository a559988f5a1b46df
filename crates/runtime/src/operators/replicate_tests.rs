//! Copies of rows by their count, and rows for the elements of collections.

use super::create;
use super::testing::{asleep, column};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, MapArray, StructArray, UInt8Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType as ArrowType, Int32Type, Int64Type};
use millstream_core::graph::{ChangelogMode, Connections, OperatorSpec, Stream, Unnest};
use millstream_core::metrics::OperatorMetrics;
use millstream_core::operator::{Collector, Context, TARGET_BATCH_ROWS};
use millstream_core::{Batch, DataType, Field, Result, RowKind, Schema, TypeKind, Watermark};
use std::sync::Arc;

#[derive(Default)]
struct Emitted(Vec<Batch>);

impl Collector for Emitted {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        self.0.push(batch);
        Ok(())
    }
    fn emit_watermark(&mut self, _: Watermark) -> Result<()> {
        Ok(())
    }
}

fn emitted(spec: OperatorSpec, input: &Schema, output: &Schema, batch: Batch) -> Vec<Batch> {
    let stream = |schema: &Schema| Stream { schema: schema.clone(), changelog: ChangelogMode::ALL };
    let connections = Connections { inputs: vec![stream(input)], output: stream(output) };
    let mut operator = create(&spec, &connections, 0, 1, &asleep()).unwrap();
    let (mut out, metrics) = (Emitted::default(), OperatorMetrics::default());
    let mut ctx = Context { out: &mut out, now_ms: 0, metrics: &metrics };
    operator.process(0, batch, &mut ctx).unwrap();
    out.0
}

/// Rows of one INT column, with their kinds.
fn ints(batches: &[Batch]) -> Vec<String> {
    let rows = batches.iter().flat_map(|batch| {
        let values = batch.column(0).as_primitive::<Int32Type>().clone();
        (0..batch.num_rows()).map(move |row| format!("{}{}", batch.kind(row).symbol(), values.value(row)))
    });
    rows.collect()
}

/// Rows of a value and a count.
fn replicated(rows: &[(RowKind, i32, Option<i64>)]) -> Vec<Batch> {
    let input =
        Schema::new(vec![Field::new("v", TypeKind::Int.nullable()), Field::new("n", TypeKind::BigInt.nullable())]);
    let output = Schema::new(input.fields[..1].to_vec());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, v, _)| *v))),
        Arc::new(rows.iter().map(|(.., n)| *n).collect::<Int64Array>()),
    ];
    let kinds = UInt8Array::from_iter_values(rows.iter().map(|(kind, ..)| *kind as u8));
    let batch = Batch::from_columns(input.arrow().clone(), columns, rows.len()).unwrap().with_kinds(Some(kinds));
    emitted(OperatorSpec::Replicate { count: 1 }, &input, &output, batch)
}

#[test]
fn a_row_comes_as_often_as_its_count_says() {
    use RowKind::*;
    let rows =
        [(Insert, 1, Some(2)), (Insert, 2, Some(0)), (Insert, 3, None), (Insert, 4, Some(-1)), (Delete, 1, Some(2))];
    assert_eq!(ints(&replicated(&rows)), ["+I1", "+I1", "-D1", "-D1"]);
}

#[test]
fn of_an_updated_count_only_the_difference_comes() {
    use RowKind::*;
    let update = |value, before, after| [(UpdateBefore, value, Some(before)), (UpdateAfter, value, Some(after))];
    let rows = [update(1, 2, 3), update(2, 5, 5), update(3, 1, -4), update(4, -2, 1)].concat();
    assert_eq!(ints(&replicated(&rows)), ["+I1", "-D3", "+I4"]);
    // Another row's update is none of this one's count.
    let rows = [(UpdateBefore, 1, Some(1)), (UpdateAfter, 2, Some(1))];
    assert_eq!(ints(&replicated(&rows)), ["-D1", "+I2"]);
}

#[test]
fn many_copies_come_in_several_batches() {
    let batches = replicated(&[(RowKind::Insert, 7, Some(2 * TARGET_BATCH_ROWS as i64 + 5))]);
    let rows: Vec<usize> = batches.iter().map(Batch::num_rows).collect();
    assert_eq!(rows, [TARGET_BATCH_ROWS, TARGET_BATCH_ROWS, 5]);
}

/// Unnests the rows' second column; rows as text.
fn unnested(kind: TypeKind, collections: ArrayRef, elements: Vec<DataType>, keeps_empty: bool) -> Vec<String> {
    let rows = collections.len();
    let input = Schema::new(vec![Field::new("v", TypeKind::Int.nullable()), Field::new("c", kind.clone().nullable())]);
    let elements = elements.into_iter().enumerate().map(|(i, t)| Field::new(format!("e{i}"), t));
    let ordinal = Field::new("o", TypeKind::Int.nullable());
    let output = Schema::new(input.fields[..1].iter().cloned().chain(elements).chain([ordinal]).collect());
    let values: ArrayRef = Arc::new(Int32Array::from_iter_values(1..=rows as i32));
    let kinds = UInt8Array::from_iter_values((0..rows).map(|row| if row == 1 { 3 } else { 0 }));
    let batch = Batch::from_columns(input.arrow().clone(), vec![values, collections], rows).unwrap();
    let collection = column(1, kind.nullable());
    let unnest = Unnest { collection, kept: vec![0], ordinality: true, keeps_empty, condition: None };
    let batches = emitted(OperatorSpec::Unnest(unnest), &input, &output, batch.with_kinds(Some(kinds)));
    let text = |column: &ArrayRef, row: usize| match column.is_null(row) {
        true => "NULL".to_string(),
        false => arrow::util::display::array_value_to_string(column, row).unwrap(),
    };
    let lines = batches.iter().flat_map(|batch| {
        (0..batch.num_rows()).map(|row| {
            let cells: Vec<String> = batch.rows.columns().iter().map(|c| text(c, row)).collect();
            format!("{} {}", batch.kind(row).symbol(), cells.join(" "))
        })
    });
    lines.collect()
}

fn lists() -> ArrayRef {
    let lists = [Some(vec![Some(5), None]), Some(vec![Some(6)]), None, Some(vec![])];
    Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))
}

#[test]
fn each_element_of_an_array_becomes_a_row_of_the_rows_kind() {
    let kind = TypeKind::Array(Box::new(TypeKind::BigInt.nullable()));
    let elements = vec![TypeKind::BigInt.nullable()];
    assert_eq!(unnested(kind.clone(), lists(), elements.clone(), false), ["+I 1 5 1", "+I 1 NULL 2", "-D 2 6 1"]);
    assert_eq!(
        unnested(kind, lists(), elements, true),
        ["+I 1 5 1", "+I 1 NULL 2", "-D 2 6 1", "+I 3 NULL NULL", "+I 4 NULL NULL"]
    );
}

#[test]
fn the_fields_of_a_row_become_columns() {
    let kind = TypeKind::Array(Box::new(
        TypeKind::Row(vec![Field::new("a", TypeKind::Int.nullable()), Field::new("b", TypeKind::Int.nullable())])
            .nullable(),
    ));
    let ArrowType::List(item) = kind.arrow() else { panic!("an array is a list") };
    let ArrowType::Struct(fields) = item.data_type() else { panic!("a row is a struct") };
    let column = |values: [i32; 3]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
    let rows = StructArray::new(
        fields.clone(),
        vec![column([1, 2, 3]), column([4, 5, 6])],
        Some(vec![true, false, true].into()),
    );
    let lists = ListArray::new(item, OffsetBuffer::from_lengths([2, 1]), Arc::new(rows), None);
    let elements = vec![TypeKind::Int.nullable(), TypeKind::Int.nullable()];
    assert_eq!(unnested(kind, Arc::new(lists), elements, false), ["+I 1 1 4 1", "+I 1 NULL NULL 2", "-D 2 3 6 1"]);
}

#[test]
fn maps_have_two_columns_and_multisets_repeat_their_elements() {
    let map = |kind: &TypeKind| {
        let ArrowType::Map(entries, _) = kind.arrow() else { panic!("a map is a map") };
        let ArrowType::Struct(fields) = entries.data_type() else { panic!("entries are structs") };
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let values: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let all = StructArray::new(fields.clone(), vec![keys, values], None);
        Arc::new(MapArray::new(entries, OffsetBuffer::from_lengths([2]), all, None, false)) as ArrayRef
    };
    let (big, int) = (TypeKind::BigInt.nullable(), TypeKind::Int.nullable());
    let kind = TypeKind::Map(Box::new(big.clone()), Box::new(int.clone()));
    assert_eq!(unnested(kind.clone(), map(&kind), vec![big.clone(), int], false), ["+I 1 7 1 1", "+I 1 8 2 2"]);
    let kind = TypeKind::Multiset(Box::new(big.clone()));
    assert_eq!(unnested(kind.clone(), map(&kind), vec![big], false), ["+I 1 7 1", "+I 1 8 2", "+I 1 8 3"]);
}
