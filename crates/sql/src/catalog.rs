//! The catalog: tables and views that the script has created.

use crate::bind::expr::{ExprBinder, Scope, known_type};
use crate::bind::place::{At, Placed, at_expr, at_ident, at_name, error, parts, unsupported, with_nearest};
use crate::parser::ast::{
    Column as ColumnAst, ColumnKind, CreateTable, CreateView, Drop, LikeFeature, MergingStrategy, ObjectKind,
    SqlOption, TableElements,
};
use crate::rel::{Column, Role};
use millstream_core::connector::TableDef;
use millstream_core::graph::WatermarkAlignment;
use millstream_core::options::{Options, parse_duration};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Field, Result, Schema, TypeKind};
use sqlparser::ast::{ObjectName, Query};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The physical columns.
    pub physical: Schema,
    /// What is read: the physical columns, then the metadata columns.
    pub read: Schema,
    /// The metadata columns' names and keys.
    pub metadata: BTreeMap<String, String>,
    /// The metadata columns that aren't VIRTUAL, and where they stand: an INSERT writes them.
    pub written_metadata: Vec<(Field, At)>,
    /// The columns that an INSERT writes, in the order of their declaration: numbers of `physical`, and above those, of
    /// `written_metadata`.
    pub insert_order: Vec<usize>,
    /// All columns, as a query sees them.
    pub columns: Vec<Column>,
    /// How each column is made from the physical ones; a computed column is no plain column reference.
    pub expressions: Vec<ExprRef>,
    /// The row time's column and its watermark, over `columns`.
    pub watermark: Option<(usize, ExprRef)>,
    /// The primary key's columns.
    pub primary_key: Vec<String>,
    /// The `PARTITIONED BY` columns.
    pub partitioned_by: Vec<String>,
    /// The `WITH` options.
    pub options: BTreeMap<String, String>,
    /// `scan.watermark.idle-timeout`, which is the planner's own, milliseconds.
    pub idle_timeout_ms: Option<i64>,
    /// `scan.watermark.alignment.*`, which are the planner's own.
    pub alignment: Option<WatermarkAlignment>,
    /// Where each option's key stands.
    pub option_at: BTreeMap<String, At>,
    /// Where the table was created.
    pub at: At,
    elements: TableElements,
}

/// A view.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its columns' names; empty without a list.
    pub columns: Vec<String>,
    /// The query.
    pub query: Box<Query>,
}

/// What a name in FROM can stand for.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A table.
    Table(Arc<Table>),
    /// A view.
    View(Arc<View>),
}

/// Tables and views by name; temporary ones hide the others.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    relations: BTreeMap<String, Relation>,
    temporary: BTreeMap<String, Relation>,
}

/// The catalog that there is.
pub const CATALOG: &str = "default_catalog";
/// The database that there is.
pub const DATABASE: &str = "default_database";

impl Catalog {
    /// The table's own name of `[[default_catalog.]default_database.]name`.
    pub fn simple_name(name: &ObjectName) -> Result<String> {
        let at = at_name(name);
        match parts(name).as_slice() {
            [name] | [DATABASE, name] | [CATALOG, DATABASE, name] => Ok(name.to_string()),
            [database, _] => error(at, format!("there is no database '{database}'")),
            [catalog, _, _] => error(at, format!("there is no catalog '{catalog}' with this database")),
            _ => error(at, format!("'{name}' is not a table's name")),
        }
    }

    /// What a name stands for; an error names the nearest known one.
    pub fn find(&self, name: &ObjectName) -> Result<Relation> {
        let simple = Self::simple_name(name)?;
        if let Some(found) = self.temporary.get(&simple).or_else(|| self.relations.get(&simple)) {
            return Ok(found.clone());
        }
        let error = Error::script(format!("there is no table '{simple}'")).at_place(at_name(name));
        let known = self.temporary.keys().chain(self.relations.keys()).map(String::as_str);
        Err(with_nearest(error, &simple, known))
    }

    /// The names of all tables and views.
    pub fn names(&self, views_only: bool) -> Vec<String> {
        let all = self.relations.iter().chain(&self.temporary);
        let mut names: Vec<String> =
            all.filter(|(_, r)| !views_only || matches!(r, Relation::View(_))).map(|(n, _)| n.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn add(&mut self, name: &ObjectName, temporary: bool, skip: bool, relation: Relation) -> Result<()> {
        let simple = Self::simple_name(name)?;
        let map = if temporary { &mut self.temporary } else { &mut self.relations };
        if map.contains_key(&simple) {
            if skip {
                return Ok(());
            }
            let what = if temporary { "temporary table or view" } else { "table or view" };
            return Err(Error::script(format!("the {what} '{simple}' exists already"))
                .hint("drop it first, or write IF NOT EXISTS")
                .at_place(at_name(name)));
        }
        map.insert(simple, relation);
        Ok(())
    }

    /// `CREATE VIEW`; the query must have been bound.
    pub fn create_view(&mut self, view: &CreateView) -> Result<()> {
        let columns = view.columns.iter().map(|c| c.value.clone()).collect();
        let made = View { name: Self::simple_name(&view.name)?, columns, query: view.query.clone() };
        self.add(&view.name, view.temporary, view.if_not_exists, Relation::View(Arc::new(made)))
    }

    /// `DROP TABLE`, `DROP VIEW`.
    pub fn drop(&mut self, drop: &Drop) -> Result<()> {
        let simple = Self::simple_name(&drop.name)?;
        let at = at_name(&drop.name);
        let (view, what) = match drop.object {
            ObjectKind::Table => (false, "table"),
            ObjectKind::View => (true, "view"),
            other => return unsupported(at, format!("DROP {}", format!("{other:?}").to_uppercase())),
        };
        let map = if drop.temporary || self.temporary.contains_key(&simple) {
            &mut self.temporary
        } else {
            &mut self.relations
        };
        match map.get(&simple) {
            Some(relation) if matches!(relation, Relation::View(_)) == view => {
                map.remove(&simple);
                Ok(())
            }
            _ if drop.if_exists => Ok(()),
            _ => {
                let error = Error::script(format!("there is no {what} '{simple}'")).at_place(at);
                let known = self.names(view);
                Err(with_nearest(error, &simple, known.iter().map(String::as_str)))
            }
        }
    }

    /// `CREATE TABLE`.
    pub fn create_table(&mut self, create: &CreateTable, zone: SessionZone) -> Result<()> {
        let at = at_name(&create.name);
        if create.or_replace {
            return unsupported(at, "CREATE OR REPLACE TABLE");
        }
        let name = Self::simple_name(&create.name)?;
        let mut elements = create.elements.clone();
        let mut partitioned_by: Vec<String> = create.partitioned_by.iter().map(|i| i.value.clone()).collect();
        let mut options = options_of(&create.options)?;
        let mut option_at = BTreeMap::new();
        if let Some(like) = &create.like {
            let Relation::Table(source) = self.find(&like.source)? else {
                return error(at_name(&like.source), "LIKE takes a table, not a view");
            };
            (elements, partitioned_by, options) =
                merge_like(&source, &like.options, elements, partitioned_by, options, at)?;
            option_at = source.option_at.clone();
        }
        let idle_timeout_ms = idle_timeout(&create.options, options.get(IDLE_TIMEOUT_OPTION))?;
        option_at.extend(create.options.iter().map(|o| (o.key.value.clone(), (o.key.line, o.key.column))));
        let mut table = build_table(name, elements, partitioned_by, options, at, zone)?;
        table.option_at = option_at;
        table.idle_timeout_ms = idle_timeout_ms;
        table.alignment = alignment(&table)?;
        self.add(&create.name, create.temporary, create.if_not_exists, Relation::Table(Arc::new(table)))
    }
}

/// How long a split may be without rows before event time no longer waits for it, if the table says so.
const IDLE_TIMEOUT_OPTION: &str = "scan.watermark.idle-timeout";

fn idle_timeout(options: &[SqlOption], value: Option<&String>) -> Result<Option<i64>> {
    let Some(text) = value else { return Ok(None) };
    let at = options.iter().find(|o| o.key.value == IDLE_TIMEOUT_OPTION).map_or((0, 0), |o| (o.key.line, o.key.column));
    match parse_duration(text) {
        Ok(timeout) => Ok(Some(timeout.as_millis() as i64)),
        Err(expected) => error(at, format!("the value '{text}' of option '{IDLE_TIMEOUT_OPTION}' is not {expected}")),
    }
}

/// The sources that wait for each other, how far their splits may be apart, and how often that is looked at.
const ALIGNMENT_OPTIONS: [&str; 3] = [
    "scan.watermark.alignment.group",
    "scan.watermark.alignment.max-drift",
    "scan.watermark.alignment.update-interval",
];

fn alignment(table: &Table) -> Result<Option<WatermarkAlignment>> {
    let [group, max_drift, update_interval] = ALIGNMENT_OPTIONS;
    let options = Options::new(&table.name, "", &table.options);
    let ms = |key: &str| -> Result<Option<i64>> {
        Ok(options.duration(key)?.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
    };
    let read = || -> Result<Option<WatermarkAlignment>> {
        let (drift_ms, interval_ms) = (ms(max_drift)?, ms(update_interval)?);
        let Some(max_drift_ms) = drift_ms else {
            return match [group, update_interval].into_iter().find(|key| options.string(key).is_some()) {
                Some(key) => Err(options.error(key, format!("'{key}' needs '{max_drift}'"))),
                None => Ok(None),
            };
        };
        if interval_ms == Some(0) {
            return Err(options.error(update_interval, format!("'{update_interval}' must be above 0")));
        }
        // The splits of one table wait for each other, in whichever worker they are.
        let group = options.string(group).map_or_else(|| format!("table {}", table.name), str::to_string);
        Ok(Some(WatermarkAlignment { group, max_drift_ms, update_interval_ms: interval_ms.unwrap_or(1000) }))
    };
    read().map_err(|e| table.place_of_option(e))
}

fn options_of(options: &[SqlOption]) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for option in options {
        if map.insert(option.key.value.clone(), option.value.value.clone()).is_some() {
            let at = (option.key.line, option.key.column);
            return error(at, format!("the option '{}' is given twice", option.key.value));
        }
    }
    Ok(map)
}

/// What `LIKE` takes over from `source` (flink docs: CREATE TABLE, LIKE).
fn merge_like(
    source: &Table,
    chosen: &[(MergingStrategy, LikeFeature)],
    mut elements: TableElements,
    mut partitioned_by: Vec<String>,
    own_options: BTreeMap<String, String>,
    at: At,
) -> Result<(TableElements, Vec<String>, BTreeMap<String, String>)> {
    let strategy = |feature: LikeFeature| {
        let given = |f: LikeFeature| chosen.iter().find(|(_, g)| *g == f).map(|(s, _)| *s);
        let default = match feature {
            LikeFeature::Options => MergingStrategy::Overwriting,
            _ => MergingStrategy::Including,
        };
        given(feature).or_else(|| given(LikeFeature::All)).unwrap_or(default)
    };
    let mut columns: Vec<ColumnAst> = vec![];
    for column in &source.elements.columns {
        let feature = match &column.kind {
            ColumnKind::Physical(_) => None,
            ColumnKind::Computed(_) => Some(LikeFeature::Generated),
            ColumnKind::Metadata { .. } => Some(LikeFeature::Metadata),
        };
        if feature.is_none_or(|f| strategy(f) != MergingStrategy::Excluding) {
            columns.push(column.clone());
        }
    }
    for column in elements.columns {
        match columns.iter().position(|c| c.name.value == column.name.value) {
            None => columns.push(column),
            Some(index) => {
                let overwriting = match (&columns[index].kind, &column.kind) {
                    (ColumnKind::Computed(_), ColumnKind::Computed(_)) => {
                        strategy(LikeFeature::Generated) == MergingStrategy::Overwriting
                    }
                    (ColumnKind::Metadata { .. }, ColumnKind::Metadata { .. }) => {
                        strategy(LikeFeature::Metadata) == MergingStrategy::Overwriting
                    }
                    _ => false,
                };
                if !overwriting {
                    let message = format!("column '{}' exists already in the base table", column.name.value);
                    return error(at_ident(&column.name), message);
                }
                columns[index] = column;
            }
        }
    }
    elements.columns = columns;
    match (&elements.watermark, &source.elements.watermark, strategy(LikeFeature::Watermarks)) {
        (_, None, _) | (_, _, MergingStrategy::Excluding) => {}
        (None, theirs, _) => elements.watermark = theirs.clone(),
        (Some(_), Some(_), MergingStrategy::Overwriting) => {}
        (Some(own), Some(_), MergingStrategy::Including) => {
            let place = own.column.first().map_or(at, at_ident);
            return Err(Error::script("the base table has a watermark already")
                .hint("write LIKE t (OVERWRITING WATERMARKS) or (EXCLUDING WATERMARKS)")
                .at_place(place));
        }
    }
    match (&elements.primary_key, &source.elements.primary_key, strategy(LikeFeature::Constraints)) {
        (_, None, _) | (_, _, MergingStrategy::Excluding) => {}
        (None, theirs, _) => elements.primary_key = theirs.clone(),
        (Some(_), Some(_), _) => {
            return Err(Error::script("the base table has a primary key already")
                .hint("write LIKE t (EXCLUDING CONSTRAINTS)")
                .at_place(at));
        }
    }
    if strategy(LikeFeature::Partitions) != MergingStrategy::Excluding && !source.partitioned_by.is_empty() {
        if !partitioned_by.is_empty() {
            return Err(Error::script("the base table is partitioned already")
                .hint("write LIKE t (EXCLUDING PARTITIONS)")
                .at_place(at));
        }
        partitioned_by = source.partitioned_by.clone();
    }
    let mut options = match strategy(LikeFeature::Options) {
        MergingStrategy::Excluding => BTreeMap::new(),
        MergingStrategy::Including | MergingStrategy::Overwriting => source.options.clone(),
    };
    for (key, value) in own_options {
        if options.contains_key(&key) && strategy(LikeFeature::Options) == MergingStrategy::Including {
            return Err(Error::script(format!("the base table has the option '{key}' already"))
                .hint("write LIKE t (OVERWRITING OPTIONS)")
                .at_place(at));
        }
        options.insert(key, value);
    }
    Ok((elements, partitioned_by, options))
}

fn build_table(
    name: String,
    elements: TableElements,
    partitioned_by: Vec<String>,
    options: BTreeMap<String, String>,
    at: At,
    zone: SessionZone,
) -> Result<Table> {
    let mut key_names = vec![];
    if let Some(key) = &elements.primary_key {
        key_names = key.columns.iter().map(|c| c.value.clone()).collect();
    }
    let mut physical: Vec<Field> = vec![];
    let mut seen: Vec<&str> = vec![];
    for column in &elements.columns {
        if seen.contains(&column.name.value.as_str()) {
            return error(at_ident(&column.name), format!("column '{}' is declared twice", column.name.value));
        }
        seen.push(&column.name.value);
        if let ColumnKind::Physical(data_type) = &column.kind {
            // A key's columns are NOT NULL, as in Flink.
            let nullable = data_type.nullable && !key_names.contains(&column.name.value);
            physical.push(Field::new(&column.name.value, data_type.clone().with_nullable(nullable)));
        }
    }
    let mut read = physical.clone();
    let mut metadata = BTreeMap::new();
    let (mut written_metadata, mut insert_order, mut physical_before) = (vec![], vec![], 0);
    for column in &elements.columns {
        match &column.kind {
            ColumnKind::Physical(_) => {
                insert_order.push(physical_before);
                physical_before += 1;
            }
            ColumnKind::Metadata { data_type, key, is_virtual } => {
                let field = Field::new(&column.name.value, data_type.clone());
                metadata.insert(field.name.clone(), key.clone().unwrap_or_else(|| field.name.clone()));
                if !is_virtual {
                    insert_order.push(physical.len() + written_metadata.len());
                    written_metadata.push((field.clone(), at_ident(&column.name)));
                }
                read.push(field);
            }
            ColumnKind::Computed(_) => {}
        }
    }
    let physical_columns: Vec<Column> = read.iter().map(|f| Column::plain(&f.name, f.data_type.clone())).collect();
    let scope = Scope::of(None, &physical_columns);
    let mut columns = vec![];
    let mut expressions = vec![];
    for column in &elements.columns {
        let name = &column.name.value;
        match &column.kind {
            ColumnKind::Physical(_) | ColumnKind::Metadata { .. } => {
                let index = read.iter().position(|f| f.name == *name).unwrap_or_default();
                columns.push(physical_columns[index].clone());
                expressions.push(crate::bind::build::column(index, &physical_columns[index]));
            }
            ColumnKind::Computed(expr) => {
                let mut binder = ExprBinder::new(&scope, zone);
                let bound = binder.bind(expr)?;
                let data_type = known_type(&bound, at_expr(expr))?;
                let role = binder.role_of(&bound, &physical_columns);
                columns.push(Column { name: name.clone(), data_type, role });
                expressions.push(bound);
            }
        }
    }
    let watermark = match &elements.watermark {
        None => None,
        Some(watermark) => Some(bind_watermark(watermark, &mut columns, zone)?),
    };
    let known = |names: &[String], what: &str| -> Result<()> {
        match names.iter().find(|n| !physical.iter().any(|f| f.name == **n)) {
            None => Ok(()),
            Some(unknown) => {
                let error = Error::script(format!("the {what} names '{unknown}', which is no physical column"));
                Err(with_nearest(error, unknown, physical.iter().map(|f| f.name.as_str())).at_place(at))
            }
        }
    };
    known(&key_names, "primary key")?;
    known(&partitioned_by, "PARTITIONED BY clause")?;
    if !options.contains_key("connector") {
        return Err(Error::script(format!("table '{name}' has no option 'connector'"))
            .hint("add WITH ('connector' = '...')")
            .at_place(at));
    }
    let physical = Schema::new(physical);
    Ok(Table {
        name,
        physical,
        read: Schema::new(read),
        metadata,
        written_metadata,
        insert_order,
        columns,
        expressions,
        watermark,
        primary_key: key_names,
        partitioned_by,
        options,
        idle_timeout_ms: None,
        alignment: None,
        option_at: BTreeMap::new(),
        at,
        elements,
    })
}

fn bind_watermark(
    watermark: &crate::parser::ast::Watermark,
    columns: &mut [Column],
    zone: SessionZone,
) -> Result<(usize, ExprRef)> {
    let [name] = watermark.column.as_slice() else {
        let at = watermark.column.first().map_or((0, 0), at_ident);
        return unsupported(at, "a watermark for a field of a row");
    };
    let at = at_ident(name);
    let Some(index) = columns.iter().position(|c| c.name == name.value) else {
        let error = Error::script(format!("there is no column '{}'", name.value)).at_place(at);
        return Err(with_nearest(error, &name.value, columns.iter().map(|c| c.name.as_str())));
    };
    let column = &columns[index];
    if column.role == Role::ProcTime {
        return error(at, "a watermark can't be defined on processing time");
    }
    if !matches!(column.data_type.kind, TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3)) {
        return Err(Error::script(format!(
            "a watermark needs a TIMESTAMP(3) or TIMESTAMP_LTZ(3) column, but '{}' is {}",
            column.name, column.data_type
        ))
        .hint("add a computed column, such as `ts AS TO_TIMESTAMP_LTZ(ms, 3)`")
        .at_place(at));
    }
    let scope = Scope::of(None, columns);
    let bound = ExprBinder::new(&scope, zone).bind(&watermark.expr)?;
    if !bound.data_type().kind.is_timestamp() {
        let message = format!("the watermark must be a timestamp, but is {}", bound.data_type());
        return error(at_expr(&watermark.expr), message);
    }
    let target = match bound.data_type().kind {
        TypeKind::Timestamp(_) => TypeKind::Timestamp(3),
        _ => TypeKind::TimestampLtz(3),
    };
    let bound = match bound.data_type().kind {
        TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3) => bound,
        _ => {
            let nullable = bound.data_type().nullable;
            millstream_expr::build::cast(bound, DataType { kind: target, nullable }, false, &zone)?
        }
    };
    columns[index].role = Role::RowTime;
    Ok((index, bound))
}

impl Table {
    /// The error of a connector about an option, with the option's place in the script.
    pub fn place_of_option(&self, error: Error) -> Error {
        error.at_option(|key| self.option_at.get(key).copied().unwrap_or(self.at))
    }
    /// What its connector is told when it is read.
    pub fn source_definition(&self, hints: &[(String, String)]) -> TableDef {
        TableDef { schema: self.read.clone(), metadata: self.metadata.clone(), ..self.definition(hints) }
    }
    /// Adds the metadata columns that are written to what a connector is told. `writable`: those that it can write, and of
    /// which type.
    ///
    /// # Errors
    /// If a metadata column isn't VIRTUAL that isn't writable.
    pub fn add_metadata(&self, definition: &mut TableDef, writable: &[(&str, TypeKind)]) -> Result<()> {
        let mut fields = self.physical.fields.clone();
        for (field, at) in &self.written_metadata {
            let key = self.metadata.get(&field.name).unwrap_or(&field.name);
            let Some((_, kind)) = writable.iter().find(|(known, _)| known == key) else {
                let known: Vec<&str> = writable.iter().map(|(key, _)| *key).collect();
                let writes = if known.is_empty() { "no metadata".into() } else { known.join(", ") };
                return Err(Error::script(format!("the metadata column '{}' can't be written", field.name))
                    .detail(format!("table '{}' is written with: {writes}", self.name))
                    .hint("declare it VIRTUAL: it is then only read")
                    .at_place(*at));
            };
            let nullable = field.data_type.nullable;
            fields.push(Field::new(&field.name, DataType { kind: kind.clone(), nullable }));
            definition.metadata.insert(field.name.clone(), key.clone());
        }
        definition.schema = Schema::new(fields);
        Ok(())
    }
    /// What its connector is told of a table that is written, but for metadata.
    pub fn definition(&self, hints: &[(String, String)]) -> TableDef {
        let mut options = self.options.clone();
        options.remove(IDLE_TIMEOUT_OPTION);
        ALIGNMENT_OPTIONS.iter().for_each(|key| {
            options.remove(*key);
        });
        options.extend(hints.iter().cloned());
        TableDef {
            name: self.name.clone(),
            schema: self.physical.clone(),
            metadata: BTreeMap::new(),
            options,
            primary_key: self.primary_key.clone(),
            partitioned_by: self.partitioned_by.clone(),
        }
    }
}
