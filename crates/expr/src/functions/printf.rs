//! `PRINTF`: the formats of `java.util.Formatter` for text, numbers and truth values.

use crate::args::{Arg, Args, Kernel, text, view};
use crate::{decimal, print};
use arrow::array::Array;
use arrow::datatypes::DataType as ArrowType;
use millstream_core::types::SessionZone;

/// `%[index$][flags][width][.precision]conversion`
#[derive(Default)]
struct Spec<'f> {
    index: Option<usize>,
    flags: &'f str,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

/// The specification after a `%`, and what follows it.
fn spec(text: &str) -> Option<(Spec<'_>, &str)> {
    let digits = |t: &str| t.len() - t.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mut spec = Spec::default();
    let mut rest = text;
    let n = digits(rest);
    if n > 0 && rest[n..].starts_with('$') {
        spec.index = Some(rest[..n].parse().ok()?);
        rest = &rest[n + 1..];
    }
    let flags = rest.len() - rest.trim_start_matches(['-', '#', '+', ' ', '0', ',', '(', '<']).len();
    (spec.flags, rest) = rest.split_at(flags);
    let n = digits(rest);
    if n > 0 {
        spec.width = rest[..n].parse().ok()?;
        rest = &rest[n..];
    }
    if let Some(after) = rest.strip_prefix('.') {
        let n = digits(after);
        spec.precision = Some(after[..n].parse().ok()?);
        rest = &after[n..];
    }
    spec.conversion = rest.chars().next()?;
    let after = &rest[spec.conversion.len_utf8()..];
    Some((spec, after))
}

impl Spec<'_> {
    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    /// Signs, groups and pads the digits of a number.
    fn number(&self, negative: bool, digits: String) -> String {
        let (whole, fraction) = match digits.find(['.', 'e']) {
            Some(at) => digits.split_at(at),
            None => (digits.as_str(), ""),
        };
        let mut body = String::new();
        for (i, c) in whole.chars().enumerate() {
            if self.has(',') && i > 0 && (whole.len() - i) % 3 == 0 {
                body.push(',');
            }
            body.push(c);
        }
        body.push_str(fraction);
        let (before, after) = match negative {
            true if self.has('(') => ("(", ")"),
            true => ("-", ""),
            false if self.has('+') => ("+", ""),
            false if self.has(' ') => (" ", ""),
            false => ("", ""),
        };
        let length = before.len() + body.len() + after.len();
        let zeros = if self.has('0') { self.width.saturating_sub(length) } else { 0 };
        format!("{before}{}{body}{after}", "0".repeat(zeros))
    }

    fn pad(&self, body: &str, out: &mut String) {
        let missing = self.width.saturating_sub(body.encode_utf16().count());
        if !self.has('-') {
            out.extend(std::iter::repeat_n(' ', missing));
        }
        out.push_str(body);
        if self.has('-') {
            out.extend(std::iter::repeat_n(' ', missing));
        }
    }
}

/// `d.ddde+xx` with `precision` digits.
fn scientific(v: f64, precision: usize) -> String {
    let text = format!("{v:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Rounds half up, as Java does; the shortest digits of a double count.
fn fixed(v: f64, precision: usize) -> Option<String> {
    let scale = precision.min(30) as u8;
    let exact = decimal::parse(ryu::Buffer::new().format_finite(v), scale);
    Some(match exact {
        Some(exact) => decimal::format(exact, scale),
        None => format!("{v:.precision$}"),
    })
}

/// The argument by the specification; `None` if they don't fit.
fn one(spec: &Spec<'_>, a: &Args<'_>, k: usize, i: usize, zone: &SessionZone) -> Option<String> {
    let array = a.columns[k].array();
    let row = a.row(k, i);
    let conversion = spec.conversion.to_ascii_lowercase();
    let arg = view(array).ok()?;
    let cut = |s: &str| s.chars().take(spec.precision.unwrap_or(usize::MAX)).collect::<String>();
    let is_null = a.is_null(k, i);
    let body = match (conversion, &arg) {
        ('b', Arg::Bool(_)) if !is_null => cut(if arg.bool(row)? { "true" } else { "false" }),
        ('b', _) => cut(if is_null { "false" } else { "true" }),
        ('s' | 'd' | 'x' | 'o' | 'f' | 'e' | 'g' | 'c' | 'h', _) if is_null => cut("null"),
        ('s', _) => cut(&plain(&arg, array.data_type(), row, zone)?),
        ('c', Arg::Str(_)) => return None,
        ('c', _) => char::from_u32(u32::try_from(arg.int(row)?).ok()?)?.to_string(),
        ('d', Arg::I8(_) | Arg::I16(_) | Arg::I32(_) | Arg::I64(_)) => {
            let v = arg.int(row)?;
            spec.number(v < 0, v.unsigned_abs().to_string())
        }
        ('x' | 'o', Arg::I8(_) | Arg::I16(_) | Arg::I32(_) | Arg::I64(_)) => {
            let v = arg.int(row)?;
            let bits = match arg {
                Arg::I8(_) => u64::from(v as u8),
                Arg::I16(_) => u64::from(v as u16),
                Arg::I32(_) => u64::from(v as u32),
                _ => v as u64,
            };
            let digits = if conversion == 'x' { format!("{bits:x}") } else { format!("{bits:o}") };
            let prefix = match (spec.has('#'), conversion) {
                (true, 'x') => "0x",
                (true, _) => "0",
                _ => "",
            };
            let zeros = if spec.has('0') { spec.width.saturating_sub(digits.len() + prefix.len()) } else { 0 };
            format!("{prefix}{}{digits}", "0".repeat(zeros))
        }
        ('f' | 'e', Arg::F32(_) | Arg::F64(_) | Arg::Dec(_)) => {
            let precision = spec.precision.unwrap_or(6);
            let v = match (&arg, array.data_type()) {
                (Arg::Dec(_), ArrowType::Decimal128(_, s)) => decimal::to_f64(arg.dec(row)?, *s as u8),
                (Arg::F32(v), _) => ryu::Buffer::new().format(v.value(row)).parse().ok()?,
                _ => arg.f64(row)?,
            };
            if !v.is_finite() {
                return Some(print::double_text(v));
            }
            let digits = match (conversion, &arg, array.data_type()) {
                ('e', ..) => scientific(v.abs(), precision),
                (_, Arg::Dec(_), ArrowType::Decimal128(_, s)) => {
                    let to = precision.min(30) as u8;
                    decimal::format(decimal::rescale(arg.dec(row)?, *s as u8, to)?.abs(), to)
                }
                _ => fixed(v.abs(), precision)?,
            };
            spec.number(v.is_sign_negative(), digits)
        }
        _ => return None,
    };
    Some(if spec.conversion.is_ascii_uppercase() { body.to_uppercase() } else { body })
}

/// A value as Java's `toString` gives it.
fn plain(arg: &Arg<'_>, carrier: &ArrowType, row: usize, zone: &SessionZone) -> Option<String> {
    use millstream_core::TypeKind::*;
    let kind = match (arg, carrier) {
        (Arg::Str(_), _) => return arg.str(row).map(str::to_string),
        (Arg::Bool(_), _) => return arg.bool(row).map(|b| b.to_string()),
        (Arg::I8(_) | Arg::I16(_) | Arg::I32(_) | Arg::I64(_), _) => BigInt,
        (Arg::F32(_), _) => Float,
        (Arg::F64(_), _) => Double,
        (Arg::Dec(_), ArrowType::Decimal128(p, s)) => Decimal(*p, *s as u8),
        (Arg::Date(_), _) => Date,
        (Arg::Time(_), _) => Time(0),
        (Arg::Ms(_), ArrowType::Timestamp(_, None)) => Timestamp(3),
        (Arg::Us(_), ArrowType::Timestamp(_, None)) => Timestamp(6),
        (Arg::Ns(_), ArrowType::Timestamp(_, None)) => Timestamp(9),
        (Arg::Ms(_), _) => TimestampLtz(3),
        (Arg::Us(_), _) => TimestampLtz(6),
        (Arg::Ns(_), _) => TimestampLtz(9),
        (Arg::Months(_), _) => IntervalYearMonth,
        (Arg::Duration(_), _) => IntervalDayTime,
        _ => return None,
    };
    let mut out = String::new();
    print::write_arg(&mut out, arg, row, &kind.nullable(), zone)?;
    Some(out)
}

fn write(a: &Args<'_>, i: usize, zone: &SessionZone, out: &mut String) -> Option<()> {
    let mut rest = a.str(0, i)?;
    let (mut next, mut last) = (1, 0);
    while let Some((text, after)) = rest.split_once('%') {
        out.push_str(text);
        let (spec, after) = spec(after)?;
        rest = after;
        match spec.conversion {
            'n' => out.push('\n'),
            '%' => spec.pad("%", out),
            _ => {
                let k = match spec.index {
                    Some(index) => index,
                    None if spec.has('<') => last,
                    None => {
                        next += 1;
                        next - 1
                    }
                };
                if !(1..a.len()).contains(&k) {
                    return None;
                }
                last = k;
                spec.pad(&one(&spec, a, k, i, zone)?, out);
            }
        }
    }
    out.push_str(rest);
    Some(())
}

/// The kernel of PRINTF; NULL if the format or an argument for it is invalid.
pub(super) fn kernel(zone: SessionZone) -> Kernel {
    text(move |a, i, out| write(a, i, &zone, out))
}
