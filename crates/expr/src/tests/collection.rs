//! Functions over arrays and maps against the answers in Flink's documentation and in its own tests.

use super::*;

fn ints(v: &[Option<i64>]) -> ExprRef {
    c("ARRAY", v.iter().map(|v| v.map_or_else(|| null(TypeKind::Int), i)).collect())
}
fn texts(v: &[&str]) -> ExprRef {
    c("ARRAY", v.iter().map(|t| s(t)).collect())
}
fn yes(v: bool) -> ExprRef {
    literal(Value::Boolean(v), TypeKind::Boolean.not_null())
}

#[test]
fn array_functions_answer_as_flink() {
    let a = || ints(&[Some(3), None, Some(1), Some(3)]);
    let nothing = || null(TypeKind::Array(Box::new(TypeKind::Int.nullable())));
    for (name, args, expect) in [
        ("ARRAY_APPEND", vec![a(), i(7)], "[3, NULL, 1, 3, 7]"),
        ("ARRAY_APPEND", vec![a(), null(TypeKind::Int)], "[3, NULL, 1, 3, NULL]"),
        ("ARRAY_APPEND", vec![nothing(), i(7)], "NULL"),
        ("ARRAY_PREPEND", vec![a(), i(7)], "[7, 3, NULL, 1, 3]"),
        ("ARRAY_REMOVE", vec![a(), i(3)], "[NULL, 1]"),
        ("ARRAY_REMOVE", vec![a(), null(TypeKind::Int)], "[3, 1, 3]"),
        ("ARRAY_CONTAINS", vec![a(), i(1)], "TRUE"),
        ("ARRAY_CONTAINS", vec![a(), null(TypeKind::Int)], "TRUE"),
        ("ARRAY_CONTAINS", vec![ints(&[Some(1)]), null(TypeKind::Int)], "FALSE"),
        ("ARRAY_CONTAINS", vec![nothing(), i(1)], "NULL"),
        ("ARRAY_POSITION", vec![a(), i(1)], "3"),
        ("ARRAY_POSITION", vec![a(), i(8)], "0"),
        ("ARRAY_POSITION", vec![a(), null(TypeKind::Int)], "NULL"),
        ("ARRAY_DISTINCT", vec![a()], "[3, NULL, 1]"),
        ("ARRAY_REVERSE", vec![a()], "[3, 1, NULL, 3]"),
        ("ARRAY_SLICE", vec![a(), i(2), i(3)], "[NULL, 1]"),
        ("ARRAY_SLICE", vec![a(), i(-2)], "[1, 3]"),
        ("ARRAY_SLICE", vec![a(), i(0), i(0)], "[3]"),
        ("ARRAY_SLICE", vec![a(), i(-9), i(-4)], "[3]"),
        ("ARRAY_SLICE", vec![a(), i(4), i(2)], "[]"),
        ("ARRAY_SLICE", vec![a(), i(20), i(30)], "[]"),
        ("ARRAY_SLICE", vec![a(), null(TypeKind::Int)], "NULL"),
        ("ARRAY_SORT", vec![a()], "[NULL, 1, 3, 3]"),
        ("ARRAY_SORT", vec![a(), yes(false)], "[3, 3, 1, NULL]"),
        ("ARRAY_SORT", vec![a(), yes(true), yes(false)], "[1, 3, 3, NULL]"),
        ("ARRAY_SORT", vec![a(), yes(false), yes(true)], "[NULL, 3, 3, 1]"),
        ("ARRAY_MAX", vec![a()], "3"),
        ("ARRAY_MIN", vec![a()], "1"),
        ("ARRAY_MAX", vec![ints(&[None])], "NULL"),
        ("ARRAY_UNION", vec![a(), ints(&[Some(4), Some(1)])], "[3, NULL, 1, 4]"),
        ("ARRAY_INTERSECT", vec![a(), ints(&[None, Some(3)])], "[3, NULL]"),
        ("ARRAY_EXCEPT", vec![a(), ints(&[Some(3)])], "[NULL, 1]"),
        ("ARRAY_CONCAT", vec![a(), ints(&[Some(9)])], "[3, NULL, 1, 3, 9]"),
        ("ARRAY_CONCAT", vec![a()], "[3, NULL, 1, 3]"),
        ("ARRAY_CONCAT", vec![a(), nothing()], "NULL"),
        ("ARRAY_CONTAINS", vec![texts(&["a", "b"]), s("abc")], "FALSE"),
        ("ARRAY_APPEND", vec![texts(&["a"]), s("bcd")], "[a, bcd]"),
        ("ITEM", vec![c("MAP", vec![s("k"), i(1)]), s("kk")], "NULL"),
        ("ARRAY_JOIN", vec![texts(&["a", "b"]), s("-")], "a-b"),
        ("ELEMENT", vec![ints(&[Some(4)])], "4"),
        ("CARDINALITY", vec![a()], "4"),
        ("SPLIT", vec![s(";a;b;;"), s(";")], "[, a, b, , ]"),
        ("SPLIT", vec![s("abc"), s("")], "[a, b, c]"),
        ("SPLIT", vec![s("abc"), s(",")], "[abc]"),
        ("REGEXP_EXTRACT_ALL", vec![s("abcdeabde"), s("(a)(b)"), i(2)], "[b, b]"),
        ("REGEXP_EXTRACT_ALL", vec![s("abcdeabde"), s("(a)(b)"), i(3)], "NULL"),
        ("REGEXP_EXTRACT_ALL", vec![s("foobar fooba"), s("fo+(b?)a?"), i(0)], "[fooba, fooba]"),
        ("REGEXP_EXTRACT_ALL", vec![s("abc"), s("(")], "NULL"),
    ] {
        check(c(name, args), expect);
    }
    check_type(c("ARRAY_APPEND", vec![ints(&[Some(1)]), null(TypeKind::Int)]), "ARRAY<INT>");
    assert!(try_eval(&c("ELEMENT", vec![ints(&[Some(1), Some(2)])])).is_err());
    assert!(call("ARRAY_SORT", vec![i(1)], &UTC).is_err());
}

#[test]
fn map_functions_answer_as_flink() {
    let m = || c("MAP", vec![s("k1"), i(1), s("k2"), null(TypeKind::Int)]);
    for (name, args, expect) in [
        ("MAP_KEYS", vec![m()], "[k1, k2]"),
        ("MAP_VALUES", vec![m()], "[1, NULL]"),
        ("MAP_ENTRIES", vec![m()], "[(k1, 1), (k2, NULL)]"),
        ("MAP_FROM_ARRAYS", vec![texts(&["a", "b"]), ints(&[Some(1), Some(2)])], "{a=1, b=2}"),
        ("MAP_UNION", vec![m(), c("MAP", vec![s("k2"), i(5), s("k3"), i(6)])], "{k1=1, k2=5, k3=6}"),
        ("STR_TO_MAP", vec![s("k1=v1,k2=v2")], "{k1=v1, k2=v2}"),
        ("STR_TO_MAP", vec![s("k1:v1;k2: v2"), s(";"), s(":")], "{k1=v1, k2= v2}"),
        ("STR_TO_MAP", vec![s("k1$$v1|k2$$ v2"), s("\\|"), s("\\$\\$")], "{k1=v1, k2= v2}"),
        ("STR_TO_MAP", vec![s("a,b=")], "{a=NULL, b=}"),
        ("STR_TO_MAP", vec![s("")], "{}"),
        ("CARDINALITY", vec![m()], "2"),
    ] {
        check(c(name, args), expect);
    }
    check_type(c("MAP_ENTRIES", vec![m()]), "ARRAY<ROW<`key` CHAR(2) NOT NULL, `value` INT>> NOT NULL");
    assert!(try_eval(&c("MAP_FROM_ARRAYS", vec![texts(&["a"]), ints(&[Some(1), Some(2)])])).is_err());
}
