//! The files of a test: rows with the times at which they come, and the rows that are expected.

use arrow::compute::{concat, concat_batches};
use millstream_connect::formats::json::{JsonDecoder, JsonOptions};
use millstream_connect::formats::temporal::{TimestampStandard, parse_timestamp, to_unit};
use millstream_core::error::{Error, Place, Result, ResultExt};
use millstream_core::format::{Decoder, OnBadRecord};
use millstream_core::suggest::did_you_mean;
use millstream_core::{Batch, Schema};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The key of a line that sets the clock.
const AT: &str = "@at";

/// A file of lines.
pub struct Lines {
    path: PathBuf,
    lines: Vec<String>,
}

/// Rows, and at which times how many of them have come.
pub struct Timed {
    /// The rows.
    pub batch: Batch,
    /// Milliseconds since 1970 UTC, if one was said, and how many rows come then, in order.
    pub steps: Vec<(Option<i64>, usize)>,
}

impl Lines {
    /// Reads a file; `missing` says what there is none of.
    pub fn read(path: &Path, missing: impl FnOnce() -> Error) -> Result<Lines> {
        let place = || Place::File { path: path.display().to_string(), line: None };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing().at(place())),
            Err(e) => return Err(Error::script(format!("can't read the file: {e}")).at(place())),
        };
        let text = String::from_utf8(bytes).map_err(|_| Error::script("the file is not valid UTF-8").at(place()))?;
        Ok(Lines { path: path.to_path_buf(), lines: text.lines().map(str::to_string).collect() })
    }

    /// Decodes the lines that are rows; others set the clock. `names`: what a row's fields may be called, if it is known.
    pub fn timed(&self, decoder: &mut dyn Decoder, names: Option<&Schema>) -> Result<Timed> {
        let mut steps: Vec<(Option<i64>, usize)> = vec![(None, 0)];
        let (mut parts, mut rows) = (vec![], 0);
        for (number, line) in self.lines.iter().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let place = || Place::File { path: self.path.display().to_string(), line: Some(number as u64 + 1) };
            let object = object_of(line).map_err(|e| e.at(place()))?;
            if let Some(time) = object.get(AT) {
                let last = steps.last().and_then(|(time, _)| *time);
                let time = time_of(time, object.len(), last).map_err(|e| e.at(place()))?;
                steps.push((Some(time), 0));
                continue;
            }
            if let Some(schema) = names {
                check_names(&object, schema).map_err(|e| e.at(place()))?;
            }
            decode_line(decoder, line).map_err(|e| e.at(place()))?;
            let part = decoder.take()?;
            if let Some((_, count)) = steps.last_mut() {
                *count += part.num_rows();
            }
            rows += part.num_rows();
            parts.push(part);
        }
        Ok(Timed { batch: joined(decoder.schema(), parts, rows)?, steps })
    }

    /// Decodes rows of `schema` as this command itself writes them.
    pub fn rows(&self, schema: &Schema) -> Result<Batch> {
        let mut decoder = JsonDecoder::new(schema, JsonOptions::new(OnBadRecord::Fail))?;
        let timed = self.timed(&mut decoder, Some(schema))?;
        if timed.steps.len() > 1 {
            let place = Place::File { path: self.path.display().to_string(), line: None };
            return Err(Error::script(format!("'{AT}' sets the clock for inputs; these rows are expected")).at(place));
        }
        Ok(timed.batch)
    }
}

fn object_of(line: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::script("a line must be a JSON object")),
        Err(e) => Err(Error::script("a line is not valid JSON").detail(e.to_string())),
    }
}

fn time_of(value: &Value, fields: usize, last: Option<i64>) -> Result<i64> {
    let hint = format!("for example {{\"{AT}\": \"2026-01-01 00:00:05\"}}, in UTC");
    let parse = |text: &str| {
        let text = text.replacen('T', " ", 1);
        let (seconds, nanos) = parse_timestamp(text.trim_end_matches('Z').as_bytes(), TimestampStandard::Sql, false)?;
        to_unit(seconds, nanos, 3)
    };
    if fields > 1 {
        return Err(Error::script(format!("a line with '{AT}' has nothing else")).hint(hint));
    }
    let Some(time) = value.as_str().and_then(parse) else {
        return Err(Error::script(format!("the value {value} of '{AT}' is not a time")).hint(hint));
    };
    match last {
        Some(last) if time < last => {
            Err(Error::script("the clock can't go back").hint("put the lines in order of time"))
        }
        _ => Ok(time),
    }
}

fn check_names(object: &Map<String, Value>, schema: &Schema) -> Result<()> {
    let names = || schema.fields.iter().map(|field| field.name.as_str());
    match object.keys().find(|key| names().all(|name| name != key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let error = Error::script(format!("there is no column '{key}'"))
                .detail(format!("the columns are: {}", names().collect::<Vec<_>>().join(", ")));
            Err(match did_you_mean(key, names()) {
                Some(hint) => error.hint(hint),
                None => error,
            })
        }
    }
}

fn decode_line(decoder: &mut dyn Decoder, line: &str) -> Result<()> {
    let bytes = format!("{line}\n");
    let mut from = 0;
    let mut bad = vec![];
    while from < bytes.len() {
        // The decoder's own place is a line of what it was given.
        match decoder.decode(&bytes.as_bytes()[from..], usize::MAX, &mut bad) {
            Ok(read) => from += read.max(1),
            Err(error) => {
                let error = bad.pop().map_or(error, |bad| bad.reason);
                let mut plain = Error::script(error.message());
                for detail in error.details() {
                    plain = plain.detail(detail);
                }
                return Err(match error.hint_text() {
                    Some(hint) => plain.hint(hint),
                    None => plain,
                });
            }
        }
    }
    Ok(())
}

fn joined(schema: &Schema, parts: Vec<Batch>, rows: usize) -> Result<Batch> {
    let kinds: Vec<_> =
        parts.iter().filter_map(|part| part.kinds.as_ref()).map(|k| k as &dyn arrow::array::Array).collect();
    let kinds = if kinds.len() == parts.len() && !kinds.is_empty() {
        Some(concat(&kinds).context("join the kinds of rows")?.to_data().into())
    } else {
        None
    };
    let joined = concat_batches(schema.arrow(), parts.iter().map(|part| &part.rows))?;
    Ok(Batch::from_columns(schema.arrow().clone(), joined.columns().to_vec(), rows)?.with_kinds(kinds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{Field, TypeKind};

    fn timed(text: &str) -> Result<Timed> {
        let schema = Schema::new(vec![Field::new("k", TypeKind::BigInt.nullable())]);
        let lines = Lines { path: "t.jsonl".into(), lines: text.lines().map(str::to_string).collect() };
        let mut decoder = JsonDecoder::new(&schema, JsonOptions::new(OnBadRecord::Fail)).unwrap();
        lines.timed(&mut decoder, Some(&schema))
    }

    fn refused(text: &str) -> String {
        timed(text).err().unwrap().to_string()
    }

    #[test]
    fn rows_come_at_the_time_that_was_said_last() {
        let text = "{\"k\": 1}\n\n{\"@at\": \"1970-01-01 00:00:01\"}\n{\"k\": 2}\n{\"k\": 3}\n{\"@at\": \"1970-01-01T00:00:02.5Z\"}";
        let timed = timed(text).unwrap();
        assert_eq!(timed.steps, vec![(None, 1), (Some(1000), 2), (Some(2500), 0)]);
        assert_eq!(timed.batch.num_rows(), 3);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        assert!(refused("{\"k\": 1}\n{\"k\": ").contains("not valid JSON (t.jsonl, line 2)"));
        assert!(refused("[1]").contains("must be a JSON object (t.jsonl, line 1)"));
        assert!(refused("{\"kk\": 1}").contains("there is no column 'kk' (t.jsonl, line 1)"));
        assert!(refused("{\"k\": \"x\"}").contains("(t.jsonl, line 1)"));
        assert!(refused("{\"@at\": 5}").contains("is not a time"));
        assert!(refused("{\"@at\": \"1970-01-01 00:00:01\", \"k\": 1}").contains("nothing else"));
        let back = "{\"@at\": \"1970-01-01 00:00:01\"}\n{\"@at\": \"1970-01-01 00:00:00\"}";
        assert!(refused(back).contains("the clock can't go back (t.jsonl, line 2)"));
    }
}
