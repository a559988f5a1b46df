//! Makes a full changelog of one that lacks old rows or repeats itself: the last row of each key is kept
//! (flink: `StreamExecChangelogNormalize`).

use super::counted::Counted;
use super::keyed_rows::{KeyedRows, Value};
use arrow::array::{ArrayRef, UInt8Array};
use arrow::datatypes::SchemaRef;
use millstream_core::graph::{ChangelogNormalize as Spec, Connections, state_tables};
use millstream_core::operator::{
    Context, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec,
};
use millstream_core::{Batch, Error, Result, RowKind, Watermark};

/// What comes of a row depends on the row that its key had:
///
/// | arrives | no row | the same row | another row |
/// |---|---|---|---|
/// | `+I`, `+U` | `+I` | nothing | `-U`, `+U` |
/// | `-D` | nothing | `-D` | `-D` of the row that was there |
///
/// A `-U` is passed over: the `+U` behind it says it all, unless the key changes with it; then it is a `-D`.
pub(super) struct ChangelogNormalize {
    keys: Vec<usize>,
    /// The columns that are no key.
    rest: Vec<usize>,
    /// Where each column is among the keys and then the rest.
    place: Vec<usize>,
    schema: SchemaRef,
    update_before: bool,
    rows: KeyedRows,
    ttl_ms: Option<i64>,
    expired_below: Option<i64>,
    sweep_at: Option<i64>,
}

/// State that may expire is looked through no more often than this; milliseconds.
const MIN_SWEEP_MS: i64 = 1000;

fn rest(spec: &Spec, width: usize) -> Vec<usize> {
    (0..width).filter(|column| !spec.keys.contains(column)).collect()
}

/// The state table: the last row of each key.
pub(super) fn table(spec: &Spec, connections: &Connections) -> Result<TableSpec> {
    let fields = &connections.input(0)?.fields;
    let types = |columns: &[usize]| columns.iter().map(|c| &fields[*c].data_type).collect::<Vec<_>>();
    let keys = Counted::fields("k", types(&spec.keys));
    let rest = Counted::fields("c", types(&rest(spec, fields.len())));
    Ok(Counted::table(state_tables::ROWS.into(), keys, (0..spec.keys.len()).collect(), rest))
}

impl ChangelogNormalize {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        let width = connections.input(0)?.fields.len();
        let rest = rest(spec, width);
        let order: Vec<usize> = spec.keys.iter().chain(&rest).copied().collect();
        let place = |column: usize| order.iter().position(|c| *c == column).expect("every column is key or rest");
        Ok(ChangelogNormalize {
            place: (0..width).map(place).collect(),
            keys: spec.keys.clone(),
            rest,
            schema: connections.output.schema.arrow().clone(),
            update_before: connections.output.changelog.update_before,
            rows: KeyedRows::new(&table(spec, connections)?)?,
            ttl_ms: spec.ttl_ms,
            expired_below: None,
            sweep_at: None,
        })
    }

    fn emit(&self, out: &[(u32, Value, RowKind)], ctx: &mut Context<'_>) -> Result<()> {
        for part in out.chunks(TARGET_BATCH_ROWS) {
            let numbers: Vec<u32> = part.iter().map(|(number, ..)| *number).collect();
            let columns = self.rows.columns(&numbers, part.iter().map(|(_, value, _)| &**value))?;
            let columns = self.place.iter().map(|at| columns[*at].clone()).collect();
            let kinds = UInt8Array::from_iter_values(part.iter().map(|(.., kind)| *kind as u8));
            ctx.emit(Batch::from_columns(self.schema.clone(), columns, part.len())?.with_kinds(Some(kinds)))?;
        }
        Ok(())
    }
}

impl Operator for ChangelogNormalize {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(_) => {}
            Restored::Rows { table, rows } if table == state_tables::ROWS => {
                let numbers = self.rows.restore(&rows)?;
                self.rows.done(numbers);
            }
            Restored::Rows { table, .. } => return Err(Error::state(format!("unknown state table {table}"))),
        }
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let count = batch.num_rows();
        let of = |columns: &[usize]| columns.iter().map(|c| batch.column(*c).clone()).collect::<Vec<ArrayRef>>();
        let numbers = self.rows.find(&of(&self.keys), count)?;
        let values = self.rows.encode(&of(&self.rest), count)?;
        let now = self.ttl_ms.map(|_| ctx.now_ms);
        let expired = self.ttl_ms.map_or(i64::MIN, |ttl| ctx.now_ms.saturating_sub(ttl));
        let mut out: Vec<(u32, Value, RowKind)> = vec![];
        for (row, (number, value)) in numbers.iter().copied().zip(values).enumerate() {
            let kind = batch.kind(row);
            let next_is_its_update =
                || numbers.get(row + 1) == Some(&number) && batch.kind(row + 1) == RowKind::UpdateAfter;
            if kind == RowKind::UpdateBefore && next_is_its_update() {
                continue;
            }
            let touched = self.rows.touched(number);
            if touched > 0 && touched < expired {
                self.rows.remove(number);
            }
            let old = self.rows.get(number).cloned();
            match (kind.is_addition(), old) {
                (true, None) => {
                    out.push((number, value.clone(), RowKind::Insert));
                    self.rows.put(number, value, now);
                }
                // While rows expire, those downstream have to hear that this one is in use.
                (true, Some(old)) if old == value && now.is_none() => {}
                (true, Some(old)) => {
                    if self.update_before {
                        out.push((number, old, RowKind::UpdateBefore));
                    }
                    out.push((number, value.clone(), RowKind::UpdateAfter));
                    self.rows.put(number, value, now);
                }
                (false, Some(old)) => {
                    out.push((number, old, RowKind::Delete));
                    self.rows.remove(number);
                }
                (false, None) => {}
            }
        }
        self.emit(&out, ctx)?;
        self.rows.done(numbers);
        if let Some(ttl) = self.ttl_ms {
            self.sweep_at.get_or_insert(ctx.now_ms.saturating_add(ttl.max(MIN_SWEEP_MS)));
        }
        if self.rows.is_sparse() {
            self.rows.rebuild()?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        let Some(ttl) = self.ttl_ms else { return Ok(Progress::Done) };
        let bound = ctx.now_ms.saturating_sub(ttl);
        for number in self.rows.expired(bound, ctx.now_ms) {
            self.rows.remove(number);
        }
        let left = self.rows.rebuild()?;
        self.expired_below = Some(bound);
        self.sweep_at = (left > 0).then(|| ctx.now_ms.saturating_add((ttl / 2).max(MIN_SWEEP_MS)));
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<i64> {
        self.sweep_at
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let expired = self.expired_below.take();
        Ok(StateDelta { tables: vec![self.rows.take_delta(expired)?], instance: None })
    }
}
