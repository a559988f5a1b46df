//! Reading a table's `WITH` options: each is declared once, typed, and unknown ones are refused.

use crate::error::{Error, Place, Result};
use crate::suggest::{did_you_mean, nearest};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// The options of one table, as they are being read.
///
/// Every getter notes its key as known; [`Options::finish`] then refuses what nobody asked for.
/// A key of the form `fields.#.kind` is known for any middle part.
#[derive(Debug)]
pub struct Options<'a> {
    table: &'a str,
    connector: &'a str,
    values: &'a BTreeMap<String, String>,
    known: Rc<RefCell<BTreeSet<String>>>,
    /// Stands before each key that is asked for.
    prefix: String,
}

impl<'a> Options<'a> {
    /// The options of `table`, which uses `connector`.
    pub fn new(table: &'a str, connector: &'a str, values: &'a BTreeMap<String, String>) -> Self {
        let known = ["connector".to_string()].into();
        Options { table, connector, values, known: Rc::new(RefCell::new(known)), prefix: String::new() }
    }
    /// The options whose keys begin with `prefix`, asked for without it: those of a part of the table that is described
    /// like a whole one, such as `key.` before a format's. What is asked for there is known here, too.
    pub fn part(&self, prefix: &str) -> Options<'a> {
        let prefix = format!("{}{prefix}", self.prefix);
        Options { table: self.table, connector: self.connector, values: self.values, known: self.known.clone(), prefix }
    }
    /// The name of the table.
    pub fn table(&self) -> &'a str {
        self.table
    }
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
    fn raw(&self, key: &str) -> Option<&'a str> {
        let key = self.full(key);
        let value = self.values.get(&key).map(String::as_str);
        self.known.borrow_mut().insert(key);
        value
    }
    /// An error about the option `key`.
    pub fn error(&self, key: &str, message: impl Into<String>) -> Error {
        Error::script(message).at(self.place(key))
    }
    /// Where the option `key` is.
    pub fn place(&self, key: &str) -> Place {
        Place::Option { table: self.table.to_string(), key: self.full(key), at: None }
    }
    fn parse<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>> {
        let Some(text) = self.raw(key) else { return Ok(None) };
        parse(text.trim()).map(Some).map_err(|expected| {
            let full = self.full(key);
            self.error(key, format!("the value '{text}' of option '{full}' is not {expected}"))
        })
    }
    /// A text.
    pub fn string(&self, key: &str) -> Option<&'a str> {
        self.raw(key)
    }
    /// A text that must be there.
    pub fn required(&self, key: &str) -> Result<&'a str> {
        self.raw(key).ok_or_else(|| {
            let others = self.values.keys().map(String::as_str).filter(|k| !self.known.borrow().contains(*k));
            let full = self.full(key);
            let hint = match nearest(&full, others.collect::<Vec<_>>()) {
                Some(other) => format!("did you mean it by '{other}'?"),
                None => format!("add '{full}' = '...' to the table's WITH clause"),
            };
            self.error(key, format!("connector '{}' needs the option '{full}'", self.connector)).hint(hint)
        })
    }
    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.parse(key, |t| match t.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("'true' or 'false'".into()),
        })
    }
    /// A number that parses as `T`.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.parse(key, |t| t.parse().map_err(|_| "a number in range".into()))
    }
    /// A duration in Flink's form: `10 s`, `1 min`, `500 ms`.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        self.parse(key, parse_duration)
    }
    /// A size in Flink's form: `128 mb`; bytes.
    pub fn memory_size(&self, key: &str) -> Result<Option<u64>> {
        self.parse(key, parse_memory_size)
    }
    /// One of `choices` (case-insensitive).
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        self.parse(key, |t| {
            choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(t)).map(|(_, value)| *value).ok_or_else(|| {
                format!("one of {}", choices.iter().map(|(n, _)| format!("'{n}'")).collect::<Vec<_>>().join(", "))
            })
        })
    }
    /// Notes keys as known without reading them, such as those of a part read elsewhere.
    pub fn allow<'k>(&self, keys: impl IntoIterator<Item = &'k str>) {
        self.known.borrow_mut().extend(keys.into_iter().map(|key| self.full(key)));
    }
    /// All keys given that start with `prefix`; they become known.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let prefix = self.full(prefix);
        let found = self.values.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(k, v)| (k.as_str(), v.as_str()));
        let found: Vec<_> = found.collect();
        self.known.borrow_mut().extend(found.iter().map(|(k, _)| k.to_string()));
        found.into_iter().map(|(key, value)| (key.get(self.prefix.len()..).unwrap_or(key), value)).collect()
    }
    /// Refuses options that nobody read.
    pub fn finish(&self) -> Result<()> {
        let known = self.known.borrow();
        let Some(unknown) = self.values.keys().find(|k| !known.contains(*k)) else { return Ok(()) };
        let error = self
            .error(unknown, format!("connector '{}' has no option '{unknown}'", self.connector))
            .detail(format!("known options: {}", known.iter().cloned().collect::<Vec<_>>().join(", ")));
        Err(match did_you_mean(unknown, known.iter().map(String::as_str)) {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

/// Parses Flink's duration text (`<number> <unit>`; no unit means milliseconds); the error says what
/// was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || "a duration such as '10 s', '1 min' or '500 ms'".to_string();
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..split).unwrap_or("").parse().map_err(|_| expected())?;
    let nanos_per_unit: u64 = match text.get(split..).unwrap_or("").trim() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return Err(expected()),
    };
    let nanos = number.checked_mul(nanos_per_unit).ok_or_else(expected)?;
    Ok(Duration::from_nanos(nanos))
}

/// Parses Flink's memory size text (`<number> <unit>`; no unit means bytes; units are binary).
pub fn parse_memory_size(text: &str) -> Result<u64, String> {
    let expected = || "a memory size such as '128 mb' or '64 kb'".to_string();
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..split).unwrap_or("").parse().map_err(|_| expected())?;
    let shift = match text.get(split..).unwrap_or("").trim() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kibibytes" => 10,
        "m" | "mb" | "mebibytes" => 20,
        "g" | "gb" | "gibibytes" => 30,
        "t" | "tb" | "tebibytes" => 40,
        _ => return Err(expected()),
    };
    number.checked_mul(1u64 << shift).ok_or_else(expected)
}
