//! Which kinds of rows each node emits: first from its inputs up, then, from the sinks down, whether anyone needs `-U`.

use millstream_core::graph::{
    ChangelogMode, JoinKind, Node, NodeKind, OperatorSpec, RankFunction, RankTiming, WindowShape,
};
use millstream_core::{Error, Result};

/// The kinds that a node emits, given those that arrive, as if everyone needed `-U`.
///
/// # Errors
///
/// The node can't take what arrives.
pub fn emitted(kind: &NodeKind, inputs: &[ChangelogMode]) -> Result<ChangelogMode> {
    let all = inputs.iter().copied().fold(ChangelogMode::INSERT_ONLY, ChangelogMode::union);
    let spec = match kind {
        NodeKind::Source(source) => return Ok(source.source.changelog()),
        NodeKind::Sink(_) => return Ok(all),
        NodeKind::Operator(spec) => spec,
    };
    let append_only = |what: &str| match all.is_insert_only() {
        true => Ok(ChangelogMode::INSERT_ONLY),
        false => Err(Error::unsupported(format!("{what} over rows that are updated"))
            .detail(format!("the rows that arrive are {all}"))),
    };
    match spec {
        OperatorSpec::Calc { .. } | OperatorSpec::Expand { .. } | OperatorSpec::Union | OperatorSpec::Unnest(_) => {
            Ok(all)
        }
        OperatorSpec::Replicate { .. } => {
            Ok(ChangelogMode { delete: !all.is_insert_only(), ..ChangelogMode::INSERT_ONLY })
        }
        OperatorSpec::WindowAssign { window, .. } => match window.shape {
            WindowShape::Session { .. } => append_only("a SESSION window function"),
            _ => Ok(all),
        },
        OperatorSpec::WindowAggregate(_) | OperatorSpec::LateRows(_) => Ok(ChangelogMode::INSERT_ONLY),
        OperatorSpec::Join(join) => Ok(match (join.kind, &join.time) {
            (_, Some(_)) => ChangelogMode::INSERT_ONLY,
            (JoinKind::Inner, None) => all,
            (JoinKind::Semi, None) => {
                ChangelogMode { delete: all.delete || inputs.get(1).is_some_and(|m| !m.is_insert_only()), ..all }
            }
            (JoinKind::Left | JoinKind::Right | JoinKind::Full | JoinKind::Anti, None) => {
                ChangelogMode { delete: true, ..all }
            }
        }),
        OperatorSpec::Over(_) => append_only("an OVER window, or ORDER BY a time attribute,"),
        OperatorSpec::Rank(rank) => match rank.timing {
            RankTiming::Arrival | RankTiming::RowTime { .. } | RankTiming::Window { .. } => {
                append_only("a ranking by time")
            }
            RankTiming::Continuous if !rank.calls.is_empty() => {
                Ok(ChangelogMode { update: true, update_before: true, delete: !all.is_insert_only() })
            }
            RankTiming::Continuous => {
                // Places that are told, or the only one, get other rows; else rows come and go.
                let is_numbered = rank.outputs_rank || rank.from == rank.to && rank.function == RankFunction::RowNumber;
                let is_kept = is_numbered && rank.function == RankFunction::RowNumber && all.is_insert_only();
                Ok(ChangelogMode { update: is_numbered, update_before: is_numbered, delete: !is_kept })
            }
        },
        // Without an aggregate it is a DISTINCT, whose rows don't change.
        OperatorSpec::GroupAggregate(aggregate) => Ok(ChangelogMode {
            update: !aggregate.aggregates.is_empty(),
            update_before: !aggregate.aggregates.is_empty(),
            delete: !all.is_insert_only(),
        }),
        OperatorSpec::Match(_) => append_only("MATCH_RECOGNIZE"),
        OperatorSpec::TemporalJoin(_) | OperatorSpec::LookupJoin(_) => {
            Ok(inputs.first().copied().unwrap_or(ChangelogMode::INSERT_ONLY))
        }
        OperatorSpec::ChangelogNormalize(_) => Ok(ChangelogMode::ALL),
        OperatorSpec::ToChangelog(_) => Ok(ChangelogMode::INSERT_ONLY),
        OperatorSpec::FromChangelog(changes) => append_only("FROM_CHANGELOG").map(|_| changes.changelog()),
        OperatorSpec::Custom(_) => append_only("an operator of the program's own"),
    }
}

/// Whether a node that emits an update of its own making can leave out `-U`.
fn makes_updates(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::Source(_) | NodeKind::Sink(_) => false,
        NodeKind::Operator(spec) => match spec {
            OperatorSpec::GroupAggregate(_) | OperatorSpec::ChangelogNormalize(_) | OperatorSpec::Rank(_) => true,
            OperatorSpec::Join(_)
            | OperatorSpec::TemporalJoin(_)
            | OperatorSpec::LookupJoin(_)
            | OperatorSpec::LateRows(_)
            | OperatorSpec::Over(_)
            | OperatorSpec::Calc { .. }
            | OperatorSpec::Expand { .. }
            | OperatorSpec::Union
            | OperatorSpec::Replicate { .. }
            | OperatorSpec::Unnest(_)
            | OperatorSpec::WindowAssign { .. }
            | OperatorSpec::WindowAggregate(_)
            | OperatorSpec::Match(_)
            | OperatorSpec::ToChangelog(_)
            | OperatorSpec::FromChangelog(_)
            | OperatorSpec::Custom(_) => false,
        },
    }
}

/// Whether a node needs `-U` of what arrives on a port, given whether those behind it need it.
fn needs_update_before(kind: &NodeKind, port: usize, wanted: bool) -> bool {
    match kind {
        NodeKind::Source(_) => false,
        NodeKind::Sink(sink) => sink.accepts().update_before,
        NodeKind::Operator(spec) => match spec {
            // A filter may drop the new version of a row whose old one has passed (as in Flink).
            OperatorSpec::Calc { filter: Some(_), .. } => true,
            OperatorSpec::Calc { filter: None, .. }
            | OperatorSpec::Expand { .. }
            | OperatorSpec::Union
            | OperatorSpec::WindowAssign { .. } => wanted,
            // A version ends where the next one begins.
            OperatorSpec::TemporalJoin(_) => port == 0 && wanted,
            // The new version of a row may have other matches than the old one, or none.
            OperatorSpec::LookupJoin(join) => wanted || !join.outer || !join.is_unique || join.condition.is_some(),
            OperatorSpec::ToChangelog(changes) => changes.update_before,
            OperatorSpec::ChangelogNormalize(_) | OperatorSpec::LateRows(_) | OperatorSpec::FromChangelog(_) => false,
            OperatorSpec::WindowAggregate(_)
            | OperatorSpec::GroupAggregate(_)
            | OperatorSpec::Join(_)
            | OperatorSpec::Replicate { .. }
            | OperatorSpec::Unnest(_)
            | OperatorSpec::Match(_)
            | OperatorSpec::Rank(_)
            | OperatorSpec::Over(_)
            | OperatorSpec::Custom(_) => true,
        },
    }
}

/// Puts right the kinds of all nodes: no one emits a `-U` that no one needs.
pub fn settle(nodes: &mut [Node]) -> Result<()> {
    let mut wanted = vec![false; nodes.len()];
    for index in (0..nodes.len()).rev() {
        for (port, edge) in nodes[index].inputs.iter().enumerate() {
            if needs_update_before(&nodes[index].kind, port, wanted[index]) {
                wanted[edge.from] = true;
            }
        }
    }
    for index in 0..nodes.len() {
        let inputs: Vec<ChangelogMode> = nodes[index].inputs.iter().map(|e| nodes[e.from].changelog).collect();
        let mut mode = emitted(&nodes[index].kind, &inputs)?;
        mode.update_before &= wanted[index] || !makes_updates(&nodes[index].kind);
        nodes[index].changelog = mode;
    }
    Ok(())
}
