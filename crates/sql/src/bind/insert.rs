//! Binding INSERT: the query's columns put in the sink's order and cast to the sink's types.

use super::build;
use super::place::{Placed, at_ident, at_name, error, unsupported, with_nearest};
use super::query::QueryBinder;
use crate::catalog::{Relation, Table};
use crate::parser::ast::Insert;
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::connector::{Connector, TableDef, WriteMode};
use millstream_core::sink::Sink;
use millstream_core::{DataType, Error, ExprRef, Field, Result, TypeKind};
use millstream_expr::build as exprs;
use sqlparser::ast::Ident;
use std::sync::Arc;

/// An INSERT, bound.
pub struct BoundInsert {
    /// The sink's table.
    pub table: Arc<Table>,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// The rows, of the table's physical columns, then of the metadata columns that are written.
    pub rel: RelRef,
    /// NOT NULL columns whose values may be NULL; a NULL fails the job.
    pub enforced: Vec<usize>,
}

impl QueryBinder<'_> {
    /// Binds an INSERT.
    pub fn insert(&mut self, insert: &Insert) -> Result<BoundInsert> {
        let at = at_name(&insert.table);
        let table = match self.catalog.find(&insert.table)? {
            Relation::Table(table) => table,
            Relation::View(view) => return error(at, format!("'{}' is a view; only tables take rows", view.name)),
        };
        let mut hints = vec![];
        for hint in &insert.hints {
            if hint.name != "OPTIONS" {
                return unsupported((hint.line, hint.column), format!("the hint {}", hint.name));
            }
            hints.extend(hint.options.iter().cloned());
        }
        let (connector, definition) = self.definition_to_write(&table, &hints)?;
        // As they are declared; the sink takes metadata in types of its own.
        let metadata = table.written_metadata.iter().map(|(field, _)| field);
        let declared: Vec<&Field> = table.physical.fields.iter().chain(metadata).collect();
        let index_of = |ident: &Ident| {
            declared.iter().position(|f| f.name == ident.value).ok_or_else(|| {
                let error = match table.columns.iter().any(|column| column.name == ident.value) {
                    true => Error::script(format!("column '{}' can't be written", ident.value))
                        .detail("it is computed, or a VIRTUAL column of metadata"),
                    false => {
                        let error = Error::script(format!("table '{}' has no column '{}'", table.name, ident.value));
                        with_nearest(error, &ident.value, declared.iter().map(|f| f.name.as_str()))
                    }
                };
                error.at_place(at_ident(ident))
            })
        };
        let mut fixed: Vec<Option<ExprRef>> = vec![None; declared.len()];
        for (column, value) in &insert.partition {
            let index = index_of(column)?;
            if !table.partitioned_by.contains(&column.value) {
                return error(
                    at_ident(column),
                    format!("table '{}' isn't partitioned by '{}'", table.name, column.value),
                );
            }
            if let Some(value) = value {
                let scope = super::expr::Scope::default();
                let bound = super::expr::ExprBinder::new(&scope, self.zone()).bind(value)?;
                let target = declared[index].data_type.clone();
                fixed[index] = Some(exprs::fold(exprs::cast(bound, target, false, &self.zone())?)?);
            }
        }
        let source = self.query(&insert.source)?;
        let mut targets = vec![];
        if insert.columns.is_empty() {
            targets.extend(table.insert_order.iter().copied().filter(|i| fixed[*i].is_none()));
        }
        for column in &insert.columns {
            let index = index_of(column)?;
            if targets.contains(&index) {
                return error(at_ident(column), format!("column '{}' is listed twice", column.value));
            }
            targets.push(index);
        }
        let sink_columns: Vec<&Field> = targets.iter().map(|i| declared[*i]).collect();
        let mismatch = |cause: String| {
            let show = |names: Vec<String>| format!("[{}]", names.join(", "));
            let query = source.columns.iter().map(|c| format!("{}: {}", c.name, c.data_type)).collect();
            let sink = sink_columns.iter().map(|f| format!("{}: {}", f.name, f.data_type)).collect();
            Error::script(format!("column types of query result and sink for '{}' do not match", table.name))
                .detail(format!("cause: {cause}"))
                .detail(format!("query schema: {}", show(query)))
                .detail(format!("sink schema:  {}", show(sink)))
                .at_place(at)
        };
        if source.columns.len() != targets.len() {
            return Err(mismatch("different number of columns".into()).hint(format!(
                "the query gives {} columns, the sink takes {}",
                source.columns.len(),
                targets.len()
            )));
        }
        let mut project: Vec<Option<ExprRef>> = fixed;
        for (place, (index, from)) in targets.iter().zip(&source.columns).enumerate() {
            let target = declared[*index];
            if !casts_implicitly(&from.data_type.kind, &target.data_type.kind) {
                let cause = format!("incompatible types for sink column '{}' at position {place}", target.name);
                let hint = format!("write CAST({} AS {})", from.name, target.data_type.kind);
                return Err(mismatch(cause).hint(hint));
            }
            let column = build::column(place, from);
            project[*index] = Some(match from.data_type.kind == target.data_type.kind {
                true => column,
                false => {
                    let to = target.data_type.clone().with_nullable(from.data_type.nullable);
                    exprs::cast(column, to, false, &self.zone())?
                }
            });
        }
        let mut columns = vec![];
        let mut exprs_out = vec![];
        let mut enforced = vec![];
        for (index, (field, taken)) in declared.iter().zip(&definition.schema.fields).enumerate() {
            let mut expr = project[index].take().unwrap_or_else(|| build::null(field.data_type.kind.clone()));
            if field.data_type.kind != taken.data_type.kind {
                let to = taken.data_type.clone().with_nullable(expr.data_type().nullable);
                let of_column = |e: Error| e.context(format!("write the metadata column '{}'", field.name));
                expr = exprs::cast(expr, to, false, &self.zone()).map_err(of_column).at_place(at)?;
            }
            if !field.data_type.nullable && expr.data_type().nullable {
                enforced.push(index);
            }
            columns.push(Column::plain(&field.name, expr.data_type().clone()));
            exprs_out.push(expr);
        }
        let rel = Rel::new(RelOp::Calc { input: source, filter: None, project: exprs_out }, columns);
        let mode = if insert.overwrite { WriteMode::Overwrite } else { WriteMode::Append };
        let sink =
            connector.sink(&definition, mode, self.session).map_err(|e| table.place_of_option(e)).at_place(at)?;
        Ok(BoundInsert { table, sink, rel, enforced })
    }

    /// What writes a table without a query of the script's.
    pub fn sink(&self, table: &Table) -> Result<Arc<dyn Sink>> {
        let (connector, definition) = self.definition_to_write(table, &[])?;
        connector.sink(&definition, WriteMode::Append, self.session).map_err(|e| table.place_of_option(e))
    }

    /// The table's connector, and what it is told when the table is written.
    fn definition_to_write(&self, table: &Table, hints: &[(String, String)]) -> Result<(Arc<dyn Connector>, TableDef)> {
        let mut definition = table.definition(hints);
        let name = definition.options.get("connector").map_or("", String::as_str);
        let connector = self.registry.connector(name).at_place(table.at)?;
        let writable = connector.writable_metadata(&definition);
        table.add_metadata(&mut definition, &writable)?;
        Ok((connector, definition))
    }
}

/// Whether a value may be put into a column of another type without CAST (Flink's `LogicalTypeCasts`).
pub fn casts_implicitly(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    let width = |kind: &TypeKind| match kind {
        TinyInt => Some(1),
        SmallInt => Some(2),
        Int => Some(3),
        BigInt => Some(4),
        _ => None,
    };
    let inner = |a: &DataType, b: &DataType| casts_implicitly(&a.kind, &b.kind);
    match (from, to) {
        (a, b) if a == b => true,
        (Null, _) => true,
        (Char(_) | VarChar(_), VarChar(_)) | (Char(_), Char(_)) => true,
        (Binary(_) | VarBinary(_), VarBinary(_)) | (Binary(_), Binary(_)) => true,
        (a, Decimal(..) | Double) => a.is_numeric(),
        (a, Float) => a.is_integer() || matches!(a, Decimal(..)),
        (Timestamp(_), Date | Time(_)) | (Time(_), Time(_)) => true,
        (Timestamp(_) | TimestampLtz(_), Timestamp(_) | TimestampLtz(_)) => true,
        (Array(a), Array(b)) | (Multiset(a), Multiset(b)) => inner(a, b),
        (Map(ka, va), Map(kb, vb)) => inner(ka, kb) && inner(va, vb),
        (Row(a), Row(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| inner(&a.data_type, &b.data_type)),
        (a, b) => match (width(a), width(b)) {
            (Some(a), Some(b)) => a <= b,
            _ => false,
        },
    }
}
