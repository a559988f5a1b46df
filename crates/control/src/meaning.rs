//! What an operator's state is about, as a text that a later run of a changed script is compared with.
//!
//! The text tells what is computed (aggregates with their arguments and filters, keys, windows) and from what: a column is
//! followed down the graph to the expression or the table's column that it comes from, so that an alias, a view or an
//! edit elsewhere in the script changes nothing. Which rows arrive, by a WHERE or by another source, is not part of it:
//! state goes on with the rows to come, as in Flink. The texts are stored in manifests: they are part of the state format.

use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::graph::{
    AggregateCall, AggregatePhase, JobGraph, JoinKey, Node, NodeIndex, NodeKind, OperatorSpec, OverCall, OverFunction,
    RankTiming, SortKey, WindowAggregate, WindowShape, WindowSpec, WindowTime,
};
use millstream_core::{Batch, DataType, Error, Expr, ExprRef, Result};
use std::fmt;
use std::sync::Arc;

/// Of a node's state; empty if it has none, or the shapes of its tables say enough.
pub fn meaning(graph: &JobGraph, node: &Node) -> String {
    let NodeKind::Operator(spec) = &node.kind else { return String::new() };
    match (spec, node.inputs.first()) {
        (OperatorSpec::WindowAssign { window, session_keys }, Some(input)) => {
            format!("rows by ({}) in {}", columns(graph, input.from, session_keys), windows(graph, input.from, window))
        }
        (OperatorSpec::WindowAggregate(aggregate), Some(_)) => {
            let (input, keys) = rows_of(graph, node, aggregate);
            let calls = aggregate.aggregates.iter().map(|c| call(graph, input, c)).collect::<Vec<_>>().join(", ");
            let window = windows(graph, input, &aggregate.window);
            format!("[{calls}] by ({}) in {window}", columns(graph, input, keys))
        }
        (OperatorSpec::GroupAggregate(aggregate), Some(input)) => {
            let calls = aggregate.aggregates.iter().map(|c| call(graph, input.from, c)).collect::<Vec<_>>().join(", ");
            format!("[{calls}] by ({})", columns(graph, input.from, &aggregate.keys))
        }
        (OperatorSpec::Rank(rank), Some(input)) => {
            let timing = match rank.timing {
                RankTiming::Continuous => "",
                RankTiming::Arrival => " as they arrive",
                RankTiming::RowTime { .. } => " by the watermark",
                RankTiming::Window { .. } => " at the window's end",
            };
            format!(
                "{:?} up to {} by ({}) in the order of [{}]{}{timing}",
                rank.function,
                rank.to,
                columns(graph, input.from, &rank.partition),
                order(graph, input.from, &rank.order),
                if rank.latest_first { ", latest first" } else { "" },
            )
        }
        (OperatorSpec::Over(over), Some(input)) => {
            let calls = over.calls.iter().map(|c| over_call(graph, input.from, c)).collect::<Vec<_>>().join(", ");
            let time = match over.time {
                WindowTime::Event { column: time } => column(graph, input.from, time),
                WindowTime::Processing => "processing time".to_string(),
            };
            format!("[{calls}] by ({}) over {time}", columns(graph, input.from, &over.partition))
        }
        (OperatorSpec::Join(join), _) => {
            let side = |port: usize, index: usize| node.inputs.get(port).map(|e| column(graph, e.from, index));
            let key = |k: &JoinKey| {
                format!("{} = {}", side(0, k.left).unwrap_or_default(), side(1, k.right).unwrap_or_default())
            };
            let keys = join.keys.iter().map(key).collect::<Vec<_>>().join(", ");
            let condition = join.condition.as_ref().map_or(String::new(), |c| format!(" where {c}"));
            format!("{:?} join on ({keys}){condition}", join.kind)
        }
        (OperatorSpec::Match(search), Some(input)) => search.meaning(&|index| column(graph, input.from, index)),
        (OperatorSpec::TemporalJoin(join), _) => {
            let side = |port: usize, index: usize| node.inputs.get(port).map(|e| column(graph, e.from, index));
            let pair =
                |l: usize, r: usize| format!("{} = {}", side(0, l).unwrap_or_default(), side(1, r).unwrap_or_default());
            let keys = join.keys.iter().map(|k| pair(k.left, k.right)).collect::<Vec<_>>().join(", ");
            format!("versions by ({keys}) at {}", pair(join.left_time, join.right_time))
        }
        (OperatorSpec::ChangelogNormalize(normalize), Some(input)) => {
            format!("last row by ({})", columns(graph, input.from, &normalize.keys))
        }
        (
            OperatorSpec::WindowAssign { .. }
            | OperatorSpec::WindowAggregate(_)
            | OperatorSpec::Match(_)
            | OperatorSpec::GroupAggregate(_)
            | OperatorSpec::Rank(_)
            | OperatorSpec::Over(_)
            | OperatorSpec::Calc { .. }
            | OperatorSpec::Expand { .. }
            | OperatorSpec::Union
            | OperatorSpec::Replicate { .. }
            | OperatorSpec::Unnest(_)
            | OperatorSpec::ChangelogNormalize(_)
            | OperatorSpec::LookupJoin(_)
            | OperatorSpec::LateRows(_)
            | OperatorSpec::ToChangelog(_)
            | OperatorSpec::FromChangelog(_)
            | OperatorSpec::Custom(_),
            _,
        ) => String::new(),
    }
}

/// The node whose rows are aggregated, and the keys among its columns: the same whether in one phase or in two.
fn rows_of<'a>(graph: &'a JobGraph, node: &Node, aggregate: &'a WindowAggregate) -> (NodeIndex, &'a [usize]) {
    let input = node.inputs[0].from;
    match &graph.nodes[input].kind {
        NodeKind::Operator(OperatorSpec::WindowAggregate(local)) if aggregate.phase == AggregatePhase::Global => {
            (graph.nodes[input].inputs[0].from, &local.keys)
        }
        _ => (input, &aggregate.keys),
    }
}

fn call(graph: &JobGraph, input: NodeIndex, call: &AggregateCall) -> String {
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let args = if call.args.is_empty() { "*".to_string() } else { columns(graph, input, &call.args) };
    let filter = call.filter.map_or(String::new(), |f| format!(" FILTER {}", column(graph, input, f)));
    format!("{:?}({distinct}{args}){filter}", call.function)
}

fn order(graph: &JobGraph, input: NodeIndex, keys: &[SortKey]) -> String {
    let key = |key: &SortKey| {
        let direction = if key.descending { " DESC" } else { "" };
        let nulls = if key.nulls_first == key.descending { " with NULL as the highest" } else { "" };
        format!("{}{direction}{nulls}", column(graph, input, key.column))
    };
    keys.iter().map(key).collect::<Vec<_>>().join(", ")
}

fn over_call(graph: &JobGraph, input: NodeIndex, over: &OverCall) -> String {
    match &over.function {
        OverFunction::Aggregate(aggregate) => format!("{} in {:?}", call(graph, input, aggregate), over.frame),
        OverFunction::Rank(function) => format!("{function:?}"),
        OverFunction::Lag { column: value, offset, .. } => format!("Lag({}, {offset})", column(graph, input, *value)),
    }
}

fn windows(graph: &JobGraph, input: NodeIndex, window: &WindowSpec) -> String {
    let time = match (window.shape, window.time) {
        (WindowShape::Attached { end, .. }, _) => return column(graph, input, end),
        (_, WindowTime::Event { column: time }) => column(graph, input, time),
        (_, WindowTime::Processing) => "processing time".to_string(),
    };
    format!("{:?} on {time} in {:?}", window.shape, window.zone)
}

fn columns(graph: &JobGraph, node: NodeIndex, indices: &[usize]) -> String {
    indices.iter().map(|i| column(graph, node, *i)).collect::<Vec<_>>().join(", ")
}

/// Where a node's column comes from.
fn column(graph: &JobGraph, at: NodeIndex, index: usize) -> String {
    let node = &graph.nodes[at];
    let name = || node.schema.fields.get(index).map_or_else(|| format!("${index}"), |field| field.name.clone());
    let (NodeKind::Operator(spec), Some(input)) = (&node.kind, node.inputs.first()) else { return name() };
    let below = input.from;
    match spec {
        OperatorSpec::Calc { project, .. } => project.get(index).map_or_else(name, |e| expression(graph, below, e)),
        OperatorSpec::Expand { projections } => {
            let texts = projections.iter().filter_map(|p| p.get(index)).map(|e| expression(graph, below, e));
            one_of(texts.collect()).unwrap_or_else(|texts| texts.join(" / "))
        }
        // By its name, if the inputs differ: they may come and go.
        OperatorSpec::Union => {
            let texts = node.inputs.iter().map(|input| column(graph, input.from, index)).collect();
            one_of(texts).unwrap_or_else(|_| name())
        }
        OperatorSpec::ToChangelog(_) if index < graph.nodes[below].schema.len() => column(graph, below, index),
        OperatorSpec::ToChangelog(_) => format!("the kinds of node {}", graph.nodes[below].id),
        OperatorSpec::FromChangelog(changes) => column(graph, below, index + usize::from(index >= changes.column)),
        OperatorSpec::Replicate { count } => column(graph, below, index + usize::from(index >= *count)),
        OperatorSpec::Unnest(unnest) => match unnest.kept.get(index) {
            Some(kept) => column(graph, below, *kept),
            None => format!("{} of {}", name(), expression(graph, below, &unnest.collection)),
        },
        OperatorSpec::WindowAssign { .. } if index < graph.nodes[below].schema.len() => column(graph, below, index),
        OperatorSpec::WindowAssign { window, .. } => format!("{} of {}", name(), windows(graph, below, window)),
        OperatorSpec::WindowAggregate(aggregate) => {
            let (input, keys) = rows_of(graph, node, aggregate);
            let after_keys = index.checked_sub(keys.len());
            match (keys.get(index), after_keys.map(|i| (aggregate.aggregates.get(i), i))) {
                (Some(key), _) => column(graph, input, *key),
                (None, Some((Some(aggregate), _))) => call(graph, input, aggregate),
                (None, Some((None, i))) => {
                    let property = aggregate.properties.get(i - aggregate.aggregates.len());
                    let property = property.map_or_else(name, |p| format!("{p:?}"));
                    format!("{property} of {}", windows(graph, input, &aggregate.window))
                }
                (None, None) => name(),
            }
        }
        OperatorSpec::GroupAggregate(aggregate) => match aggregate.keys.get(index) {
            Some(key) => column(graph, below, *key),
            None => {
                let aggregate = aggregate.aggregates.get(index - aggregate.keys.len());
                aggregate.map_or_else(name, |aggregate| call(graph, below, aggregate))
            }
        },
        OperatorSpec::Match(search) => match search.keys.get(index) {
            Some(key) => column(graph, below, *key),
            None => format!("{} of {}", name(), search.meaning(&|index| column(graph, below, index))),
        },
        OperatorSpec::ChangelogNormalize(_) => column(graph, below, index),
        OperatorSpec::Join(_) | OperatorSpec::TemporalJoin(_) => {
            match (index.checked_sub(graph.nodes[below].schema.len()), node.inputs.get(1)) {
                (Some(index), Some(right)) => column(graph, right.from, index),
                _ => column(graph, below, index),
            }
        }
        OperatorSpec::LookupJoin(join) => match index.checked_sub(graph.nodes[below].schema.len()) {
            None => column(graph, below, index),
            Some(_) => format!("{} of {}", name(), join.table.describe()),
        },
        OperatorSpec::Rank(_) if index < graph.nodes[below].schema.len() => column(graph, below, index),
        OperatorSpec::Rank(rank) => match rank.calls.get(index - graph.nodes[below].schema.len()) {
            Some(call) => over_call(graph, below, call),
            None => format!("{:?}", rank.function),
        },
        OperatorSpec::Over(over) => match index.checked_sub(graph.nodes[below].schema.len()) {
            None => column(graph, below, index),
            Some(number) => over.calls.get(number).map_or_else(name, |call| over_call(graph, below, call)),
        },
        OperatorSpec::LateRows(_) | OperatorSpec::Custom(_) => name(),
    }
}

fn expression(graph: &JobGraph, input: NodeIndex, expression: &ExprRef) -> String {
    meant(graph, input, expression).to_string()
}

/// The expression with each column as what it means.
fn meant(graph: &JobGraph, input: NodeIndex, expression: &ExprRef) -> ExprRef {
    if let Some(index) = expression.as_column() {
        return Arc::new(Meant { text: column(graph, input, index), data_type: expression.data_type().clone() });
    }
    let children: Vec<ExprRef> = expression.children().into_iter().map(|child| meant(graph, input, child)).collect();
    if children.is_empty() { expression.clone() } else { expression.with_children(children) }
}

/// A column's place in an expression that is only shown.
#[derive(Debug)]
struct Meant {
    text: String,
    data_type: DataType,
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expr for Meant {
    fn data_type(&self) -> &DataType {
        &self.data_type
    }
    fn evaluate(&self, _: &Batch, _: &EvalContext) -> Result<Columnar> {
        Err(Error::internal("what a column means has no value"))
    }
    fn children(&self) -> Vec<&ExprRef> {
        vec![]
    }
    fn with_children(&self, _: Vec<ExprRef>) -> ExprRef {
        Arc::new(Meant { text: self.text.clone(), data_type: self.data_type.clone() })
    }
}

/// The one text that all are, or all of them.
fn one_of(mut texts: Vec<String>) -> std::result::Result<String, Vec<String>> {
    match texts.split_first() {
        Some((first, rest)) if rest.iter().all(|t| t == first) => Ok(texts.swap_remove(0)),
        _ => Err(texts),
    }
}
