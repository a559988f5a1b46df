//! The operators of [`OperatorSpec`]: what each node of a job graph does to rows, watermarks and state.

mod aggregate;
mod calc;
mod changelog;
mod changelog_normalize;
#[cfg(test)]
mod changelog_tests;
mod counted;
mod expand;
mod expiring;
mod firing;
mod group_aggregate;
mod groups;
mod join;
mod join_side;
mod keyed_rows;
mod local_aggregate;
mod lookup_cache;
mod lookup_join;
#[cfg(test)]
mod lookup_tests;
mod over;
mod over_frames;
mod packed;
mod pattern;
mod rank;
mod rank_arrival;
mod rank_over;
mod rank_row_time;
#[cfg(test)]
mod rank_tests;
mod ranked;
mod replicate;
#[cfg(test)]
mod replicate_tests;
mod row_chunks;
mod row_file;
mod row_slots;
mod row_store;
mod session_aggregate;
mod session_assign;
#[cfg(test)]
mod session_tests;
mod sessions;
mod slices;
mod stateless;
mod temporal_join;
#[cfg(test)]
mod testing;
mod union;
mod unnest;
mod value_counts;
#[cfg(test)]
mod versions_tests;
pub mod watermark;
mod window_aggregate;
mod window_assign;
#[cfg(test)]
mod window_tests;
mod windows;

pub use watermark::{WatermarkGenerator, WatermarkStatus};

use expiring::Expires;
use firing::Firing;
use millstream_core::Result;
use millstream_core::graph::{AggregatePhase, Connections, OperatorSpec, RankTiming, WindowShape};
use millstream_core::operator::{Operator, TableSpec};
use millstream_core::source::Waker;
use stateless::Stateless;

/// Makes instance `instance` of `instances` of an operator; `waker` wakes its worker.
pub fn create(
    spec: &OperatorSpec,
    connections: &Connections,
    instance: usize,
    instances: usize,
    waker: &Waker,
) -> Result<Box<dyn Operator>> {
    let first = || connections.input(0);
    let output = &connections.output.schema;
    Ok(match spec {
        OperatorSpec::Calc { filter, project } => {
            Box::new(Stateless(calc::Calc::new(filter.clone(), project.clone(), output)))
        }
        OperatorSpec::LateRows(late) => Box::new(Stateless(calc::Calc::new(None, late.project.clone(), output))),
        OperatorSpec::Expand { projections } => Box::new(Stateless(expand::Expand::new(projections.clone(), output))),
        OperatorSpec::Union => Box::new(Stateless(union::Union::new(output))),
        OperatorSpec::Replicate { count } => Box::new(Stateless(replicate::Replicate::new(*count, output))),
        OperatorSpec::Unnest(unnest) => Box::new(Stateless(unnest::Unnest::new(unnest, output))),
        OperatorSpec::WindowAssign { window, session_keys } => match window.shape {
            WindowShape::Session { .. } => {
                Box::new(Firing::new(session_assign::SessionAssign::new(window, session_keys, first()?, output)?))
            }
            _ => Box::new(Stateless(window_assign::WindowAssign::new(window, first()?, output)?)),
        },
        OperatorSpec::WindowAggregate(aggregate) => match (aggregate.window.shape, aggregate.phase) {
            (_, AggregatePhase::Local) => Box::new(local_aggregate::LocalAggregate::new(aggregate, first()?, output)?),
            (WindowShape::Session { .. }, _) => {
                Box::new(Firing::new(session_aggregate::SessionAggregate::new(aggregate, connections)?))
            }
            (_, AggregatePhase::Single | AggregatePhase::Global) => {
                Box::new(Firing::new(window_aggregate::WindowAggregate::new(aggregate, connections)?))
            }
        },
        OperatorSpec::Join(join) => Box::new(Expires(join::Join::new(join, connections)?)),
        OperatorSpec::TemporalJoin(join) => Box::new(temporal_join::TemporalJoin::new(join, connections)?),
        OperatorSpec::LookupJoin(join) => Box::new(lookup_join::LookupJoin::new(join, connections, waker.clone())?),
        OperatorSpec::ChangelogNormalize(normalize) => {
            Box::new(Expires(changelog_normalize::ChangelogNormalize::new(normalize, connections)?))
        }
        OperatorSpec::ToChangelog(spec) => Box::new(Stateless(changelog::ToChangelog::new(spec, output))),
        OperatorSpec::FromChangelog(spec) => Box::new(Stateless(changelog::FromChangelog::new(spec, output))),
        OperatorSpec::Rank(spec) => match spec.timing {
            RankTiming::Continuous | RankTiming::Window { .. } => rank::create(spec, connections)?,
            RankTiming::Arrival => Box::new(Expires(rank_arrival::RankArrival::new(spec, connections)?)),
            RankTiming::RowTime { column } => Box::new(rank_row_time::RankRowTime::new(spec, column, connections)?),
        },
        OperatorSpec::Over(spec) => Box::new(over::Over::new(spec, connections)?),
        OperatorSpec::GroupAggregate(aggregate) => {
            Box::new(Expires(group_aggregate::GroupAggregate::new(aggregate, connections)?))
        }
        OperatorSpec::Match(search) => Box::new(pattern::PatternSearch::new(search, first()?, output)?),
        OperatorSpec::Custom(factory) => factory.create(instance, instances)?,
    })
}

/// Whether an operator only takes rows in: none leaves before event time, the clock or the end lets it.
pub(crate) fn holds_rows(spec: &OperatorSpec) -> bool {
    match spec {
        OperatorSpec::WindowAssign { window, .. } => matches!(window.shape, WindowShape::Session { .. }),
        OperatorSpec::WindowAggregate(aggregate) => aggregate.phase != AggregatePhase::Local,
        _ => false,
    }
}

/// The shapes of an operator's state tables; none if it keeps no state.
pub fn tables(spec: &OperatorSpec, connections: &Connections) -> Result<Vec<TableSpec>> {
    let first = || connections.input(0);
    Ok(match spec {
        OperatorSpec::Calc { .. }
        | OperatorSpec::Expand { .. }
        | OperatorSpec::Union
        | OperatorSpec::Replicate { .. }
        | OperatorSpec::LookupJoin(_)
        | OperatorSpec::LateRows(_)
        | OperatorSpec::ToChangelog(_)
        | OperatorSpec::FromChangelog(_)
        | OperatorSpec::Unnest(_) => vec![],
        OperatorSpec::WindowAssign { window, session_keys } => match window.shape {
            WindowShape::Session { .. } => {
                vec![session_assign::table(session_keys, first()?), session_assign::due_table(session_keys, first()?)]
            }
            _ => vec![],
        },
        OperatorSpec::WindowAggregate(aggregate) => match (aggregate.window.shape, aggregate.phase) {
            (_, AggregatePhase::Local) => vec![],
            (WindowShape::Session { .. }, _) => {
                let open = session_aggregate::table(aggregate, connections)?;
                let due = session_aggregate::due_table(&open);
                vec![open, due]
            }
            (_, AggregatePhase::Single | AggregatePhase::Global) => {
                let plan = slices::Plan::new(aggregate, first()?, connections.retracts(0))?;
                vec![plan.table(), plan.due_table()]
            }
        },
        OperatorSpec::Join(join) => join::tables(join, connections)?,
        OperatorSpec::TemporalJoin(join) => temporal_join::tables(join, connections)?,
        OperatorSpec::ChangelogNormalize(normalize) => vec![changelog_normalize::table(normalize, connections)?],
        OperatorSpec::Rank(spec) => match spec.timing {
            RankTiming::Continuous | RankTiming::Window { .. } => vec![rank::table(spec, first()?)],
            RankTiming::Arrival => vec![rank_arrival::table(spec, first()?)],
            RankTiming::RowTime { .. } => rank_row_time::tables(spec, first()?),
        },
        OperatorSpec::Over(over) => over::tables(over, first()?)?,
        OperatorSpec::GroupAggregate(aggregate) => group_aggregate::tables(aggregate, connections)?,
        OperatorSpec::Match(search) => pattern::tables(search, first()?).into(),
        OperatorSpec::Custom(factory) => factory.tables(),
    })
}
