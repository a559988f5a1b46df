//! Orders the tables of inner joins so that each join compares columns where it can, and none keeps all pairs of rows.

use super::joins::{self, all_of, conjuncts, equality};
use super::simplify::identity;
use crate::bind::build::{column, columns_of, replace_columns};
use crate::rel::{Rel, RelOp, RelRef};
use millstream_core::graph::JoinKind;
use millstream_core::types::SessionZone;
use millstream_core::{ExprRef, Result};
use std::collections::BTreeSet;

/// The plan in which tables that are joined in an order such as `a, b, c WHERE a.x = c.x AND b.y = c.y` are joined in one
/// where each has an equality with those before it. Orders that have that already stay as they are written, and so do
/// joins of windows and of intervals of time, and those with state of a lifetime of their own.
pub fn ordered(rel: &RelRef, zone: &SessionZone) -> Result<RelRef> {
    let mut cluster = Cluster::default();
    let is_cluster = cluster.collect(rel, zone)? && cluster.tables.len() > 2 && cluster.pairs_all;
    let reordered = if is_cluster { cluster.reordered(rel, zone)? } else { None };
    reordered.map_or_else(|| rel.map_inputs(|input| ordered(input, zone)), Ok)
}

/// Tables joined by inner joins.
#[derive(Default)]
struct Cluster {
    tables: Vec<RelRef>,
    /// What must be TRUE, over the columns of all tables.
    parts: Vec<ExprRef>,
    /// Whether one of the joins, as written, compares nothing.
    pairs_all: bool,
}

impl Cluster {
    /// Adds what `rel` joins; false of a join that must stay.
    fn collect(&mut self, rel: &RelRef, zone: &SessionZone) -> Result<bool> {
        let first = self.tables.iter().map(|table| table.columns.len()).sum::<usize>();
        let RelOp::Join { left, right, kind: JoinKind::Inner, condition, ttl_ms } = &rel.op else {
            self.tables.push(rel.clone());
            return Ok(true);
        };
        let analysis = joins::analyze(&left.columns, &right.columns, JoinKind::Inner, condition.as_ref(), zone)?;
        let parts = condition.as_ref().map(conjuncts).unwrap_or_default();
        if analysis.time.is_some() || ttl_ms.iter().any(Option::is_some) || !parts.iter().all(|p| p.is_deterministic())
        {
            return Ok(false);
        }
        self.pairs_all |= !parts.iter().any(|part| equality(part, left.columns.len()).is_some());
        if !self.collect(left, zone)? || !self.collect(right, zone)? {
            return Ok(false);
        }
        let moved = |part: &ExprRef| replace_columns(part, &|index| column(first + index, &rel.columns[index]));
        self.parts.extend(parts.iter().map(moved));
        Ok(true)
    }

    /// The joins in an order of their own, with the columns of `rel`; `None` if they would gain a meaning of time.
    fn reordered(&self, rel: &RelRef, zone: &SessionZone) -> Result<Option<RelRef>> {
        let starts: Vec<usize> =
            self.tables.iter().scan(0, |at, t| Some(std::mem::replace(at, *at + t.columns.len()))).collect();
        let mut waiting: BTreeSet<usize> = (0..self.tables.len()).collect();
        let mut parts = self.parts.clone();
        // Groups of tables that an equality connects, with where their columns were.
        let mut groups: Vec<(RelRef, Vec<usize>)> = vec![];
        while let Some(first) = waiting.pop_first() {
            let columns =
                |table: usize| (starts[table]..starts[table] + self.tables[table].columns.len()).collect::<Vec<_>>();
            let mut group = (ordered(&self.tables[first], zone)?, columns(first));
            loop {
                let connected = |table: &usize| {
                    let width = group.1.len();
                    let places: Vec<usize> = group.1.iter().copied().chain(columns(*table)).collect();
                    parts
                        .iter()
                        .any(|part| self.over(part, &places, rel).is_some_and(|p| equality(&p, width).is_some()))
                };
                let Some(table) = waiting.iter().copied().find(connected) else { break };
                waiting.remove(&table);
                let right = (ordered(&self.tables[table], zone)?, columns(table));
                let Some(joined) = self.joined(group, right, &mut parts, rel, zone)? else { return Ok(None) };
                group = joined;
            }
            groups.push(group);
        }
        let mut groups = groups.into_iter();
        let Some(mut all) = groups.next() else { return Ok(None) };
        for group in groups {
            let Some(joined) = self.joined(all, group, &mut parts, rel, zone)? else { return Ok(None) };
            all = joined;
        }
        let (joined, places) = all;
        let columns = identity(&joined);
        let project = (0..rel.columns.len()).filter_map(|index| places.iter().position(|place| *place == index));
        let project = project.map(|at| columns[at].clone()).collect();
        Ok(Some(Rel::new(RelOp::Calc { input: joined, filter: None, project }, rel.columns.clone())))
    }

    /// The join of two groups under those of `parts` that it can check, which are taken.
    fn joined(
        &self,
        left: (RelRef, Vec<usize>),
        right: (RelRef, Vec<usize>),
        parts: &mut Vec<ExprRef>,
        rel: &RelRef,
        zone: &SessionZone,
    ) -> Result<Option<(RelRef, Vec<usize>)>> {
        let places: Vec<usize> = left.1.iter().chain(&right.1).copied().collect();
        let mut here = vec![];
        parts.retain(|part| match self.over(part, &places, rel) {
            Some(part) => {
                here.push(part);
                false
            }
            None => true,
        });
        let condition = all_of(here, zone)?;
        let (a, b) = (&left.0.columns, &right.0.columns);
        if joins::analyze(a, b, JoinKind::Inner, condition.as_ref(), zone)?.time.is_some() {
            return Ok(None);
        }
        let columns = joins::columns(a, b, JoinKind::Inner, false);
        let op = RelOp::Join { left: left.0, right: right.0, kind: JoinKind::Inner, condition, ttl_ms: [None; 2] };
        Ok(Some((Rel::new(op, columns), places)))
    }

    /// A part over columns that are at `places` now, if all that it reads is there.
    fn over(&self, part: &ExprRef, places: &[usize], rel: &RelRef) -> Option<ExprRef> {
        let mut used = BTreeSet::new();
        columns_of(part, &mut used);
        let at = |index: &usize| places.iter().position(|place| place == index);
        if used.iter().any(|index| at(index).is_none()) {
            return None;
        }
        Some(replace_columns(part, &|index| column(at(&index).unwrap_or(index), &rel.columns[index])))
    }
}
