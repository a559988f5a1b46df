//! The decoder where the text is looked over in blocks: long strings, windows of many lines, damage at every place.

use super::{JsonDecoder, JsonOptions};
use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use millstream_core::format::{Decoder, OnBadRecord};
use millstream_core::{Field, Schema, TypeKind};

/// The rows of all lines, and the numbers of the lines that are bad.
type Decoded = (Vec<(Option<String>, Option<i64>)>, Vec<usize>);

/// Decodes lines into the columns `s` and `n`, `max_rows` at a time.
fn decode(text: &[u8], max_rows: usize) -> Decoded {
    let fields = vec![Field::new("s", TypeKind::STRING.nullable()), Field::new("n", TypeKind::BigInt.nullable())];
    let mut decoder = JsonDecoder::new(&Schema::new(fields), JsonOptions::new(OnBadRecord::DeadLetter)).unwrap();
    let (mut rows, mut bad_lines) = (Vec::new(), Vec::new());
    let (mut at, mut line) = (0, 0);
    while at < text.len() {
        let mut bad = Vec::new();
        let used = decoder.decode(&text[at..], max_rows, &mut bad).unwrap();
        assert!(used > 0 && decoder.num_rows() <= max_rows);
        for record in bad {
            bad_lines.push(line + record.line);
            let wanted = text.split(|b| *b == b'\n').nth(line + record.line).unwrap();
            assert_eq!(String::from_utf8_lossy(&record.record), String::from_utf8_lossy(wanted));
        }
        line += text[at..at + used].iter().filter(|b| **b == b'\n').count();
        at += used;
        let batch = decoder.take().unwrap();
        let (s, n) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        rows.extend((0..batch.num_rows()).map(|row| {
            let text = s.is_valid(row).then(|| s.value(row).to_string());
            (text, n.is_valid(row).then(|| n.value(row)))
        }));
    }
    (rows, bad_lines)
}

fn row(s: &str, n: i64) -> (Option<String>, Option<i64>) {
    (Some(s.to_string()), Some(n))
}

#[test]
fn strings_of_any_length_end_at_their_quote() {
    for length in (0..140).chain(16_300..16_420).chain([70_000, 1 << 20]) {
        for (written, read) in [("x", "x"), ("\\\"", "\""), ("\\\\", "\\"), ("é", "é"), ("\\ud83d\\ude00", "😀")] {
            let plain = "a".repeat(length);
            let mut text = format!("{{\"skipped\":\"{plain}{written}\",\"s\":\"{plain}{written}b\",\"n\":1}}\n");
            text += "{\"s\":\"next\",\"n\":2}";
            let wanted = (vec![row(&format!("{plain}{read}b"), 1), row("next", 2)], vec![]);
            assert!(decode(text.as_bytes(), 10) == wanted, "{length} bytes, then {written}");
        }
    }
}

#[test]
fn damage_anywhere_in_a_string_spoils_its_record_alone() {
    let before = "{\"s\":\"é\",\"n\":1}\n";
    let after = "\n{\"s\":\"\\u00e9\",\"n\":3}\n";
    let damages: [&[u8]; 13] = [
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\x00",
        b"\t",
        b"\r",
        b"\x1f",
        b"\n",
        b"\\x",
        b"\\u12g4",
        b"\\\t",
        b"\\ ",
    ];
    for key in ["s", "skipped", "skipped\":{\"deep"] {
        for length in (0..150).chain([16_384 - 40, 16_384 - 20, 16_384]) {
            for damage in damages {
                let mut text = format!("{before}{{\"n\":2,\"{key}\":\"{}", "a".repeat(length)).into_bytes();
                text.extend_from_slice(damage);
                text.extend_from_slice(b"\"}");
                if key.contains('{') {
                    text.push(b'}');
                }
                text.extend_from_slice(after.as_bytes());
                let (rows, bad) = decode(&text, 10);
                assert_eq!(rows, [row("é", 1), row("é", 3)], "{} after {length} bytes", damage.escape_ascii());
                let line_feeds = damage.iter().filter(|b| **b == b'\n').count();
                assert_eq!(bad, (1..2 + line_feeds).collect::<Vec<_>>(), "{}", damage.escape_ascii());
            }
        }
    }
}

#[test]
fn rows_do_not_depend_on_how_many_are_asked_for() {
    let mut text = Vec::new();
    let (mut wanted, mut wanted_bad) = (Vec::new(), Vec::new());
    for i in 0..1500 {
        match i % 97 {
            13 => text.extend_from_slice(b"{\"s\":\"\xff\",\"n\":1}"),
            14 => text.extend_from_slice(b"{\"s\":\"a\",\"n\":[}"),
            15 => text.extend_from_slice(b" \r"),
            16 => text.extend_from_slice(b" {\"n\":7 , \"s\":\"\\n\"}\r"),
            _ => text.extend_from_slice(format!("{{\"s\":\"{}é\",\"n\":{i}}}", "x".repeat(i % 61)).as_bytes()),
        }
        text.push(b'\n');
        match i % 97 {
            13 | 14 => wanted_bad.push(i),
            15 => {}
            16 => wanted.push(row("\n", 7)),
            _ => wanted.push(row(&format!("{}é", "x".repeat(i % 61)), i as i64)),
        }
    }
    for max_rows in [1, 7, 100, 10_000] {
        assert!(decode(&text, max_rows) == (wanted.clone(), wanted_bad.clone()), "{max_rows} at a time");
    }
}

#[test]
fn integers_are_read_to_the_last_digit() {
    let numbers = (0..19).flat_map(|digits| {
        let power = 10i64.pow(digits);
        [power, power - 1, power + 7, -power, 1 - power, i64::MAX / power, i64::MIN / power]
    });
    for number in numbers {
        for after in ["}", " }", "\r\n", ",\"s\":null}", ",\"more\":\"some text behind it\"}"] {
            let closing = if after == "\r\n" { "}\r\n" } else { after };
            let text = format!("{{\"n\":{number}{closing}");
            assert_eq!(decode(text.as_bytes(), 1), (vec![(None, Some(number))], vec![]), "{text}");
        }
    }
    for wrong in ["01", "-01", "-", "1a", "9223372036854775808", "-9223372036854775809", "123456789012345678901", "1:"]
    {
        let text = format!("{{\"n\":{wrong},\"more\":\"some text behind it\"}}");
        assert_eq!(decode(text.as_bytes(), 1), (vec![], vec![0]), "{text}");
    }
}

#[test]
fn the_last_of_equal_keys_counts_null_too() {
    let text = "{\"s\":\"a\",\"n\":1,\"s\":null}\n{\"n\":1,\"n\":null,\"s\":\"b\"}\n{\"n\":null,\"n\":2}";
    assert_eq!(decode(text.as_bytes(), 9).0, [(None, Some(1)), (Some("b".into()), None), (None, Some(2))]);
}
