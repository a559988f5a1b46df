//! Numbers as text, by Java's rules: what the formats read and write.

use std::io::Write;

/// An integer as Java's `Long.parseLong` takes it, blanks around it ignored.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// A floating-point number as Java's `Double.parseDouble` takes it.
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    match text {
        "NaN" | "+NaN" | "-NaN" => return Some(f64::NAN),
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    if text.bytes().any(|b| b.is_ascii_alphabetic() && b != b'e' && b != b'E') {
        return None;
    }
    text.parse().ok()
}

/// A decimal number as Java's `BigDecimal` takes it, rounded half up to `scale` digits.
///
/// `None`: no number. `Some(None)`: it has more than `precision` digits, which Flink makes NULL.
pub fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<Option<i128>> {
    let text = text.trim_ascii();
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut exponent = 0i64;
    if let Some(e) = rest.iter().position(|b| matches!(b, b'e' | b'E')) {
        exponent = std::str::from_utf8(rest.get(e + 1..)?).ok()?.parse::<i32>().ok()?.into();
        rest = rest.get(..e)?;
    }
    let (whole, fraction) = match rest.iter().position(|b| *b == b'.') {
        Some(dot) => (rest.get(..dot)?, rest.get(dot + 1..)?),
        None => (rest, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    if !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    // How many digits count: those before the point, shifted by the exponent, and `scale` more.
    let keep = whole.len() as i64 + exponent + i64::from(scale);
    let all = whole.iter().chain(fraction);
    let (mut value, mut overflow) = (0i128, false);
    for (i, b) in all.enumerate() {
        let (i, digit) = (i as i64, i128::from(b - b'0'));
        if i < keep {
            match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
                Some(v) => value = v,
                None => overflow = true,
            }
        } else {
            if i == keep && digit >= 5 {
                value += 1;
            }
            break;
        }
    }
    let total = (whole.len() + fraction.len()) as i64;
    for _ in total..keep.min(total + 40) {
        match value.checked_mul(10) {
            Some(v) => value = v,
            None => overflow = true,
        }
    }
    if keep > total + 40 && value != 0 {
        overflow = true;
    }
    if overflow || value >= 10i128.pow(u32::from(precision.min(38))) {
        return Some(None);
    }
    Some(Some(if negative { -value } else { value }))
}

/// Writes a decimal. `plain`: never with an exponent; otherwise as Java's `BigDecimal.toString`.
pub fn push_decimal(out: &mut Vec<u8>, value: i128, scale: i8, plain: bool) {
    let digits = value.unsigned_abs().to_string();
    if value < 0 {
        out.push(b'-');
    }
    let scale = scale.max(0) as usize;
    let (head, exponent) = (digits.len() as i64 - 1, -(scale as i64));
    if !plain && exponent + head < -6 {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first.as_bytes());
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest.as_bytes());
        }
        out.extend_from_slice(format!("E{}", exponent + head).as_bytes());
    } else if scale == 0 {
        out.extend_from_slice(digits.as_bytes());
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole.as_bytes());
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits.as_bytes());
    }
}

/// Writes a shortest number in scientific form, `d.ddde[-]x`, as Java's `Double.toString` does.
fn push_java(out: &mut Vec<u8>, scientific: &str, negative: bool) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    if negative {
        out.push(b'-');
    }
    if (-3..7).contains(&exponent) {
        if exponent < 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + (-exponent - 1) as usize, b'0');
            out.extend_from_slice(&digits);
            return;
        }
        let point = exponent as usize + 1;
        for i in 0..digits.len().max(point + 1) {
            if i == point {
                out.push(b'.');
            }
            out.push(digits.get(i).copied().unwrap_or(b'0'));
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    out.extend_from_slice(first);
    out.push(b'.');
    out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
    // Writing to a Vec doesn't fail.
    let _ = write!(out, "E{exponent}");
}

/// Writes a finite DOUBLE as Java's `Double.toString` does; NaN and the infinities by their names.
pub fn push_double(out: &mut Vec<u8>, value: f64) {
    match value {
        v if v.is_nan() => out.extend_from_slice(b"NaN"),
        f64::INFINITY => out.extend_from_slice(b"Infinity"),
        f64::NEG_INFINITY => out.extend_from_slice(b"-Infinity"),
        v => push_java(out, &format!("{:e}", v.abs()), v.is_sign_negative()),
    }
}

/// Writes a FLOAT as Java's `Float.toString` does.
pub fn push_float(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        push_java(out, &format!("{:e}", value.abs()), value.is_sign_negative());
    } else {
        push_double(out, f64::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_up_and_overflow_to_null() {
        for (text, expected) in [
            ("1.005", Some(Some(101))),
            ("-1.005", Some(Some(-101))),
            ("1e2", Some(Some(10000))),
            ("12.5E-2", Some(Some(13))),
            ("0.004", Some(Some(0))),
            ("99999.994", Some(Some(9_999_999))),
            ("99999.995", Some(None)),
            ("1e2000000000", Some(None)),
            ("1e-2000000000", Some(Some(0))),
            ("abc", None),
            ("", None),
            (".", None),
            (" +3. ", Some(Some(300))),
        ] {
            assert_eq!(parse_decimal(text.as_bytes(), 7, 2), expected, "{text}");
        }
    }

    #[test]
    fn doubles_are_written_as_in_java() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.001, "0.001"),
            (0.00019, "1.9E-4"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (123.25, "123.25"),
            (-0.0, "-0.0"),
            (1.5e300, "1.5E300"),
        ] {
            let mut out = Vec::new();
            push_double(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn decimals_are_written_as_in_java() {
        for (value, scale, plain, expected) in
            [(1250, 2, false, "12.50"), (5, 3, false, "0.005"), (27, 9, false, "2.7E-8"), (27, 9, true, "0.000000027")]
        {
            let mut out = Vec::new();
            push_decimal(&mut out, value, scale, plain);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
