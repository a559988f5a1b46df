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

/// The table's metadata columns that are about files, by name; all others must be of the format, which knows `in_format`.
pub(super) fn of_table(
    table: &TableDef,
    in_format: &[(&'static str, TypeKind)],
) -> Result<BTreeMap<String, FileMetadata>> {
    let mut found = BTreeMap::new();
    let all: Vec<(&str, Option<FileMetadata>, TypeKind)> = KEYS
        .into_iter()
        .map(|(key, metadata, kind)| (key, Some(metadata), kind))
        .chain(in_format.iter().map(|(key, kind)| (*key, None, kind.clone())))
        .collect();
    for (column, key) in &table.metadata {
        let place = Place::Named(format!("table '{}', column '{column}'", table.name));
        let Some((_, metadata, kind)) = all.iter().find(|k| k.0 == key) else {
            let known: Vec<&str> = all.iter().map(|k| k.0).collect();
            let error = Error::script(format!("there is no metadata '{key}'"))
                .at(place)
                .detail(format!("known metadata: {}", known.join(", ")));
            return Err(match did_you_mean(key, known) {
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
        if let Some(metadata) = metadata {
            found.insert(column.clone(), *metadata);
        }
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
