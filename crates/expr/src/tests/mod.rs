//! Functions against answers that Flink gives (its documentation, and the recorded answers of the conformance cases).

use crate::build::{Value, call, cast, column, field, field_path, fold, literal};
use crate::print::format_value;
use arrow::array::{ArrayRef, Int32Array};
use millstream_core::expr::EvalContext;
use millstream_core::types::SessionZone;
use millstream_core::{Batch, DataType, ExprRef, Field, Result, Schema, TypeKind};
use std::sync::Arc;

mod bitmap;
mod collection;
mod columns;
mod json;
mod text;
mod time;
mod variant;

const UTC: SessionZone = SessionZone::UTC;

fn s(text: &str) -> ExprRef {
    literal(Value::String(text.into()), TypeKind::Char(text.chars().count() as u32).not_null())
}
fn i(v: i64) -> ExprRef {
    literal(Value::Int(v), TypeKind::Int.not_null())
}
fn d(v: f64) -> ExprRef {
    literal(Value::Double(v), TypeKind::Double.not_null())
}
fn dec(v: i128, p: u8, scale: u8) -> ExprRef {
    literal(Value::Decimal(v), TypeKind::Decimal(p, scale).not_null())
}
fn null(kind: TypeKind) -> ExprRef {
    literal(Value::Null, kind.nullable())
}
fn ts(text: &str) -> ExprRef {
    cast(s(text), TypeKind::Timestamp(3).nullable(), false, &UTC).expect("a timestamp")
}
fn c(name: &str, args: Vec<ExprRef>) -> ExprRef {
    call(name, args, &UTC).unwrap_or_else(|e| panic!("{name}: {e}"))
}
fn try_eval(e: &ExprRef) -> Result<String> {
    let batch = Batch::from_columns(Schema::new(vec![]).arrow().clone(), vec![], 1)?;
    let array = e.evaluate(&batch, &EvalContext::at(0))?.into_array(1)?;
    assert_eq!(array.data_type(), &e.data_type().arrow(), "{e}");
    Ok(format_value(&array, 0, e.data_type(), &UTC))
}
fn check(e: ExprRef, expect: &str) {
    assert_eq!(try_eval(&e).unwrap_or_else(|e| format!("error: {e}")), expect, "{e}");
}
fn check_type(e: ExprRef, expect: &str) {
    assert_eq!(e.data_type().to_string(), expect, "{e}");
}

#[test]
fn floats_are_written_as_java_writes_them() {
    let text = |v: f64, kind: TypeKind| {
        let value = cast(d(v), kind.not_null(), false, &UTC).expect("a number");
        try_eval(&cast(value, TypeKind::STRING.not_null(), false, &UTC).expect("text")).expect("text")
    };
    for (v, float, double) in [
        (0.1, "0.1", "0.1"),
        (1e7, "1.0E7", "1.0E7"),
        (9_999_999.0, "9999999.0", "9999999.0"),
        (123_456_789.125, "1.23456792E8", "1.23456789125E8"),
        (12_345_678_901.0, "1.23456788E10", "1.2345678901E10"),
        (123_456_789_012.0, "1.23456791E11", "1.23456789012E11"),
        (9_223_372_036_854_775_807.0, "9.223372E18", "9.223372036854776E18"),
        (1e21, "1.0E21", "1.0E21"),
    ] {
        assert_eq!((text(v, TypeKind::Float).as_str(), text(v, TypeKind::Double).as_str()), (float, double));
    }
    assert_eq!(text(f64::from_bits(1), TypeKind::Double), "4.9E-324");
}

#[test]
fn decimals_have_flinks_precision_scale_and_rounding() {
    let a = || dec(-93033, 10, 2);
    let b = || dec(-335431744, 18, 6);
    for (op, r, t, expect) in [
        ("+", b(), "DECIMAL(19, 6) NOT NULL", "-1265.761744"),
        ("-", b(), "DECIMAL(19, 6) NOT NULL", "-594.898256"),
        ("*", b(), "DECIMAL(29, 8) NOT NULL", "312062.21439552"),
        ("/", b(), "DECIMAL(35, 21) NOT NULL", "2.773529985283682632017"),
        ("*", i(46), "DECIMAL(21, 2) NOT NULL", "-42795.18"),
        ("/", i(3), "DECIMAL(21, 13) NOT NULL", "-310.1100000000000"),
        ("MOD", i(3), "DECIMAL(10, 2) NOT NULL", "-0.33"),
        ("/", dec(3, 2, 1), "DECIMAL(16, 6) NOT NULL", "-3101.100000"),
    ] {
        if op != "/" || t != "DECIMAL(16, 6) NOT NULL" {
            check_type(c(op, vec![a(), r.clone()]), t);
        }
        check(c(op, vec![a(), r]), expect);
    }
    check_type(c("MOD", vec![dec(1514356320000, 19, 0), i(7)]), "INT NOT NULL");
    check(c("MOD", vec![dec(1514356320000, 19, 0), i(7)]), "6");
    check_type(c("/", vec![dec(1514356320000, 19, 0), i(6)]), "DECIMAL(30, 11) NOT NULL");
    check(c("/", vec![i(1), dec(30, 2, 1)]), "0.333333");
    check_type(c("ROUND", vec![b(), i(3)]), "DECIMAL(16, 3) NOT NULL");
    check_type(c("ROUND", vec![a()]), "DECIMAL(9, 0) NOT NULL");
    check(c("FLOOR", vec![dec(-44845, 10, 2)]), "-449");
    check(c("CEIL", vec![dec(-650348000, 18, 6)]), "-650");
    check(c("SIGN", vec![a()]), "-1.00");
}

#[test]
fn numbers_wrap_divide_and_print_as_in_java() {
    check(c("+", vec![i(2147483647), i(1)]), "-2147483648");
    check(c("/", vec![i(-7), i(2)]), "-3");
    assert!(try_eval(&c("/", vec![i(1), i(0)])).is_err());
    check(c("/", vec![d(1.0), d(0.0)]), "Infinity");
    check(d(1.9e-4), "1.9E-4");
    check(d(1e10), "1.0E10");
    check(d(100.0), "100.0");
    check(d(5e307), "5.0E307");
    check(d(0.001), "0.001");
    check(d(1234567.25), "1234567.25");
    check(c("ROUND", vec![d(-713.14), i(1)]), "-713.1");
    check(c("ROUND", vec![i(35), i(-1)]), "40");
    check(c("TRUNCATE", vec![d(149.819), i(2)]), "149.81");
    check(c("BIN", vec![i(35)]), "100011");
    check(c("HEX", vec![i(-1)]), "FFFFFFFFFFFFFFFF");
    check(c("HEX", vec![s("abc")]), "616263");
    check(c(">", vec![d(f64::NAN), d(1.0)]), "FALSE");
    check(c("GREATEST", vec![i(1), i(3), i(2)]), "3");
}

#[test]
fn logic_is_three_valued_and_lazy() {
    let unknown = || null(TypeKind::Boolean);
    let yes = || literal(Value::Boolean(true), TypeKind::Boolean.not_null());
    let no = || literal(Value::Boolean(false), TypeKind::Boolean.not_null());
    let fails = || c("=", vec![c("/", vec![i(1), i(0)]), i(1)]);
    check(c("AND", vec![unknown(), no()]), "FALSE");
    check(c("AND", vec![unknown(), yes()]), "NULL");
    check(c("OR", vec![unknown(), yes()]), "TRUE");
    check(c("NOT", vec![unknown()]), "NULL");
    check(c("AND", vec![no(), fails()]), "FALSE");
    check(c("IS NOT TRUE", vec![unknown()]), "TRUE");
    check(c("IS DISTINCT FROM", vec![null(TypeKind::Int), i(1)]), "TRUE");
    check(c("CASE", vec![yes(), i(1), c("/", vec![i(1), i(0)])]), "1");
    check(c("COALESCE", vec![null(TypeKind::Int), i(2), c("/", vec![i(1), i(0)])]), "2");
    check(c("NULLIF", vec![i(1), i(1)]), "NULL");
    check(c("IN", vec![i(1), i(2), null(TypeKind::Int)]), "NULL");
    check(c("IN", vec![s("b"), s("a"), s("b"), s("c"), s("d")]), "TRUE");
    check_type(c("CASE", vec![yes(), s("x"), s("long")]), "VARCHAR(4) NOT NULL");
    check(c("=", vec![c("ROW", vec![i(1), null(TypeKind::Int)]), c("ROW", vec![i(2), i(1)])]), "FALSE");
}

#[test]
fn a_failing_branch_runs_only_for_the_rows_that_take_it() {
    let int = TypeKind::Int.nullable();
    let schema = Schema::new(vec![Field::new("x", int.clone())]);
    let values: ArrayRef = Arc::new(Int32Array::from(vec![Some(0), Some(2), None]));
    let batch = Batch::from_columns(schema.arrow().clone(), vec![values], 3).expect("a batch");
    let x = || column(0, int.clone(), "x");
    let quotient = || c("/", vec![i(10), x()]);
    let case = c("CASE", vec![c("=", vec![x(), i(0)]), i(-1), quotient()]);
    let and = c("AND", vec![c("<>", vec![x(), i(0)]), c(">", vec![quotient(), i(1)])]);
    for (e, expect) in [(case, ["-1", "5", "NULL"]), (and, ["FALSE", "TRUE", "NULL"])] {
        let array = e.evaluate(&batch, &EvalContext::at(0)).expect("no error").into_array(3).expect("rows");
        let got: Vec<String> = (0..3).map(|r| format_value(&array, r, e.data_type(), &UTC)).collect();
        assert_eq!(got, expect, "{e}");
    }
}

#[test]
fn casts_take_and_refuse_what_flinks_do() {
    let to = |text: &str, kind: TypeKind| cast(s(text), kind.nullable(), true, &UTC).expect("castable");
    for (text, expect) in [("3.75", "3"), ("5.", "5"), (".5", "0"), ("+7", "7"), ("1e3", "NULL"), (" 7 ", "7")] {
        check(to(text, TypeKind::Int), expect);
    }
    check(to("1e3", TypeKind::Double), "1000.0");
    check(to("yes", TypeKind::Boolean), "TRUE");
    check(to("1.005", TypeKind::Decimal(5, 2)), "1.01");
    check(to("hello", TypeKind::VarChar(2)), "he");
    check(to("7", TypeKind::Date), "0007-01-01");
    check(to("2023-02-29", TypeKind::Timestamp(3)), "2023-02-28 00:00:00.000");
    check(to("2024-06-30 24:00:00", TypeKind::Timestamp(3)), "2024-07-01 00:00:00.000");
    check(to("2024-1-5 6:7:8", TypeKind::Timestamp(0)), "2024-01-05 06:07:08");
    check(to("2024-01-05 06:07", TypeKind::Timestamp(3)), "NULL");
    check(to("6:7", TypeKind::Time(0)), "06:07:00");
    check(cast(i(300), TypeKind::TinyInt.nullable(), false, &UTC).expect("castable"), "44");
    assert!(try_eval(&cast(s("x"), TypeKind::Int.nullable(), false, &UTC).expect("castable")).is_err());
    let interval = literal(Value::Int(93784500), TypeKind::IntervalDayTime.not_null());
    check(interval, "+1 02:03:04.500");
    check(literal(Value::Int(14), TypeKind::IntervalYearMonth.not_null()), "+1-02");
}

#[test]
fn text_functions_answer_as_flink() {
    for (name, args, expect) in [
        ("SUBSTRING", vec![s("hello"), i(-3)], "llo"),
        ("SUBSTRING", vec![s("hello"), i(0)], "hello"),
        ("SUBSTRING", vec![s("abc"), i(1), i(-1)], "NULL"),
        ("SUBSTRING", vec![s("ÀÉÎ straße"), i(-4), i(2)], "ra"),
        ("LEFT", vec![s("abc"), i(-1)], ""),
        ("RIGHT", vec![s("abc"), i(2)], "bc"),
        ("LPAD", vec![s("hi"), i(4), s("??")], "??hi"),
        ("LPAD", vec![s("hi"), i(1), s("??")], "h"),
        ("INITCAP", vec![s("hello wORLD")], "Hello World"),
        ("CONCAT_WS", vec![s("~"), s("AA"), null(TypeKind::STRING), s("BB")], "AA~BB"),
        ("OVERLAY", vec![s("xxxxxtest"), s("xxxx"), i(6)], "xxxxxxxxx"),
        ("TRIM", vec![s("BOTH"), s(" "), s("  x ")], "x"),
        ("REGEXP_REPLACE", vec![s("foobar"), s("oo|ar"), s("")], "fb"),
        ("REGEXP_REPLACE", vec![s("c123"), s("(\\w)(\\d)"), s("$2$1")], "$2$1$2$1"),
        ("REGEXP_EXTRACT", vec![s("foothebar"), s("foo(.*?)(bar)"), i(2)], "bar"),
        ("REGEXP", vec![s("a"), s("")], "FALSE"),
        ("REGEXP", vec![s("a"), s("(")], "FALSE"),
        ("LIKE", vec![s("wild_card%"), s("wild\\_%"), s("\\")], "TRUE"),
        ("LIKE", vec![s("abcabd"), s("%ab_")], "TRUE"),
        ("SIMILAR TO", vec![s("abc"), s("(a|b)%")], "TRUE"),
        ("SIMILAR TO", vec![s("abc"), s("a.c")], "TRUE"),
        ("SIMILAR TO", vec![s("ab1"), s("[[:ALPHA:]]+[[:digit:]]")], "TRUE"),
        ("SIMILAR TO", vec![s("a%"), s("a!%"), s("!")], "TRUE"),
        ("SIMILAR TO", vec![s("abc"), s("a[%_]c")], "FALSE"),
        ("SIMILAR TO", vec![s("abc\n"), s("abc")], "FALSE"),
        ("SPLIT_INDEX", vec![s("a,b,,c"), s(","), i(3)], "c"),
        ("MD5", vec![s("Hello World")], "b10a8db164e0754105b7a99be72e3fe5"),
        ("PARSE_URL", vec![s("https://user:pw@example.org:8080/a/b.html?k=v&x=1#frag"), s("HOST")], "example.org"),
        ("PARSE_URL", vec![s("http://example.com/?k="), s("QUERY"), s("k")], ""),
        ("URL_ENCODE", vec![s("http://a.b/c d?k=x")], "http%3A%2F%2Fa.b%2Fc+d%3Fk%3Dx"),
        ("POSITION", vec![s("l"), s("hello")], "3"),
        ("TRANSLATE", vec![s("www.x"), s("wx."), s("ab")], "aaab"),
        ("INET_ATON", vec![s("127.0.0.1")], "2130706433"),
        ("INET_ATON", vec![s("127.1")], "2130706433"),
        ("INET_ATON", vec![s("1.2.3.256")], "NULL"),
        ("INET_ATON", vec![s("1.2.3.4.5")], "NULL"),
        ("INET_NTOA", vec![i(2130706433)], "127.0.0.1"),
        ("INET_NTOA", vec![i(-1)], "NULL"),
    ] {
        check(c(name, args), expect);
    }
}

#[test]
fn time_functions_answer_as_flink() {
    let t = || ts("2024-02-29 13:14:15.678");
    for (name, args, expect) in [
        ("YEAR", vec![t()], "2024"),
        ("WEEK", vec![t()], "9"),
        ("DAYOFWEEK", vec![t()], "5"),
        ("EXTRACT", vec![s("MILLISECOND"), t()], "678"),
        ("SECOND", vec![ts("1969-12-31 23:59:59.999")], "0"),
        ("FLOOR_TO", vec![t(), s("WEEK")], "2024-02-25 00:00:00.000"),
        ("CEIL_TO", vec![t(), s("MONTH")], "2024-03-01 00:00:00.000"),
        ("TIMESTAMPADD", vec![s("YEAR"), i(1), t()], "2025-02-28 13:14:15.678"),
        ("TIMESTAMPDIFF", vec![s("MONTH"), t(), ts("2024-04-29 13:14:15")], "1"),
        ("DATE_FORMAT", vec![t(), s("yyyy/MM/dd'T'hh:mm a")], "2024/02/29T01:14 PM"),
        ("TO_DATE", vec![s("05.01.2024"), s("dd.MM.yyyy")], "2024-01-05"),
        ("TO_DATE", vec![s("2023-02-29")], "NULL"),
        ("TO_TIMESTAMP", vec![s("2024-02-30 10:00:00"), s("yyyy/MM/dd HH:mm")], "2024-03-01 10:00:00.000"),
        ("TO_TIMESTAMP", vec![s("2024/02/30 01:00"), s("yyyy/MM/dd HH:mm")], "2024-02-29 01:00:00.000"),
        ("FROM_UNIXTIME", vec![i(44)], "1970-01-01 00:00:44"),
        ("UNIX_TIMESTAMP", vec![s("1970-01-01 00:00:44")], "44"),
        ("CONVERT_TZ", vec![s("1970-01-01 00:00:00"), s("UTC"), s("America/Los_Angeles")], "1969-12-31 16:00:00"),
    ] {
        check(c(name, args), expect);
    }
    let hour = literal(Value::Int(3_600_000), TypeKind::IntervalDayTime.not_null());
    check(c("+", vec![t(), hour]), "2024-02-29 14:14:15.678");
}

#[test]
fn collections_are_made_read_and_printed() {
    let list = |v: &[i64]| c("ARRAY", v.iter().map(|v| i(*v)).collect());
    check(c("ARRAY", vec![i(1), null(TypeKind::Int)]), "[1, NULL]");
    check(c("MAP", vec![s("a"), i(2)]), "{a=2}");
    check(c("ROW", vec![i(1), s("a")]), "(1, a)");
    check(c("ITEM", vec![list(&[5, 6]), i(2)]), "6");
    check(c("ITEM", vec![list(&[5, 6]), i(3)]), "NULL");
    check(c("ITEM", vec![c("MAP", vec![s("k"), i(1), s("l"), i(2)]), s("l")]), "2");
    assert!(call("ITEM", vec![list(&[5]), i(0)], &UTC).is_err());
    check(c("ARRAY_UNION", vec![list(&[2, 6, 2]), list(&[0, 6])]), "[2, 6, 0]");
    check(c("ARRAY_EXCEPT", vec![list(&[0, 0, 9]), list(&[9])]), "[0]");
    check(c("TYPEOF", vec![list(&[1])]), "ARRAY<INT NOT NULL> NOT NULL");
    check(c("CARDINALITY", vec![list(&[1, 2])]), "2");
    check(c("=", vec![list(&[1, 2]), list(&[1, 2])]), "TRUE");
}

#[test]
fn mistakes_are_named() {
    let error = call("UPER", vec![s("a")], &UTC).expect_err("no such function");
    assert!(error.to_string().contains("there is no function 'UPER'"), "{error}");
    assert!(error.to_string().contains("UPPER"), "{error}");
    let error = call("UPPER", vec![i(1)], &UTC).expect_err("wrong type");
    assert!(error.to_string().contains("does not take (INT)"), "{error}");
    assert!(fold(c("/", vec![i(1), i(0)])).is_err());
}

#[test]
fn a_path_of_fields_is_recognised() {
    let inner: DataType = TypeKind::Row(vec![Field::new("b", TypeKind::Int.nullable())]).nullable();
    let outer = TypeKind::Row(vec![Field::new("a", inner)]).nullable();
    let e = field(field(column(3, outer, "c"), "a").expect("a field"), "b").expect("a field");
    assert_eq!(field_path(&e), Some((3, vec!["a".to_string(), "b".to_string()])));
}

#[test]
fn the_documentation_lists_the_functions_there_are() {
    let page = include_str!("../../../../docs/functions.md");
    let scalar = page.split("## Aggregates").next().unwrap_or_default();
    let tables = scalar.split("## Operators").last().and_then(|t| t.split_once("## Conditions")).unwrap_or_default().1;
    let mut listed: Vec<&str> = vec![];
    for line in tables.lines().filter(|l| l.starts_with("| `")) {
        // A cell may hold an escaped bar.
        let cell = line.split(" | ").next().unwrap_or_default();
        for code in cell.split('`').skip(1).step_by(2) {
            let end = code.find(['(', '[', ' ']).unwrap_or(code.len());
            listed.push(&code[..end]);
        }
    }
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed, crate::build::function_names());
}

/// `e` over a column `x` of these values.
fn over(e: &ExprRef, x: ArrayRef, data_type: &DataType) -> Vec<String> {
    let schema = Schema::new(vec![Field::new("x", data_type.clone())]);
    let rows = x.len();
    let batch = Batch::from_columns(schema.arrow().clone(), vec![x], rows).expect("a batch");
    let array = e.evaluate(&batch, &EvalContext::at(0)).and_then(|c| c.into_array(rows)).expect("a column");
    assert_eq!(array.data_type(), &e.data_type().arrow(), "{e}");
    (0..rows).map(|r| format_value(&array, r, e.data_type(), &UTC)).collect()
}

/// Whole columns take other ways than single values: kernels of Arrow, patterns kept from row to row.
#[test]
fn columns_answer_as_single_values_do() {
    let int = TypeKind::Int.nullable();
    let x = || column(0, int.clone(), "x");
    let values: [Option<i32>; 6] = [Some(7), None, Some(-7), Some(0), Some(i32::MIN), Some(3)];
    let decimal = || cast(x(), TypeKind::Decimal(12, 2).nullable(), false, &UTC).expect("castable");
    let double = || cast(x(), TypeKind::Double.nullable(), false, &UTC).expect("castable");
    let text = || cast(x(), TypeKind::STRING.nullable(), false, &UTC).expect("castable");
    let expressions = [
        c("/", vec![x(), i(3)]),
        c("%", vec![x(), i(3)]),
        c("/", vec![x(), i(-1)]),
        c("MOD", vec![cast(x(), TypeKind::BigInt.nullable(), false, &UTC).expect("castable"), i(5)]),
        c("+", vec![decimal(), dec(105, 3, 1)]),
        c("*", vec![decimal(), dec(105, 3, 1)]),
        c("/", vec![decimal(), dec(105, 3, 1)]),
        c(">", vec![double(), d(2.5)]),
        c("=", vec![d(7.0), double()]),
        c("IS DISTINCT FROM", vec![double(), null(TypeKind::Double)]),
        c("LIKE", vec![text(), s("7")]),
        c("LIKE", vec![text(), s("-%")]),
        c("LIKE", vec![text(), s("%7")]),
        c("LIKE", vec![text(), s("%4748%")]),
        c("LIKE", vec![text(), s("_7%")]),
        c("IS NULL", vec![x()]),
        c("COALESCE", vec![x(), i(1)]),
        c("COALESCE", vec![x(), c("+", vec![x(), i(1)]), i(2)]),
        c("CASE", vec![c(">", vec![x(), i(0)]), s("positive"), c("<", vec![x(), i(0)]), s("negative"), s("else")]),
        c("AND", vec![c("=", vec![x(), i(7)]), c("LIKE", vec![text(), s("7%")])]),
        c("OR", vec![c("<>", vec![x(), i(7)]), c("LIKE", vec![text(), s("7%")])]),
        c("IN", vec![x(), i(1), i(7), i(3), i(4)]),
        c("PRINTF", vec![s("%05d"), x()]),
        c("DATE_FORMAT", vec![c("TO_TIMESTAMP_LTZ", vec![x(), i(3)]), s("mm:ss.SSS")]),
        c("EXTRACT", vec![s("SECOND"), c("TO_TIMESTAMP_LTZ", vec![x(), i(0)])]),
    ];
    for e in expressions {
        let all = over(&e, Arc::new(Int32Array::from(values.to_vec())), &int);
        for (value, expect) in values.iter().zip(all) {
            assert_eq!(over(&e, Arc::new(Int32Array::from(vec![*value])), &int), [expect], "{e} of {value:?}");
            let literal = value.map_or_else(|| null(TypeKind::Int), |v| i(i64::from(v)));
            let constant = replace_column(&e, &literal);
            assert_eq!(
                over(&e, Arc::new(Int32Array::from(vec![*value])), &int),
                [try_eval(&constant).expect("a value")],
                "{e}"
            );
        }
    }
}

fn replace_column(e: &ExprRef, by: &ExprRef) -> ExprRef {
    if e.as_column().is_some() {
        return by.clone();
    }
    let children = e.children().into_iter().map(|child| replace_column(child, by)).collect::<Vec<_>>();
    if children.is_empty() { e.clone() } else { e.with_children(children) }
}
