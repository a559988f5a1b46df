//! Columns of a database's table: how SQL gives their values as text, and what that text is here.

use crate::formats::column::Column;
use crate::formats::temporal::TimestampStandard;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::DataType as ArrowType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{DataType, Error, Field, Result, Schema, TypeKind};
use tokio_postgres::Row;

/// What the database calls a column: plain names regardless of case, as in Flink, which doesn't quote them; what is in
/// quotes as it stands.
pub(super) fn column_name(name: &str) -> String {
    let is_plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (is_plain, name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))) {
        (true, _) => name.to_ascii_lowercase(),
        (false, Some(quoted)) => quoted.replace("\"\"", "\""),
        (false, None) => name.to_string(),
    }
}

/// That name as SQL has it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", column_name(name).replace('"', "\"\""))
}

/// Whether a column of this type can be read.
pub(super) fn check(field: &Field) -> Result<()> {
    value(field).map(|_| ())
}

/// SQL for the value of a column of the table `t` as text.
pub(super) fn value(field: &Field) -> Result<String> {
    let column = format!("t.{}", identifier(&field.name));
    Ok(match &field.data_type.kind {
        TypeKind::Boolean
        | TypeKind::TinyInt
        | TypeKind::SmallInt
        | TypeKind::Int
        | TypeKind::BigInt
        | TypeKind::Float
        | TypeKind::Double
        | TypeKind::Decimal(..)
        | TypeKind::Time(_) => format!("{column}::text"),
        TypeKind::Date => format!("{column}::date::text"),
        TypeKind::Timestamp(_) => format!("{column}::timestamp::text"),
        TypeKind::TimestampLtz(_) => {
            format!("to_char({column}::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'")
        }
        // The cast of a CHAR to text would drop the blanks at its end.
        TypeKind::Char(_) | TypeKind::VarChar(_) => format!("CASE WHEN {column} IS NOT NULL THEN concat({column}) END"),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => format!("translate(encode({column}, 'base64'), E'\\n', '')"),
        _ => {
            let what = format!("column '{}' of type {} in a table of connector 'jdbc'", field.name, field.data_type);
            return Err(Error::unsupported(what));
        }
    })
}

/// SQL for what the text `text` is as a value to compare a column of the type with.
pub(super) fn key(text: &str, data_type: &DataType) -> Result<String> {
    let cast = match &data_type.kind {
        TypeKind::Boolean => "boolean",
        TypeKind::TinyInt | TypeKind::SmallInt => "smallint",
        TypeKind::Int => "integer",
        TypeKind::BigInt => "bigint",
        TypeKind::Decimal(..) => "numeric",
        TypeKind::Date => "date",
        TypeKind::Time(_) => "time",
        TypeKind::Timestamp(_) => "timestamp",
        TypeKind::TimestampLtz(_) => "timestamptz",
        TypeKind::Char(_) => "bpchar",
        TypeKind::VarChar(_) => "text",
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => return Ok(format!("decode({text}, 'hex')")),
        _ => {
            return Err(Error::unsupported(format!(
                "looking up a value of type {data_type} in a table of connector 'jdbc'"
            )));
        }
    };
    Ok(format!("{text}::{cast}"))
}

/// The values of a column as text. A text that no column of a database can hold, as it has a NUL, is none.
pub(super) fn texts(values: &ArrayRef) -> Result<Vec<Option<String>>> {
    // Instants are shown as UTC has them.
    let (values, zone) = match values.data_type() {
        ArrowType::Timestamp(unit, Some(_)) => {
            let data = values.to_data().into_builder().data_type(ArrowType::Timestamp(*unit, None)).build()?;
            (make_array(data), "Z")
        }
        _ => (values.clone(), ""),
    };
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(values.as_ref(), &options)?;
    let text = |row| {
        let text = format!("{}{zone}", formatter.value(row).try_to_string()?);
        Ok((values.is_valid(row) && !text.contains('\0')).then_some(text))
    };
    (0..values.len()).map(text).collect()
}

/// Rows of a database under construction.
pub(super) struct Rows {
    schema: Schema,
    columns: Vec<Column>,
    /// How many there are.
    pub count: usize,
}

impl Rows {
    pub(super) fn new(schema: &Schema) -> Result<Rows> {
        Ok(Rows { schema: schema.clone(), columns: Column::of_fields(&schema.fields)?, count: 0 })
    }

    /// Adds a row whose columns from `first` on are the values as text.
    pub(super) fn push(&mut self, row: &Row, first: usize) -> Result<()> {
        for (number, column) in self.columns.iter_mut().enumerate() {
            let text: Option<&str> = row.try_get(first + number).map_err(|e| Error::data(e.to_string()))?;
            match text {
                Some(text) => column
                    .write_text(self.count, text.as_bytes(), TimestampStandard::Sql)
                    .map_err(|reason| Error::data(format!("column '{}' of the database: {reason}", column.name)))?,
                None if !column.data_type.nullable => {
                    let message = format!("column '{}' is NOT NULL, but NULL in the database", column.name);
                    return Err(Error::data(message).hint("declare the column without NOT NULL"));
                }
                None => {}
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The rows, which it no longer has then.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let count = std::mem::take(&mut self.count);
        let columns = self.columns.iter_mut().map(|column| column.finish(count)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(self.schema.arrow().clone(), columns, &options)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_those_of_any_case_and_others_are_taken_as_they_stand() {
        for (name, expected) in [
            ("userId", "\"userid\""),
            ("order", "\"order\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("\"Id\"", "\"Id\""),
        ] {
            assert_eq!(identifier(name), expected);
        }
    }

    #[test]
    fn types_that_no_column_has_are_refused() {
        let nested = TypeKind::Array(Box::new(TypeKind::Int.nullable())).nullable();
        let error = check(&Field::new("a", nested)).expect_err("an array").to_string();
        assert!(error.contains("column 'a' of type ARRAY<INT>"), "{error}");
    }
}
