//! Turns pruned plans into the nodes of a job graph; equal parts of several plans become one.

use super::changelog::{emitted, settle};
use super::keys::unique_keys;
use super::late::{LateTable, late_ports, names_of, with_read_columns};
use super::prune::{project_source, scan_key};
use super::ranks::first_rows;
use super::values::ValuesSource;
use super::{joins, lookup};
use crate::bind::build;
use crate::bind::place::Placed;
use crate::rel::{Column, RelOp, RelRef, schema_of};
use millstream_core::graph::{
    AggregateCall, AggregateFunction, AggregatePhase, ChangelogMode, ChangelogNormalize, Edge, GroupAggregate,
    JobGraph, Join, JoinKind, LookupCalls, LookupJoin, Node, NodeIndex, NodeKind, OperatorSpec, Over, Partitioning,
    Rank, RankTiming, SourceNode, TemporalJoin, WatermarkSpec, WindowAggregate, WindowShape, WindowTime,
};
use millstream_core::settings::{
    IDLE_TIMEOUT, LOOKUP_CAPACITY, LOOKUP_ORDER, LOOKUP_TIMEOUT, STATE_TTL, Settings, TIME_ZONE, TWO_PHASE,
    UPSERT_MATERIALIZE, WATERMARK_INTERVAL,
};
use millstream_core::sink::Sink;
use millstream_core::{DataType, Error, Field, Result, Schema, TypeKind};
use millstream_expr::build as exprs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Collects the nodes of a job.
pub struct Emitter<'a> {
    settings: &'a Settings,
    parallelism: usize,
    nodes: Vec<Node>,
    known: BTreeMap<String, NodeIndex>,
    ids: BTreeMap<String, usize>,
    /// The statement whose plan is being emitted: its sink's id.
    statement: String,
    /// Where rows go that its operators drop as late.
    pub late: Option<Arc<LateTable>>,
    /// All such tables.
    late_tables: Vec<LateInput>,
}

/// What goes to a table of late rows.
struct LateInput {
    table: Arc<LateTable>,
    /// The nodes that it gets rows from.
    from: Vec<NodeIndex>,
    /// The table's columns that those have, and the columns that late rows have.
    found: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl<'a> Emitter<'a> {
    /// No nodes yet.
    pub fn new(settings: &'a Settings, parallelism: usize) -> Self {
        let (nodes, known, ids, late_tables) = (vec![], BTreeMap::new(), BTreeMap::new(), vec![]);
        Emitter { settings, parallelism, nodes, known, ids, statement: String::new(), late: None, late_tables }
    }

    /// Emits a plan that ends in a sink, and gives the sink's node; `gathered`: all rows go to worker 0, else rows that
    /// change go where others of their `primary_key` do, so that they are written in order.
    pub fn sink(
        &mut self,
        role: &str,
        name: &str,
        rel: &RelRef,
        sink: Arc<dyn Sink>,
        gathered: bool,
        primary_key: &[usize],
    ) -> Result<NodeIndex> {
        let id = self.unique(role);
        self.statement = id.clone();
        let mut from = self.rel(rel)?;
        let accepts = sink.accepts();
        if self.is_materialized(from, accepts, primary_key) {
            from = self.materialize(from, primary_key, rel)?;
        }
        let changelog = self.nodes[from].changelog;
        if changelog.update && !accepts.update || changelog.delete && !accepts.delete {
            return Err(Error::script(format!("sink '{name}' takes {accepts} rows, but the query gives {changelog}"))
                .hint("use a sink that takes updates, or a query whose results don't change"));
        }
        let schema = rel.schema();
        let partitioning = match gathered {
            true => Partitioning::Hash(vec![]),
            false if changelog.is_insert_only() || primary_key.is_empty() => Partitioning::Forward,
            false => Partitioning::Hash(primary_key.to_vec()),
        };
        let inputs = vec![Edge { from, partitioning }];
        let upsert_keys = self.nodes[from].upsert_keys.clone();
        let shown = format!("Sink({name})");
        self.nodes.push(Node { id, name: shown, kind: NodeKind::Sink(sink), inputs, schema, changelog, upsert_keys });
        Ok(self.nodes.len() - 1)
    }

    /// Whether a sink that finds rows by its primary key has to be told what else there is of a key when a row goes:
    /// where rows that change may be equal in it (flink: `table.exec.sink.upsert-materialize`).
    fn is_materialized(&self, from: NodeIndex, accepts: ChangelogMode, primary_key: &[usize]) -> bool {
        let node = &self.nodes[from];
        if primary_key.is_empty() || !accepts.update || accepts.update_before {
            return false;
        }
        let key: BTreeSet<&usize> = primary_key.iter().collect();
        let is_unique = || node.upsert_keys.iter().any(|own| own.iter().collect::<BTreeSet<_>>() == key);
        match self.settings.text(UPSERT_MATERIALIZE) {
            "NONE" => false,
            "FORCE" => true,
            _ => !node.changelog.is_insert_only() && !is_unique(),
        }
    }

    /// The row of each key that came last, of those that are there.
    fn materialize(&mut self, from: NodeIndex, primary_key: &[usize], rel: &RelRef) -> Result<NodeIndex> {
        let last = Rank {
            partition: primary_key.to_vec(),
            latest_first: true,
            timing: RankTiming::Continuous,
            ttl_ms: self.ttl_ms(None),
            ..first_rows(&[], &[], 1, 1)
        };
        let edge = Edge { from, partitioning: Partitioning::Hash(primary_key.to_vec()) };
        let spec = OperatorSpec::Rank(last);
        let node = self.operator("materialize", "SinkMaterialize", spec, vec![edge], rel.schema())?;
        self.nodes[node].upsert_keys = vec![primary_key.to_vec()];
        Ok(node)
    }

    /// How long state lives without use; milliseconds, `None`: for ever. A hint counts more than the setting.
    fn ttl_ms(&self, hint: Option<i64>) -> Option<i64> {
        let ttl = hint.unwrap_or_else(|| self.settings.duration(STATE_TTL).as_millis() as i64);
        (ttl > 0).then_some(ttl)
    }

    /// A source without an end that feeds a node: its name.
    pub fn endless(&self, node: NodeIndex) -> Option<&str> {
        let node = &self.nodes[node];
        match &node.kind {
            NodeKind::Source(source) if !source.source.is_bounded() => Some(&node.name),
            _ => node.inputs.iter().find_map(|input| self.endless(input.from)),
        }
    }

    /// The job.
    pub fn finish(mut self, name: String) -> Result<JobGraph> {
        for LateInput { table, from, found, names } in std::mem::take(&mut self.late_tables) {
            table.check(&found, &names)?;
            let id = format!("late-rows:{}", table.name);
            let from = match from.as_slice() {
                [one] => *one,
                several => {
                    let edges = several.iter().flat_map(|from| forward(*from)).collect();
                    let union = NodeKind::Operator(OperatorSpec::Union);
                    self.node(&format!("{id}/union"), "Union".into(), union, edges, table.columns.clone())?
                }
            };
            self.nodes.push(Node {
                id,
                name: format!("Sink({})", table.name),
                kind: NodeKind::Sink(table.sink.clone()),
                inputs: forward(from),
                schema: table.columns.clone(),
                changelog: ChangelogMode::INSERT_ONLY,
                upsert_keys: vec![],
            });
        }
        settle(&mut self.nodes)?;
        Ok(JobGraph { name, nodes: self.nodes })
    }

    fn unique(&mut self, id: &str) -> String {
        let count = self.ids.entry(id.to_string()).or_insert(0);
        *count += 1;
        if *count == 1 { id.to_string() } else { format!("{id}#{count}") }
    }

    /// A node, or the one that does the same to the same inputs already, whatever that calls its columns.
    fn node(&mut self, id: &str, name: String, kind: NodeKind, inputs: Vec<Edge>, schema: Schema) -> Result<NodeIndex> {
        let shown = match &kind {
            NodeKind::Operator(spec) => format!("{spec:?}"),
            NodeKind::Source(source) => format!("{id} {:?} {:?}", source.columns, source.watermark),
            NodeKind::Sink(_) => id.to_string(),
        };
        let types: Vec<&DataType> = schema.fields.iter().map(|field| &field.data_type).collect();
        let key = format!("{shown} {inputs:?} {types:?}");
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let arriving: Vec<ChangelogMode> = inputs.iter().map(|edge| self.nodes[edge.from].changelog).collect();
        let changelog = emitted(&kind, &arriving)?;
        let id = self.unique(id);
        self.nodes.push(Node { id, name, kind, inputs, schema, changelog, upsert_keys: vec![] });
        self.known.insert(key, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    fn operator(
        &mut self,
        role: &str,
        name: &str,
        spec: OperatorSpec,
        inputs: Vec<Edge>,
        schema: Schema,
    ) -> Result<NodeIndex> {
        let id = format!("{}/{role}", self.statement);
        let made = self.node(&id, name.to_string(), NodeKind::Operator(spec), inputs, schema)?;
        if let Some(table) = self.late.clone() {
            self.keep_late(made, &table)?;
        }
        Ok(made)
    }

    /// Has a table told what a node drops as late, if it does.
    fn keep_late(&mut self, node: NodeIndex, table: &Arc<LateTable>) -> Result<()> {
        let NodeKind::Operator(spec) = &self.nodes[node].kind else { return Ok(()) };
        let zone = self.settings.text(TIME_ZONE).parse()?;
        for (port, by) in late_ports(spec) {
            let place = match self.late_tables.iter().position(|input| input.table.name == table.name) {
                Some(place) => place,
                None => {
                    let (found, names) = (BTreeSet::new(), BTreeSet::new());
                    self.late_tables.push(LateInput { table: table.clone(), from: vec![], found, names });
                    self.late_tables.len() - 1
                }
            };
            let input = self.nodes[self.nodes[node].inputs[port].from].schema.clone();
            let told = &mut self.late_tables[place];
            told.names.extend(names_of(&input));
            let id = self.nodes[node].id.clone();
            let rows = table.rows_of(&id, (port, by), &input, &zone, &mut told.found)?;
            let side = if port == 0 { "late" } else { "late-right" };
            let kind = NodeKind::Operator(OperatorSpec::LateRows(rows));
            let from =
                self.node(&format!("{id}/{side}"), "LateRows".into(), kind, forward(node), table.columns.clone())?;
            let told = &mut self.late_tables[place];
            if !told.from.contains(&from) {
                told.from.push(from);
            }
        }
        Ok(())
    }

    fn rel(&mut self, rel: &RelRef) -> Result<NodeIndex> {
        let made = self.made(rel)?;
        let node = &mut self.nodes[made];
        if !node.changelog.is_insert_only() && node.upsert_keys.is_empty() {
            node.upsert_keys = unique_keys(rel).into_iter().map(|key| key.into_iter().collect()).collect();
        }
        Ok(made)
    }

    fn made(&mut self, rel: &RelRef) -> Result<NodeIndex> {
        let schema = rel.schema();
        match &rel.op {
            RelOp::Scan { table, source, variant, kept } => {
                // Under the table's own names, so that one read serves whoever names them otherwise.
                let columns: Vec<Column> = kept
                    .iter()
                    .zip(&rel.columns)
                    .map(|(i, column)| Column { data_type: column.data_type.clone(), ..table.columns[*i].clone() })
                    .collect();
                let (source, expressions) = project_source(table, source, kept, &columns)?;
                let watermark = match &table.watermark {
                    None => None,
                    Some((rowtime, expression)) => {
                        let place = |index: usize| {
                            kept.iter().position(|i| *i == index).expect("a scan keeps what its watermark needs")
                        };
                        let expression = crate::bind::build::rebind(expression, &|index| {
                            let at = place(index);
                            (at, columns[at].data_type.clone(), columns[at].name.clone())
                        })?;
                        let idle = self.settings.duration(IDLE_TIMEOUT).as_millis() as i64;
                        let idle = table.idle_timeout_ms.unwrap_or(idle);
                        Some(WatermarkSpec {
                            column: place(*rowtime),
                            expression,
                            interval_ms: self.settings.duration(WATERMARK_INTERVAL).as_millis() as i64,
                            idle_timeout_ms: (idle > 0).then_some(idle),
                            alignment: table.alignment.clone(),
                        })
                    }
                };
                let key = scan_key(&table.name, variant);
                let kind = NodeKind::Source(SourceNode { source, columns: expressions, watermark });
                let name = format!("Source({})", table.name);
                self.node(&format!("source:{key}"), name, kind, vec![], schema_of(&columns))
            }
            RelOp::Values { rows } => {
                let source = Arc::new(ValuesSource::new(schema.clone(), rows.clone()));
                let kind = NodeKind::Source(SourceNode { source, columns: None, watermark: None });
                let id = format!("{}/values", self.statement);
                let id = self.unique(&id);
                self.node(&id, "Values".into(), kind, vec![], schema)
            }
            RelOp::Calc { input, filter, project } => {
                let from = self.rel(input)?;
                let same = project.len() == input.columns.len()
                    && project.iter().enumerate().all(|(i, e)| e.as_column() == Some(i));
                if same && filter.is_none() && self.nodes[from].schema == schema {
                    return Ok(from);
                }
                let spec = OperatorSpec::Calc { filter: filter.clone(), project: project.clone() };
                self.operator("calc", "Calc", spec, forward(from), schema)
            }
            RelOp::Expand { input, projections } => {
                let from = self.rel(input)?;
                let spec = OperatorSpec::Expand { projections: projections.clone() };
                self.operator("expand", "Expand", spec, forward(from), schema)
            }
            RelOp::Replicate { input } => {
                let from = self.rel(input)?;
                let spec = OperatorSpec::Replicate { count: schema.len() };
                self.operator("replicate", "Replicate", spec, forward(from), schema)
            }
            RelOp::Unnest { input, unnest } => {
                let from = self.rel(input)?;
                self.operator("unnest", "Unnest", OperatorSpec::Unnest(unnest.clone()), forward(from), schema)
            }
            RelOp::Union { inputs } => {
                let mut edges = vec![];
                for input in inputs {
                    edges.extend(forward(self.rel(input)?));
                }
                self.operator("union", "Union", OperatorSpec::Union, edges, schema)
            }
            RelOp::Window { input, window, session_keys } => {
                let from = self.rel(input)?;
                let is_session = matches!(window.shape, WindowShape::Session { .. });
                let inputs = match is_session {
                    true => vec![Edge { from, partitioning: Partitioning::Hash(session_keys.clone()) }],
                    false => forward(from),
                };
                let spec = OperatorSpec::WindowAssign { window: window.clone(), session_keys: session_keys.clone() };
                self.operator("window", "WindowAssign", spec, inputs, schema)
            }
            RelOp::Join { left, right, kind, condition, ttl_ms } => {
                let zone = self.settings.text(TIME_ZONE).parse()?;
                let analysis = joins::analyze(&left.columns, &right.columns, *kind, condition.as_ref(), &zone)?;
                let (from_left, from_right) = (self.rel(left)?, self.rel(right)?);
                let appends = |node: NodeIndex| self.nodes[node].changelog.is_insert_only();
                let time = analysis.time.filter(|_| appends(from_left) && appends(from_right));
                let name = match &time {
                    None => "Join",
                    Some(time) if time.drops_late => "WindowJoin",
                    Some(_) => "IntervalJoin",
                };
                let edge = |from, keys| Edge { from, partitioning: Partitioning::Hash(keys) };
                let inputs = vec![
                    edge(from_left, analysis.keys.iter().map(|k| k.left).collect()),
                    edge(from_right, analysis.keys.iter().map(|k| k.right).collect()),
                ];
                let spec = OperatorSpec::Join(Join {
                    kind: *kind,
                    keys: analysis.keys,
                    condition: analysis.rest,
                    ttl_ms: ttl_ms.map(|hint| self.ttl_ms(hint).filter(|_| time.is_none())),
                    time,
                });
                self.operator("join", name, spec, inputs, schema)
            }
            RelOp::TemporalJoin { left, right, outer, left_time, right_time, condition } => {
                let zone = self.settings.text(TIME_ZONE).parse()?;
                let kind = if *outer { JoinKind::Left } else { JoinKind::Inner };
                let analysis = joins::analyze(&left.columns, &right.columns, kind, condition.as_ref(), &zone)?;
                let edge = |from, keys| Edge { from, partitioning: Partitioning::Hash(keys) };
                let inputs = vec![
                    edge(self.rel(left)?, analysis.keys.iter().map(|k| k.left).collect()),
                    edge(self.rel(right)?, analysis.keys.iter().map(|k| k.right).collect()),
                ];
                let spec = OperatorSpec::TemporalJoin(TemporalJoin {
                    outer: *outer,
                    keys: analysis.keys,
                    condition: analysis.rest,
                    left_time: *left_time,
                    right_time: *right_time,
                });
                self.operator("temporal-join", "TemporalJoin", spec, inputs, schema)
            }
            RelOp::LookupJoin { left, right, source, outer, condition, hints } => {
                let zone = self.settings.text(TIME_ZONE).parse()?;
                let from = self.rel(left)?;
                let seen = lookup::seen(right, &zone)?.ok_or_else(|| Error::internal("a lookup in no table"))?;
                let lookups = lookup::lookups(left.columns.len(), &seen, condition.as_ref(), &zone)?;
                let capacity = hints.capacity.unwrap_or(self.settings.number(LOOKUP_CAPACITY));
                let ordered = hints.ordered.unwrap_or(self.settings.text(LOOKUP_ORDER) == "ORDERED");
                let timeout_ms = self.settings.duration(LOOKUP_TIMEOUT).as_millis() as u64;
                let calls = LookupCalls {
                    capacity: if hints.is_async == Some(false) { 0 } else { capacity },
                    ordered: ordered || !self.nodes[from].changelog.is_insert_only(),
                    timeout_ms: hints.timeout_ms.unwrap_or(timeout_ms),
                    retry_missing: hints.retry_missing,
                };
                let spec = OperatorSpec::LookupJoin(LookupJoin {
                    table: source.clone(),
                    outer: *outer,
                    keys: lookups.keys,
                    read: lookups.read,
                    filter: lookups.filter,
                    columns: lookups.columns,
                    condition: lookups.condition,
                    is_unique: lookups.is_unique,
                    calls,
                });
                self.operator("lookup-join", "LookupJoin", spec, forward(from), schema)
            }
            RelOp::ToChangelog { input, changes } => {
                let from = self.rel(input)?;
                let spec = OperatorSpec::ToChangelog(changes.clone());
                self.operator("to-changelog", "ToChangelog", spec, forward(from), schema)
            }
            RelOp::FromChangelog { input, changes } => {
                let from = self.rel(input)?;
                let spec = OperatorSpec::FromChangelog(changes.clone());
                self.operator("from-changelog", "FromChangelog", spec, forward(from), schema)
            }
            RelOp::Normalize { input, keys } => {
                let from = self.rel(input)?;
                let ttl_ms = self.ttl_ms(None);
                let spec = OperatorSpec::ChangelogNormalize(ChangelogNormalize { keys: keys.clone(), ttl_ms });
                let edge = Edge { from, partitioning: Partitioning::Hash(keys.clone()) };
                self.operator("normalize", "ChangelogNormalize", spec, vec![edge], schema)
            }
            RelOp::Rank { input, rank } => {
                let from = self.rel(input)?;
                let mut rank = rank.clone();
                if !self.nodes[from].changelog.is_insert_only() {
                    rank.timing = RankTiming::Continuous;
                }
                // Windows leave with event time.
                let is_forgotten = !matches!(rank.timing, RankTiming::Window { .. });
                rank.ttl_ms = self.ttl_ms(None).filter(|_| is_forgotten && !rank.partition.is_empty());
                let is_first = rank.to == 1 && !rank.outputs_rank && !rank.partition.is_empty();
                let name = match rank.timing {
                    RankTiming::Window { .. } if is_first => "WindowDeduplicate",
                    RankTiming::Window { .. } => "WindowRank",
                    _ if is_first => "Deduplicate",
                    RankTiming::Arrival if rank.partition.is_empty() => "Limit",
                    _ => "Rank",
                };
                let edge = Edge { from, partitioning: Partitioning::Hash(rank.partition.clone()) };
                self.operator("rank", name, OperatorSpec::Rank(rank), vec![edge], schema)
            }
            RelOp::Over { input, partition, order, calls, roles, at, .. } => {
                let from = self.rel(input)?;
                let time = match (roles.first(), order.first()) {
                    (Some(role), Some(key)) if role.is_event_time() => WindowTime::Event { column: key.column },
                    _ => WindowTime::Processing,
                };
                let ttl_ms = self.ttl_ms(None).filter(|_| !partition.is_empty());
                let edge = Edge { from, partitioning: Partitioning::Hash(partition.clone()) };
                let is_time = roles.first().is_some_and(|role| role.is_event_time() || role.is_proctime());
                if !(calls.is_empty() || is_time && self.nodes[from].changelog.is_insert_only()) {
                    let mut rank = first_rows(order, &[], 1, u64::MAX);
                    rank.partition.clone_from(partition);
                    rank.calls.clone_from(calls);
                    rank.ttl_ms = ttl_ms;
                    return self.operator("over", "OverAggregate", OperatorSpec::Rank(rank), vec![edge], schema);
                }
                let spec = OperatorSpec::Over(Over {
                    partition: partition.clone(),
                    time,
                    then: order.get(1..).unwrap_or_default().to_vec(),
                    calls: calls.clone(),
                    ttl_ms,
                });
                let name = if calls.is_empty() { "TemporalSort" } else { "OverAggregate" };
                self.operator("over", name, spec, vec![edge], schema).at_place(*at)
            }
            RelOp::GroupAggregate { input, keys, aggregates, ttl_ms } => {
                let from = self.rel(input)?;
                let spec = OperatorSpec::GroupAggregate(GroupAggregate {
                    keys: keys.clone(),
                    aggregates: aggregates.clone(),
                    ttl_ms: self.ttl_ms(*ttl_ms),
                });
                let edge = Edge { from, partitioning: Partitioning::Hash(keys.clone()) };
                self.operator("aggregate", "GroupAggregate", spec, vec![edge], schema)
            }
            RelOp::Match { input, search } => {
                let from = self.rel(input)?;
                let edge = Edge { from, partitioning: Partitioning::Hash(search.keys.clone()) };
                let spec = OperatorSpec::Match((**search).clone());
                self.operator("match", "Match", spec, vec![edge], schema)
            }
            RelOp::Aggregate { input, aggregate } => {
                let from = match &self.late {
                    Some(_) => self.rel(&with_read_columns(input))?,
                    None => self.rel(input)?,
                };
                if self.nodes[from].changelog.is_insert_only() {
                    return self.window_aggregate(from, aggregate, schema);
                }
                // Windows whose rows were all taken back give none (flink: `WindowIsEmptySupplier`).
                let mut counting = aggregate.clone();
                let mut fields = schema.fields.clone();
                let at = aggregate.keys.len() + aggregate.aggregates.len();
                let count = Field::new("$count", TypeKind::BigInt.not_null());
                counting.aggregates.push(AggregateCall {
                    function: AggregateFunction::Count,
                    args: vec![],
                    arg_types: vec![],
                    distinct: false,
                    filter: None,
                    result: count.data_type.clone(),
                });
                fields.insert(at, count);
                let column = |i: usize| exprs::column(i, fields[i].data_type.clone(), &fields[i].name);
                let zone = self.settings.text(TIME_ZONE).parse()?;
                let filter = Some(exprs::call("<>", vec![column(at), build::bigint(0)], &zone)?);
                let project = (0..fields.len()).filter(|i| *i != at).map(column).collect();
                let from = self.window_aggregate(from, &counting, Schema::new(fields))?;
                self.operator("calc", "Calc", OperatorSpec::Calc { filter, project }, forward(from), schema)
            }
        }
    }

    fn window_aggregate(&mut self, from: NodeIndex, aggregate: &WindowAggregate, schema: Schema) -> Result<NodeIndex> {
        if !self.is_two_phase(aggregate, self.nodes[from].changelog.is_insert_only()) {
            let edge = Edge { from, partitioning: Partitioning::Hash(aggregate.keys.clone()) };
            let spec = OperatorSpec::WindowAggregate(aggregate.clone());
            return self.operator("aggregate", "WindowAggregate", spec, vec![edge], schema);
        }
        let local = WindowAggregate { phase: AggregatePhase::Local, ..aggregate.clone() };
        let mut fields: Vec<Field> = schema.fields[..aggregate.keys.len()].to_vec();
        fields.push(Field::new("$slice_end", TypeKind::BigInt.not_null()));
        for (i, call) in aggregate.aggregates.iter().enumerate() {
            for (j, data_type) in call.state_types().into_iter().enumerate() {
                fields.push(Field::new(format!("$partial{i}_{j}"), data_type));
            }
        }
        let spec = OperatorSpec::WindowAggregate(local);
        let from =
            self.operator("local-aggregate", "LocalWindowAggregate", spec, forward(from), Schema::new(fields))?;
        let keys: Vec<usize> = (0..aggregate.keys.len()).collect();
        let edge = Edge { from, partitioning: Partitioning::Hash(keys.clone()) };
        let global =
            WindowAggregate { session_keys: keys.len(), keys, phase: AggregatePhase::Global, ..aggregate.clone() };
        let spec = OperatorSpec::WindowAggregate(global);
        // The id is that of the single phase: its state is the same.
        self.operator("aggregate", "GlobalWindowAggregate", spec, vec![edge], schema)
    }

    /// Whether rows are combined before the exchange: only where the result doesn't depend on their order and
    /// windows are cut from event time, and late rows are not to be told apart; `appends`: no row is taken back.
    fn is_two_phase(&self, aggregate: &WindowAggregate, appends: bool) -> bool {
        use AggregateFunction::*;
        let wanted = match self.settings.text(TWO_PHASE).to_ascii_uppercase().as_str() {
            "ONE_PHASE" => false,
            "TWO_PHASE" => true,
            _ => self.parallelism > 1,
        };
        let shape = match aggregate.window.shape {
            WindowShape::Tumble { .. } | WindowShape::Hop { .. } | WindowShape::Cumulate { .. } => true,
            WindowShape::Session { .. } | WindowShape::Attached { .. } => false,
        };
        let mergeable = aggregate.aggregates.iter().all(|call| {
            let function = matches!(
                call.function,
                Count | Sum | Sum0 | Avg | Min | Max | StddevPop | StddevSamp | VarPop | VarSamp | Bitmap { .. }
            );
            function && !call.distinct && (appends || !matches!(call.function, Min | Max | Bitmap { .. }))
        });
        wanted && self.late.is_none() && shape && mergeable && matches!(aggregate.window.time, WindowTime::Event { .. })
    }
}

fn forward(from: NodeIndex) -> Vec<Edge> {
    vec![Edge { from, partitioning: Partitioning::Forward }]
}
