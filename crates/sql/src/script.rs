//! Plans a whole script: statements change the catalog and the settings, inserts and a last SELECT become the job.

use crate::bind::build;
use crate::bind::create_as;
use crate::bind::expr::known_type;
use crate::bind::place::{At, Placed, at_name, parts, unsupported};
use crate::bind::query::{QueryBinder, with_different_names};
use crate::catalog::{Catalog, Relation};
use crate::parser::ast::{Insert, ObjectKind, Statement, StatementKind};
use crate::parser::parse_script;
use crate::plan::emit::Emitter;
use crate::plan::fuse::fuse;
use crate::plan::joins::with_plain_keys;
use crate::plan::late::LateTable;
use crate::plan::normalize::normalize;
use crate::plan::not_null::NotNull;
use crate::plan::order::ordered;
use crate::plan::prune::Pruner;
use crate::plan::ranks::ranks;
use crate::plan::simplify::{identity, simplify};
use crate::rel::{Column, Rel, RelOp, RelRef};
use millstream_core::connector::{ConnectorRegistry, SessionInfo};
use millstream_core::graph::JobGraph;
use millstream_core::settings::{CDC_DUPLICATES, LATE_ROWS_SINK, Settings, TIME_ZONE};
use millstream_core::sink::Sink;
use millstream_core::{Error, Result, Schema};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use std::sync::Arc;

/// What planning is given.
#[derive(Clone)]
pub struct PlanOptions {
    /// The settings before the script's own `SET`s.
    pub settings: Settings,
    /// The connectors.
    pub registry: Arc<dyn ConnectorRegistry>,
    /// For connectors; its time zone is replaced by the setting's.
    pub session: SessionInfo,
    /// The job's name.
    pub name: String,
    /// How many workers the job will have.
    pub parallelism: usize,
    /// Where a last SELECT's rows go; without it such a SELECT is refused.
    pub select_sink: Option<Arc<dyn Sink>>,
}

/// A planned script.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The job; without nodes if the script neither inserts nor selects.
    pub graph: JobGraph,
    /// The settings after the script's `SET`s.
    pub settings: Settings,
    /// What the job gives.
    pub output: Output,
    /// What statements such as SHOW and EXPLAIN say, in order.
    pub messages: Vec<String>,
    /// Changes when the graph does.
    pub fingerprint: String,
}

/// What a job gives.
#[derive(Clone, Debug)]
pub enum Output {
    /// Tables are written.
    Inserts,
    /// The rows of the last statement.
    Select {
        /// The columns.
        schema: Schema,
        /// The sink's node.
        node: usize,
    },
    /// Nothing runs.
    Nothing,
}

/// Plans a script.
///
/// # Errors
///
/// The first mistake with its place; `ErrorKind::Unsupported` for what is valid, but not planned yet.
pub fn plan_script(text: &str, options: PlanOptions) -> Result<Planned> {
    let statements = parse_script(text)?;
    let settings = options.settings.clone();
    let mut planner = Planner {
        options: &options,
        settings,
        catalog: Catalog::default(),
        messages: vec![],
        roots: vec![],
        late_tables: vec![],
        late_at: (0, 0),
    };
    let last = statements.len().saturating_sub(1);
    for (number, statement) in statements.iter().enumerate() {
        let at = (statement.span.line, statement.span.column);
        planner.statement(statement, number == last).at_place(at)?;
    }
    let (graph, output) = planner.graph()?;
    let fingerprint = format!("{:016x}", fnv1a(crate::plan::explain::explain_graph(&graph).as_bytes()));
    Ok(Planned { graph, settings: planner.settings, output, messages: planner.messages, fingerprint })
}

/// The plan as text: operators, edges, changelog modes, watermarks, state.
pub fn explain(planned: &Planned) -> String {
    crate::plan::explain::explain_graph(&planned.graph)
}

/// FNV-1a, 64 bits: stable across builds of the program.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

struct Root {
    role: String,
    name: String,
    rel: RelRef,
    sink: Arc<dyn Sink>,
    is_select: bool,
    /// The columns of the sink's primary key.
    primary_key: Vec<usize>,
    /// Of an INSERT OVERWRITE: where its table is named.
    overwrite: Option<At>,
    /// Where rows go that its operators drop as late.
    late: Option<Arc<LateTable>>,
}

struct Planner<'a> {
    options: &'a PlanOptions,
    settings: Settings,
    catalog: Catalog,
    messages: Vec<String>,
    roots: Vec<Root>,
    /// The tables that late rows go to.
    late_tables: Vec<Arc<LateTable>>,
    /// Where the script says which.
    late_at: At,
}

/// The columns of a query that stands for itself: their names differ, their types are known.
fn named_columns(rel: &RelRef, at: At) -> Result<Vec<Column>> {
    let columns = with_different_names(rel.columns.clone());
    for (i, column) in columns.iter().enumerate() {
        known_type(&build::column(i, column), at)?;
    }
    Ok(columns)
}

impl Planner<'_> {
    fn session(&self) -> SessionInfo {
        let base_dir = self.options.session.base_dir.clone();
        let time_zone = self.settings.text(TIME_ZONE).to_string();
        SessionInfo { base_dir, time_zone, storage: self.settings.storage_options() }
    }

    fn statement(&mut self, statement: &Statement, is_last: bool) -> Result<()> {
        let at = (statement.span.line, statement.span.column);
        let session = self.session();
        let zone = session.time_zone.parse()?;
        match &statement.kind {
            StatementKind::Set { key: Some(key), value: Some(value) } => {
                let place = (key.line, key.column);
                if key.value == LATE_ROWS_SINK {
                    self.late_at = place;
                }
                // The innermost place wins, so the script's goes first.
                self.settings.set(&key.value, value).map_err(|e| replaced(e, place))
            }
            StatementKind::Set { key: Some(key), value: None } => {
                let text = self.settings.iter().find(|(k, _)| *k == key.value).map_or("", |(_, v)| v);
                self.messages.push(format!("'{}' = '{text}'", key.value));
                Ok(())
            }
            StatementKind::Set { key: None, .. } => {
                let lines: Vec<String> = self.settings.iter().map(|(k, v)| format!("'{k}' = '{v}'")).collect();
                self.messages.push(lines.join("\n"));
                Ok(())
            }
            StatementKind::Reset { key } => {
                let place = key.as_ref().map_or(at, |k| (k.line, k.column));
                self.settings.reset(key.as_ref().map(|k| k.value.as_str())).at_place(place)
            }
            StatementKind::CreateTable(create) => match &create.query {
                None => self.catalog.create_table(create, zone),
                Some(query) => {
                    let rel =
                        QueryBinder::new(&self.catalog, self.options.registry.as_ref(), &session)?.query(query)?;
                    let columns = named_columns(&rel, at_name(&create.name))?;
                    let (table, insert) = create_as::split(create, &columns)?;
                    self.catalog.create_table(&table, zone)?;
                    self.insert(&insert, &session)
                }
            },
            StatementKind::CreateView(view) => {
                let bound =
                    QueryBinder::new(&self.catalog, self.options.registry.as_ref(), &session)?.query(&view.query)?;
                if !view.columns.is_empty() && view.columns.len() != bound.columns.len() {
                    let (names, columns) = (view.columns.len(), bound.columns.len());
                    return Err(Error::script(format!("the view names {names} columns, its query gives {columns}")));
                }
                self.catalog.create_view(view)
            }
            StatementKind::Drop(drop) => self.catalog.drop(drop),
            StatementKind::Insert(insert) => self.insert(insert, &session),
            StatementKind::StatementSet(members) => {
                for member in members {
                    self.statement(member, false).at_place((member.span.line, member.span.column))?;
                }
                Ok(())
            }
            StatementKind::Query(query) => {
                if !is_last {
                    return Err(Error::unsupported("a SELECT that is not the last statement")
                        .hint("move it to the end, or write INSERT INTO"));
                }
                if !self.roots.is_empty() {
                    return Err(Error::unsupported("a SELECT beside INSERT INTO in one script"));
                }
                let rel = QueryBinder::new(&self.catalog, self.options.registry.as_ref(), &session)?.query(query)?;
                let rel = Rel::new(rel.op.clone(), named_columns(&rel, at)?);
                let Some(sink) = self.options.select_sink.clone() else {
                    return Err(Error::unsupported("a SELECT here").hint("write INSERT INTO a table"));
                };
                let (role, name) = ("select".into(), "select".into());
                let (primary_key, late) = (vec![], self.late_table(&session)?);
                self.roots.push(Root { role, name, rel, sink, is_select: true, primary_key, overwrite: None, late });
                Ok(())
            }
            StatementKind::Explain { statement, .. } => {
                let mut inner = Planner {
                    options: self.options,
                    settings: self.settings.clone(),
                    catalog: self.catalog.clone(),
                    messages: vec![],
                    roots: vec![],
                    late_tables: vec![],
                    late_at: self.late_at,
                };
                inner.statement(statement, true).at_place((statement.span.line, statement.span.column))?;
                self.messages.push(crate::plan::explain::explain_graph(&inner.graph()?.0));
                Ok(())
            }
            StatementKind::Describe { object: ObjectKind::Table | ObjectKind::View, name, .. } => {
                let columns = match self.catalog.find(name)? {
                    Relation::Table(table) => table.columns.clone(),
                    Relation::View(view) => {
                        let mut binder = QueryBinder::new(&self.catalog, self.options.registry.as_ref(), &session)?;
                        binder.query(&view.query)?.columns.clone()
                    }
                };
                let lines: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
                self.messages.push(lines.join("\n"));
                Ok(())
            }
            StatementKind::Show(show) => match show.what.as_str() {
                "TABLES" | "VIEWS" => {
                    self.messages.push(self.catalog.names(show.what == "VIEWS").join("\n"));
                    Ok(())
                }
                what => unsupported(at, format!("SHOW {what}")),
            },
            StatementKind::Use { name, .. }
                if matches!(parts(name).last(), Some(&crate::catalog::DATABASE | &crate::catalog::CATALOG)) =>
            {
                Ok(())
            }
            StatementKind::Client(_) => Ok(()),
            _ => {
                let mut words = statement
                    .text
                    .split_whitespace()
                    .take_while(|w| w.chars().all(|c| c.is_ascii_alphabetic()) && w.len() > 1);
                let first = words.next().unwrap_or_default().to_uppercase();
                let second = words.next().unwrap_or_default().to_uppercase();
                unsupported(at, format!("{first} {second}").trim())
            }
        }
    }

    fn insert(&mut self, insert: &Insert, session: &SessionInfo) -> Result<()> {
        let bound = QueryBinder::new(&self.catalog, self.options.registry.as_ref(), session)?.insert(insert)?;
        let mut rel = bound.rel;
        if !bound.enforced.is_empty() {
            let mut project = identity(&rel);
            let mut columns = rel.columns.clone();
            for index in bound.enforced {
                project[index] = Arc::new(NotNull::new(project[index].clone(), &columns[index].name));
                columns[index].data_type.nullable = false;
            }
            rel = Rel::new(RelOp::Calc { input: rel, filter: None, project }, columns);
        }
        let role = format!("sink:{}", bound.table.name);
        let overwrite = insert.overwrite.then(|| at_name(&insert.table));
        let name = bound.table.name.clone();
        let place = |key: &String| bound.table.physical.index_of(key);
        let primary_key = bound.table.primary_key.iter().filter_map(place).collect();
        let late = self.late_table(session)?;
        self.roots.push(Root { role, name, rel, sink: bound.sink, is_select: false, primary_key, overwrite, late });
        Ok(())
    }

    /// The table that late rows go to now.
    fn late_table(&mut self, session: &SessionInfo) -> Result<Option<Arc<LateTable>>> {
        let (name, at) = (self.settings.text(LATE_ROWS_SINK), self.late_at);
        if name.is_empty() {
            return Ok(None);
        }
        let parts = name.split('.').map(|part| ObjectNamePart::Identifier(Ident::new(part))).collect();
        let table = match self.catalog.find(&ObjectName(parts)).at_place(at)? {
            Relation::Table(table) => table,
            Relation::View(_) => {
                return Err(Error::script(format!("'{name}' is a view; late rows go to a table")).at_place(at));
            }
        };
        if let Some(known) = self.late_tables.iter().find(|known| known.name == table.name) {
            return Ok(Some(known.clone()));
        }
        let binder = QueryBinder::new(&self.catalog, self.options.registry.as_ref(), session)?;
        if let Some((column, at)) = table.written_metadata.first() {
            let error = Error::script(format!("late rows have no metadata for the column '{}'", column.name));
            return Err(error.hint("declare it VIRTUAL: it is then only read").at_place(*at));
        }
        let sink = binder.sink(&table).at_place(at)?;
        let late = LateTable { name: table.name.clone(), columns: table.physical.clone(), sink, at };
        self.late_tables.push(Arc::new(late));
        Ok(self.late_tables.last().cloned())
    }

    fn graph(&self) -> Result<(JobGraph, Output)> {
        let zone = self.session().time_zone.parse()?;
        let mut pruner = Pruner::default();
        let mut plans = vec![];
        for root in &self.roots {
            let rel = normalize(&root.rel, self.settings.boolean(CDC_DUPLICATES))?;
            let rel = fuse(&simplify(&ordered(&simplify(&rel, &zone)?, &zone)?, &zone)?)?;
            let rel = simplify(&ranks(&simplify(&rel, &zone)?, &zone)?, &zone)?;
            pruner.collect(&rel)?;
            plans.push(rel);
        }
        let mut emitter = Emitter::new(&self.settings, self.options.parallelism);
        let mut output = Output::Nothing;
        for (root, plan) in self.roots.iter().zip(&plans) {
            let rel = simplify(&with_plain_keys(&simplify(&pruner.prune(plan)?, &zone)?, &zone)?, &zone)?;
            let rel = Arc::new(Rel { op: rel.op.clone(), columns: root.rel.columns.clone() });
            let (sink, key) = (root.sink.clone(), &root.primary_key);
            emitter.late.clone_from(&root.late);
            let node = emitter.sink(&root.role, &root.name, &rel, sink, root.is_select, key)?;
            if let (Some(at), Some(source)) = (root.overwrite, emitter.endless(node)) {
                return Err(Error::script(
                    "INSERT OVERWRITE needs a query that ends, since it replaces the table then",
                )
                .detail(format!("{source} never ends"))
                .hint("INSERT INTO adds rows as they come")
                .at_place(at));
            }
            output = match root.is_select {
                true => Output::Select { schema: rel.schema(), node },
                false => Output::Inserts,
            };
        }
        Ok((emitter.finish(self.options.name.clone())?, output))
    }
}

/// The same error at a place in the script instead of a named one.
fn replaced(error: Error, at: (u64, u64)) -> Error {
    let mut new = Error::new(error.kind(), error.message()).at_place(at);
    for detail in error.details() {
        new = new.detail(detail);
    }
    match error.hint_text() {
        Some(hint) => new.hint(hint),
        None => new,
    }
}
