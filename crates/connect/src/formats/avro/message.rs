//! The format `avro` for messages: each is one Avro value of the schema that the table's columns derive.

use super::decode::Plan;
use super::schema::{TimestampMapping, derive};
use crate::formats::column::Column;
use millstream_core::format::{BadRecord, Decoder, DecoderFactory, OnBadRecord};
use millstream_core::options::Options;
use millstream_core::{Batch, Error, Result, Schema};
use std::sync::Arc;

/// The format for reading messages of all columns of `schema`.
///
/// Its decoders take one message a call of [`Decoder::decode`], always whole.
pub(in crate::formats) fn read_format(
    schema: &Schema,
    options: &Options<'_>,
    on_bad: OnBadRecord,
) -> Result<Arc<dyn DecoderFactory>> {
    options.choice("avro.codec", &super::Codec::ALL)?;
    options.choice("avro.encoding", &[("binary", ())])?;
    let mapping = super::mapping(options, "avro")?;
    derive(&schema.fields, mapping).map_err(|e| e.at(options.place("format")))?;
    Ok(Arc::new(AvroMessages { written: schema.clone(), mapping, on_bad }))
}

#[derive(Debug)]
struct AvroMessages {
    written: Schema,
    mapping: TimestampMapping,
    on_bad: OnBadRecord,
}

impl DecoderFactory for AvroMessages {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(AvroDecoder {
            plan: Plan::new(
                super::schema::Schema::parse(&derive(&self.written.fields, self.mapping)?.to_string())?,
                &schema.fields,
            )?,
            schema: schema.clone(),
            columns: Column::of_fields(&schema.fields)?,
            rows: 0,
            on_bad: self.on_bad,
        }))
    }
}

struct AvroDecoder {
    plan: Plan,
    schema: Schema,
    columns: Vec<Column>,
    rows: usize,
    on_bad: OnBadRecord,
}

impl Decoder for AvroDecoder {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn decode(&mut self, bytes: &[u8], _max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let mut value = bytes;
        let decoded = self.plan.decode(&mut value, self.rows, &mut self.columns);
        match decoded.and_then(|()| {
            if value.is_empty() { Ok(()) } else { Err(format!("{} bytes follow the value", value.len())) }
        }) {
            Ok(()) => self.rows += 1,
            Err(reason) => {
                let rows = self.rows;
                self.columns.iter_mut().for_each(|column| column.truncate(rows));
                let error = Error::data(format!("the record can't be decoded: {reason}"));
                bad.push(BadRecord { record: bytes.to_vec(), line: 0, reason: error.clone() });
                if self.on_bad == OnBadRecord::Fail {
                    return Err(error);
                }
            }
        }
        Ok(bytes.len())
    }

    fn take(&mut self) -> Result<Batch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self.columns.iter_mut().map(|c| c.finish(rows)).collect::<Result<Vec<_>>>()?;
        Batch::from_columns(self.schema.arrow().clone(), columns, rows)
    }

    fn num_rows(&self) -> usize {
        self.rows
    }
}
