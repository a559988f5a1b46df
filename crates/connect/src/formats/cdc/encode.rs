//! The encoder of changes: a row that comes is an insert, a row that goes a delete, whatever the change was, as Flink
//! writes them.

use super::{Change, Dialect};
use crate::formats::json::JsonEncoder;
use millstream_core::format::Encoder;
use millstream_core::{Batch, Result, Schema};

/// Encodes batches of one schema.
#[derive(Debug)]
pub(super) struct ChangeEncoder {
    rows: JsonEncoder,
    /// What stands before and after a row that comes, and one that goes.
    addition: (&'static str, &'static str),
    deletion: (&'static str, &'static str),
    /// The rows of a batch, one a line.
    scratch: Vec<u8>,
}

impl ChangeEncoder {
    pub(super) fn new(schema: &Schema, change: &Change) -> Self {
        let (addition, deletion) = match (change.dialect, change.json.ignore_null_fields) {
            (Dialect::Debezium, false) => (
                ("{\"before\":null,\"after\":", ",\"op\":\"c\"}\n"),
                ("{\"before\":", ",\"after\":null,\"op\":\"d\"}\n"),
            ),
            (Dialect::Debezium, true) => (("{\"after\":", ",\"op\":\"c\"}\n"), ("{\"before\":", ",\"op\":\"d\"}\n")),
            (Dialect::Ogg, false) => (
                ("{\"before\":null,\"after\":", ",\"op_type\":\"I\"}\n"),
                ("{\"before\":", ",\"after\":null,\"op_type\":\"D\"}\n"),
            ),
            (Dialect::Ogg, true) => {
                (("{\"after\":", ",\"op_type\":\"I\"}\n"), ("{\"before\":", ",\"op_type\":\"D\"}\n"))
            }
            (Dialect::Canal, _) => {
                (("{\"data\":[", "],\"type\":\"INSERT\"}\n"), ("{\"data\":[", "],\"type\":\"DELETE\"}\n"))
            }
            (Dialect::Maxwell, _) => {
                (("{\"data\":", ",\"type\":\"insert\"}\n"), ("{\"data\":", ",\"type\":\"delete\"}\n"))
            }
        };
        ChangeEncoder { rows: JsonEncoder::new(schema, change.json.clone()), addition, deletion, scratch: vec![] }
    }
}

impl Encoder for ChangeEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.scratch.clear();
        self.rows.encode(batch, &mut self.scratch)?;
        // A line feed within a value is escaped, so that each line is a row.
        for (row, object) in self.scratch.split(|b| *b == b'\n').take(batch.num_rows()).enumerate() {
            let (before, after) = if batch.kind(row).is_addition() { self.addition } else { self.deletion };
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(object);
            out.extend_from_slice(after.as_bytes());
        }
        Ok(())
    }
}
