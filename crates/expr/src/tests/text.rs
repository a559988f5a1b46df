//! Functions over text, bytes and numbers against the answers in Flink's documentation and in its own tests.

use super::*;

fn bytes(v: &[u8]) -> ExprRef {
    literal(Value::Bytes(v.to_vec()), TypeKind::BYTES.not_null())
}
fn long(v: i64) -> ExprRef {
    literal(Value::Int(v), TypeKind::BigInt.not_null())
}

#[test]
fn text_functions_of_the_documentation() {
    let none = || null(TypeKind::STRING);
    for (name, args, expect) in [
        ("TRIM", vec![s("BOTH"), s(" "), s("  x ")], "x"),
        ("LTRIM", vec![s(" This is a test String.")], "This is a test String."),
        ("RTRIM", vec![s("This is a test String. ")], "This is a test String."),
        ("BTRIM", vec![s("xxabcxx"), s("x")], "abc"),
        ("REPEAT", vec![s("This is a test String."), i(2)], "This is a test String.This is a test String."),
        ("REPEAT", vec![s("x"), i(-1)], ""),
        ("OVERLAY", vec![s("xxxxxtest"), s("xxxx"), i(6), i(2)], "xxxxxxxxxst"),
        ("OVERLAY", vec![s("abc"), s("Z"), i(2), i(0)], "aZ"),
        ("OVERLAY", vec![s("abc"), s("Z"), i(9)], "abc"),
        ("REPLACE", vec![s("hello world"), s("world"), s("flink")], "hello flink"),
        ("REPLACE", vec![s("ababab"), s("abab"), s("z")], "zab"),
        ("REGEXP_COUNT", vec![s("abcdeabde"), s("a|c")], "3"),
        ("REGEXP_COUNT", vec![s("a"), s("(")], "NULL"),
        ("REGEXP_INSTR", vec![s("hello world! Hello everyone!"), s("\\bhello\\b")], "1"),
        ("REGEXP_INSTR", vec![s("abc"), s("x")], "0"),
        ("REGEXP_SUBSTR", vec![s("foobarfoo"), s("b..")], "bar"),
        ("REGEXP_SUBSTR", vec![s("foo"), s("x")], "NULL"),
        ("REGEXP_EXTRACT", vec![s("22"), s("[A-Z]+")], "NULL"),
        ("TRANSLATE", vec![s("www.apache.org"), s("abcde."), s("123")], "www1p13horg"),
        ("TRANSLATE", vec![s("www.apache.org"), s("abc"), none()], "www.phe.org"),
        ("TRANSLATE", vec![s("www.apache.org"), none(), s("123")], "www.apache.org"),
        ("TRANSLATE", vec![s("翻译test，测试"), s("翻译测试test，"), s("测试翻译tset。")], "测试tset。翻译"),
        ("CONCAT", vec![s("AA"), s("BB"), s("CC")], "AABBCC"),
        ("CONCAT", vec![s("AA"), none()], "NULL"),
        ("CONCAT_WS", vec![s("~"), s("AA"), none(), s("BB"), s(""), s("CC")], "AA~BB~~CC"),
        ("RPAD", vec![s("hi"), i(4), s("??")], "hi??"),
        ("RPAD", vec![s("hi"), i(1), s("??")], "h"),
        ("LPAD", vec![s("hi"), i(4), s("")], "NULL"),
        ("LPAD", vec![s("😀a"), i(5), s("é")], "éé😀a"),
        ("RPAD", vec![s("😀a"), i(1), s("é")], "?"),
        ("RPAD", vec![s("ab"), i(4), s("é")], "abéé"),
        ("OVERLAY", vec![s("😀abc"), s("é"), i(3)], "😀ébc"),
        ("REGEXP_INSTR", vec![s("😀abc"), s("b")], "4"),
        ("TO_BASE64", vec![s("hello world")], "aGVsbG8gd29ybGQ="),
        ("FROM_BASE64", vec![s("aGVsbG8gd29ybGQ=")], "hello world"),
        ("FROM_BASE64", vec![s("aGVsbG8gd29ybGQ")], "hello world"),
        ("ASCII", vec![s("abc")], "97"),
        ("ASCII", vec![s("")], "0"),
        ("CHR", vec![i(97)], "a"),
        ("CHR", vec![i(353)], "a"),
        ("DECODE", vec![c("ENCODE", vec![s("aé"), s("UTF-16")]), s("UTF-16")], "aé"),
        ("HEX", vec![c("ENCODE", vec![s("aé"), s("utf-16le")])], "6100E900"),
        ("HEX", vec![c("ENCODE", vec![s(""), s("UTF-16")])], ""),
        ("HEX", vec![c("ENCODE", vec![s("aé"), s("US-ASCII")])], "613F"),
        ("INSTR", vec![s("hello"), s("l")], "3"),
        ("LOCATE", vec![s("l"), s("hello"), i(4)], "4"),
        ("LOCATE", vec![s("h"), s("hello"), i(0)], "1"),
        ("LOCATE", vec![s(""), s("hello"), i(3)], "1"),
        ("SPLIT_INDEX", vec![s("a b"), s(""), i(1)], "b"),
        ("SPLIT_INDEX", vec![s("a,b"), s(","), i(-1)], "NULL"),
        ("ELT", vec![i(2), s("scala"), s("java")], "java"),
        ("ELT", vec![i(3), s("scala"), s("java")], "NULL"),
        ("STARTSWITH", vec![s("Apache"), s("Ap")], "TRUE"),
        ("ENDSWITH", vec![bytes(&[1, 2]), bytes(&[2])], "TRUE"),
        ("URL_DECODE", vec![s("http%3A%2F%2Fa.b%2Fc+d")], "http://a.b/c d"),
        ("URL_DECODE", vec![s("%zz")], "NULL"),
        ("UNHEX", vec![s("466C696E6B")], "Flink"),
        ("IS_ALPHA", vec![s("aé")], "TRUE"),
        ("IS_ALPHA", vec![s("a1")], "FALSE"),
        ("IS_ALPHA", vec![i(1)], "FALSE"),
        ("IS_DIGIT", vec![s("012")], "TRUE"),
        ("IS_DIGIT", vec![s("")], "FALSE"),
        ("IS_DECIMAL", vec![s("1.5e3")], "TRUE"),
        ("IS_DECIMAL", vec![s("x")], "FALSE"),
        ("IS_DECIMAL", vec![d(1.0)], "TRUE"),
        ("IS_DECIMAL", vec![none()], "FALSE"),
        ("IS_ALPHA", vec![none()], "FALSE"),
        ("UNHEX", vec![s("123")], "\u{0}#"),
        ("SPLIT_INDEX", vec![s("a,b"), i(44), i(1)], "b"),
        ("SPLIT_INDEX", vec![s("a,b"), i(0), i(1)], "NULL"),
        ("REPLACE", vec![s("a😀"), s(""), s("-")], "-a-?-?-"),
        ("REGEXP_REPLACE", vec![s("xyx"), s("x*"), s("-")], "--y--"),
        ("REGEXP_REPLACE", vec![s("a😀"), s(""), s("-")], "-a-?-?-"),
        ("REGEXP_REPLACE", vec![s("aé1 "), s("\\p{Alpha}|\\h"), s("_")], "_é1_"),
        ("REGEXP_REPLACE", vec![s("a.b\r\nab"), s("\\Qa.b\\E|\\R"), s("_")], "__ab"),
        ("REGEXP_REPLACE", vec![s("😀a"), s("^"), s(">")], ">😀a"),
        ("REGEXP_COUNT", vec![s("xyx"), s("x*")], "4"),
        ("||", vec![bytes(b"a"), bytes(b"b")], "ab"),
    ] {
        check(c(name, args), expect);
    }
    let url = "http://facebook.com/path1/p.php?k1=v1&k2=v2#Ref1";
    for (part, expect) in [
        ("HOST", "facebook.com"),
        ("PATH", "/path1/p.php"),
        ("QUERY", "k1=v1&k2=v2"),
        ("REF", "Ref1"),
        ("PROTOCOL", "http"),
        ("FILE", "/path1/p.php?k1=v1&k2=v2"),
        ("AUTHORITY", "facebook.com"),
        ("USERINFO", "NULL"),
    ] {
        check(c("PARSE_URL", vec![s(url), s(part)]), expect);
    }
    check(c("PARSE_URL", vec![s(url), s("QUERY"), s("k2")]), "v2");
    check_type(c("||", vec![bytes(b"a"), bytes(b"b")]), "BYTES NOT NULL");
    check_type(c("UUID", vec![]), "CHAR(36) NOT NULL");
    let uuid = try_eval(&c("UUID", vec![])).expect("a UUID");
    let shape: Vec<usize> = uuid.split('-').map(str::len).collect();
    assert_eq!((shape, uuid.as_bytes()[14]), (vec![8, 4, 4, 4, 12], b'4'), "{uuid}");
}

#[test]
fn printf_formats_as_java() {
    for (format, args, expect) in [
        ("%s|%S|%5s|%-5s|%.2s", vec![s("ab"), s("ab"), s("ab"), s("ab"), s("abc")], "ab|AB|   ab|ab   |ab"),
        ("%d %05d %,d %+d %(d", vec![i(-7), i(42), i(1234567), i(3), i(-3)], "-7 00042 1,234,567 +3 (3)"),
        ("%x %X %#x %o", vec![i(255), i(255), i(255), i(8)], "ff FF 0xff 10"),
        ("%x", vec![i(-1)], "ffffffff"),
        ("%.2f %10.1f %e %f", vec![d(2.345), d(-1.25), d(12345.678), d(1.0)], "2.35       -1.3 1.234568e+04 1.000000"),
        ("%.1f", vec![dec(125, 5, 2)], "1.3"),
        ("%b %b", vec![null(TypeKind::STRING), s("x")], "false true"),
        ("%2$s %1$s %<s %%", vec![s("a"), s("b")], "b a a %"),
        ("%s", vec![null(TypeKind::Int)], "null"),
        ("%s %s", vec![d(1.0), i(7)], "1.0 7"),
        ("%d", vec![s("x")], "NULL"),
        ("%s", vec![], "NULL"),
        ("%q", vec![s("x")], "NULL"),
        ("plain", vec![], "plain"),
    ] {
        check(c("PRINTF", [vec![s(format)], args].concat()), expect);
    }
}

#[test]
fn number_functions_of_the_documentation() {
    for (name, args, expect) in [
        ("POWER", vec![i(2), i(10)], "1024.0"),
        ("ABS", vec![i(-5)], "5"),
        ("SQRT", vec![i(6)], "2.449489742783178"),
        ("LN", vec![d(1.0)], "0.0"),
        ("LOG10", vec![i(100)], "2.0"),
        ("LOG2", vec![i(8)], "3.0"),
        ("LOG", vec![i(3), i(27)], "3.0"),
        ("LOG", vec![d(1.0)], "0.0"),
        ("EXP", vec![i(0)], "1.0"),
        ("CEIL", vec![d(1.2)], "2.0"),
        ("FLOOR", vec![d(-1.2)], "-2.0"),
        ("SIGN", vec![d(-1.2)], "-1.0"),
        ("TRUNCATE", vec![dec(42324, 5, 3), i(2)], "42.32"),
        ("TRUNCATE", vec![dec(42324, 5, 3)], "42"),
        ("TRUNCATE", vec![i(149), i(-1)], "140"),
        ("ROUND", vec![dec(125, 3, 2), i(1)], "1.3"),
        ("DEGREES", vec![d(std::f64::consts::PI)], "180.0"),
        ("RADIANS", vec![i(180)], "3.141592653589793"),
        ("BIN", vec![i(12)], "1100"),
        ("HEX", vec![i(100)], "64"),
        ("HEX", vec![s("hello,world")], "68656C6C6F2C776F726C64"),
        ("MOD", vec![i(-7), i(3)], "-1"),
        ("GREATEST", vec![i(1), null(TypeKind::Int)], "NULL"),
        ("LEAST", vec![long(5), i(3)], "3"),
        ("NULLIF", vec![i(5), i(0)], "5"),
        ("IF", vec![c(">", vec![i(5), i(3)]), i(5), i(3)], "5"),
        ("IFNULL", vec![null(TypeKind::Int), i(5)], "5"),
        ("SHA2", vec![s("x"), i(1)], "NULL"),
    ] {
        check(c(name, args), expect);
    }
    check_type(c("IFNULL", vec![null(TypeKind::Int), i(5)]), "INT NOT NULL");
}

#[test]
fn seeded_random_numbers_are_javas() {
    let first = |e: &ExprRef| try_eval(e).expect("a number");
    let (a, b) = (c("RAND", vec![i(1)]), c("RAND", vec![i(1)]));
    assert_eq!(first(&a), "0.7308781907032909");
    assert_eq!(first(&a), "0.41008081149220166");
    assert_eq!(first(&b), "0.7308781907032909");
    let bounded = c("RAND_INTEGER", vec![i(1), i(10)]);
    assert_eq!([first(&bounded), first(&bounded), first(&bounded)], ["5", "8", "7"]);
}
