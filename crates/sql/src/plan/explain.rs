//! The plan as text: a tree from each sink down to its sources.

use millstream_core::graph::{
    AggregateCall, AggregatePhase, JobGraph, JoinKey, LookupJoin, Node, NodeIndex, NodeKind, OperatorSpec, OverCall,
    OverFunction, Partitioning, RankFunction, RankTiming, SortKey, WindowProperty, WindowShape, WindowSpec, WindowTime,
};
use millstream_core::pattern::{AfterMatch, MatchRecognize};
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, RowKind, Schema};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The graph as text; ends with a line feed.
pub fn explain_graph(graph: &JobGraph) -> String {
    let mut out = String::new();
    let mut shown = BTreeSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.kind, NodeKind::Sink(_)) {
            write_node(graph, index, "", "", None, &mut shown, &mut out);
        }
    }
    out
}

fn write_node(
    graph: &JobGraph,
    index: NodeIndex,
    first: &str,
    rest: &str,
    edge: Option<String>,
    shown: &mut BTreeSet<NodeIndex>,
    out: &mut String,
) {
    let node = &graph.nodes[index];
    let edge = edge.map(|e| format!("{e} ")).unwrap_or_default();
    if !shown.insert(index) {
        let _ = writeln!(out, "{first}{edge}{} [see {}]", node.name, node.id);
        return;
    }
    let _ = writeln!(out, "{first}{edge}{} id={} changelog={}", node.name, node.id, node.changelog);
    let bar = if node.inputs.is_empty() { "   " } else { "|  " };
    for line in details(graph, node) {
        let _ = writeln!(out, "{rest}{bar} {line}");
    }
    let last = node.inputs.len().saturating_sub(1);
    for (number, input) in node.inputs.iter().enumerate() {
        let schema = &graph.nodes[input.from].schema;
        let edge = match &input.partitioning {
            Partitioning::Forward => None,
            Partitioning::Rebalance => Some("rebalance".to_string()),
            Partitioning::Hash(keys) if keys.is_empty() => Some("hash[] (all to one worker)".to_string()),
            Partitioning::Hash(keys) => Some(format!("hash[{}]", names(keys, schema))),
        };
        let below = if number == last { "   " } else { "|  " };
        write_node(graph, input.from, &format!("{rest}+- "), &format!("{rest}{below}"), edge, shown, out);
    }
}

fn names(indices: &[usize], schema: &Schema) -> String {
    let name = |i: &usize| schema.fields.get(*i).map_or_else(|| format!("${i}"), |f| f.name.clone());
    indices.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn list(exprs: &[ExprRef], schema: &Schema) -> String {
    let shown = exprs.iter().zip(&schema.fields).map(|(expr, field)| {
        let text = expr.to_string();
        if text == field.name { text } else { format!("{text} AS {}", field.name) }
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn details(graph: &JobGraph, node: &Node) -> Vec<String> {
    let input = node.inputs.first().map_or(&node.schema, |edge| &graph.nodes[edge.from].schema);
    let columns =
        || node.schema.fields.iter().map(|f| format!("{} {}", f.name, f.data_type)).collect::<Vec<_>>().join(", ");
    let mut lines = match &node.kind {
        NodeKind::Sink(sink) => vec![sink.describe(), format!("columns: {}", columns())],
        NodeKind::Source(source) => {
            let mut lines = vec![source.source.describe(), format!("columns: {}", columns())];
            if let Some(exprs) = &source.columns {
                lines.push(format!("computed: {}", list(exprs, &node.schema)));
            }
            if let Some(watermark) = &source.watermark {
                let column = names(&[watermark.column], &node.schema);
                let mut line =
                    format!("watermark: {column} AS {}, every {} ms", watermark.expression, watermark.interval_ms);
                if let Some(idle) = watermark.idle_timeout_ms {
                    let _ = write!(line, ", idle after {idle} ms");
                }
                if let Some(alignment) = &watermark.alignment {
                    let _ = write!(line, ", splits at most {} ms apart", alignment.max_drift_ms);
                }
                lines.push(line);
            }
            lines
        }
        NodeKind::Operator(spec) => match spec {
            OperatorSpec::Calc { filter, project } => {
                let mut lines = vec![format!("select: {}", list(project, &node.schema))];
                lines.extend(filter.iter().map(|f| format!("where: {f}")));
                lines
            }
            OperatorSpec::Expand { projections } => {
                projections.iter().map(|p| format!("row: {}", list(p, &node.schema))).collect()
            }
            OperatorSpec::Union => vec![],
            OperatorSpec::ToChangelog(changes) => {
                let code = |(code, kind): (&Option<String>, u8)| {
                    Some(format!("{} as '{}'", RowKind::from_byte(kind)?.symbol(), code.as_ref()?))
                };
                vec![format!(
                    "codes: {}",
                    changes.codes.iter().zip(0..).filter_map(code).collect::<Vec<_>>().join(", ")
                )]
            }
            OperatorSpec::FromChangelog(changes) => {
                let shown = changes.kinds.iter().map(|(code, kind)| format!("'{code}' is {}", kind.symbol()));
                let codes = shown.collect::<Vec<_>>().join(", ");
                vec![format!("codes: {}: {codes}", names(&[changes.column], input))]
            }
            OperatorSpec::Replicate { count } => vec![format!("copies: {}", names(&[*count], input))],
            OperatorSpec::Unnest(unnest) => {
                let ordinality = if unnest.ordinality { " with ordinality" } else { "" };
                let keeps = if unnest.keeps_empty { ", keeps rows without elements" } else { "" };
                let on = unnest.condition.as_ref().map_or_else(String::new, |on| format!(", on {on}"));
                vec![format!("unnest: {}{ordinality}{keeps}{on}", unnest.collection)]
            }
            OperatorSpec::WindowAssign { window, session_keys } => {
                let mut lines = vec![show_window(window, Some(input))];
                if !session_keys.is_empty() {
                    lines.push(format!("keys: {}", names(session_keys, input)));
                }
                lines
            }
            OperatorSpec::WindowAggregate(aggregate) => {
                // A final phase finds the windows in the slices that it is given.
                let global = aggregate.phase == AggregatePhase::Global;
                let mut lines = vec![show_window(&aggregate.window, (!global).then_some(input))];
                if !aggregate.keys.is_empty() {
                    lines.push(format!("keys: {}", names(&aggregate.keys, input)));
                }
                if !aggregate.aggregates.is_empty() {
                    let calls = aggregate.aggregates.iter().map(|c| show_call(c, (!global).then_some(input)));
                    lines.push(format!("aggregates: {}", calls.collect::<Vec<_>>().join(", ")));
                }
                if !aggregate.properties.is_empty() {
                    let shown = aggregate.properties.iter().map(|p| match p {
                        WindowProperty::Start => "window_start",
                        WindowProperty::End => "window_end",
                        WindowProperty::RowTime { .. } => "window_time",
                    });
                    lines.push(format!("properties: {}", shown.collect::<Vec<_>>().join(", ")));
                }
                lines
            }
            OperatorSpec::Join(join) => {
                let right = node.inputs.get(1).map_or(&node.schema, |edge| &graph.nodes[edge.from].schema);
                let key = |k: &JoinKey| {
                    let equals = if k.null_safe { "IS NOT DISTINCT FROM" } else { "=" };
                    format!("{} {equals} {}", names(&[k.left], input), names(&[k.right], right))
                };
                let kind = format!("{:?}", join.kind).to_uppercase();
                let keys = join.keys.iter().map(key).collect::<Vec<_>>().join(", ");
                let mut lines = vec![format!("{kind} on [{keys}]")];
                lines.extend(join.condition.iter().map(|c| format!("where: {c}")));
                if let Some(time) = &join.time {
                    lines.push(format!(
                        "rows leave: {} + {} ms, {} + {} ms",
                        names(&[time.left.0], input),
                        time.left.1,
                        names(&[time.right.0], right),
                        time.right.1
                    ));
                }
                lines.extend(match join.ttl_ms {
                    [left, right] if left == right => left.map(forgotten),
                    [left, right] => {
                        let side = |ttl: Option<i64>| {
                            ttl.map_or("never".to_string(), |ttl| format!("after {ttl} ms without use"))
                        };
                        Some(format!("state is forgotten: left {}, right {}", side(left), side(right)))
                    }
                });
                lines
            }
            OperatorSpec::TemporalJoin(join) => {
                let right = node.inputs.get(1).map_or(&node.schema, |edge| &graph.nodes[edge.from].schema);
                let equal = |l: usize, r: usize| format!("{} = {}", names(&[l], input), names(&[r], right));
                let keys = join.keys.iter().map(|k| equal(k.left, k.right)).collect::<Vec<_>>().join(", ");
                let kind = if join.outer { "LEFT" } else { "INNER" };
                let (at, since) = (names(&[join.left_time], input), names(&[join.right_time], right));
                let mut lines = vec![format!("{kind} on [{keys}]"), format!("versions since {since} as of {at}")];
                lines.extend(join.condition.iter().map(|c| format!("where: {c}")));
                lines
            }
            OperatorSpec::LookupJoin(join) => show_lookup(join),
            OperatorSpec::ChangelogNormalize(normalize) => {
                let mut lines = vec![format!("key: {}", names(&normalize.keys, input))];
                lines.extend(normalize.ttl_ms.map(forgotten));
                lines
            }
            OperatorSpec::Rank(rank) => {
                let function = match rank.function {
                    RankFunction::RowNumber => "ROW_NUMBER",
                    RankFunction::Rank => "RANK",
                    RankFunction::DenseRank => "DENSE_RANK",
                };
                let mut lines = match rank.calls.is_empty() {
                    true => vec![format!("{function} from {} to {}", rank.from, rank.to)],
                    false => vec![],
                };
                if !rank.partition.is_empty() {
                    lines.push(format!("keys: {}", names(&rank.partition, input)));
                }
                let arrival = if rank.latest_first { "latest arrival" } else { "arrival" };
                let order = rank.order.iter().map(|key| show_order(key, input)).chain([arrival.to_string()]);
                lines.push(format!("order: {}", order.collect::<Vec<_>>().join(", ")));
                lines.extend(rank.calls.iter().map(|call| show_over(call, input)));
                lines.extend(match rank.timing {
                    RankTiming::Continuous | RankTiming::Arrival => None,
                    RankTiming::RowTime { column } => {
                        Some(format!("comes out: watermark >= {}", names(&[column], input)))
                    }
                    RankTiming::Window { end, event_time: true, .. } => {
                        Some(format!("comes out: watermark at {}", names(&[end], input)))
                    }
                    RankTiming::Window { end, .. } => Some(format!("comes out: clock at {}", names(&[end], input))),
                });
                lines.extend(rank.ttl_ms.map(forgotten));
                lines
            }
            OperatorSpec::Over(over) => {
                let mut lines = vec![];
                if !over.partition.is_empty() {
                    lines.push(format!("keys: {}", names(&over.partition, input)));
                }
                let time = match over.time {
                    WindowTime::Event { column } => names(&[column], input),
                    WindowTime::Processing => "processing time".to_string(),
                };
                let order = std::iter::once(time).chain(over.then.iter().map(|key| show_order(key, input)));
                lines.push(format!("order: {}", order.collect::<Vec<_>>().join(", ")));
                lines.extend(over.calls.iter().map(|call| show_over(call, input)));
                lines.extend(over.ttl_ms.map(forgotten));
                lines
            }
            OperatorSpec::GroupAggregate(aggregate) => {
                let mut lines = vec![];
                if !aggregate.keys.is_empty() {
                    lines.push(format!("keys: {}", names(&aggregate.keys, input)));
                }
                if !aggregate.aggregates.is_empty() {
                    let calls = aggregate.aggregates.iter().map(|c| show_call(c, Some(input)));
                    lines.push(format!("aggregates: {}", calls.collect::<Vec<_>>().join(", ")));
                }
                lines.extend(aggregate.ttl_ms.map(forgotten));
                lines
            }
            OperatorSpec::Match(search) => show_match(search, input, &node.schema),
            OperatorSpec::LateRows(late) => {
                let columns = late.project.iter().zip(&node.schema.fields);
                let columns = columns.map(|(expr, field)| format!("{}: {expr}", field.name));
                vec![
                    format!("late on input {}", late.port + 1),
                    format!("select: {}", columns.collect::<Vec<_>>().join(", ")),
                ]
            }
            OperatorSpec::Custom(factory) => vec![factory.describe()],
        },
    };
    if !node.upsert_keys.is_empty() {
        let key = |key: &Vec<usize>| {
            if key.is_empty() { "one row".into() } else { format!("[{}]", names(key, &node.schema)) }
        };
        lines.push(format!("upsert key: {}", node.upsert_keys.iter().map(key).collect::<Vec<_>>().join(", ")));
    }
    if let NodeKind::Operator(spec) = &node.kind {
        lines.extend(
            spec.state_tables(&graph.connections(node)).iter().map(|table| format!("state: {}/{table}", node.id)),
        );
    }
    lines
}

fn show_match(search: &MatchRecognize, input: &Schema, output: &Schema) -> Vec<String> {
    let mut order = match search.time {
        WindowTime::Event { column } => names(&[column], input),
        WindowTime::Processing => "processing time".to_string(),
    };
    for by in &search.order {
        let _ = write!(order, ", {}{}", names(&[by.column], input), if by.descending { " DESC" } else { "" });
    }
    let pattern: Vec<String> = search.variables.iter().map(ToString::to_string).collect();
    let within = search.within_ms.map(|ms| format!(" within {ms} ms")).unwrap_or_default();
    let variable = |number: &usize| search.variables.get(*number).map_or("?", |v| &v.name);
    let skip = match &search.skip {
        AfterMatch::ToNextRow => "to next row".to_string(),
        AfterMatch::PastLastRow => "past last row".to_string(),
        AfterMatch::ToFirst(number) => format!("to first {}", variable(number)),
        AfterMatch::ToLast(number) => format!("to last {}", variable(number)),
    };
    let mut lines = vec![];
    if !search.keys.is_empty() {
        lines.push(format!("keys: {}", names(&search.keys, input)));
    }
    lines.push(format!("order: {order}"));
    lines.push(format!("pattern: {}{within}, skip {skip}", pattern.join(" ")));
    let conditions = search.variables.iter().filter_map(|v| Some(format!("{}: {}", v.name, v.condition.as_ref()?)));
    lines.extend(conditions.map(|condition| format!("define {condition}")));
    let measures = Schema::new(output.fields[search.keys.len().min(output.len())..].to_vec());
    lines.push(format!("measures: {}", list(&search.measures, &measures)));
    lines
}

fn show_lookup(join: &LookupJoin) -> Vec<String> {
    let keys = join.keys.iter().map(|key| format!("{} = {}", key.column, key.value)).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        join.table.describe(),
        format!("{} by [{keys}]", if join.outer { "LEFT" } else { "INNER" }),
        format!("looked up: {}", join.read.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ")),
    ];
    lines.extend(join.filter.iter().map(|filter| format!("rows looked up: {filter}")));
    lines.extend(join.condition.iter().map(|condition| format!("where: {condition}")));
    let calls = &join.calls;
    let order = if calls.ordered { "in order" } else { "as they are answered" };
    let waiting = match calls.capacity {
        0 => "one batch waits".to_string(),
        capacity => format!("{capacity} rows wait"),
    };
    lines.push(format!("calls: {order}, while {waiting} no more are taken, answers within {} ms", calls.timeout_ms));
    if let Some(retry) = &calls.retry_missing {
        lines.push(format!("without a row: again {} times, every {} ms", retry.max_attempts, retry.delay_ms));
    }
    lines
}

fn show_order(key: &SortKey, input: &Schema) -> String {
    let direction = if key.descending { "DESC" } else { "ASC" };
    let nulls = match key.nulls_first == key.descending {
        true if key.nulls_first => " NULLS FIRST",
        true => " NULLS LAST",
        false => "",
    };
    format!("{} {direction}{nulls}", names(&[key.column], input))
}

fn show_over(call: &OverCall, input: &Schema) -> String {
    let unit = if call.frame.is_rows { "ROWS" } else { "RANGE" };
    let frame = match call.frame.preceding {
        None => format!("{unit} from the first row"),
        Some(rows) if call.frame.is_rows => format!("ROWS from {rows} before"),
        Some(ms) => format!("RANGE from {ms} ms before"),
    };
    match &call.function {
        OverFunction::Aggregate(aggregate) => format!("call: {}, {frame}", show_call(aggregate, Some(input))),
        OverFunction::Rank(function) => format!("call: {function:?}"),
        OverFunction::Lag { column, offset, default } => {
            let default = default.map_or(String::new(), |d| format!(", {}", names(&[d], input)));
            format!("call: Lag({}, {offset}{default})", names(&[*column], input))
        }
    }
}

fn show_call(call: &AggregateCall, input: Option<&Schema>) -> String {
    let function = format!("{:?}", call.function);
    let args = match input {
        _ if call.args.is_empty() => "*".to_string(),
        Some(input) => names(&call.args, input),
        None => "partial".to_string(),
    };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let filter = match (call.filter, input) {
        (Some(filter), Some(input)) => format!(" FILTER {}", names(&[filter], input)),
        _ => String::new(),
    };
    format!("{function}({distinct}{args}){filter}: {}", call.result)
}

fn show_window(window: &WindowSpec, input: Option<&Schema>) -> String {
    let of = |columns: &[usize]| input.map_or(String::new(), |input| names(columns, input));
    let offset = |ms: i64| if ms == 0 { String::new() } else { format!(", offset {ms} ms") };
    let shape = match window.shape {
        WindowShape::Tumble { size_ms, offset_ms } => format!("TUMBLE(size {size_ms} ms{})", offset(offset_ms)),
        WindowShape::Hop { size_ms, slide_ms, offset_ms } => {
            format!("HOP(slide {slide_ms} ms, size {size_ms} ms{})", offset(offset_ms))
        }
        WindowShape::Cumulate { size_ms, step_ms, offset_ms } => {
            format!("CUMULATE(step {step_ms} ms, size {size_ms} ms{})", offset(offset_ms))
        }
        WindowShape::Session { gap_ms } => format!("SESSION(gap {gap_ms} ms)"),
        WindowShape::Attached { start, end } => format!("attached({})", of(&[start, end])),
    };
    let time = match window.time {
        WindowTime::Event { column } => format!("event time {}", of(&[column])).trim_end().to_string(),
        WindowTime::Processing => "processing time".to_string(),
    };
    let zone = match window.zone {
        SessionZone::Region(zone) if zone.name() == "UTC" => String::new(),
        SessionZone::Region(zone) => format!(" in {zone}"),
        SessionZone::Fixed(seconds) => format!(" at UTC{:+} s", seconds),
    };
    format!("window: {shape} on {time}{zone}")
}

/// How long state lives without use.
fn forgotten(ttl_ms: i64) -> String {
    format!("state is forgotten after {ttl_ms} ms without use")
}
