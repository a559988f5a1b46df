//! A table that rows are looked up in, in a test: the rows of a file, the same at all times.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::row::{OwnedRow, RowConverter, SortField};
use millstream_core::error::{Error, Result};
use millstream_core::lookup::{Answer, Found, Lookup, LookupSource, PartialCache};
use millstream_core::{Batch, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// The table.
#[derive(Debug)]
pub struct FileTable {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: Schema,
    /// Its rows.
    pub rows: Batch,
}

impl FileTable {
    fn column(&self, name: &str) -> Result<ArrayRef> {
        let place = self.schema.index_of(name);
        let place = place.ok_or_else(|| Error::internal(format!("no column '{name}' to look up")))?;
        Ok(self.rows.column(place).clone())
    }
}

impl LookupSource for FileTable {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn describe(&self) -> String {
        format!("the rows of a test for {}", self.name)
    }
    fn cache(&self) -> Option<PartialCache> {
        None
    }
    fn max_retries(&self) -> u32 {
        0
    }
    fn open(&self, keys: &[String], columns: &Schema) -> Result<Arc<dyn Lookup>> {
        let keys = keys.iter().map(|key| self.column(key)).collect::<Result<Vec<_>>>()?;
        let of_fields = columns.fields.iter().map(|field| self.column(&field.name)).collect::<Result<Vec<_>>>()?;
        let rows = Batch::from_columns(columns.arrow().clone(), of_fields, self.rows.num_rows())?.rows;
        let types = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = RowConverter::new(types)?;
        let mut places: HashMap<OwnedRow, Vec<u32>> = HashMap::new();
        // A NULL equals nothing that is looked up, since no such key is asked for.
        for (place, key) in (0u32..).zip(converter.convert_columns(&keys)?.iter()) {
            places.entry(key.owned()).or_default().push(place);
        }
        Ok(Arc::new(Index { converter, places, rows }))
    }
}

/// The rows by their keys, in the order of the file.
struct Index {
    converter: RowConverter,
    places: HashMap<OwnedRow, Vec<u32>>,
    rows: RecordBatch,
}

impl Index {
    fn answer(&self, keys: &RecordBatch) -> Result<Found> {
        let (mut counts, mut places) = (vec![], vec![]);
        for key in self.converter.convert_columns(keys.columns())?.iter() {
            let found = self.places.get(&key.owned()).map_or(&[][..], Vec::as_slice);
            counts.push(found.len() as u32);
            places.extend_from_slice(found);
        }
        let count = places.len();
        let places = UInt32Array::from(places);
        let columns = self.rows.columns().iter().map(|c| Ok(take(c, &places, None)?)).collect::<Result<Vec<_>>>()?;
        Ok(Found { rows: Batch::from_columns(self.rows.schema(), columns, count)?.rows, counts })
    }
}

impl Lookup for Index {
    fn find(self: Arc<Self>, keys: RecordBatch) -> Answer {
        Answer::Now(self.answer(&keys))
    }
}
