//! Decimal arithmetic as Flink's: exact, rounded half up to the result's scale, NULL beyond its precision.

use arrow::datatypes::i256;
use millstream_core::{DataType, TypeKind};

/// 10 to the `n`, for `n` to 38.
pub(crate) fn pow10(n: u32) -> i128 {
    10i128.pow(n.min(38))
}

/// Whether `v` has at most `precision` digits.
pub(crate) fn fits(v: i128, precision: u8) -> bool {
    v.unsigned_abs() < pow10(u32::from(precision)).unsigned_abs()
}

/// Precision and scale of a decimal type, or of the decimal an integer type stands for.
pub(crate) fn shape(t: &DataType) -> (u8, u8) {
    match t.kind {
        TypeKind::Decimal(p, s) => (p, s),
        TypeKind::TinyInt => (3, 0),
        TypeKind::SmallInt => (5, 0),
        TypeKind::Int => (10, 0),
        TypeKind::BigInt => (19, 0),
        _ => (38, 18),
    }
}

/// `a / b`, rounded half away from zero.
pub(crate) fn div_round(a: i128, b: i128) -> i128 {
    let (q, r) = (a / b, a % b);
    let up = r.unsigned_abs() >= b.unsigned_abs() - r.unsigned_abs();
    if r != 0 && up { q + if (a < 0) == (b < 0) { 1 } else { -1 } } else { q }
}

/// `v` of scale `from` at scale `to`, rounded half up; `None` if it leaves 128 bits.
pub(crate) fn rescale(v: i128, from: u8, to: u8) -> Option<i128> {
    match to.checked_sub(from) {
        Some(up) => v.checked_mul(pow10(u32::from(up))),
        None => Some(div_round(v, pow10(u32::from(from - to)))),
    }
}

fn wide_rescale(v: i256, from: i32, to: i32) -> Option<i128> {
    let ten = i256::from_i128(10);
    if to >= from {
        return v.checked_mul(ten.checked_pow((to - from) as u32)?)?.to_i128();
    }
    wide_div(v, ten.checked_pow((from - to) as u32)?)
}

fn wide_div(a: i256, b: i256) -> Option<i128> {
    let q = a.checked_div(b)?;
    let r = a.checked_rem(b)?;
    let negative = a.is_negative() != b.is_negative();
    let (r, b) = (r.wrapping_abs(), b.wrapping_abs());
    let q = q.to_i128()?;
    if r != i256::ZERO && r >= b.wrapping_sub(r) { q.checked_add(if negative { -1 } else { 1 }) } else { Some(q) }
}

/// `a op b` for `+ - * / %`, at scale `s`. Division by zero and what doesn't fit is `None`.
pub(crate) fn apply(op: char, a: i128, s1: u8, b: i128, s2: u8, s: u8) -> Option<i128> {
    let common = s1.max(s2);
    match op {
        '+' | '-' => {
            let (x, y) = (rescale(a, s1, common)?, rescale(b, s2, common)?);
            rescale(if op == '+' { x.checked_add(y)? } else { x.checked_sub(y)? }, common, s)
        }
        '*' => match a.checked_mul(b) {
            Some(v) if s1 + s2 == s => Some(v),
            Some(v) if s1 + s2 > s && s1 + s2 - s <= 38 => rescale(v, s1 + s2, s),
            _ => wide_rescale(
                i256::from_i128(a).checked_mul(i256::from_i128(b))?,
                i32::from(s1) + i32::from(s2),
                i32::from(s),
            ),
        },
        '/' => {
            if b == 0 {
                return None;
            }
            let shift = i32::from(s) - i32::from(s1) + i32::from(s2);
            if shift >= 0 {
                if let Some(n) = (shift <= 38).then(|| a.checked_mul(pow10(shift as u32))).flatten() {
                    return Some(div_round(n, b));
                }
                let up = i256::from_i128(10).checked_pow(shift as u32)?;
                return wide_div(i256::from_i128(a).checked_mul(up)?, i256::from_i128(b));
            }
            let down = i256::from_i128(10).checked_pow((-shift) as u32)?;
            wide_div(i256::from_i128(a), i256::from_i128(b).checked_mul(down)?)
        }
        _ => {
            let (x, y) = (rescale(a, s1, common)?, rescale(b, s2, common)?);
            if y == 0 { None } else { rescale(x % y, common, s) }
        }
    }
}

/// Flink's way to bring precision and scale within 38 digits (`LogicalTypeMerging.adjustPrecisionScale`).
pub(crate) fn adjust(p: i32, s: i32) -> TypeKind {
    if p <= 38 {
        return TypeKind::Decimal(p as u8, s as u8);
    }
    let scale = (38 - (p - s)).max(s.min(6));
    TypeKind::Decimal(38, scale as u8)
}

/// The type of `a op b` (`LogicalTypeMerging.find*DecimalType`).
pub(crate) fn result_type(op: char, (p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> TypeKind {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    match op {
        '+' | '-' => adjust((p1 - s1).max(p2 - s2) + s1.max(s2) + 1, s1.max(s2)),
        '*' => adjust(p1 + p2 + 1, s1 + s2),
        '/' => {
            let s = 6.max(s1 + p2 + 1);
            adjust(p1 - s1 + s2 + s, s)
        }
        _ => adjust((p1 - s1).min(p2 - s2) + s1.max(s2), s1.max(s2)),
    }
}

/// A decimal from text such as `-1.5`, `.5`, `1e3` at scale `s`, rounded half up.
pub(crate) fn parse(text: &str, s: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The digit that stands for 10^-s is the `keep`-th; the one after it rounds.
    let keep = whole.len() as i64 + i64::from(exponent) + i64::from(s);
    let all = whole.bytes().chain(fraction.bytes());
    let mut value: i128 = 0;
    let mut round = false;
    let mut seen = 0i64;
    for digit in all {
        if seen < keep {
            value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        } else if seen == keep {
            round = digit >= b'5';
        }
        seen += 1;
    }
    if value != 0 {
        for _ in seen..keep {
            value = value.checked_mul(10)?;
        }
    }
    value += i128::from(round);
    Some(if negative { -value } else { value })
}

/// As text with its scale.
pub(crate) fn format(v: i128, scale: u8) -> String {
    let mut out = String::new();
    write(&mut out, v, scale);
    out
}

/// [`format`] onto the end of `out`.
pub(crate) fn write(out: &mut String, v: i128, scale: u8) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(v.unsigned_abs());
    if v < 0 {
        out.push('-');
    }
    match digits.len().checked_sub(usize::from(scale)) {
        Some(_) if scale == 0 => out.push_str(digits),
        Some(whole) if whole > 0 => {
            let (whole, fraction) = digits.split_at(whole);
            out.extend([whole, ".", fraction]);
        }
        _ => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', usize::from(scale) - digits.len()));
            out.push_str(digits);
        }
    }
}

/// The nearest double.
pub(crate) fn to_f64(v: i128, scale: u8) -> f64 {
    if v.unsigned_abs() < (1 << 53) && scale <= 22 {
        return v as f64 / 10f64.powi(i32::from(scale));
    }
    format(v, scale).parse().unwrap_or(f64::NAN)
}
