//! The table of functions: names, accepted arguments, result types.

mod array;
mod bitmap;
mod collection;
mod encode;
mod json;
mod json_make;
mod json_text;
mod map;
mod math;
mod object;
mod pattern;
mod printf;
mod regex;
mod simple_date;
mod string;
mod time;
mod unit;
mod variant;

use crate::args::Kernel;
use crate::cast::implicit;
use crate::node::Call;
use millstream_core::types::{MAX_LENGTH, SessionZone};
use millstream_core::{Error, ExprRef, Result, TypeKind};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Makes the call, or `None` if the arguments don't fit.
type Bind = fn(&str, &[ExprRef], &SessionZone) -> Result<Option<ExprRef>>;

enum How {
    /// Accepted arguments, the result, the kernel.
    ///
    /// Arguments are a letter each: `s` text, `y` bytes, `x` text or bytes, `b` BOOLEAN, `i` INT, `l` BIGINT, `d`
    /// DOUBLE, `n` any number, `t` any temporal, `A` array, `M` map, `B` BITMAP, `a` anything; `?` follows an optional
    /// one, `*` one to repeat. The result is a type's name: NULL if an argument is nullable, always with `?`, never with `!`;
    /// `=` is the type of the first argument, a text, `VARCHAR=` a VARCHAR of its length, `VARCHAR+` of that of both.
    Plain(&'static [&'static str], &'static str, fn(&SessionZone) -> Kernel),
    /// The accepted arguments in words, and the binding.
    Special(&'static str, Bind),
}

pub(crate) struct Function {
    name: &'static str,
    how: How,
}

fn plain(
    name: &'static str,
    specs: &'static [&'static str],
    result: &'static str,
    kernel: fn(&SessionZone) -> Kernel,
) -> Function {
    Function { name, how: How::Plain(specs, result, kernel) }
}

fn special(name: &'static str, takes: &'static str, bind: Bind) -> Function {
    Function { name, how: How::Special(takes, bind) }
}

fn table() -> &'static BTreeMap<&'static str, Function> {
    static TABLE: OnceLock<BTreeMap<&'static str, Function>> = OnceLock::new();
    TABLE.get_or_init(|| all().into_iter().map(|f| (f.name, f)).collect())
}

fn all() -> Vec<Function> {
    [
        string::functions(),
        encode::functions(),
        regex::functions(),
        math::functions(),
        collection::functions(),
        array::functions(),
        map::functions(),
        object::functions(),
        time::functions(),
        json::functions(),
        json_make::functions(),
        json_text::functions(),
        variant::functions(),
        bitmap::functions(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Functions that [`crate::build::call`] makes itself.
const BUILT_IN: [&str; 5] = ["COALESCE", "IF", "IFNULL", "MOD", "NULLIF"];
/// Functions of Flink that there are not, with the reason.
const REFUSED: [(&str, &str); 1] = [("ML_PREDICT", "there are no models")];
/// Functions that don't give the same for equal arguments.
const IMPURE: [&str; 13] = [
    "RAND",
    "RAND_INTEGER",
    "UUID",
    "NOW",
    "PROCTIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_ROW_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "UNIX_TIMESTAMP",
    "CURRENT_DATABASE",
];

/// Functions that a syntax of its own stands for.
const SYNTAX: [&str; 5] = ["CEIL_TO", "FLOOR_TO", "IS_JSON", "ITEM", "OVERLAPS"];

pub(crate) fn names() -> Vec<&'static str> {
    let words = |n: &&str| {
        n.starts_with(|c: char| c.is_alphabetic()) && *n != "LIKE" && !n.contains(' ') && !SYNTAX.contains(n)
    };
    let mut names: Vec<_> = table().keys().copied().filter(words).chain(BUILT_IN).collect();
    names.sort_unstable();
    names
}

/// What the function takes, in words.
pub(crate) fn signatures(name: &str) -> Option<String> {
    match &table().get(name)?.how {
        How::Special(takes, _) => Some((*takes).to_string()),
        How::Plain(specs, ..) => Some(specs.iter().map(|s| words(s)).collect::<Vec<_>>().join(" or ")),
    }
}

fn words(spec: &str) -> String {
    let mut parts: Vec<String> = vec![];
    for c in spec.chars() {
        match (c, parts.last_mut()) {
            ('?', Some(last)) => *last = format!("[{last}]"),
            ('*', Some(last)) => last.push_str("..."),
            _ => parts.push(
                match c {
                    's' => "STRING",
                    'y' => "BYTES",
                    'x' => "STRING or BYTES",
                    'b' => "BOOLEAN",
                    'i' => "INT",
                    'l' => "BIGINT",
                    'd' => "DOUBLE",
                    'n' => "NUMERIC",
                    't' => "TEMPORAL",
                    'A' => "ARRAY",
                    'M' => "MAP",
                    'B' => "BITMAP",
                    _ => "ANY",
                }
                .to_string(),
            ),
        }
    }
    format!("({})", parts.join(", "))
}

/// The call of a function of the table; `None` if the arguments don't fit.
pub(crate) fn bind(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(Error::unsupported(format!("the function {name}")).detail(*why));
    }
    let Some(function) = table().get(name) else {
        let error = Error::script(format!("there is no function '{name}'"));
        return Err(match millstream_core::suggest::did_you_mean(name, names()) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    let (specs, result, kernel) = match &function.how {
        How::Special(_, bind) => return bind(name, args, zone),
        How::Plain(specs, result, kernel) => (specs, result, kernel),
    };
    for spec in *specs {
        if let Some(args) = fit(spec, args, zone)? {
            let (kind, nullable) = match result.strip_suffix('?') {
                Some(kind) => (kind, true),
                None => match result.strip_suffix('!') {
                    Some(kind) => (kind, false),
                    None => (*result, args.iter().any(|a| a.data_type().nullable)),
                },
            };
            let data_type = result_kind(kind, &args).nullable().with_nullable(nullable);
            let pure = !IMPURE.contains(&name);
            return Ok(Some(Arc::new(Call {
                name: name.into(),
                args,
                data_type,
                kernel: kernel(zone),
                pure,
                constants: String::new(),
            })));
        }
    }
    Ok(None)
}

fn result_kind(name: &str, args: &[ExprRef]) -> TypeKind {
    let length = |arg: &ExprRef| match arg.data_type().kind {
        TypeKind::Char(n) | TypeKind::VarChar(n) => n,
        _ => MAX_LENGTH,
    };
    let total = |args: &[ExprRef]| args.iter().map(length).fold(0u32, u32::saturating_add).min(MAX_LENGTH);
    match (name, args) {
        ("=", [first, ..]) if first.data_type().kind.is_character() => first.data_type().kind.clone(),
        ("VARCHAR=", [first, ..]) => TypeKind::VarChar(length(first)),
        ("VARCHAR+", [first, second, ..]) => TypeKind::VarChar(total(&[first.clone(), second.clone()])),
        _ => kind_of(name),
    }
}

fn kind_of(name: &str) -> TypeKind {
    match name {
        "BOOLEAN" => TypeKind::Boolean,
        "INT" => TypeKind::Int,
        "BIGINT" => TypeKind::BigInt,
        "DOUBLE" => TypeKind::Double,
        "BYTES" => TypeKind::BYTES,
        "BITMAP" => TypeKind::Bitmap,
        "VARIANT" => TypeKind::Variant,
        "ARRAY<INT>" => TypeKind::Array(Box::new(TypeKind::Int.nullable())),
        "DATE" => TypeKind::Date,
        "TIME" => TypeKind::Time(0),
        "TIMESTAMP" => TypeKind::Timestamp(3),
        "LTZ" => TypeKind::TimestampLtz(3),
        "ARRAY" => TypeKind::Array(Box::new(TypeKind::STRING.nullable())),
        "MAP" => TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::STRING.nullable())),
        other => match other.strip_prefix("CHAR").and_then(|n| n.parse().ok()) {
            Some(n) => TypeKind::Char(n),
            None => match other.strip_prefix("VARCHAR").and_then(|n| n.parse().ok()) {
                Some(n) => TypeKind::VarChar(n),
                None => TypeKind::STRING,
            },
        },
    }
}

/// The arguments cast to what `spec` asks; `None` if they don't fit.
pub(crate) fn fit(spec: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<Vec<ExprRef>>> {
    let letters: Vec<char> = spec.chars().collect();
    let mut out = Vec::with_capacity(args.len());
    let mut at = 0;
    for arg in args {
        let Some(letter) = letters.get(at) else { return Ok(None) };
        let Some(arg) = fit_one(*letter, arg, zone)? else { return Ok(None) };
        out.push(arg);
        at += match letters.get(at + 1) {
            Some('*') => 0,
            Some('?') => 2,
            _ => 1,
        };
    }
    let enough = letters.get(at).is_none() || matches!(letters.get(at + 1), Some('?' | '*'));
    Ok(enough.then_some(out))
}

fn fit_one(letter: char, arg: &ExprRef, zone: &SessionZone) -> Result<Option<ExprRef>> {
    let kind = &arg.data_type().kind;
    let fits = |ok: bool| Ok(ok.then(|| arg.clone()));
    let to = match letter {
        's' if kind.is_character() => return fits(true),
        'x' if kind.is_character() || kind.is_binary() => return fits(true),
        's' | 'x' => TypeKind::STRING,
        'y' if kind.is_binary() => return fits(true),
        'y' => TypeKind::BYTES,
        'b' if *kind == TypeKind::Boolean => return fits(true),
        'b' => TypeKind::Boolean,
        'i' if matches!(kind, TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int) => TypeKind::Int,
        'l' if kind.is_integer() => TypeKind::BigInt,
        'd' if kind.is_numeric() => TypeKind::Double,
        'n' if kind.is_numeric() => return fits(true),
        't' if kind.is_temporal() => return fits(true),
        'A' => return fits(matches!(kind, TypeKind::Array(_))),
        'M' => return fits(matches!(kind, TypeKind::Map(..) | TypeKind::Multiset(_))),
        'B' if *kind == TypeKind::Bitmap => return fits(true),
        'B' => TypeKind::Bitmap,
        'a' => return fits(true),
        'i' => TypeKind::Int,
        'l' => TypeKind::BigInt,
        'd' | 'n' => TypeKind::Double,
        _ => TypeKind::Timestamp(3),
    };
    let numeric_ok = matches!(letter, 'i' | 'l' | 'd') && kind.is_numeric();
    let widens = match letter {
        'i' => matches!(kind, TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int),
        'l' => kind.is_integer(),
        _ => true,
    };
    if *kind == TypeKind::Null || (numeric_ok && widens) {
        return implicit(arg, &to.nullable(), zone).map(Some);
    }
    Ok(None)
}
