//! Drops columns and fields of rows that nothing reads, down to what sources decode.

use crate::bind::build::{column, rebind};
use crate::rel::{Column, Rel, RelOp, RelRef, schema_of};
use millstream_core::graph::{JoinKind, OverCall, OverFunction, RankTiming, Unnest, WindowShape, WindowTime};
use millstream_core::pattern::{MatchColumn, MatchRecognize};
use millstream_core::source::Source;
use millstream_core::{DataType, ExprRef, Field, Result, Schema, TypeKind};
use millstream_expr::build::field_path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much of a value is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// All of it.
    All,
    /// These fields of a row.
    Fields(BTreeMap<String, Need>),
}

/// The columns that are read, and how much of each.
pub type Needs = BTreeMap<usize, Need>;

impl Need {
    fn merge(&mut self, other: Need) {
        match (&mut *self, other) {
            (Need::All, _) => {}
            (_, Need::All) => *self = Need::All,
            (Need::Fields(own), Need::Fields(theirs)) => {
                for (name, need) in theirs {
                    match own.get_mut(&name) {
                        Some(known) => known.merge(need),
                        None => {
                            own.insert(name, need);
                        }
                    }
                }
            }
        }
    }
    fn along(path: &[String], inner: Need) -> Need {
        path.iter().rev().fold(inner, |need, name| Need::Fields([(name.clone(), need)].into()))
    }
    /// What is left of a type.
    fn of(&self, data_type: &DataType) -> DataType {
        let (Need::Fields(needs), TypeKind::Row(fields)) = (self, &data_type.kind) else { return data_type.clone() };
        let left = fields
            .iter()
            .filter_map(|f| needs.get(&f.name).map(|need| Field::new(&f.name, need.of(&f.data_type))))
            .collect();
        DataType { kind: TypeKind::Row(left), nullable: data_type.nullable }
    }
}

fn add(needs: &mut Needs, index: usize, need: Need) {
    match needs.get_mut(&index) {
        Some(known) => known.merge(need),
        None => {
            needs.insert(index, need);
        }
    }
}

fn needs_of(expr: &ExprRef, need: &Need, needs: &mut Needs) {
    if let Some((index, path)) = field_path(expr) {
        add(needs, index, Need::along(&path, need.clone()));
        return;
    }
    for child in expr.children() {
        needs_of(child, &Need::All, needs);
    }
}

/// All columns, whole.
pub fn all(rel: &RelRef) -> Needs {
    (0..rel.columns.len()).map(|i| (i, Need::All)).collect()
}

/// Prunes plans that share scans: first every plan is walked with `collect`, then each is pruned with `prune`.
#[derive(Debug, Default)]
pub struct Pruner {
    scans: BTreeMap<String, Needs>,
}

/// A pruned relation and where its old columns are.
struct Pruned {
    rel: RelRef,
    map: Vec<Option<usize>>,
}

impl Pruned {
    fn at(&self, index: usize) -> usize {
        self.map.get(index).copied().flatten().expect("what is needed is kept")
    }
    /// Without the columns that it has beyond those that are needed: what keeps rows keeps no more of them.
    fn exactly(self, needs: &Needs) -> Pruned {
        if self.rel.columns.len() == needs.len() {
            return self;
        }
        let kept: Vec<usize> = needs.keys().map(|i| self.at(*i)).collect();
        let columns: Vec<Column> = kept.iter().map(|i| self.rel.columns[*i].clone()).collect();
        let project = kept.iter().zip(&columns).map(|(i, c)| column(*i, c)).collect();
        let map = (0..self.map.len()).map(|i| needs.keys().position(|k| *k == i)).collect();
        Pruned { rel: Rel::new(RelOp::Calc { input: self.rel, filter: None, project }, columns), map }
    }
    /// The type of a made column, which was `data_type`: rows may have lost fields.
    fn type_of(&self, made: &MatchColumn, data_type: DataType) -> DataType {
        match (made, &data_type.kind) {
            (MatchColumn::Row { column, .. }, TypeKind::Row(_)) => {
                self.rel.columns[*column].data_type.clone().with_nullable(data_type.nullable)
            }
            _ => data_type,
        }
    }
    fn rebind(&self, expr: &ExprRef) -> Result<ExprRef> {
        rebind(expr, &|index| {
            let index = self.at(index);
            let column = &self.rel.columns[index];
            (index, column.data_type.clone(), column.name.clone())
        })
    }
}

/// What makes two scans the same.
pub fn scan_key(table: &str, variant: &str) -> String {
    if variant.is_empty() { table.to_string() } else { format!("{table}[{variant}]") }
}

impl Pruner {
    /// Notes what `rel` reads of each table.
    pub fn collect(&mut self, rel: &RelRef) -> Result<()> {
        self.walk(rel, &all(rel)).map(|_| ())
    }
    /// The pruned plan: the same columns in the same order.
    pub fn prune(&mut self, rel: &RelRef) -> Result<RelRef> {
        let pruned = self.walk(rel, &all(rel))?;
        let same = pruned.rel.columns.len() == rel.columns.len()
            && pruned.map.iter().enumerate().all(|(i, to)| *to == Some(i));
        if same {
            return Ok(pruned.rel);
        }
        let project = (0..rel.columns.len()).map(|i| column(pruned.at(i), &pruned.rel.columns[pruned.at(i)])).collect();
        Ok(Rel::new(RelOp::Calc { input: pruned.rel, filter: None, project }, rel.columns.clone()))
    }

    fn walk(&mut self, rel: &RelRef, needs: &Needs) -> Result<Pruned> {
        let kept: Vec<usize> = needs.keys().copied().collect();
        let map_of = |kept: &[usize]| -> Vec<Option<usize>> {
            (0..rel.columns.len()).map(|i| kept.iter().position(|k| *k == i)).collect()
        };
        match &rel.op {
            RelOp::Scan { table, source, variant, kept } => {
                let mut wanted: Needs = needs.iter().map(|(i, need)| (kept[*i], need.clone())).collect();
                if let Some((rowtime, watermark)) = &table.watermark {
                    add(&mut wanted, *rowtime, Need::All);
                    needs_of(watermark, &Need::All, &mut wanted);
                }
                let known = self.scans.entry(scan_key(&table.name, variant)).or_default();
                for (index, need) in wanted {
                    add(known, index, need);
                }
                if known.is_empty() {
                    // Rows are counted by some column.
                    add(known, 0, Need::All);
                }
                // What a computed column reads of a row is in that row's own column, too.
                let mut physical = Needs::new();
                for expression in known.keys().map(|i| &table.expressions[*i]) {
                    if expression.as_column().is_none() {
                        needs_of(expression, &Need::All, &mut physical);
                    }
                }
                for (index, need) in known.iter_mut() {
                    if let Some(read) = table.expressions[*index].as_column().and_then(|p| physical.remove(&p)) {
                        need.merge(read);
                    }
                }
                let wanted = known.clone();
                let columns = wanted
                    .iter()
                    .map(|(i, need)| {
                        let column = &table.columns[*i];
                        Column { data_type: need.of(&column.data_type), ..column.clone() }
                    })
                    .collect();
                let map = kept.iter().map(|column| wanted.keys().position(|k| k == column)).collect();
                let (table, source, variant) = (table.clone(), source.clone(), variant.clone());
                let op = RelOp::Scan { table, source, variant, kept: wanted.into_keys().collect() };
                Ok(Pruned { rel: Rel::new(op, columns), map })
            }
            RelOp::Values { rows } => {
                let rows = rows.iter().map(|r| kept.iter().map(|i| r[*i].clone()).collect()).collect();
                let columns = kept.iter().map(|i| rel.columns[*i].clone()).collect();
                Ok(Pruned { rel: Rel::new(RelOp::Values { rows }, columns), map: map_of(&kept) })
            }
            RelOp::Calc { input, filter, project } => {
                let mut below = Needs::new();
                for (index, need) in needs {
                    needs_of(&project[*index], need, &mut below);
                }
                if let Some(filter) = filter {
                    needs_of(filter, &Need::All, &mut below);
                }
                let input = self.walk(input, &below)?;
                let filter = filter.as_ref().map(|f| input.rebind(f)).transpose()?;
                let project: Vec<ExprRef> = kept.iter().map(|i| input.rebind(&project[*i])).collect::<Result<_>>()?;
                let columns = kept
                    .iter()
                    .zip(&project)
                    .map(|(i, e)| match rel.columns[*i].data_type.kind {
                        TypeKind::Row(_) => Column { data_type: e.data_type().clone(), ..rel.columns[*i].clone() },
                        _ => rel.columns[*i].clone(),
                    })
                    .collect();
                let rel = Rel::new(RelOp::Calc { input: input.rel, filter, project }, columns);
                Ok(Pruned { rel, map: map_of(&kept) })
            }
            RelOp::Expand { input, projections } => {
                let mut below = Needs::new();
                for list in projections {
                    kept.iter().for_each(|i| needs_of(&list[*i], &Need::All, &mut below));
                }
                let input = self.walk(input, &below)?;
                let projections = projections
                    .iter()
                    .map(|list| kept.iter().map(|i| input.rebind(&list[*i])).collect::<Result<Vec<_>>>())
                    .collect::<Result<_>>()?;
                let columns = kept.iter().map(|i| rel.columns[*i].clone()).collect();
                Ok(Pruned {
                    rel: Rel::new(RelOp::Expand { input: input.rel, projections }, columns),
                    map: map_of(&kept),
                })
            }
            RelOp::Replicate { input } => {
                // Rows are told apart by all their columns.
                let pruned = self.walk(input, &all(input))?;
                let project =
                    (0..input.columns.len()).map(|i| column(pruned.at(i), &pruned.rel.columns[pruned.at(i)])).collect();
                let calc = RelOp::Calc { input: pruned.rel, filter: None, project };
                let input = Rel::new(calc, input.columns.clone());
                let map = (0..rel.columns.len()).map(Some).collect();
                Ok(Pruned { rel: Rel::new(RelOp::Replicate { input }, rel.columns.clone()), map })
            }
            RelOp::Unnest { input, unnest } => {
                let width = unnest.kept.len();
                let mut needs = needs.clone();
                unnest.condition.iter().for_each(|condition| needs_of(condition, &Need::All, &mut needs));
                let mut below = Needs::new();
                needs_of(&unnest.collection, &Need::All, &mut below);
                for (index, need) in &needs {
                    unnest.kept.get(*index).into_iter().for_each(|kept| add(&mut below, *kept, need.clone()));
                }
                let input = self.walk(input, &below)?;
                let mut unnest = unnest.clone();
                unnest.collection = input.rebind(&unnest.collection)?;
                let mut is_kept = (0..width).map(|index| needs.contains_key(&index));
                unnest.kept.retain(|_| is_kept.next().unwrap_or(false));
                unnest.kept.iter_mut().for_each(|kept| *kept = input.at(*kept));
                let kept: Vec<usize> =
                    (0..rel.columns.len()).filter(|i| *i >= width || needs.contains_key(i)).collect();
                let columns: Vec<Column> = kept
                    .iter()
                    .enumerate()
                    .map(|(to, from)| {
                        let column = rel.columns[*from].clone();
                        match unnest.kept.get(to) {
                            Some(kept) => Column { data_type: input.rel.columns[*kept].data_type.clone(), ..column },
                            None => column,
                        }
                    })
                    .collect();
                let plain =
                    |unnest: Unnest| Rel::new(RelOp::Unnest { input: input.rel.clone(), unnest }, columns.clone());
                let pruned = Pruned { rel: plain(unnest.clone()), map: map_of(&kept) };
                let Some(condition) = &unnest.condition else { return Ok(pruned) };
                unnest.condition = Some(pruned.rebind(condition)?);
                Ok(Pruned { rel: plain(unnest), ..pruned })
            }
            RelOp::Union { inputs } => {
                let whole: Needs = kept.iter().map(|i| (*i, Need::All)).collect();
                let mut sides = vec![];
                for input in inputs {
                    let pruned = self.walk(input, &whole)?;
                    // A scan may keep more than was asked for.
                    let project =
                        kept.iter().map(|i| column(pruned.at(*i), &pruned.rel.columns[pruned.at(*i)])).collect();
                    let columns: Vec<Column> = kept.iter().map(|i| input.columns[*i].clone()).collect();
                    let exact = pruned.rel.columns.len() == kept.len();
                    sides.push(match exact && kept.iter().enumerate().all(|(at, i)| pruned.at(*i) == at) {
                        true => pruned.rel,
                        false => Rel::new(RelOp::Calc { input: pruned.rel, filter: None, project }, columns),
                    });
                }
                let columns = kept.iter().map(|i| rel.columns[*i].clone()).collect();
                Ok(Pruned { rel: Rel::new(RelOp::Union { inputs: sides }, columns), map: map_of(&kept) })
            }
            RelOp::Window { input, window, session_keys } => {
                let n = input.columns.len();
                let mut below: Needs =
                    needs.iter().filter(|(i, _)| **i < n).map(|(i, need)| (*i, need.clone())).collect();
                session_keys.iter().for_each(|k| add(&mut below, *k, Need::All));
                if let WindowTime::Event { column } = window.time {
                    add(&mut below, column, Need::All);
                }
                let input = self.walk(input, &below)?;
                let mut window = window.clone();
                if let WindowTime::Event { column } = &mut window.time {
                    *column = input.at(*column);
                }
                let session_keys = session_keys.iter().map(|k| input.at(*k)).collect();
                let width = input.rel.columns.len();
                let mut map = input.map.clone();
                map.extend((0..3).map(|i| Some(width + i)));
                let mut columns = input.rel.columns.clone();
                columns.extend(rel.columns[n..].iter().cloned());
                let op = RelOp::Window { input: input.rel, window, session_keys };
                Ok(Pruned { rel: Rel::new(op, columns), map })
            }
            RelOp::Join { left, right, kind, condition, ttl_ms } => {
                let width = left.columns.len();
                let (mut left_needs, mut right_needs) = (Needs::new(), Needs::new());
                let mut both = needs.clone();
                if let Some(condition) = condition {
                    needs_of(condition, &Need::All, &mut both);
                }
                for (index, need) in both {
                    match index.checked_sub(width) {
                        None => add(&mut left_needs, index, need),
                        Some(index) => add(&mut right_needs, index, need),
                    }
                }
                // Rows are told apart by some column.
                for needs in [&mut left_needs, &mut right_needs] {
                    if needs.is_empty() {
                        add(needs, 0, Need::All);
                    }
                }
                let left = self.walk(left, &left_needs)?.exactly(&left_needs);
                let right = self.walk(right, &right_needs)?.exactly(&right_needs);
                let new_width = left.rel.columns.len();
                let mut map = left.map.clone();
                map.extend(right.map.iter().map(|to| to.map(|to| to + new_width)));
                let joined: Vec<Column> = left.rel.columns.iter().chain(&right.rel.columns).cloned().collect();
                let condition = condition.as_ref().map(|condition| {
                    rebind(condition, &|index| {
                        let index = map[index].expect("what is needed is kept");
                        (index, joined[index].data_type.clone(), joined[index].name.clone())
                    })
                });
                let half = matches!(kind, JoinKind::Semi | JoinKind::Anti);
                let old = |to: usize| map.iter().position(|place| *place == Some(to));
                let columns = joined[..if half { new_width } else { joined.len() }]
                    .iter()
                    .enumerate()
                    .map(|(to, column)| match old(to).and_then(|index| rel.columns.get(index)) {
                        // A side that may be missing has made its columns nullable.
                        Some(outer) => {
                            let nullable = column.data_type.nullable || outer.data_type.nullable;
                            Column { data_type: column.data_type.clone().with_nullable(nullable), ..outer.clone() }
                        }
                        None => Column { data_type: column.data_type.clone().with_nullable(true), ..column.clone() },
                    })
                    .collect();
                map.truncate(rel.columns.len());
                let (condition, ttl_ms) = (condition.transpose()?, *ttl_ms);
                let op = RelOp::Join { left: left.rel, right: right.rel, kind: *kind, condition, ttl_ms };
                Ok(Pruned { rel: Rel::new(op, columns), map })
            }
            RelOp::TemporalJoin { left, right, outer, left_time, right_time, condition } => {
                let width = left.columns.len();
                let (mut left_needs, mut right_needs) = (Needs::new(), Needs::new());
                let mut both = needs.clone();
                add(&mut both, *left_time, Need::All);
                add(&mut both, width + right_time, Need::All);
                if let Some(condition) = condition {
                    needs_of(condition, &Need::All, &mut both);
                }
                for (index, need) in both {
                    match index.checked_sub(width) {
                        None => add(&mut left_needs, index, need),
                        Some(index) => add(&mut right_needs, index, need),
                    }
                }
                let (left, right) = (self.walk(left, &left_needs)?, self.walk(right, &right_needs)?);
                let (left_time, right_time) = (left.at(*left_time), right.at(*right_time));
                let shift = left.rel.columns.len();
                let mut map = left.map.clone();
                map.extend(right.map.iter().map(|to| to.map(|to| to + shift)));
                let both: Vec<Column> = left.rel.columns.iter().chain(&right.rel.columns).cloned().collect();
                let rebound = |condition: &ExprRef| {
                    rebind(condition, &|index| {
                        let index = map[index].expect("what is needed is kept");
                        (index, both[index].data_type.clone(), both[index].name.clone())
                    })
                };
                let condition = condition.as_ref().map(rebound).transpose()?;
                let columns = crate::bind::temporal::columns(&left.rel.columns, &right.rel.columns, *outer);
                let (left, right, outer) = (left.rel, right.rel, *outer);
                let op = RelOp::TemporalJoin { left, right, outer, left_time, right_time, condition };
                Ok(Pruned { rel: Rel::new(op, columns), map })
            }
            RelOp::LookupJoin { left, right, source, outer, condition, hints } => {
                let width = left.columns.len();
                let (mut left_needs, mut right_needs) = (Needs::new(), Needs::new());
                let mut both = needs.clone();
                if let Some(condition) = condition {
                    needs_of(condition, &Need::All, &mut both);
                }
                for (index, need) in both {
                    match index.checked_sub(width) {
                        None => add(&mut left_needs, index, need),
                        Some(index) => add(&mut right_needs, index, Need::All),
                    }
                }
                // Rows are counted by some column.
                if left_needs.is_empty() {
                    add(&mut left_needs, 0, Need::All);
                }
                let left = self.walk(left, &left_needs)?;
                // What is looked up of a table is no matter of those who read it.
                let right = Pruner::default().walk(right, &right_needs)?;
                let shift = left.rel.columns.len();
                let mut map = left.map.clone();
                map.extend(right.map.iter().map(|to| to.map(|to| to + shift)));
                let both: Vec<Column> = left.rel.columns.iter().chain(&right.rel.columns).cloned().collect();
                let rebound = |condition: &ExprRef| {
                    rebind(condition, &|index| {
                        let index = map[index].expect("what is needed is kept");
                        (index, both[index].data_type.clone(), both[index].name.clone())
                    })
                };
                let condition = condition.as_ref().map(rebound).transpose()?;
                let columns = crate::bind::temporal::columns(&left.rel.columns, &right.rel.columns, *outer);
                let (left, right, source, outer) = (left.rel, right.rel, source.clone(), *outer);
                let op = RelOp::LookupJoin { left, right, source, outer, condition, hints: *hints };
                Ok(Pruned { rel: Rel::new(op, columns), map })
            }
            RelOp::Normalize { input, keys } => {
                let mut below = needs.clone();
                keys.iter().for_each(|key| add(&mut below, *key, Need::All));
                let input = self.walk(input, &below)?;
                let keys = keys.iter().map(|key| input.at(*key)).collect();
                let columns = input.rel.columns.clone();
                Ok(Pruned { rel: Rel::new(RelOp::Normalize { input: input.rel, keys }, columns), map: input.map })
            }
            // Of fewer columns there would be fewer changes.
            RelOp::ToChangelog { input, changes } => {
                let op = RelOp::ToChangelog { input: self.prune(input)?, changes: changes.clone() };
                Ok(Pruned { rel: Rel::new(op, rel.columns.clone()), map: (0..rel.columns.len()).map(Some).collect() })
            }
            RelOp::FromChangelog { input, changes } => {
                let op = RelOp::FromChangelog { input: self.prune(input)?, changes: changes.clone() };
                Ok(Pruned { rel: Rel::new(op, rel.columns.clone()), map: (0..rel.columns.len()).map(Some).collect() })
            }
            RelOp::Over { input, partition, order, calls, roles, window, at } => {
                let width = input.columns.len();
                let mut below: Needs =
                    needs.iter().filter(|(i, _)| **i < width).map(|(i, need)| (*i, need.clone())).collect();
                let kept: Vec<usize> = (0..calls.len()).filter(|i| needs.contains_key(&(width + i))).collect();
                if kept.is_empty() && !calls.is_empty() {
                    let input = self.walk(input, &below)?;
                    let map = input.map.iter().copied().chain(std::iter::repeat_n(None, calls.len())).collect();
                    return Ok(Pruned { rel: input.rel, map });
                }
                let (mut partition, mut order, mut window) = (partition.clone(), order.clone(), *window);
                let mut calls: Vec<OverCall> = kept.iter().map(|i| calls[*i].clone()).collect();
                // Rows are counted by some column.
                if below.is_empty() {
                    add(&mut below, 0, Need::All);
                }
                let mut used: Vec<&mut usize> = partition.iter_mut().collect();
                used.extend(order.iter_mut().map(|key| &mut key.column));
                used.extend(window.iter_mut().map(|(end, _)| end));
                for call in &mut calls {
                    match &mut call.function {
                        OverFunction::Aggregate(call) => used.extend(call.args.iter_mut().chain(call.filter.as_mut())),
                        OverFunction::Lag { column, default, .. } => {
                            used.extend(std::iter::once(column).chain(default))
                        }
                        OverFunction::Rank(_) => {}
                    }
                }
                used.iter().for_each(|i| add(&mut below, **i, Need::All));
                let input = self.walk(input, &below)?;
                used.into_iter().for_each(|i| *i = input.at(*i));
                let new_width = input.rel.columns.len();
                let mut map = input.map.clone();
                map.extend(
                    (0..rel.columns.len() - width).map(|i| kept.iter().position(|k| *k == i).map(|k| new_width + k)),
                );
                let mut columns = input.rel.columns.clone();
                columns.extend(kept.iter().map(|i| rel.columns[width + i].clone()));
                let (roles, at) = (roles.clone(), *at);
                let op = RelOp::Over { input: input.rel, partition, order, calls, roles, window, at };
                Ok(Pruned { rel: Rel::new(op, columns), map })
            }
            RelOp::Rank { input, rank } => {
                let width = input.columns.len();
                let mut below: Needs =
                    needs.iter().filter(|(i, _)| **i < width).map(|(i, need)| (*i, need.clone())).collect();
                let mut rank = rank.clone();
                rank.outputs_rank &= needs.contains_key(&width);
                if below.is_empty() {
                    add(&mut below, 0, Need::All);
                }
                let mut used: Vec<&mut usize> = rank.partition.iter_mut().collect();
                used.extend(rank.order.iter_mut().map(|key| &mut key.column));
                match &mut rank.timing {
                    RankTiming::RowTime { column } => used.push(column),
                    RankTiming::Window { end, .. } => used.push(end),
                    RankTiming::Continuous | RankTiming::Arrival => {}
                }
                used.iter().for_each(|i| add(&mut below, **i, Need::All));
                let input = self.walk(input, &below)?;
                used.into_iter().for_each(|i| *i = input.at(*i));
                let new_width = input.rel.columns.len();
                let mut map = input.map.clone();
                let mut columns = input.rel.columns.clone();
                if rel.columns.len() > width {
                    map.push(rank.outputs_rank.then_some(new_width));
                }
                if rank.outputs_rank {
                    columns.push(rel.columns[width].clone());
                }
                Ok(Pruned { rel: Rel::new(RelOp::Rank { input: input.rel, rank }, columns), map })
            }
            RelOp::GroupAggregate { input, keys, aggregates, ttl_ms } => {
                let (mut keys, mut aggregates) = (keys.clone(), aggregates.clone());
                let num_keys = keys.len();
                let keep = |i: usize| i < num_keys || needs.contains_key(&i);
                let kept: Vec<usize> = (0..rel.columns.len()).filter(|i| keep(*i)).collect();
                let mut number = 0;
                aggregates.retain(|_| {
                    number += 1;
                    keep(num_keys + number - 1)
                });
                let mut below = Needs::new();
                let mut used: Vec<&mut usize> = keys.iter_mut().collect();
                for call in &mut aggregates {
                    used.extend(call.args.iter_mut().chain(call.filter.as_mut()));
                }
                used.iter().for_each(|i| add(&mut below, **i, Need::All));
                let input = self.walk(input, &below)?;
                used.into_iter().for_each(|i| *i = input.at(*i));
                let columns = kept.iter().map(|i| rel.columns[*i].clone()).collect();
                let op = RelOp::GroupAggregate { input: input.rel, keys, aggregates, ttl_ms: *ttl_ms };
                Ok(Pruned { rel: Rel::new(op, columns), map: map_of(&kept) })
            }
            RelOp::Match { input, search } => self.walk_match(rel, needs, input, search),
            RelOp::Aggregate { input, aggregate } => {
                let mut aggregate = aggregate.clone();
                let (num_keys, num_calls) = (aggregate.keys.len(), aggregate.aggregates.len());
                let keep = |i: usize| i < num_keys || needs.contains_key(&i);
                let kept: Vec<usize> = (0..rel.columns.len()).filter(|i| keep(*i)).collect();
                let mut number = 0;
                aggregate.aggregates.retain(|_| {
                    number += 1;
                    keep(num_keys + number - 1)
                });
                number = 0;
                aggregate.properties.retain(|_| {
                    number += 1;
                    keep(num_keys + num_calls + number - 1)
                });
                let mut below = Needs::new();
                let mut used: Vec<&mut usize> = aggregate.keys.iter_mut().collect();
                for call in &mut aggregate.aggregates {
                    used.extend(call.args.iter_mut().chain(call.filter.as_mut()));
                }
                if let WindowShape::Attached { start, end } = &mut aggregate.window.shape {
                    used.extend([start, end]);
                }
                if let WindowTime::Event { column } = &mut aggregate.window.time {
                    used.push(column);
                }
                used.iter().for_each(|i| add(&mut below, **i, Need::All));
                let input = self.walk(input, &below)?;
                used.into_iter().for_each(|i| *i = input.at(*i));
                let columns = kept.iter().map(|i| rel.columns[*i].clone()).collect();
                let op = RelOp::Aggregate { input: input.rel, aggregate };
                Ok(Pruned { rel: Rel::new(op, columns), map: map_of(&kept) })
            }
        }
    }
}

impl Pruner {
    fn walk_match(&mut self, rel: &RelRef, needs: &Needs, input: &RelRef, search: &MatchRecognize) -> Result<Pruned> {
        let (width, num_keys) = (input.columns.len(), search.keys.len());
        let kept: Vec<usize> = (0..rel.columns.len()).filter(|i| *i < num_keys || needs.contains_key(i)).collect();
        let measures: Vec<&ExprRef> = kept.iter().skip(num_keys).map(|i| &search.measures[i - num_keys]).collect();
        let (mut below, mut of_define, mut of_measures) = (Needs::new(), Needs::new(), Needs::new());
        for condition in search.variables.iter().filter_map(|v| v.condition.as_ref()) {
            needs_of(condition, &Need::All, &mut of_define);
        }
        measures.iter().for_each(|measure| needs_of(measure, &Need::All, &mut of_measures));
        search.keys.iter().for_each(|key| add(&mut below, *key, Need::All));
        search.order.iter().for_each(|by| add(&mut below, by.column, Need::All));
        if let WindowTime::Event { column } = search.time {
            add(&mut below, column, Need::All);
        }
        let mut made = |column: &MatchColumn, need: &Need| match column {
            MatchColumn::Row { column, .. } => add(&mut below, *column, need.clone()),
            MatchColumn::Aggregate { call, .. } => call.args.iter().for_each(|a| add(&mut below, *a, Need::All)),
            MatchColumn::RowTime { .. } => {}
        };
        for (index, need) in &of_define {
            if let Some(index) = index.checked_sub(width) {
                made(&search.define_columns[index], need);
            }
        }
        of_measures.iter().for_each(|(index, need)| made(&search.measure_columns[*index], need));
        for (index, need) in of_define.iter().filter(|(index, _)| **index < width) {
            add(&mut below, *index, need.clone());
        }
        let input = self.walk(input, &below)?;
        let mut search = search.clone();
        search.keys.iter_mut().for_each(|key| *key = input.at(*key));
        search.order.iter_mut().for_each(|by| by.column = input.at(by.column));
        if let WindowTime::Event { column } = &mut search.time {
            *column = input.at(*column);
        }
        let wide = input.rel.columns.len();
        search.define_columns = pick(&search.define_columns, width, &of_define, &input);
        search.measure_columns = pick(&search.measure_columns, 0, &of_measures, &input);
        // The made columns that are read have moved together.
        let rank = |index: usize, first: usize, read: &Needs| read.range(first..index).count();
        for variable in &mut search.variables {
            let Some(condition) = &mut variable.condition else { continue };
            let names = column_nodes(condition);
            *condition = rebind(condition, &|index| {
                let (name, data_type) = names[&index].clone();
                match index.checked_sub(width) {
                    None => (input.at(index), input.rel.columns[input.at(index)].data_type.clone(), name),
                    Some(_) => {
                        let made = rank(index, width, &of_define);
                        (wide + made, input.type_of(&search.define_columns[made], data_type), name)
                    }
                }
            })?;
        }
        let measure = |measure: &ExprRef| {
            let names = column_nodes(measure);
            rebind(measure, &|index| {
                let (name, data_type) = names[&index].clone();
                let made = rank(index, 0, &of_measures);
                (made, input.type_of(&search.measure_columns[made], data_type), name)
            })
        };
        let measures = measures.into_iter().map(measure).collect::<Result<Vec<_>>>()?;
        let columns = kept
            .iter()
            .map(|i| match i.checked_sub(num_keys) {
                Some(_) => rel.columns[*i].clone(),
                None => {
                    let data_type = input.rel.columns[search.keys[*i]].data_type.clone();
                    Column { data_type, ..rel.columns[*i].clone() }
                }
            })
            .collect();
        search.measures = measures;
        let map = (0..rel.columns.len()).map(|i| kept.iter().position(|k| *k == i)).collect();
        Ok(Pruned { rel: Rel::new(RelOp::Match { input: input.rel, search: Box::new(search) }, columns), map })
    }
}

/// The made columns among `read`, where the first of them is `first`, over the pruned input.
fn pick(made: &[MatchColumn], first: usize, read: &Needs, input: &Pruned) -> Vec<MatchColumn> {
    let mut picked: Vec<MatchColumn> = read.range(first..).map(|(index, _)| made[index - first].clone()).collect();
    for column in &mut picked {
        match column {
            MatchColumn::Row { column, .. } => *column = input.at(*column),
            MatchColumn::Aggregate { call, .. } => call.args.iter_mut().for_each(|a| *a = input.at(*a)),
            MatchColumn::RowTime { .. } => {}
        }
    }
    picked
}

/// The names and types of the columns that an expression reads.
fn column_nodes(expr: &ExprRef) -> BTreeMap<usize, (String, DataType)> {
    fn add(expr: &ExprRef, into: &mut BTreeMap<usize, (String, DataType)>) {
        if let Some(index) = expr.as_column() {
            into.insert(index, (expr.to_string(), expr.data_type().clone()));
        }
        expr.children().into_iter().for_each(|child| add(child, into));
    }
    let mut nodes = BTreeMap::new();
    add(expr, &mut nodes);
    nodes
}

/// A scan's source, projected to what its columns `kept`, of these types, need, with the expressions that make them.
pub fn project_source(
    table: &crate::catalog::Table,
    source: &Arc<dyn Source>,
    kept: &[usize],
    columns: &[Column],
) -> Result<(Arc<dyn Source>, Option<Vec<ExprRef>>)> {
    let mut needs = Needs::new();
    let mut wanted = vec![];
    for (index, column) in kept.iter().zip(columns) {
        let whole = &table.expressions[*index];
        match (whole.as_column(), &column.data_type.kind) {
            (Some(physical), TypeKind::Row(_)) => add(&mut needs, physical, need_of(&column.data_type)),
            _ => needs_of(whole, &Need::All, &mut needs),
        }
        wanted.push(whole);
    }
    if needs.is_empty() {
        needs.insert(0, Need::All);
    }
    let full = &table.read.fields;
    let fields: Vec<Field> =
        needs.iter().map(|(i, need)| Field::new(&full[*i].name, need.of(&full[*i].data_type))).collect();
    let schema = Schema::new(fields);
    let projected = if schema == *source.schema() { source.clone() } else { source.with_projection(schema.clone())? };
    let place: Vec<usize> = needs.keys().copied().collect();
    let expressions: Vec<ExprRef> = wanted
        .into_iter()
        .map(|expr| {
            rebind(expr, &|index| {
                let at = place.iter().position(|p| *p == index).expect("what is needed is kept");
                (at, schema.fields[at].data_type.clone(), schema.fields[at].name.clone())
            })
        })
        .collect::<Result<_>>()?;
    let plain = expressions.len() == schema.len()
        && expressions.iter().enumerate().all(|(i, e)| e.as_column() == Some(i))
        && schema_of(columns) == schema;
    Ok((projected, (!plain).then_some(expressions)))
}

/// The fields that a (pruned) type has, as a need.
fn need_of(data_type: &DataType) -> Need {
    match &data_type.kind {
        TypeKind::Row(fields) => Need::Fields(fields.iter().map(|f| (f.name.clone(), need_of(&f.data_type))).collect()),
        _ => Need::All,
    }
}
