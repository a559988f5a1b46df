//! Bitmaps, by the cases of Flink's `BitmapFunctionsITCase` and `CastFunctionITCase`.

use super::*;

fn ints(values: &[i64]) -> ExprRef {
    c("ARRAY", values.iter().map(|v| i(*v)).collect())
}

fn bits(values: &[i64]) -> ExprRef {
    c("BITMAP_BUILD", vec![ints(values)])
}

fn refused(name: &str, args: Vec<ExprRef>) -> String {
    call(name, args, &UTC).unwrap_err().to_string()
}

#[test]
fn a_bitmap_is_built_of_unsigned_integers() {
    check(bits(&[1, 2, 3, -4]), "{1,2,3,4294967292}");
    check_type(bits(&[1]), "BITMAP NOT NULL");
    check(c("BITMAP_BUILD", vec![c("ARRAY_REMOVE", vec![ints(&[1]), i(1)])]), "{}");
    let with_null = c("ARRAY", vec![i(1), null(TypeKind::Int), i(1)]);
    check(c("BITMAP_BUILD", vec![with_null]), "{1}");
    let none = null(TypeKind::Array(Box::new(TypeKind::Int.nullable())));
    check(c("BITMAP_BUILD", vec![none]), "NULL");
    let small = cast(i(7), TypeKind::SmallInt.nullable(), false, &UTC).unwrap();
    check(c("BITMAP_BUILD", vec![c("ARRAY", vec![small])]), "{7}");
}

#[test]
fn bitmaps_are_combined_counted_and_compared() {
    let pair = || vec![bits(&[1, 2]), bits(&[2, 3])];
    check(c("BITMAP_AND", pair()), "{2}");
    check(c("BITMAP_ANDNOT", pair()), "{1}");
    check(c("BITMAP_OR", pair()), "{1,2,3}");
    check(c("BITMAP_XOR", pair()), "{1,3}");
    check(c("BITMAP_AND", vec![bits(&[1]), null(TypeKind::Bitmap)]), "NULL");
    check(c("BITMAP_OR", vec![null(TypeKind::Null), bits(&[1])]), "NULL");
    check(c("BITMAP_CARDINALITY", vec![bits(&[1, -1, 1])]), "2");
    check_type(c("BITMAP_CARDINALITY", vec![null(TypeKind::Bitmap)]), "BIGINT");
    check(c("=", vec![bits(&[2, 1]), bits(&[1, 2])]), "TRUE");
    check(c("<>", vec![bits(&[2]), bits(&[1, 2])]), "TRUE");
    assert!(refused("<", pair()).contains("function < does not take (BITMAP, BITMAP)"), "{}", refused("<", pair()));
}

#[test]
fn bitmaps_become_arrays_bytes_and_text_and_come_back() {
    let set = || bits(&[-1, 1, 3, 2, -2147483648]);
    check(c("BITMAP_TO_ARRAY", vec![set()]), "[1, 2, 3, -2147483648, -1]");
    check_type(c("BITMAP_TO_ARRAY", vec![set()]), "ARRAY<INT> NOT NULL");
    check(c("BITMAP_TO_STRING", vec![set()]), "{1,2,3,2147483648,4294967295}");
    let bytes = c("BITMAP_TO_BYTES", vec![set()]);
    check_type(bytes.clone(), "BYTES NOT NULL");
    check(c("BITMAP_FROM_BYTES", vec![bytes.clone()]), "{1,2,3,2147483648,4294967295}");
    check(c("=", vec![bytes, cast(set(), TypeKind::BYTES.nullable(), false, &UTC).unwrap()]), "TRUE");
    let cut = cast(set(), TypeKind::VarChar(4).nullable(), false, &UTC).unwrap();
    check(cut, "{1,2");
    for (kind, to) in [(TypeKind::VarBinary(9), "VARBINARY(9)"), (TypeKind::Int, "INT")] {
        let error = cast(set(), kind.nullable(), false, &UTC).unwrap_err().to_string();
        assert_eq!(error, format!("a value of type BITMAP can't be cast to {to}"));
    }
    assert!(cast(s("{1}"), TypeKind::Bitmap.nullable(), false, &UTC).is_err());
}

#[test]
fn what_is_no_bitmap_is_refused_in_words() {
    let error =
        refused("BITMAP_BUILD", vec![c("ARRAY", vec![cast(i(1), TypeKind::BigInt.nullable(), false, &UTC).unwrap()])]);
    assert!(error.contains("BITMAP_BUILD does not take (ARRAY<BIGINT NOT NULL>)"), "{error}");
    assert!(error.contains("hint: it takes (ARRAY<INT>)"), "{error}");
    let error = refused("BITMAP_CARDINALITY", vec![i(1024)]);
    assert!(error.contains("hint: it takes (BITMAP)"), "{error}");
    let error = refused("BITMAP_FROM_BYTES", vec![s("{1,2}")]);
    assert!(error.contains("hint: it takes (BYTES)"), "{error}");
    let error = refused("BITMAP_COUNT", vec![bits(&[1])]);
    assert!(error.contains("there is no function 'BITMAP_COUNT'"), "{error}");
    for bytes in ["", "invalid"] {
        let bytes = literal(Value::Bytes(bytes.into()), TypeKind::BYTES.not_null());
        let error = try_eval(&c("BITMAP_FROM_BYTES", vec![bytes])).unwrap_err().to_string();
        assert!(error.starts_with("bytes that are no bitmap"), "{error}");
    }
    let error = refused("JSON_STRING", vec![bits(&[1])]);
    assert!(error.contains("a value of type BITMAP has no form in JSON"), "{error}");
}
