//! Which columns of a table are in a message's key, which in its value, and by which names.

use super::Flavor;
use millstream_core::connector::TableDef;
use millstream_core::options::Options;
use millstream_core::suggest::did_you_mean;
use millstream_core::{Error, Field, Result};

/// The columns of keys and values; of the physical columns only, those of metadata are in neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordColumns {
    /// Those in the key, in the order of the key's own fields; by their place in the table's schema.
    pub key: Vec<usize>,
    /// Those in the value, in the table's order; by their place in the table's schema.
    pub value: Vec<usize>,
    /// What the names of the key's columns have before those of the key's own fields.
    pub key_prefix: String,
}

impl RecordColumns {
    /// Reads `key.fields`, `key.fields-prefix` and `value.fields-include`; whether there is a format for the key, too.
    pub fn of_table(flavor: Flavor, table: &TableDef, options: &Options) -> Result<RecordColumns> {
        let physical = |name: &str| {
            let is_physical = |f: &Field| f.name == name && !table.metadata.contains_key(name);
            table.schema.fields.iter().position(is_physical)
        };
        let prefix = options.string("key.fields-prefix").unwrap_or_default();
        let key = match flavor {
            Flavor::Kafka => key_fields(options, table, &physical)?,
            Flavor::UpsertKafka => {
                if table.primary_key.is_empty() {
                    return Err(Error::script(format!(
                        "table '{}' of connector 'upsert-kafka' has no primary key",
                        table.name
                    ))
                    .hint("declare PRIMARY KEY (...) NOT ENFORCED: its columns are the key of the messages"));
                }
                let missing = |name: &String| Error::internal(format!("column '{name}' of the primary key is missing"));
                table
                    .primary_key
                    .iter()
                    .map(|name| physical(name).ok_or_else(|| missing(name)))
                    .collect::<Result<_>>()?
            }
        };
        for column in &key {
            let name = &table.schema.fields[*column].name;
            if name.strip_prefix(prefix).is_none_or(str::is_empty) {
                return Err(options
                    .error(
                        "key.fields-prefix",
                        format!("column '{name}' is one of the key, but doesn't begin with '{prefix}'"),
                    )
                    .hint(format!("call it '{prefix}{name}'")));
            }
        }
        let includes_all =
            options.choice("value.fields-include", &[("ALL", true), ("EXCEPT_KEY", false)])?.unwrap_or(true);
        if includes_all && !prefix.is_empty() {
            return Err(options
                .error("key.fields-prefix", "a prefix is for columns that the value doesn't have, too")
                .hint("add 'value.fields-include' = 'EXCEPT_KEY'"));
        }
        let is_of_value = |column: &usize| {
            let name = &table.schema.fields[*column].name;
            !table.metadata.contains_key(name) && (includes_all || !key.contains(column))
        };
        let value = (0..table.schema.fields.len()).filter(is_of_value).collect();
        Ok(RecordColumns { key, value, key_prefix: prefix.to_string() })
    }

    /// The fields of a key, by their names within it.
    pub fn key_fields(&self, table: &TableDef) -> Vec<Field> {
        let own = |column: &usize| {
            let field = &table.schema.fields[*column];
            let name = field.name.strip_prefix(self.key_prefix.as_str()).unwrap_or(&field.name);
            Field { name: name.to_string(), ..field.clone() }
        };
        self.key.iter().map(own).collect()
    }

    /// The fields of a value.
    pub fn value_fields(&self, table: &TableDef) -> Vec<Field> {
        self.value.iter().map(|column| table.schema.fields[*column].clone()).collect()
    }
}

/// The columns that `key.fields` names.
fn key_fields(options: &Options, table: &TableDef, physical: &dyn Fn(&str) -> Option<usize>) -> Result<Vec<usize>> {
    let format = options.string("key.format");
    let names = match (options.string("key.fields"), format) {
        (None, None) => return Ok(Vec::new()),
        (Some(_), None) => {
            return Err(options.error("key.fields", "'key.fields' needs 'key.format'"));
        }
        (None, Some(_)) => {
            return Err(options.error("key.format", "'key.format' needs 'key.fields'").hint("name the key's columns"));
        }
        (Some(names), Some(_)) => names,
    };
    let mut key = Vec::new();
    for name in names.split(';').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(column) = physical(name) else {
            let error =
                options.error("key.fields", format!("'{name}' is no physical column of table '{}'", table.name));
            let physical =
                table.schema.fields.iter().map(|f| f.name.as_str()).filter(|n| !table.metadata.contains_key(*n));
            return Err(match did_you_mean(name, physical) {
                Some(hint) => error.hint(hint),
                None => error,
            });
        };
        if key.contains(&column) {
            return Err(options.error("key.fields", format!("column '{name}' is there twice")));
        }
        key.push(column);
    }
    if key.is_empty() {
        return Err(options.error("key.fields", "'key.fields' names no column"));
    }
    Ok(key)
}
