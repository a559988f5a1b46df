//! The columns of a table that `CREATE TABLE .. AS` makes: those that are declared and those of the query.

use super::insert::casts_implicitly;
use super::place::{Placed, at_ident, at_name, error, with_nearest};
use crate::parser::ast::{self, ColumnKind, CreateTable, Insert};
use crate::rel::Column;
use millstream_core::{Error, Result};
use sqlparser::ast::Ident;

/// The statement as a plain `CREATE TABLE` and an `INSERT` of the query, whose columns are `query`.
///
/// As in Flink, declared columns of other names come before those of the query; one of the same name gives it another type, to
/// which it must cast implicitly; plain names set the order of the query's columns.
///
/// # Errors
/// Columns that don't fit those of the query.
pub fn split(create: &CreateTable, query: &[Column]) -> Result<(CreateTable, Insert)> {
    let Some(source) = create.query.clone() else { return Err(Error::internal("CREATE TABLE without a query")) };
    let mut create = CreateTable { query: None, ..create.clone() };
    let mut columns: Vec<ast::Column> = query.iter().map(physical).collect();
    for declared in std::mem::take(&mut create.elements.columns).into_iter().rev() {
        let same = columns
            .iter_mut()
            .zip(query)
            .find(|(column, from)| column.name.value == from.name && column.name.value == declared.name.value);
        let Some((column, from)) = same else {
            columns.insert(0, declared);
            continue;
        };
        let (at, name) = (at_ident(&declared.name), &declared.name.value);
        match &declared.kind {
            ColumnKind::Physical(to) if casts_implicitly(&from.data_type.kind, &to.kind) => *column = declared,
            ColumnKind::Physical(to) => {
                let message =
                    format!("column '{name}' is {} in the query and can't be {to} in the table", from.data_type);
                return Err(Error::script(message).hint("CAST it in the query").at_place(at));
            }
            _ => {
                let message = format!("column '{name}' is one of the query's");
                return Err(Error::script(message)
                    .hint("a computed or metadata column has a name of its own")
                    .at_place(at));
            }
        }
    }
    create.elements.columns = columns;
    order(&mut create, query)?;
    let columns = query.iter().map(|column| Ident::new(&column.name)).collect();
    let (table, hints, partition) = (create.name.clone(), vec![], vec![]);
    Ok((create, Insert { table, hints, overwrite: false, partition, columns, source }))
}

fn physical(column: &Column) -> ast::Column {
    let (name, kind) = (Ident::new(&column.name), ColumnKind::Physical(column.data_type.clone()));
    ast::Column { name, kind, comment: None, position: None }
}

/// Puts the columns into the order of the names that are declared without types.
fn order(create: &mut CreateTable, query: &[Column]) -> Result<()> {
    let names = std::mem::take(&mut create.elements.names);
    if names.is_empty() {
        return Ok(());
    }
    if names.len() != query.len() {
        let message = format!("{} column names for {} columns of the query", names.len(), query.len());
        return error(at_name(&create.name), message);
    }
    let place = |name: &Ident| {
        query.iter().position(|column| column.name == name.value).ok_or_else(|| {
            let error = Error::script(format!("the query has no column '{}'", name.value));
            with_nearest(error, &name.value, query.iter().map(|c| c.name.as_str())).at_place(at_ident(name))
        })
    };
    let places = names.iter().map(place).collect::<Result<Vec<_>>>()?;
    create.elements.columns = places.iter().map(|place| physical(&query[*place])).collect();
    Ok(())
}
