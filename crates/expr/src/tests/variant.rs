//! VARIANT: parsing, access and casts, by Flink's documentation and its `BinaryVariantInternalBuilder`.

use super::*;

fn v(json: &str) -> ExprRef {
    c("PARSE_JSON", vec![s(json)])
}

fn cast_to(value: ExprRef, kind: TypeKind, tries: bool) -> ExprRef {
    cast(value, kind.nullable(), tries, &UTC).unwrap()
}

#[test]
fn json_text_becomes_a_variant() {
    check_type(v("{}"), "VARIANT NOT NULL");
    check_type(c("TRY_PARSE_JSON", vec![s("{}")]), "VARIANT");
    for (json, expect) in [
        ("{\"b\": 1, \"a\": [true, null, {}]}", "{\"a\":[true,null,{}],\"b\":1}"),
        (" \"x\\u00e9\\n\" ", "\"xé\\n\""),
        ("[1.50, 1.0, 10.0, -0.0]", "[1.5,1,10,0]"),
        ("-0.05", "-0.05"),
        ("0.0000001", "0.0000001"),
        ("1e2", "100.0"),
        ("12345678901234567890", "12345678901234567890"),
        ("1234567890123456789012345678901234567890", "1.2345678901234568E39"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("{\"a\":1} and more", "{\"a\":1}"),
        ("[]", "[]"),
    ] {
        check(v(json), expect);
        check(c("JSON_STRING", vec![v(json)]), expect);
        check(cast_to(v(json), TypeKind::STRING, false), expect);
    }
    check(c("PARSE_JSON", vec![null(TypeKind::STRING)]), "NULL");
    check(c("JSON_STRING", vec![c("PARSE_JSON", vec![null(TypeKind::STRING)])]), "NULL");
}

#[test]
fn of_equal_keys_the_last_stays_if_they_are_allowed() {
    let twice = "{\"a\": 1, \"b\": 2, \"a\": 3}";
    let allowed = |b| literal(Value::Boolean(b), TypeKind::Boolean.not_null());
    check(c("PARSE_JSON", vec![s(twice), allowed(true)]), "{\"a\":3,\"b\":2}");
    check(c("TRY_PARSE_JSON", vec![s(twice)]), "NULL");
    check(c("TRY_PARSE_JSON", vec![s(twice), allowed(false)]), "NULL");
    let error = try_eval(&v(twice)).unwrap_err().to_string();
    assert!(error.contains("can't be parsed as JSON") && error.contains("the key 'a' is there twice"), "{error}");
}

#[test]
fn text_that_is_no_json_is_refused_in_words() {
    for (json, why) in [
        ("", "the text ends within a value"),
        ("{\"a\": ", "the text ends within a value"),
        ("{a: 1}", "what stands at byte 2 is no JSON"),
        ("[1 2]", "what stands at byte 4 is no JSON"),
        ("nul", "what stands at byte 1 is no JSON"),
        ("1x", "what stands at byte 2 is no JSON"),
        ("1e999", "the number 1e999 is too large for a DOUBLE"),
    ] {
        let error = try_eval(&v(json)).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("hint: TRY_PARSE_JSON gives NULL instead"), "{json}: {error}");
        check(c("TRY_PARSE_JSON", vec![s(json)]), "NULL");
    }
    let deep = try_eval(&v(&"[".repeat(2000))).unwrap_err().to_string();
    assert!(deep.contains("nested deeper than 1000"), "{deep}");
    assert!(call("PARSE_JSON", vec![i(1)], &UTC).unwrap_err().to_string().contains("it takes (STRING, [BOOLEAN])"));
}

#[test]
fn elements_count_from_one_and_fields_go_by_name() {
    let item = |json: &str, key: ExprRef| c("ITEM", vec![v(json), key]);
    check_type(item("[1]", i(1)), "VARIANT");
    check(item("[10, {\"x\": [2]}]", i(2)), "{\"x\":[2]}");
    check(item("[10]", i(2)), "NULL");
    check(item("[10]", i(0)), "NULL");
    check(item("[10]", null(TypeKind::Int)), "NULL");
    check(item("{\"b\": 1, \"a\": \"x\"}", s("a")), "\"x\"");
    check(item("{\"a\": null}", s("a")), "null");
    check(item("{\"a\": 1}", s("A")), "NULL");
    check(c("ITEM", vec![item("{\"a\": {\"b\": [5]}}", s("a")), s("b")]), "[5]");
    for (json, key, why) in [
        ("{}", i(1), "an element is asked of a VARIANT that is an object"),
        ("[]", s("a"), "a field is asked of a VARIANT that is an array"),
        ("\"x\"", s("a"), "a field is asked of a VARIANT that is a text"),
    ] {
        let error = try_eval(&item(json, key)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = call("ITEM", vec![v("[]"), d(1.0)], &UTC).unwrap_err().to_string();
    assert!(error.contains("(VARIANT, INT) or (VARIANT, STRING)"), "{error}");
}

#[test]
fn equal_values_are_equal_however_they_were_written() {
    check(c("=", vec![v("{\"a\": 1, \"b\": [2]}"), v("{\"b\":[2],\"a\":1}")]), "TRUE");
    let inner = c("ITEM", vec![v("{\"zzz\": 0, \"a\": {\"b\": 1}}"), s("a")]);
    check(c("=", vec![inner, v("{\"b\": 1}")]), "TRUE");
    assert!(call("<", vec![v("1"), v("2")], &UTC).is_err());
}

#[test]
fn casts_take_what_fits_as_it_is() {
    for (json, kind, expect) in [
        ("5", TypeKind::TinyInt, "5"),
        ("5", TypeKind::BigInt, "5"),
        ("300", TypeKind::SmallInt, "300"),
        ("5", TypeKind::Decimal(5, 2), "5.00"),
        ("1.50", TypeKind::Decimal(5, 1), "1.5"),
        ("1.5", TypeKind::Double, "1.5"),
        ("3", TypeKind::Float, "3.0"),
        ("1e2", TypeKind::Double, "100.0"),
        ("true", TypeKind::Boolean, "TRUE"),
    ] {
        check(cast_to(v(json), kind, false), expect);
    }
    for (json, kind) in [
        ("300", TypeKind::TinyInt),
        ("1.5", TypeKind::Int),
        ("1.0", TypeKind::Int),
        ("1.55", TypeKind::Decimal(5, 1)),
        ("12345", TypeKind::Decimal(4, 0)),
        ("\"5\"", TypeKind::Int),
        ("1e300", TypeKind::Float),
        ("[1]", TypeKind::Boolean),
    ] {
        check(cast_to(v(json), kind.clone(), true), "NULL");
        let error = try_eval(&cast_to(v(json), kind.clone(), false)).unwrap_err().to_string();
        assert!(error.contains(&format!("can't be cast to {kind}")) && error.contains("TRY_CAST"), "{error}");
    }
    // What an element is may be NULL, and so may be the result.
    let nothing = c("ITEM", vec![v("[null]"), i(1)]);
    check(cast_to(nothing, TypeKind::Int, false), "NULL");
    assert!(cast(v("1"), TypeKind::Date.nullable(), false, &UTC).is_err());
    assert!(cast(s("1"), TypeKind::Variant.nullable(), false, &UTC).is_err());
}
