//! Joins of two streams whose rows are kept: regular joins, and those whose rows leave as event time passes.

use super::counted::Counted;
use super::expiring::{Expiring, Expiry};
use super::groups::GroupTable;
use super::join_side::Side;
use super::watermark::{column_ms, encode_watermark, lowest_watermark};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt8Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use millstream_core::graph::{Connections, Join as Spec, JoinKind, state_tables};
use millstream_core::operator::{Context, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec};
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Error, ExprRef, Field, Result, RowKind, TypeKind, Watermark};
use std::sync::Arc;

/// Matches each row with those of the other side that have its key, and takes back what no longer holds.
pub(super) struct Join {
    kind: JoinKind,
    condition: Option<ExprRef>,
    /// Which keys match where both are NULL.
    null_safe: Vec<bool>,
    /// The columns of both sides, over which the condition is.
    pair: SchemaRef,
    schema: SchemaRef,
    sides: [Side; 2],
    /// The join keys of both sides.
    keys: GroupTable,
    /// How long rows of each side live.
    expiries: [Expiry; 2],
    /// Rows leave by event time, in this zone's local time: what is unmatched until then is told only then.
    zone: Option<SessionZone>,
    drops_late: bool,
    watermark: i64,
}

const TABLES: [&str; 2] = [state_tables::LEFT, state_tables::RIGHT];

/// Whether a side's rows come out even without a match.
fn is_preserved(kind: JoinKind, port: Port) -> bool {
    match kind {
        JoinKind::Left => port == 0,
        JoinKind::Right => port == 1,
        JoinKind::Full => true,
        JoinKind::Inner | JoinKind::Semi | JoinKind::Anti => false,
    }
}

/// Whether a side's rows know how many matches they have.
fn counts_matches(kind: JoinKind, port: Port) -> bool {
    is_preserved(kind, port) || port == 0 && matches!(kind, JoinKind::Semi | JoinKind::Anti)
}

/// The state tables: the rows of each side.
pub(super) fn tables(spec: &Spec, connections: &Connections) -> Result<Vec<TableSpec>> {
    let table = |port: Port| -> Result<TableSpec> {
        let schema = connections.input(port)?;
        let columns = Counted::fields("c", schema.fields.iter().map(|f| &f.data_type));
        let keys = spec.keys.iter().map(|key| if port == 0 { key.left } else { key.right }).collect();
        let counted = counts_matches(spec.kind, port);
        let more = if counted { vec![Field::new("matches", TypeKind::BigInt.not_null())] } else { vec![] };
        Ok(Counted::table(TABLES[port].into(), columns, keys, more))
    };
    Ok(vec![table(0)?, table(1)?])
}

/// A row to emit: of the arriving batch, of the pairs, its kind.
type Out = (Option<u32>, Option<u32>, RowKind);

impl Join {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let tables = tables(spec, connections)?;
        let side = |port: Port| {
            let keys = spec.keys.iter().map(|key| if port == 0 { key.left } else { key.right }).collect();
            let leaves = spec.time.as_ref().map(|time| if port == 0 { time.left } else { time.right });
            Side::new(&tables[port], keys, counts_matches(spec.kind, port), leaves)
        };
        let left = connections.input(0)?;
        let right = connections.input(1)?;
        let key_type = |key: &millstream_core::graph::JoinKey| {
            let field = left.fields.get(key.left).ok_or_else(|| Error::internal("a join key that is no column"))?;
            Ok(field.data_type.arrow())
        };
        let fields: Vec<_> = left.arrow().fields().iter().chain(right.arrow().fields()).cloned().collect();
        Ok(Join {
            kind: spec.kind,
            condition: spec.condition.clone(),
            null_safe: spec.keys.iter().map(|key| key.null_safe).collect(),
            pair: Arc::new(arrow::datatypes::Schema::new(fields)),
            schema: connections.output.schema.arrow().clone(),
            sides: [side(0)?, side(1)?],
            keys: GroupTable::new(spec.keys.iter().map(key_type).collect::<Result<_>>()?)?,
            expiries: spec.ttl_ms.map(Expiry::new),
            zone: spec.time.as_ref().map(|time| time.zone),
            drops_late: spec.time.as_ref().is_some_and(|time| time.drops_late),
            watermark: i64::MIN,
        })
    }

    /// Rows of a batch with a NULL in a key that matches nothing, and the others.
    fn split(&self, port: Port, batch: Batch) -> Result<(Option<Batch>, Batch)> {
        let nulls: Vec<_> = self.sides[port]
            .keys
            .iter()
            .zip(&self.null_safe)
            .filter(|(_, safe)| !**safe)
            .filter_map(|(column, _)| batch.column(*column).logical_nulls())
            .filter(|nulls| nulls.null_count() > 0)
            .collect();
        if nulls.is_empty() {
            return Ok((None, batch));
        }
        let is_null = |row: u32| nulls.iter().any(|n| n.is_null(row as usize));
        let (without, with): (Vec<u32>, Vec<u32>) = (0..batch.num_rows() as u32).partition(|row| is_null(*row));
        Ok((Some(batch.take(&without.into())?), batch.take(&with.into())?))
    }

    /// Drops rows whose time is over, if such rows are late.
    fn drop_late(&self, port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<Batch> {
        let Some((column, delay)) = self.sides[port].leaves.filter(|_| self.drops_late) else { return Ok(batch) };
        let times = column_ms(batch.column(column), "the time of a join")?;
        let bound = self.bound();
        let in_time = |row: &u32| times[*row as usize].saturating_add(delay) > bound;
        let (kept, late): (Vec<u32>, Vec<u32>) = (0..times.len() as u32).partition(in_time);
        if late.is_empty() {
            return Ok(batch);
        }
        ctx.drop_late(port, &batch, late, Watermark(self.watermark))?;
        batch.take(&kept.into())
    }

    /// Up to when rows leave, in their own time.
    fn bound(&self) -> i64 {
        match (self.watermark, self.zone) {
            (i64::MIN | i64::MAX, _) | (_, None) => self.watermark,
            (ms, Some(zone)) => zone.lowest_local_from(ms.saturating_add(1)),
        }
    }

    /// What rows without any possible match become.
    fn unmatched(&self, port: Port, batch: &Batch, ctx: &mut Context<'_>) -> Result<()> {
        let comes_out = is_preserved(self.kind, port) || port == 0 && self.kind == JoinKind::Anti;
        if !comes_out {
            return Ok(());
        }
        let plain = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        let out: Vec<Out> = (0..batch.num_rows() as u32)
            .map(|row| {
                let kind = batch.kind(row as usize);
                let padded = if kind.is_addition() { RowKind::Insert } else { RowKind::Delete };
                (Some(row), None, if plain { kind } else { padded })
            })
            .collect();
        self.emit(port, batch.rows.columns(), &[], &out, ctx)
    }

    fn handle(&mut self, port: Port, batch: &Batch, ctx: &mut Context<'_>) -> Result<()> {
        let rows = batch.num_rows();
        let mut keys = vec![];
        let columns: Vec<ArrayRef> = self.sides[port].keys.iter().map(|c| batch.column(*c).clone()).collect();
        self.keys.lookup(&columns, rows, &mut keys)?;
        let now = [0, 1].map(|side| self.expiries[side].stamp(ctx.now_ms));
        let numbers = self.sides[port].find(batch.rows.columns(), rows)?;
        let mut start = 0;
        while start < rows {
            let mut pairs: Vec<(u32, u32)> = vec![];
            let mut end = start;
            while end < rows && (end == start || pairs.len() < TARGET_BATCH_ROWS) {
                let row = end as u32;
                let (other_side, expiry) = (&self.sides[1 - port], &self.expiries[1 - port]);
                other_side.each_of(keys[end], |other| {
                    if !expiry.has_passed(other_side.rows.touched(other), ctx.now_ms) {
                        pairs.push((row, other));
                    }
                });
                end += 1;
            }
            let range = start..end;
            let matches = self.join(port, batch, range.clone(), pairs, now[1 - port], ctx)?;
            for (row, count) in range.zip(matches) {
                let (kind, leaves) = (batch.kind(row), self.bound());
                let side = &mut self.sides[port];
                if self.expiries[port].has_passed(side.rows.touched(numbers[row]), ctx.now_ms) {
                    side.remove(numbers[row]);
                }
                match kind.is_addition() {
                    true => {
                        let stays = side.add(numbers[row], keys[row], count, leaves, now[port]);
                        debug_assert!(stays || self.zone.is_some());
                    }
                    false => side.take_back(numbers[row], now[port]),
                }
            }
            start = end;
        }
        self.sides[port].rows.done(numbers);
        self.expiries.iter_mut().for_each(|expiry| expiry.arm(ctx.now_ms));
        if self.sides.iter().any(|side| side.rows.is_sparse()) { self.rebuild() } else { Ok(()) }
    }

    /// Joins rows of a batch with the rows of the other side that have their keys; gives each row's number of matches.
    fn join(
        &mut self,
        port: Port,
        batch: &Batch,
        range: std::ops::Range<usize>,
        mut pairs: Vec<(u32, u32)>,
        now: Option<i64>,
        ctx: &mut Context<'_>,
    ) -> Result<Vec<i64>> {
        let others: Vec<u32> = pairs.iter().map(|(_, other)| *other).collect();
        let mut other_columns = self.sides[1 - port].rows.columns(&others)?;
        if let Some(condition) = &self.condition
            && !pairs.is_empty()
        {
            let own = UInt32Array::from_iter_values(pairs.iter().map(|(row, _)| *row));
            let own: Vec<ArrayRef> =
                batch.rows.columns().iter().map(|c| take(c, &own, None)).collect::<Result<_, _>>()?;
            let both = if port == 0 { [own, other_columns.clone()] } else { [other_columns.clone(), own] }.concat();
            let both = Batch::from_columns(self.pair.clone(), both, pairs.len())?;
            let mask = condition.evaluate(&both, &ctx.eval())?.into_array(pairs.len())?;
            let mask: &BooleanArray = mask.as_boolean();
            let holds = |at: &usize| mask.is_valid(*at) && mask.value(*at);
            let kept: Vec<u32> = (0..pairs.len()).filter(holds).map(|at| at as u32).collect();
            if kept.len() < pairs.len() {
                pairs = kept.iter().map(|at| pairs[*at as usize]).collect();
                let kept = UInt32Array::from(kept);
                other_columns = other_columns.iter().map(|c| take(c, &kept, None)).collect::<Result<_, _>>()?;
            }
        }
        let mut out: Vec<Out> = vec![];
        let mut counts = vec![];
        let mut at = 0;
        for row in range {
            let first = at;
            while pairs.get(at).is_some_and(|(of, _)| *of as usize == row) {
                at += 1;
            }
            counts.push(self.match_row(
                port,
                row as u32,
                batch.kind(row),
                &pairs[first..at],
                first as u32,
                now,
                &mut out,
            ));
        }
        self.emit(port, batch.rows.columns(), &other_columns, &out, ctx)?;
        Ok(counts)
    }

    /// What a row and its matches become; gives the number of matches.
    #[allow(clippy::too_many_arguments)] // it is one step of `join`
    fn match_row(
        &mut self,
        port: Port,
        row: u32,
        kind: RowKind,
        pairs: &[(u32, u32)],
        first: u32,
        now: Option<i64>,
        out: &mut Vec<Out>,
    ) -> i64 {
        let is_added = kind.is_addition();
        let padded = if is_added { RowKind::Insert } else { RowKind::Delete };
        let defers = self.zone.is_some();
        let (own_preserved, other_preserved) = (is_preserved(self.kind, port), is_preserved(self.kind, 1 - port));
        let half = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        let other = &mut self.sides[1 - port];
        let matches = pairs.iter().map(|(_, other_row)| other.rows.count(*other_row)).sum();
        if half && port == 0 {
            let comes_out = if self.kind == JoinKind::Semi { matches > 0 } else { matches == 0 && !defers };
            if comes_out {
                out.push((Some(row), None, kind));
            }
            return matches;
        }
        if matches == 0 && own_preserved && !defers {
            out.push((Some(row), None, padded));
        }
        for (pair, (_, other_row)) in (first..).zip(pairs) {
            let copies = other.rows.count(*other_row) as usize;
            let (before, after) = other.change_matches(*other_row, if is_added { 1 } else { -1 }, now);
            let turns = (before == 0) != (after == 0);
            let mut push = |own: Option<u32>, kind: RowKind| {
                out.extend(std::iter::repeat_n((own, Some(pair), kind), copies));
            };
            match (half, self.kind) {
                (true, JoinKind::Semi) if turns => push(None, padded),
                (true, JoinKind::Anti) if turns && !defers => {
                    push(None, if is_added { RowKind::Delete } else { RowKind::Insert });
                }
                (true, _) => {}
                (false, _) => {
                    let told = other_preserved && turns && !defers;
                    if told && is_added {
                        push(None, RowKind::Delete);
                    }
                    push(Some(row), kind);
                    if told && !is_added {
                        push(None, RowKind::Insert);
                    }
                }
            }
        }
        matches
    }

    /// Emits rows made of the arriving batch's columns and the other side's.
    fn emit(&self, port: Port, own: &[ArrayRef], other: &[ArrayRef], out: &[Out], ctx: &mut Context<'_>) -> Result<()> {
        let half = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        for part in out.chunks(TARGET_BATCH_ROWS) {
            let own_rows: UInt32Array = part.iter().map(|(row, ..)| *row).collect();
            let pairs: UInt32Array = part.iter().map(|(_, pair, _)| *pair).collect();
            let width = self.pair.fields().len() - own.len();
            let of = |columns: &[ArrayRef], rows: &UInt32Array, types: &[Arc<arrow::datatypes::Field>]| {
                if columns.is_empty() {
                    return Ok(types.iter().map(|f| arrow::array::new_null_array(f.data_type(), rows.len())).collect());
                }
                columns.iter().map(|c| Ok(take(c, rows, None)?)).collect::<Result<Vec<_>>>()
            };
            let fields = self.pair.fields();
            let other_fields = if port == 0 { &fields[own.len()..] } else { &fields[..width] };
            let columns = match (half, port) {
                (true, 0) => of(own, &own_rows, &[])?,
                (true, _) => of(other, &pairs, other_fields)?,
                (false, 0) => [of(own, &own_rows, &[])?, of(other, &pairs, other_fields)?].concat(),
                (false, _) => [of(other, &pairs, other_fields)?, of(own, &own_rows, &[])?].concat(),
            };
            let is_plain = part.iter().all(|(.., kind)| *kind == RowKind::Insert);
            let kinds = (!is_plain).then(|| UInt8Array::from_iter_values(part.iter().map(|(.., kind)| *kind as u8)));
            ctx.emit(Batch::from_columns(self.schema.clone(), columns, part.len())?.with_kinds(kinds))?;
        }
        Ok(())
    }

    /// Lets go of rows whose time is over, telling those that found no match.
    fn leave(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let bound = self.bound();
        for port in [0, 1] {
            loop {
                let leaving = self.sides[port].leaving(bound, TARGET_BATCH_ROWS);
                if leaving.is_empty() {
                    break;
                }
                let comes_out = is_preserved(self.kind, port) || port == 0 && self.kind == JoinKind::Anti;
                let mut unmatched = vec![];
                for number in &leaving {
                    if comes_out && self.sides[port].matches(*number) == 0 {
                        let copies = self.sides[port].rows.count(*number) as usize;
                        unmatched.extend(std::iter::repeat_n(*number, copies));
                    }
                }
                let columns = self.sides[port].rows.columns(&unmatched)?;
                let out: Vec<Out> = (0..unmatched.len() as u32).map(|row| (Some(row), None, RowKind::Insert)).collect();
                self.emit(port, &columns, &[], &out, ctx)?;
                leaving.into_iter().for_each(|number| self.sides[port].remove(number));
                if out.len() >= TARGET_BATCH_ROWS {
                    return Ok(Progress::More);
                }
            }
        }
        if self.sides.iter().any(|side| side.rows.is_sparse()) {
            self.rebuild()?;
        }
        Ok(Progress::Done)
    }

    /// Makes the tables anew, without what is gone.
    fn rebuild(&mut self) -> Result<()> {
        self.keys = self.keys.emptied()?;
        for side in &mut self.sides {
            side.rebuild(&mut self.keys)?;
        }
        Ok(())
    }
}

impl Expiring for Join {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(instances) => self.watermark = lowest_watermark(&instances)?,
            Restored::Rows { table, rows } => {
                let port = TABLES.iter().position(|name| *name == table);
                let port = port.ok_or_else(|| Error::state(format!("unknown state table {table}")))?;
                self.sides[port].restore(&rows, &mut self.keys)?;
            }
        }
        Ok(())
    }

    fn process(&mut self, port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let batch = self.drop_late(port, batch, ctx)?;
        let (without, batch) = self.split(port, batch)?;
        if let Some(without) = without {
            self.unmatched(port, &without, ctx)?;
        }
        let mut offset = 0;
        while offset < batch.num_rows() {
            let count = TARGET_BATCH_ROWS.min(batch.num_rows() - offset);
            self.handle(port, &batch.slice(offset, count), ctx)?;
            offset += count;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.watermark = watermark.0;
        if self.zone.is_some() && self.leave(ctx)? == Progress::More {
            return Ok(Progress::More);
        }
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    fn expiries_mut(&mut self) -> &mut [Expiry] {
        &mut self.expiries
    }

    fn forget(&mut self, port: usize, bound: i64, now_ms: i64) -> Result<bool> {
        let side = &mut self.sides[port];
        for number in side.rows.expired(bound, now_ms) {
            side.remove(number);
        }
        self.rebuild()?;
        Ok(self.sides[port].rows.len() > 0)
    }

    fn snapshot(&mut self, expired_below: &[Option<i64>]) -> Result<StateDelta> {
        let sides = self.sides.iter_mut().zip(expired_below);
        let tables = sides.map(|(side, below)| side.take_delta(*below)).collect::<Result<_>>()?;
        Ok(StateDelta { tables, instance: self.zone.map(|_| encode_watermark(self.watermark)) })
    }
}
