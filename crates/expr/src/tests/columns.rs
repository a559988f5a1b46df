//! Functions over columns with NULLs, cut out of longer ones, against plain code over the same values.

use super::*;
use arrow::array::{Array, Decimal128Array, Int64Array, StringArray, TimestampMillisecondArray};

/// `expr` over all rows of the column but the first and the last, as text.
fn over(column: &ArrayRef, expr: &ExprRef) -> Vec<String> {
    let rows = column.len() - 2;
    let field = arrow::datatypes::Field::new("x", column.data_type().clone(), true);
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
    let batch = Batch::from_columns(schema, vec![column.slice(1, rows)], rows).unwrap();
    let result = expr.evaluate(&batch, &EvalContext::at(0)).unwrap().into_array(rows).unwrap();
    assert_eq!(result.data_type(), &expr.data_type().arrow(), "{expr}");
    (0..rows).map(|row| format_value(&result, row, expr.data_type(), &UTC)).collect()
}

fn x(kind: TypeKind) -> ExprRef {
    column(0, kind.nullable(), "x")
}

fn shown<T: ToString>(values: impl Iterator<Item = Option<T>>) -> Vec<String> {
    values.map(|v| v.map_or("NULL".to_string(), |v| v.to_string())).collect()
}

fn texts(ascii: bool) -> Vec<Option<String>> {
    let text = |i: usize| match i % 7 {
        0 => None,
        1 => Some(String::new()),
        2 if !ascii => Some("ÄÖ/Σ".to_string()),
        n => Some(format!("Ab{i}/c&channel_id={n}/dE/{}", "/".repeat(n))),
    };
    (0..100).map(text).collect()
}

#[test]
fn texts_of_a_column() {
    for ascii in [true, false] {
        let values = texts(ascii);
        let array: ArrayRef = Arc::new(StringArray::from(values.clone()));
        let inner = || values[1..99].iter().map(|v| v.as_deref());
        let check = |name: &str, more: Vec<ExprRef>, expect: Vec<String>| {
            let e = c(name, [vec![x(TypeKind::STRING)], more].concat());
            assert_eq!(over(&array, &e), expect, "{e}");
        };
        check("LOWER", vec![], shown(inner().map(|v| v.map(str::to_lowercase))));
        check("UPPER", vec![], shown(inner().map(|v| v.map(str::to_uppercase))));
        for n in 0..5 {
            let part = |v: &str| v.split('/').nth(n).filter(|_| !v.is_empty()).map(str::to_string);
            check("SPLIT_INDEX", vec![s("/"), i(n as i64)], shown(inner().map(|v| v.and_then(part))));
        }
        let id = |v: &str| Some(v.split_once("&channel_id=")?.1.split('/').next()?.to_string());
        // Once for each of the engines.
        for pattern in ["(&|^)channel_id=([^/&]*)", "(?:&|^)()channel_id=([^/&]*)"] {
            check("REGEXP_EXTRACT", vec![s(pattern), i(2)], shown(inner().map(|v| v.and_then(id))));
        }
        check("REGEXP_EXTRACT", vec![s("(b)"), i(2)], vec!["NULL".to_string(); 98]);
        let list = ["", "ÄÖ/Σ", "x", "Ab3/c&channel_id=3/dE////"];
        let found = inner().map(|v| v.map(|v| if list.contains(&v) { "TRUE" } else { "FALSE" }));
        check("IN", list.iter().map(|text| s(text)).collect(), shown(found));
    }
}

#[test]
fn times_of_a_column() {
    let mut values: Vec<Option<i64>> = (0..100i64).map(|i| (i % 5 != 0).then_some((i - 50) * 10_000_007)).collect();
    for overflows in [false, true] {
        values[51] = Some(if overflows { i64::MIN + 1 } else { 0 });
        let array: ArrayRef = Arc::new(TimestampMillisecondArray::from(values.clone()));
        let inner = || values[1..99].iter().copied();
        let time = || x(TypeKind::Timestamp(3));
        let four = || literal(Value::Int(4000), TypeKind::IntervalDayTime.not_null());
        for (op, by) in [("-", -4000), ("+", 4000)] {
            let moved = c(op, vec![time(), four()]);
            let expect: ArrayRef = Arc::new(inner().map(|v| v?.checked_add(by)).collect::<TimestampMillisecondArray>());
            let expect = (0..98).map(|i| format_value(&expect, i, moved.data_type(), &UTC)).collect::<Vec<_>>();
            assert_eq!(over(&array, &moved), expect);
        }
        let hours = inner().map(|v| Some(v? % 86_400_000 / 3_600_000));
        assert_eq!(over(&array, &c("HOUR", vec![time()])), shown(hours));
    }
}

#[test]
fn decimals_of_a_column() {
    let values: Vec<Option<i64>> = (0..100i64).map(|i| (i % 5 != 0).then_some((i - 50) * 1_234_567)).collect();
    let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
    let product = c("*", vec![dec(908, 3, 3), x(TypeKind::BigInt)]);
    let show = |v: i64| crate::decimal::format(i128::from(v) * 908, 3);
    assert_eq!(over(&array, &product), shown(values[1..99].iter().map(|v| v.map(show))));
    let above = c(">", vec![product, i(1_000_000)]);
    let holds = |v: i64| if v * 908 > 1_000_000_000 { "TRUE" } else { "FALSE" };
    assert_eq!(over(&array, &above), shown(values[1..99].iter().map(|v| v.map(holds))));

    // What doesn't fit 38 digits is NULL.
    let large = |i: i128| (i % 3 != 0).then_some(i * 10i128.pow(35));
    let array = (0..100).map(large).collect::<Decimal128Array>().with_precision_and_scale(38, 0).unwrap();
    let sum = c("+", vec![x(TypeKind::Decimal(38, 0)), dec(999 * 10i128.pow(35), 38, 0)]);
    let add = |v: i128| Some(v + 999 * 10i128.pow(35)).filter(|v| *v < 10i128.pow(38));
    assert_eq!(over(&(Arc::new(array) as ArrayRef), &sum), shown((1..99).map(|i| large(i).and_then(add))));
}

#[test]
fn case_takes_each_row_from_its_branch() {
    let values: Vec<Option<i64>> = (0..100i64).map(|i| (i % 9 != 0).then_some(i % 10)).collect();
    let array: ArrayRef = Arc::new(Int64Array::from(values.clone()));
    let x = || x(TypeKind::BigInt);
    let is = |n: i64| c("=", vec![x(), i(n)]);
    // A constant, the column itself, something computed; the computed one fails for 3.
    let computed = c("/", vec![i(600), c("-", vec![x(), i(3)])]);
    let computed = cast(computed, TypeKind::BigInt.nullable(), false, &UTC).unwrap();
    let constant = literal(Value::Int(-1), TypeKind::BigInt.not_null());
    let case = c("CASE", vec![is(3), constant, is(4), x(), computed]);
    let model = |v: Option<i64>| match v {
        Some(3) => Some(-1),
        Some(4) => Some(4),
        v => Some(600 / (v? - 3)),
    };
    assert_eq!(over(&array, &case), shown(values[1..99].iter().map(|v| model(*v))));
}
