//! The `parquet` format: a file's columns by their names, whatever program wrote them.

use super::conform::conform;
use super::container::{BatchReader, BatchWriter, Container, FileBytes};
use arrow::array::new_empty_array;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use millstream_core::options::Options;
use millstream_core::{Error, Result, Schema, TypeKind};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, Length};
use std::io::BufReader;
use std::sync::Arc;

/// Rows of a batch that is read.
const BATCH_ROWS: usize = 4096;

#[derive(Debug)]
struct ParquetFiles(Compression);

/// The format that a table's options describe.
pub(super) fn format(schema: &Schema, options: &Options<'_>) -> Result<Arc<dyn Container>> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let choices = [("SNAPPY", Compression::SNAPPY), ("ZSTD", zstd), ("UNCOMPRESSED", Compression::UNCOMPRESSED)];
    let compression = options.choice("parquet.compression", &choices)?.unwrap_or(Compression::SNAPPY);
    for field in &schema.fields {
        if matches!(field.data_type.kind, TypeKind::Null | TypeKind::IntervalDayTime | TypeKind::IntervalYearMonth) {
            return Err(options.error(
                "format",
                format!("column '{}' of type {} can't be in a Parquet file", field.name, field.data_type),
            ));
        }
    }
    Ok(Arc::new(ParquetFiles(compression)))
}

impl Length for FileBytes {
    fn len(&self) -> u64 {
        self.size()
    }
}

impl ChunkReader for FileBytes {
    type T = BufReader<FileBytes>;
    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(self.at(start)))
    }
    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.read_at(start, length as u64).map_err(|e| ParquetError::External(Box::new(e)))?;
        match bytes.len() == length {
            true => Ok(bytes.into()),
            false => Err(ParquetError::EOF(format!("there are no {length} bytes at {start}"))),
        }
    }
}

fn damaged(e: impl std::fmt::Display) -> Error {
    Error::data("the Parquet file can't be read").detail(e.to_string())
}

impl Container for ParquetFiles {
    fn reader(&self, file: FileBytes, schema: &Schema, skip: u64) -> Result<Box<dyn BatchReader>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let there = builder.schema().clone();
        let (mut roots, mut columns) = (vec![], vec![]);
        for field in &schema.fields {
            let Some((index, found)) = there.column_with_name(&field.name) else {
                if !field.data_type.nullable {
                    let names: Vec<&str> = there.fields().iter().map(|f| f.name().as_str()).collect();
                    let name = &field.name;
                    return Err(Error::data(format!("there is no field '{name}', and the column is NOT NULL"))
                        .detail(format!("the fields there are: {}", names.join(", "))));
                }
                columns.push(None);
                continue;
            };
            conform(&new_empty_array(found.data_type()), &field.data_type, &field.name)?;
            roots.push(index);
            columns.push(Some(field.name.clone()));
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let skip = usize::try_from(skip).map_err(|_| Error::state("a position is behind the file's end"))?;
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_offset(skip);
        Ok(Box::new(Reader { reader: reader.build().map_err(damaged)?, schema: schema.clone(), columns }))
    }

    fn writer(&self, schema: &Schema) -> Result<Box<dyn BatchWriter>> {
        let properties = WriterProperties::builder().set_compression(self.0).build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.arrow().clone(), Some(properties));
        Ok(Box::new(Writer(writer.map_err(not_written)?)))
    }
}

struct Reader {
    reader: ParquetRecordBatchReader,
    schema: Schema,
    /// For each column its name in the file; `None` if it isn't there.
    columns: Vec<Option<String>>,
}

impl BatchReader for Reader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.reader.next().transpose().map_err(damaged)? else { return Ok(None) };
        let mut arrays = vec![];
        for (field, name) in self.schema.fields.iter().zip(&self.columns) {
            let found = name.as_deref().and_then(|name| batch.column_by_name(name));
            arrays.push(match found {
                Some(array) => conform(array, &field.data_type, &field.name)?,
                None => arrow::array::new_null_array(&field.data_type.arrow(), batch.num_rows()),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(self.schema.arrow().clone(), arrays, &options)?))
    }
}

struct Writer(ArrowWriter<Vec<u8>>);

impl BatchWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.0.write(batch).map_err(not_written)
    }
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.inner_mut())
    }
    fn pending_bytes(&self) -> usize {
        self.0.in_progress_size()
    }
    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        self.0.into_inner().map_err(not_written)
    }
}

fn not_written(e: ParquetError) -> Error {
    Error::internal(format!("Parquet can't be written: {e}"))
}

#[cfg(test)]
mod tests {
    use super::{FileBytes, format};
    use crate::formats::container::Container;
    use millstream_core::format::Encoder;
    use millstream_core::options::Options;
    use millstream_core::{Batch, Field, Result, Schema, TypeKind};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Written by pyarrow, with types, codecs and timestamps that our own writer doesn't use.
    const FOREIGN: &[u8] = include_bytes!("fixtures/foreign.parquet");

    fn files(schema: &Schema) -> Arc<dyn Container> {
        format(schema, &Options::new("t", "filesystem", &BTreeMap::new())).unwrap()
    }

    fn read(bytes: &[u8], schema: &Schema, skip: u64) -> Result<Vec<String>> {
        let options = BTreeMap::from([("json.encode.decimal-as-plain-number".to_string(), "true".to_string())]);
        let encoders = crate::formats::json::write_format(&Options::new("t", "filesystem", &options))?;
        let mut encoder: Box<dyn Encoder> = encoders.encoder(schema)?;
        let mut reader = files(schema).reader(FileBytes::new(bytes.to_vec()), schema, skip)?;
        let mut out = vec![];
        while let Some(rows) = reader.next()? {
            encoder.encode(&Batch { rows, kinds: None }, &mut out)?;
        }
        Ok(String::from_utf8(out).unwrap().lines().map(str::to_string).collect())
    }

    fn schema(columns: &[(&str, TypeKind)]) -> Schema {
        Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone().nullable())).collect())
    }

    #[test]
    fn files_of_another_program_are_read_by_the_names_of_their_fields() {
        use TypeKind::*;
        let who = Row(vec![Field::new("name", TypeKind::STRING.nullable()), Field::new("x", Int.nullable())]);
        let schema = schema(&[
            ("day", Date),
            ("id", Int),
            ("not_there", TypeKind::STRING),
            ("name", TypeKind::STRING),
            ("kind", TypeKind::STRING),
            ("price", Decimal(10, 2)),
            ("at", Timestamp(3)),
            ("small", TinyInt),
            ("f", Double),
            ("who", who),
            ("tags", Array(Box::new(TypeKind::STRING.nullable()))),
        ]);
        let expected = [
            r#"{"day":"1969-12-31","id":1,"not_there":null,"name":"a","kind":"x","price":1.28,"at":"2024-02-29 12:00:00.123","small":1,"f":0.5,"who":{"name":"Ann","x":null},"tags":["a",null]}"#,
            r#"{"day":null,"id":2,"not_there":null,"name":null,"kind":"y","price":-0.01,"at":"2024-02-29 12:00:00.123","small":-128,"f":null,"who":null,"tags":[]}"#,
            r#"{"day":"2024-02-29","id":3,"not_there":null,"name":"ç","kind":"x","price":null,"at":"2024-02-29 12:00:00.123","small":null,"f":-1.25,"who":{"name":"Bob","x":null},"tags":null}"#,
        ];
        for skip in 0..=3 {
            assert_eq!(read(FOREIGN, &schema, skip).unwrap(), expected[skip as usize..], "{skip}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_field() {
        use TypeKind::*;
        let check = |bytes: &[u8], schema: &Schema, expected: &str| {
            let error = read(bytes, schema, 0).expect_err(expected).to_string();
            assert!(error.contains(expected), "expected: {expected}\ngot: {error}");
        };
        let of = |columns: &[(&str, TypeKind)], expected: &str| check(FOREIGN, &schema(columns), expected);
        of(&[("id", TypeKind::STRING)], "field 'id' is of type UInt16, which can't be read as STRING");
        of(&[("unused", Int)], "field 'unused' is of type Int64");
        of(&[("price", Decimal(10, 3))], "field 'price' is of type Decimal128(7, 2)");
        of(&[("tags", Array(Box::new(Int.nullable())))], "field 'tags[]' is of type");
        of(&[("who", Row(vec![Field::new("age", Boolean.nullable())]))], "field 'who.age' is of type Int32");
        let null = Schema::new(vec![Field::new("name", TypeKind::STRING.not_null())]);
        check(FOREIGN, &null, "field 'name' is null, but the column is NOT NULL");
        let missing = Schema::new(vec![Field::new("nowhere", Int.not_null())]);
        check(FOREIGN, &missing, "there is no field 'nowhere', and the column is NOT NULL");
        let id = schema(&[("id", Int)]);
        check(b"", &id, "the Parquet file can't be read");
        check(&FOREIGN[..FOREIGN.len() - 9], &id, "the Parquet file can't be read");
        check(b"{\"id\": 1}\n{\"id\": 2}\n", &id, "the Parquet file can't be read");
    }
}
