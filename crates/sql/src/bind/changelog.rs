//! Binding TO_CHANGELOG and FROM_CHANGELOG, which make rows of changes and changes of rows.
//!
//! Flink documentation: sql/reference/queries/changelog. Their output is the columns of PARTITION BY, the code (of
//! TO_CHANGELOG), and the other columns.

use super::build;
use super::expr::{ExprBinder, Scope};
use super::place::{At, Placed, at_expr, at_name, error, parts, with_nearest};
use super::query::QueryBinder;
use super::window::ordered;
use crate::parser::decode;
use crate::plan::keys::unique_keys;
use crate::rel::{Column, Rel, RelOp, RelRef, Role};
use arrow::array::{Array, AsArray};
use millstream_core::graph::{FromChangelog, ToChangelog};
use millstream_core::{Error, Result, RowKind, TypeKind};
use sqlparser::ast::{Expr, FunctionArg, ObjectName};

/// What the kinds of rows are called.
const KINDS: [(&str, RowKind); 4] = [
    ("INSERT", RowKind::Insert),
    ("UPDATE_BEFORE", RowKind::UpdateBefore),
    ("UPDATE_AFTER", RowKind::UpdateAfter),
    ("DELETE", RowKind::Delete),
];

/// Whether it is the name of one of the two.
pub fn is_changelog_function(name: &ObjectName) -> bool {
    matches!(parts(name)[..], [name] if ["TO_CHANGELOG", "FROM_CHANGELOG"].contains(&name.to_uppercase().as_str()))
}

fn kind(name: &str, at: At) -> Result<RowKind> {
    let known = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    known.ok_or_else(|| {
        let names = KINDS.map(|(name, _)| name);
        let error =
            Error::script(format!("'{name}' is no kind of change")).detail(format!("kinds: {}", names.join(", ")));
        with_nearest(error.at_place(at), name, names.into_iter())
    })
}

impl QueryBinder<'_> {
    /// Binds the call of a changelog function.
    pub(super) fn bind_changelog_function(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Result<RelRef> {
        let at = at_name(name);
        let what = name.to_string().to_uppercase();
        let args = ordered(args, &what, &["INPUT", "OP", "OP_MAPPING"], 1, at)?;
        let [Some(table), op, mapping] = args[..] else { return Err(Error::internal("arguments are checked")) };
        let (input, alias, partition) = self.bind_table_argument(table, &what)?;
        let scope = Scope::of(alias.as_deref(), &input.columns);
        let mut keys = vec![];
        for key in &partition {
            match ExprBinder::new(&scope, self.zone()).bind(key)?.as_column() {
                Some(index) => keys.push(index),
                None => return error(at_expr(key), "PARTITION BY takes columns only"),
            }
        }
        let (op, op_at) = match op {
            None => ("op".to_string(), at),
            Some(expr) => match decode::descriptor(expr).as_deref() {
                Some([column]) => (column.value.clone(), at_expr(expr)),
                _ => {
                    let error = Error::script(format!("{what}'s argument op must be a descriptor of one column"));
                    return Err(error.hint("write op => DESCRIPTOR(op)").at_place(at_expr(expr)));
                }
            },
        };
        let mapping = mapping.map(|expr| -> Result<_> { Ok((self.pairs(expr, &what)?, at_expr(expr))) }).transpose()?;
        match what.as_str() {
            "TO_CHANGELOG" => to_changelog(input, &keys, op, op_at, mapping),
            _ => from_changelog(input, &keys, &op, op_at, mapping),
        }
    }

    /// The texts of a MAP that is a constant; what stands before a comma is a key of its own.
    fn pairs(&self, expr: &Expr, what: &str) -> Result<Vec<(String, String)>> {
        let scope = Scope::of(None, &[]);
        let bound = ExprBinder::new(&scope, self.zone()).bind(expr)?;
        let wrong = || {
            Error::script(format!("{what}'s argument op_mapping must be a MAP of texts, and a constant"))
                .hint("write op_mapping => MAP['INSERT', 'I', 'DELETE', 'D']")
                .at_place(at_expr(expr))
        };
        let literal = bound.as_literal().and_then(|value| value.as_map_opt()).filter(|map| !map.is_null(0));
        let entries = literal.ok_or_else(wrong)?.value(0);
        let texts = |column: usize| entries.column(column).as_string_opt::<i32>();
        let (Some(keys), Some(values)) = (texts(0), texts(1)) else { return Err(wrong()) };
        let mut pairs = vec![];
        for (key, value) in keys.iter().zip(values) {
            let (Some(key), Some(value)) = (key, value) else { return Err(wrong()) };
            pairs.extend(key.split(',').map(|key| (key.trim().to_string(), value.trim().to_string())));
        }
        Ok(pairs)
    }
}

/// What a mapping says, and where it stands.
type Mapping = Option<(Vec<(String, String)>, At)>;

fn to_changelog(input: RelRef, keys: &[usize], op: String, at: At, mapping: Mapping) -> Result<RelRef> {
    if input.columns.iter().any(|column| column.name == op) {
        let error =
            Error::script(format!("there is a column '{op}' already, which the operation code would be called"));
        return Err(error.hint("op => DESCRIPTOR(name) gives it another name").at_place(at));
    }
    let mut codes: [Option<String>; 4] = Default::default();
    match mapping {
        None => KINDS.iter().for_each(|(name, kind)| codes[*kind as usize] = Some(name.to_string())),
        Some((pairs, at)) => {
            for (name, code) in pairs {
                let slot = &mut codes[kind(&name, at)? as usize];
                if slot.is_some() {
                    return error(at, format!("op_mapping has {name} twice"));
                }
                *slot = Some(code);
            }
        }
    }
    // Where the partition tells rows apart, a new version says by itself which row it is one of.
    let is_keyed = !keys.is_empty() && unique_keys(&input).iter().any(|key| key.iter().all(|i| keys.contains(i)));
    let update_before = codes[RowKind::UpdateBefore as usize].is_some() && !is_keyed;
    let mut columns: Vec<Column> =
        input.columns.iter().map(|column| Column { role: Role::Plain, ..column.clone() }).collect();
    columns.push(Column::plain(op, TypeKind::STRING.nullable()));
    let last = columns.len() - 1;
    let rel = Rel::new(RelOp::ToChangelog { input, changes: ToChangelog { codes, update_before } }, columns);
    let first = keys.iter().copied().chain([last]);
    let order: Vec<usize> = first.chain((0..last).filter(|i| !keys.contains(i))).collect();
    Ok(reordered(rel, &order))
}

fn from_changelog(input: RelRef, keys: &[usize], op: &str, at: At, mapping: Mapping) -> Result<RelRef> {
    let Some(column) = input.columns.iter().position(|column| column.name == op) else {
        let error = Error::script(format!("the table has no column '{op}', which has the operation codes"));
        let error = error.hint("op => DESCRIPTOR(name) says which column has them").at_place(at);
        return Err(with_nearest(error, op, input.columns.iter().map(|column| column.name.as_str())));
    };
    let data_type = &input.columns[column].data_type;
    if !data_type.kind.is_character() {
        return error(at, format!("operation codes are text, but the column '{op}' is of type {data_type}"));
    }
    if keys.contains(&column) {
        return error(at, format!("the column '{op}' can't be one of PARTITION BY, too"));
    }
    let (kinds, mapping_at) = match mapping {
        None => (KINDS.map(|(name, kind)| (name.to_string(), kind)).to_vec(), at),
        Some((pairs, at)) => {
            let mut kinds: Vec<(String, RowKind)> = vec![];
            for (code, name) in pairs {
                if kinds.iter().any(|(known, _)| *known == code) {
                    return error(at, format!("op_mapping has the code '{code}' twice"));
                }
                kinds.push((code, kind(&name, at)?));
            }
            (kinds, at)
        }
    };
    let changes = FromChangelog { column, kinds };
    let mode = changes.changelog();
    let is_upsert = mode.update && !mode.update_before;
    if is_upsert && keys.is_empty() {
        return Err(Error::script(
            "op_mapping has UPDATE_AFTER without UPDATE_BEFORE, and nothing says which row is updated",
        )
        .hint("write input => TABLE t PARTITION BY the columns that tell rows apart")
        .at_place(mapping_at));
    }
    let mut columns: Vec<Column> =
        input.columns.iter().map(|column| Column { role: Role::Plain, ..column.clone() }).collect();
    columns.remove(column);
    let width = columns.len();
    let keys: Vec<usize> = keys.iter().map(|key| key - usize::from(*key > column)).collect();
    let mut rel = Rel::new(RelOp::FromChangelog { input, changes }, columns.clone());
    if is_upsert {
        rel = Rel::new(RelOp::Normalize { input: rel, keys: keys.clone() }, columns);
    }
    let order: Vec<usize> = keys.iter().copied().chain((0..width).filter(|i| !keys.contains(i))).collect();
    Ok(reordered(rel, &order))
}

/// The columns in another order.
fn reordered(rel: RelRef, order: &[usize]) -> RelRef {
    let columns: Vec<Column> = order.iter().map(|i| rel.columns[*i].clone()).collect();
    let project = order.iter().map(|i| build::column(*i, &rel.columns[*i])).collect();
    Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns)
}
