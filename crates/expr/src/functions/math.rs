//! Functions over numbers.

use super::{Function, fit, plain, special};
use crate::args::{Args, Kernel, decimal, double, int, text, try_double, try_int};
use crate::decimal::{div_round, parse, pow10};
use crate::node::call;
use crate::{compare, logic};
use arrow::array::{ArrayRef, AsArray, Float32Array};
use arrow::datatypes::Float32Type;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Result, TypeKind};
use std::cmp::Ordering;
use std::sync::{Arc, Mutex};

/// A function from double to double.
fn of(f: fn(f64) -> f64) -> Kernel {
    double(move |a, i| a.f64(0, i).map(f))
}

fn floats(f: fn(f64) -> f64) -> Kernel {
    Arc::new(move |a| {
        let values = a.array(0)?;
        let values = values.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| f(f64::from(v)) as f32);
        Ok(Arc::new(values) as ArrayRef)
    })
}

/// A function that keeps its argument's type, by kind of number.
fn keep(
    name: &str,
    args: &[ExprRef],
    on_int: fn(i64) -> i64,
    on_float: fn(f64) -> f64,
    on_decimal: fn(i128, i128) -> i128,
    to_whole: bool,
) -> Option<ExprRef> {
    let [x] = args else { return None };
    let mut out = x.data_type().clone();
    let kernel = match out.kind {
        TypeKind::Float => floats(on_float),
        TypeKind::Double => of(on_float),
        TypeKind::Decimal(p, s) => {
            if to_whole {
                out.kind = TypeKind::Decimal(p, 0);
            }
            let unit = pow10(u32::from(s));
            decimal(move |a, i| a.dec(0, i).map(|v| on_decimal(v, unit)))
        }
        _ if out.kind.is_integer() => int(move |a, i| a.int(0, i).map(on_int)),
        _ => return None,
    };
    Some(call(name, vec![x.clone()], out, kernel))
}

fn round_double(v: f64, digits: i64, truncate: bool) -> f64 {
    if !v.is_finite() || v.abs() >= 1e18 || digits > 17 {
        return v;
    }
    let text = ryu::Buffer::new().format_finite(v).to_string();
    let Some(exact) = parse(&text, 19) else { return v };
    let unit = pow10((19 - digits).clamp(0, 38) as u32);
    let whole = if truncate { exact / unit } else { div_round(exact, unit) };
    if digits >= 0 { crate::decimal::to_f64(whole, digits as u8) } else { whole as f64 * 10f64.powi(-digits as i32) }
}

fn round(name: &str, args: &[ExprRef], zone: &SessionZone, truncate: bool) -> Result<Option<ExprRef>> {
    let Some(args) = fit("ni?", args, zone)? else { return Ok(None) };
    let out = args[0].data_type().clone();
    let nullable = args.iter().any(|a| a.data_type().nullable);
    let digits = match args.get(1) {
        None => Some(0),
        Some(e) => e.as_literal().and_then(|v| crate::args::view(v).ok()?.int(0)),
    };
    let by = |a: &crate::args::Args<'_>, i: usize| if a.len() > 1 { a.int(1, i) } else { Some(0) };
    let divide = move |v: i128, unit: i128| if truncate { v / unit } else { div_round(v, unit) };
    let (kind, kernel): (TypeKind, Kernel) = match out.kind {
        TypeKind::Double => (out.kind, double(move |a, i| Some(round_double(a.f64(0, i)?, by(a, i)?, truncate)))),
        TypeKind::Float => {
            let kernel: Kernel = Arc::new(move |a| {
                let values = a.array(0)?;
                let values = values.as_primitive::<Float32Type>();
                let one = |i: usize| {
                    let v = (!arrow::array::Array::is_null(values, i)).then(|| values.value(i))?;
                    let shortest = ryu::Buffer::new().format_finite(v).parse::<f64>().unwrap_or(f64::from(v));
                    Some(if v.is_finite() { round_double(shortest, by(a, i)?, truncate) as f32 } else { v })
                };
                Ok(Arc::new((0..a.rows).map(one).collect::<arrow::array::Float32Array>()) as ArrayRef)
            });
            (out.kind, kernel)
        }
        TypeKind::Decimal(p, s) => {
            let scale = i64::from(s);
            let kind = match digits {
                None => out.kind,
                Some(r) if r >= scale => TypeKind::Decimal(p, s),
                Some(r) if r < 0 => TypeKind::Decimal((p - s + 1).min(38), 0),
                Some(r) => TypeKind::Decimal((p - s + 1 + r as u8).min(38), r as u8),
            };
            let TypeKind::Decimal(_, to) = kind else { return Ok(None) };
            let kernel = decimal(move |a, i| {
                let (v, r) = (a.dec(0, i)?, by(a, i)?);
                if r >= scale {
                    return Some(v);
                }
                let unit = pow10((scale - r).clamp(0, 38) as u32);
                divide(v, unit).checked_mul(pow10((i64::from(to) - r).clamp(0, 38) as u32))
            });
            (kind, kernel)
        }
        kind => {
            let kernel = int(move |a, i| {
                let (v, r) = (a.int(0, i)?, by(a, i)?);
                if r >= 0 {
                    return Some(v);
                }
                let unit = pow10((-r).min(38) as u32);
                Some(divide(i128::from(v), unit).wrapping_mul(unit) as i64)
            });
            (kind, kernel)
        }
    };
    Ok(Some(call(name, args, kind.nullable().with_nullable(nullable), kernel)))
}

/// `GREATEST`, `LEAST`: NULL if any argument is.
fn extreme(args: &[ExprRef], op: &'static str, zone: &SessionZone) -> Result<Option<ExprRef>> {
    let types: Vec<_> = args.iter().map(|a| a.data_type().clone()).collect();
    let Some(common) = crate::typing::common_type(&types) else { return Ok(None) };
    let args = args.iter().map(|a| crate::cast::implicit(a, &common, zone)).collect::<Result<Vec<_>>>()?;
    if matches!(common.kind, TypeKind::Float | TypeKind::Double) {
        return Ok(Some(extreme_float(args, op == ">=", common)));
    }
    let mut best: Option<ExprRef> = None;
    for arg in args {
        best = Some(match best {
            None => arg,
            Some(so_far) => {
                let Some(better) = compare::compare(op, &so_far, &arg, zone)? else { return Ok(None) };
                let Some(unknown) = logic::test("IS NULL", &better) else { return Ok(None) };
                let null = crate::build::literal(crate::build::Value::Null, common.clone().with_nullable(true));
                let children = vec![unknown, null, better, so_far, arg];
                Arc::new(logic::Case { children, data_type: common.clone() })
            }
        });
    }
    Ok(best)
}

/// The same of floating-point numbers, in Java's order: NaN is the greatest, -0 is less than 0 (flink:
/// `ScalarOperatorGens.generateGreatestLeast` compares objects).
fn extreme_float(args: Vec<ExprRef>, greatest: bool, of: DataType) -> ExprRef {
    let count = args.len();
    let best = move |a: &Args<'_>, i: usize| -> Option<f64> {
        let mut best = a.f64(0, i)?;
        for k in 1..count {
            let next = a.f64(k, i)?;
            let order = match (best.is_nan(), next.is_nan()) {
                (false, false) => best.total_cmp(&next),
                (best, next) => best.cmp(&next),
            };
            if order == if greatest { Ordering::Less } else { Ordering::Greater } {
                best = next;
            }
        }
        Some(best)
    };
    let (name, is_float) = (if greatest { "GREATEST" } else { "LEAST" }, of.kind == TypeKind::Float);
    let kernel: Kernel = match is_float {
        true => Arc::new(move |a| {
            Ok(Arc::new((0..a.rows).map(|i| best(a, i).map(|v| v as f32)).collect::<Float32Array>()) as ArrayRef)
        }),
        false => double(best),
    };
    call(name, args, of, kernel)
}

fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random bits.
pub(super) fn next_random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    thread_local! {
        static STATE: std::cell::Cell<u64> = std::cell::Cell::new(RandomState::new().hash_one(0));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    random(state)
}

/// The generator of `java.util.Random`, so that a seed gives Flink's numbers.
struct JavaRandom(u64);

impl JavaRandom {
    const MASK: u64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        JavaRandom((seed as u64 ^ 0x5_deec_e66d) & Self::MASK)
    }
    fn next(&mut self, bits: u32) -> i64 {
        self.0 = self.0.wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & Self::MASK;
        (self.0 >> (48 - bits)) as i64
    }
    fn next_double(&mut self) -> f64 {
        let high = self.next(26);
        ((high << 27) + self.next(27)) as f64 / (1u64 << 53) as f64
    }
    /// Below `bound`, which is above 0 and an INT.
    fn next_int(&mut self, bound: i64) -> i64 {
        if bound & (bound - 1) == 0 {
            return (bound * self.next(31)) >> 31;
        }
        loop {
            let bits = self.next(31);
            let value = bits % bound;
            // The last, incomplete run of numbers would make small ones likelier.
            if bits - value + (bound - 1) <= i64::from(i32::MAX) {
                return value;
            }
        }
    }
}

/// A generator that starts with the first row's seed and goes on from row to row, as a task's does in Flink.
#[derive(Default)]
struct Seeded(Mutex<Option<JavaRandom>>);

impl Seeded {
    fn with<T>(&self, seed: Option<i64>, next: impl FnOnce(&mut JavaRandom) -> T) -> Result<Option<T>> {
        let mut random = self.0.lock().map_err(|_| Error::internal("a random generator is poisoned"))?;
        Ok(Some(next(random.get_or_insert_with(|| JavaRandom::new(seed.unwrap_or(0))))))
    }
}

fn unit_random() -> f64 {
    (next_random() >> 11) as f64 / (1u64 << 53) as f64
}

pub(super) fn functions() -> Vec<Function> {
    let mut all = vec![
        special("ABS", "(NUMERIC)", |n, a, _| Ok(keep(n, a, i64::wrapping_abs, f64::abs, |v, _| v.abs(), false))),
        special("FLOOR", "(NUMERIC)", |n, a, _| Ok(keep(n, a, |v| v, f64::floor, i128::div_euclid, true))),
        special("SIGN", "(NUMERIC)", |n, a, _| {
            let sign = |v: f64| {
                if v > 0.0 {
                    1.0
                } else if v < 0.0 {
                    -1.0
                } else {
                    v
                }
            };
            Ok(keep(n, a, i64::signum, sign, |v, unit| v.signum() * unit, false))
        }),
        special("ROUND", "(NUMERIC[, INT])", |n, a, z| round(n, a, z, false)),
        special("TRUNCATE", "(NUMERIC[, INT])", |n, a, z| round(n, a, z, true)),
        special("GREATEST", "comparable values", |_, a, z| extreme(a, ">=", z)),
        special("LEAST", "comparable values", |_, a, z| extreme(a, "<=", z)),
        plain("POWER", &["dd"], "DOUBLE", |_| double(|a, i| Some(a.f64(0, i)?.powf(a.f64(1, i)?)))),
        plain("ATAN2", &["dd"], "DOUBLE", |_| double(|a, i| Some(a.f64(0, i)?.atan2(a.f64(1, i)?)))),
        plain("LOG", &["d", "dd"], "DOUBLE", |_| {
            double(|a, i| match a.len() {
                1 => Some(a.f64(0, i)?.ln()),
                _ => Some(a.f64(1, i)?.ln() / a.f64(0, i)?.ln()),
            })
        }),
        plain("PI", &[""], "DOUBLE!", |_| double(|_, _| Some(std::f64::consts::PI))),
        plain("E", &[""], "DOUBLE!", |_| double(|_, _| Some(std::f64::consts::E))),
        plain("RAND", &["", "i"], "DOUBLE!", |_| {
            let random = Seeded::default();
            try_double(move |a, i| match a.len() {
                0 => Ok(Some(unit_random())),
                _ => random.with(a.int(0, i), JavaRandom::next_double),
            })
        }),
        plain("RAND_INTEGER", &["i", "ii"], "INT", |_| {
            let random = Seeded::default();
            try_int(move |a, i| {
                let bound = a.int(a.len() - 1, i);
                let Some(bound) = bound else { return Ok(None) };
                if bound <= 0 {
                    return Err(Error::data(format!("RAND_INTEGER needs a bound above 0, not {bound}")));
                }
                match a.len() {
                    1 => Ok(Some((next_random() % bound as u64) as i64)),
                    _ => random.with(a.int(0, i), |r| r.next_int(bound)),
                }
            })
        }),
        plain("BIN", &["l"], "STRING", |_| {
            text(|a, i, out| {
                out.push_str(&format!("{:b}", a.int(0, i)?));
                Some(())
            })
        }),
    ];
    for name in ["CEIL", "CEILING"] {
        all.push(special(name, "(NUMERIC)", |n, a, _| {
            Ok(keep(n, a, |v| v, f64::ceil, |v, unit| -(-v).div_euclid(unit), true))
        }));
    }
    let doubles = [
        "SQRT", "EXP", "LN", "LOG2", "LOG10", "SIN", "COS", "TAN", "COT", "ASIN", "ACOS", "ATAN", "SINH", "COSH",
        "TANH", "DEGREES", "RADIANS",
    ];
    for name in doubles {
        all.push(special(name, "(NUMERIC)", |n, a, z| {
            let Some(args) = fit("d", a, z)? else { return Ok(None) };
            let out = TypeKind::Double.nullable().with_nullable(args[0].data_type().nullable);
            Ok(kernel_of(n).map(|k| call(n, args, out, k)))
        }));
    }
    all
}

fn kernel_of(name: &str) -> Option<Kernel> {
    Some(match name {
        "SQRT" => of(f64::sqrt),
        "EXP" => of(f64::exp),
        "LN" => of(f64::ln),
        "LOG2" => of(f64::log2),
        "LOG10" => of(f64::log10),
        "SIN" => of(f64::sin),
        "COS" => of(f64::cos),
        "TAN" => of(f64::tan),
        "COT" => of(|v| 1.0 / v.tan()),
        "ASIN" => of(f64::asin),
        "ACOS" => of(f64::acos),
        "ATAN" => of(f64::atan),
        "SINH" => of(f64::sinh),
        "COSH" => of(f64::cosh),
        "TANH" => of(f64::tanh),
        "DEGREES" => of(f64::to_degrees),
        "RADIANS" => of(f64::to_radians),
        _ => return None,
    })
}
