//! JSON functions against the answers in Flink's documentation and in its own tests.

use super::*;

fn words(words: &[&str]) -> Vec<ExprRef> {
    words.iter().map(|w| s(w)).collect()
}

/// The arguments of JSON_VALUE as the parser gives them.
fn json_value(
    doc: &str,
    path: &str,
    returning: Option<TypeKind>,
    empty: (&str, ExprRef),
    error: (&str, ExprRef),
) -> ExprRef {
    let returning = null(returning.unwrap_or(TypeKind::Null));
    c("JSON_VALUE", vec![s(doc), s(path), returning, s(empty.0), empty.1, s(error.0), error.1])
}

fn nothing() -> (&'static str, ExprRef) {
    ("NULL", null(TypeKind::Null))
}

#[test]
fn json_value_finds_scalars() {
    let yes = || literal(Value::Boolean(false), TypeKind::Boolean.not_null());
    for (doc, path, expect) in [
        (r#"{"a": true}"#, "$.a", "true"),
        (r#"{"a.b": [0.998,0.996]}"#, r#"$.["a.b"][0]"#, "0.998"),
        (r#"{"contains blank": "right"}"#, "strict $.['contains blank']", "right"),
        (r#"{"a": 1e3}"#, "$.a", "1E+3"),
        (r#"{"a": 123456789.987654321}"#, "$.a", "123456789.987654321"),
        (r#"{"a": {"b": 1}}"#, "$.a", "NULL"),
        (r#"{"a": null}"#, "lax $.a", "NULL"),
        (r#"{"a": [1, 2, 3]}"#, "$.a[-1]", "3"),
        (r#"{"a": [1, 2, 3]}"#, "$.a[7]", "NULL"),
        (r#"{"a": [1, 2, 3]}"#, "$.a.length()", "3"),
        (r#"{"a": 1, "a": 2}"#, "$.a", "2"),
        (r#"{"a": "x\u00e9\ud83d\ude00"}"#, "$.a", "xé😀"),
        ("not json", "$.a", "NULL"),
        ("1", "$", "1"),
        ("\"s\"", "lax $", "s"),
    ] {
        check(c("JSON_VALUE", vec![s(doc), s(path)]), expect);
    }
    let doc = r#"{"a": true}"#;
    check(json_value(doc, "lax $.b", None, ("DEFAULT", yes()), nothing()), "false");
    check(json_value(doc, "strict $.b", None, nothing(), ("DEFAULT", yes())), "false");
    check(json_value(doc, "$.a", Some(TypeKind::Boolean), nothing(), nothing()), "TRUE");
    check_type(json_value(doc, "$.a", Some(TypeKind::Boolean), nothing(), nothing()), "BOOLEAN");
    let doc = r#"{"age": 42, "balance": 13.37, "big": 9999999999, "type": "account", "text": "7"}"#;
    for (path, kind, expect) in [
        ("$.age", TypeKind::Int, "42"),
        ("$.age", TypeKind::TinyInt, "42"),
        ("$.balance", TypeKind::Double, "13.37"),
        ("$.balance", TypeKind::Float, "13.37"),
        ("$.balance", TypeKind::Decimal(10, 2), "13.37"),
        ("$.balance", TypeKind::Int, "13"),
        ("$.big", TypeKind::Int, "NULL"),
        ("$.big", TypeKind::BigInt, "9999999999"),
        ("$.type", TypeKind::Int, "NULL"),
        ("$.text", TypeKind::Int, "7"),
        ("$.balance", TypeKind::Decimal(2, 1), "13.4"),
    ] {
        let expect = if kind == TypeKind::Decimal(2, 1) { "NULL" } else { expect };
        check(json_value(doc, path, Some(kind), nothing(), nothing()), expect);
    }
    check(json_value(doc, "lax $.x", Some(TypeKind::Int), ("DEFAULT", i(42)), ("ERROR", null(TypeKind::Null))), "42");
    check(json_value(doc, "$.type", Some(TypeKind::Int), nothing(), ("DEFAULT", i(42))), "42");
    for failing in [
        json_value(doc, "lax $.x", None, ("ERROR", null(TypeKind::Null)), nothing()),
        json_value(doc, "strict $.x", None, nothing(), ("ERROR", null(TypeKind::Null))),
    ] {
        assert!(try_eval(&failing).is_err(), "{failing}");
    }
}

#[test]
fn of_equal_keys_the_last_counts_also_among_many() {
    let members = (0..100).chain(0..100).enumerate().map(|(n, key)| format!("\"k{key}\": {n}"));
    let doc = format!("{{{}}}", members.collect::<Vec<_>>().join(", "));
    check(c("JSON_VALUE", vec![s(&doc), s("$.k0")]), "100");
    check(c("JSON_VALUE", vec![s(&doc), s("$.k99")]), "199");
    check(c("JSON_LENGTH", vec![s(&doc)]), "100");
}

#[test]
fn json_query_finds_arrays_and_objects() {
    let nested = r#"{"a":[{"c":"c1"},{"c":"c2"}]}"#;
    for (doc, path, clauses, expect) in [
        (r#"{ "a": { "b": 1 } }"#, "$.a", ["WITHOUT", "NULL", "NULL"], r#"{"b":1}"#),
        ("[1, 2]", "$", ["WITHOUT", "NULL", "NULL"], "[1,2]"),
        (nested, "lax $.a[*].c", ["WITHOUT", "NULL", "NULL"], r#"["c1","c2"]"#),
        ("{}", "$", ["CONDITIONAL", "NULL", "NULL"], "[{}]"),
        ("[1, 2]", "$", ["CONDITIONAL", "NULL", "NULL"], "[1,2]"),
        ("[1, 2]", "$", ["UNCONDITIONAL", "NULL", "NULL"], "[[1,2]]"),
        ("1", "$", ["WITHOUT", "NULL", "NULL"], "NULL"),
        ("1", "$", ["CONDITIONAL", "NULL", "NULL"], "[1]"),
        ("{}", "lax $.invalid", ["WITHOUT", "EMPTY OBJECT", "NULL"], "{}"),
        ("{}", "strict $.invalid", ["WITHOUT", "NULL", "EMPTY ARRAY"], "[]"),
        (r#"{"d":[1,2]}"#, "$.d[*]", ["UNCONDITIONAL", "NULL", "NULL"], "[[1,2]]"),
        (r#"{"b":1,"a":{"z":1.50,"y":null}}"#, "$", ["WITHOUT", "NULL", "NULL"], r#"{"a":{"y":null,"z":1.50},"b":1}"#),
        (r#"{"a":[1,2,3,4]}"#, "$.a[1:3]", ["WITHOUT", "NULL", "NULL"], "[2,3]"),
        (r#"{"a":[1,2,3,4]}"#, "$.a[-2:]", ["WITHOUT", "NULL", "NULL"], "[3,4]"),
        (r#"{"a":[1,2,3,4]}"#, "$.a[0,2]", ["WITHOUT", "NULL", "NULL"], "[1,3]"),
        (r#"{"a":{"x":1},"b":[{"x":2}]}"#, "$..x", ["WITHOUT", "NULL", "NULL"], "[1,2]"),
        (r#"{"a":1,"b":2,"c":3}"#, "$['a','c']", ["WITHOUT", "NULL", "NULL"], r#"{"a":1,"c":3}"#),
        (r#"[{"p":5,"n":"x"},{"p":9}]"#, "$[?(@.p > 6)]", ["WITHOUT", "NULL", "NULL"], r#"[{"p":9}]"#),
        (r#"[{"p":5,"n":"x"},{"p":9}]"#, "$[?(@.n == 'x' && @.p<=5)].p", ["WITHOUT", "NULL", "NULL"], "[5]"),
        (r#"[{"p":5,"n":"x"},{"p":9}]"#, "$[?(@.n)].n", ["WITHOUT", "NULL", "NULL"], r#"["x"]"#),
    ] {
        let mut args = vec![s(doc), s(path), null(TypeKind::Null)];
        args.extend(words(&clauses));
        check(c("JSON_QUERY", args), expect);
    }
    let array = |of: TypeKind| TypeKind::Array(Box::new(of.nullable()));
    let of_text = c("JSON_QUERY", vec![s(nested), s("lax $.a[*].c"), null(array(TypeKind::STRING))]);
    check_type(of_text.clone(), "ARRAY<STRING>");
    check(of_text, "[c1, c2]");
    check(
        c("JSON_QUERY", vec![s("[1, null, {\"a\":1}]"), s("$"), null(array(TypeKind::STRING))]),
        "[1, NULL, {\"a\":1}]",
    );
    check(c("JSON_QUERY", vec![s("[1, null, 2]"), s("$"), null(array(TypeKind::Int))]), "[1, NULL, 2]");
    check(c("JSON_QUERY", vec![s("{}"), s("$"), null(array(TypeKind::STRING))]), "NULL");
}

#[test]
fn json_exists_tells_errors_from_absence() {
    let doc = r#"{"a": [{ "b": 1 }], "n": null}"#;
    for (path, on_error, expect) in [
        ("$.a", "FALSE", "TRUE"),
        ("$.x", "FALSE", "FALSE"),
        ("$.a[0].b", "FALSE", "TRUE"),
        ("strict $.x", "TRUE", "TRUE"),
        ("strict $.x", "UNKNOWN", "NULL"),
        ("lax $.x", "TRUE", "FALSE"),
        ("lax $.a[3]", "TRUE", "FALSE"),
        ("$.n", "FALSE", "FALSE"),
        ("$.x[*]", "FALSE", "FALSE"),
        ("$.a[*]", "FALSE", "TRUE"),
        ("$.", "UNKNOWN", "NULL"),
    ] {
        let mut args = words(&[doc, path]);
        args.push(s(on_error));
        check(c("JSON_EXISTS", args), expect);
    }
    check(c("JSON_EXISTS", vec![null(TypeKind::STRING), s("lax $")]), "NULL");
}

#[test]
fn is_json_tells_kinds_apart() {
    for (text, value, scalar, array, object) in [
        ("1", true, true, false, false),
        ("[]", true, false, true, false),
        ("{}", true, false, false, true),
        ("\"abc\"", true, true, false, false),
        ("null", true, true, false, false),
        ("abc", false, false, false, false),
        ("", false, false, false, false),
        ("{", false, false, false, false),
        ("01", false, false, false, false),
        ("{} x", true, false, false, true),
        ("1x", false, false, false, false),
    ] {
        for (kind, expect) in [("VALUE", value), ("SCALAR", scalar), ("ARRAY", array), ("OBJECT", object)] {
            check(c("IS_JSON", words(&[text, kind])), if expect { "TRUE" } else { "FALSE" });
        }
    }
    check(c("IS_JSON", vec![null(TypeKind::STRING), s("VALUE")]), "FALSE");
}

#[test]
fn json_is_made_of_values() {
    let yes = literal(Value::Boolean(true), TypeKind::Boolean.not_null());
    let list = c("ARRAY", vec![i(1), null(TypeKind::Int)]);
    for (value, expect) in [
        (null(TypeKind::Int), "NULL"),
        (i(1), "1"),
        (yes, "true"),
        (s("Hello, \"World\"!\u{1}"), "\"Hello, \\\"World\\\"!\\u0001\""),
        (list, "[1,null]"),
        (c("MAP", vec![s("b"), i(1), s("a"), i(2)]), r#"{"a":2,"b":1}"#),
        (c("ROW", vec![i(1), s("x")]), r#"{"EXPR$0":1,"EXPR$1":"x"}"#),
        (dec(59830, 10, 2), "598.30"),
        (d(766.403), "766.403"),
        (d(1e10), "1.0E+10"),
        (ts("2024-02-29 13:14:15.500"), "\"2024-02-29T13:14:15.5\""),
        (literal(Value::Bytes(b"Hi".to_vec()), TypeKind::BYTES.not_null()), "\"SGk=\""),
    ] {
        check(c("JSON_STRING", vec![value]), expect);
    }
    let day = cast(s("2024-01-01"), TypeKind::Date.nullable(), false, &UTC).expect("a date");
    assert!(call("JSON_STRING", vec![day], &UTC).is_err());
    let object = |on_null: &str, formats: &str, members: Vec<ExprRef>| {
        c("JSON_OBJECT", [vec![s(on_null), s(formats)], members].concat())
    };
    let absent = || null(TypeKind::STRING);
    check(object("NULL", "", vec![]), "{}");
    check(object("NULL", "VV", vec![s("K2"), s("V2"), s("K1"), i(1)]), r#"{"K1":1,"K2":"V2"}"#);
    check(object("NULL", "V", vec![s("K1"), absent()]), r#"{"K1":null}"#);
    check(object("ABSENT", "V", vec![s("K1"), absent()]), "{}");
    let inner = object("NULL", "V", vec![s("K2"), s("V")]);
    check(object("NULL", "R", vec![s("K1"), inner.clone()]), r#"{"K1":{"K2":"V"}}"#);
    check(object("NULL", "V", vec![s("K1"), inner]), r#"{"K1":"{\"K2\":\"V\"}"}"#);
    check_type(object("NULL", "", vec![]), "STRING NOT NULL");
    let array = |on_null: &str, formats: &str, items: Vec<ExprRef>| {
        c("JSON_ARRAY", [vec![s(on_null), s(formats)], items].concat())
    };
    check(array("ABSENT", "", vec![]), "[]");
    check(array("ABSENT", "VVV", vec![i(1), s("2"), absent()]), r#"[1,"2"]"#);
    check(array("NULL", "V", vec![absent()]), "[null]");
    check(array("ABSENT", "R", vec![array("ABSENT", "V", vec![i(1)])]), "[[1]]");
    check(array("ABSENT", "R", vec![c("JSON", vec![s(r#" {"b": 1, "a":2} "#)])]), r#"[{"a":2,"b":1}]"#);
}

#[test]
fn json_text_is_quoted_measured_and_typed() {
    check(c("JSON_QUOTE", vec![s("a/b\"\n≠ will 😀")]), r#""a\/b\"\n\u2260 will \u1f600\ude00""#);
    for (text, expect) in [
        (r#""\u2260 \"x\"\n""#, "≠ \"x\"\n"),
        (r#""["abc"]""#, r#"["abc"]"#),
        (r#""["\u0041"]""#, r#"["A"]"#),
        (r#"""""#, r#"""#),
        (r#""\uD801\uDC00""#, "\u{10400}"),
        ("[1,2,3]", "[1,2,3]"),
        ("true", "true"),
        (r#""\u006z""#, r#""\u006z""#),
        (r#""valid json"\uzzzz""#, r#""valid json"\uzzzz""#),
        (r#""[1,2,3]"#, r#""[1,2,3]"#),
        (r#"""#, r#"""#),
        ("", ""),
    ] {
        check(c("JSON_UNQUOTE", vec![s(text)]), expect);
    }
    for (doc, path, length, kind) in [
        (r#"{"a":[true,false,null]}"#, "$.a", "3", "array"),
        (r#"{"a":[true,false,null]}"#, "$.a[2]", "1", "null"),
        (r#"{"a":[true,false,null]}"#, "$.a[9]", "NULL", "NULL"),
        (r#"{"a":{"b":1.5}}"#, "$.a", "1", "object"),
        (r#"{"a":{"b":1.5}}"#, "$.*.b", "1", "number"),
        (r#"{"a":1,"b":2}"#, "$.*", "NULL", "NULL"),
        ("{", "$", "NULL", "NULL"),
    ] {
        check(c("JSON_LENGTH", vec![s(doc), s(path)]), length);
        check(c("JSON_TYPE", vec![s(doc), s(path)]), kind);
    }
    check(c("JSON_LENGTH", vec![s("[1,2,3]")]), "3");
}
