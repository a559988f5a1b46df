//! Partition columns in the names of folders: `day=2024-01-01/city=Bonn`, escaped as Hive and Flink do.

use crate::print::push_java;
use arrow::array::{Array, RecordBatch};
use millstream_core::TypeKind;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The rows of each partition's folder; `partitions` are the names and positions of the columns, and
/// `default` is what stands for NULL.
pub(super) fn folders(partitions: &[(String, usize)], default: &str, rows: &RecordBatch) -> BTreeMap<String, Vec<u32>> {
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let (mut folder, mut value) = (String::new(), String::new());
    for row in 0..rows.num_rows() {
        folder.clear();
        for (name, column) in partitions {
            if !folder.is_empty() {
                folder.push('/');
            }
            escape(&mut folder, name);
            folder.push('=');
            let column = rows.column(*column);
            value.clear();
            if column.is_valid(row) {
                push_java(&mut value, column, row);
            }
            escape(&mut folder, if value.is_empty() { default } else { &value });
        }
        match found.get_mut(folder.as_str()) {
            Some(indices) => indices.push(row as u32),
            None => drop(found.insert(folder.clone(), vec![row as u32])),
        }
    }
    found
}

/// Hive's escaping of partition names and values (as in Flink's `PartitionPathUtils`).
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\u{0}'..='\u{1f}'
            | '\u{7f}'
            | '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '{'
            | '['
            | ']'
            | '^' => {
                let _ = write!(out, "%{:02X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// A name or value as it stands in a folder's name.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(&mut out, text);
    out
}

/// A value from a folder's name as the formats write it: times have a blank for Java's `T`, and seconds.
pub(super) fn value_text(name: &str, kind: &TypeKind) -> Vec<u8> {
    let mut text = unescape(name);
    if kind.is_temporal() && *kind != TypeKind::Date {
        let is_utc = text.pop_if(|b| *b == b'Z').is_some();
        text.iter_mut().filter(|b| **b == b'T').for_each(|b| *b = b' ');
        if matches!(text.iter().filter(|b| **b == b':').count(), 1) {
            text.extend_from_slice(b":00");
        }
        text.extend_from_slice(if is_utc { b"Z" } else { b"" });
    }
    text
}

/// The names and values of a partition's columns, from the path of its folder.
pub(super) fn values_of(folder: &str) -> Vec<(String, String)> {
    let text = |part: &str| String::from_utf8_lossy(&unescape(part)).into_owned();
    let parts = folder.split('/').filter_map(|part| part.split_once('='));
    parts.map(|(name, value)| (text(name), text(value))).collect()
}

/// The bytes of a name or value in a folder's name: `%20` is a blank.
fn unescape(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(b) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| *b == b'%') {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(*b);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_survives_a_folders_name() {
        for value in ["plain", "a/b", "100%", "%2F", "..", "Zoë = 1", "tab\t", "2024-01-01 10:00:00"] {
            let name = escaped(value);
            assert!(!name.contains('/'), "{name}");
            assert_eq!(unescape(&name), value.as_bytes(), "{name}");
        }
    }
}
