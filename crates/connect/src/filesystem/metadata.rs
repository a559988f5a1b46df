//! Metadata columns of files: `file.path`, `file.name`, `file.size`, `file.modification-time`.

use super::input::InputFile;
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use millstream_core::connector::TableDef;
use millstream_core::suggest::did_you_mean;
use millstream_core::{Error, Place, Result, TypeKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of the file that a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileMetadata {
    Path,
    Name,
    Size,
    ModificationTime,
}

/// The keys there are, what they stand for, and their types.
const KEYS: [(&str, FileMetadata, TypeKind); 4] = [
    ("file.path", FileMetadata::Path, TypeKind::STRING),
    ("file.name", FileMetadata::Name, TypeKind::STRING),
    ("file.size", FileMetadata::Size, TypeKind::BigInt),
    ("file.modification-time", FileMetadata::ModificationTime, TypeKind::TimestampLtz(3)),
];

/// The table's metadata columns, by name.
pub(super) fn of_table(table: &TableDef) -> Result<BTreeMap<String, FileMetadata>> {
    let mut found = BTreeMap::new();
    for (column, key) in &table.metadata {
        let place = Place::Named(format!("table '{}', column '{column}'", table.name));
        let Some((_, metadata, kind)) = KEYS.iter().find(|k| k.0 == key) else {
            let error = Error::script(format!("there is no metadata '{key}'"))
                .at(place)
                .detail(format!("known metadata: {}", KEYS.map(|k| k.0).join(", ")));
            return Err(match did_you_mean(key, KEYS.map(|k| k.0)) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        };
        let declared = table.schema.fields.iter().find(|f| f.name == *column).map(|f| &f.data_type);
        if let Some(declared) = declared
            && declared.kind != *kind
        {
            return Err(Error::script(format!("the metadata '{key}' is of type {kind}, not {declared}"))
                .at(place)
                .hint(format!("declare the column as {kind}")));
        }
        found.insert(column.clone(), *metadata);
    }
    Ok(found)
}

impl FileMetadata {
    /// The column of `rows` rows of a file.
    pub fn column(self, file: &InputFile, rows: usize) -> ArrayRef {
        let text = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) as ArrayRef;
        match self {
            FileMetadata::Path => text(&file.path),
            FileMetadata::Name => text(file.path.rsplit('/').next().unwrap_or_default()),
            FileMetadata::Size => Arc::new(Int64Array::from_value(i64::try_from(file.size).unwrap_or(i64::MAX), rows)),
            FileMetadata::ModificationTime => {
                Arc::new(TimestampMillisecondArray::from_value(file.modified_ms, rows).with_timezone("UTC"))
            }
        }
    }
}
