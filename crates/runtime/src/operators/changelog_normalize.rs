//! Makes a full changelog of one that lacks old rows or repeats itself: the last row of each key is kept
//! (flink: `StreamExecChangelogNormalize`).

use super::counted::Counted;
use super::expiring::{Expiring, Expiry};
use super::keyed_rows::{KeyedRows, Value};
use arrow::array::{ArrayRef, UInt8Array};
use arrow::datatypes::SchemaRef;
use millstream_core::graph::{ChangelogNormalize as Spec, Connections, state_tables};
use millstream_core::operator::{Context, Port, Restored, StateDelta, TARGET_BATCH_ROWS, TableSpec};
use millstream_core::{Batch, Error, Result, RowKind};

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
    expiry: Expiry,
}

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
            expiry: Expiry::new(spec.ttl_ms),
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

impl Expiring for ChangelogNormalize {
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
        let now = self.expiry.stamp(ctx.now_ms);
        let mut out: Vec<(u32, Value, RowKind)> = vec![];
        for (row, (number, value)) in numbers.iter().copied().zip(values).enumerate() {
            let kind = batch.kind(row);
            let next_is_its_update =
                || numbers.get(row + 1) == Some(&number) && batch.kind(row + 1) == RowKind::UpdateAfter;
            if kind == RowKind::UpdateBefore && next_is_its_update() {
                continue;
            }
            if self.expiry.has_passed(self.rows.touched(number), ctx.now_ms) {
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
        self.expiry.arm(ctx.now_ms);
        if self.rows.is_sparse() {
            self.rows.rebuild()?;
        }
        Ok(())
    }

    fn expiries(&self) -> &[Expiry] {
        std::slice::from_ref(&self.expiry)
    }

    fn expiries_mut(&mut self) -> &mut [Expiry] {
        std::slice::from_mut(&mut self.expiry)
    }

    fn forget(&mut self, _: usize, bound: i64, now_ms: i64) -> Result<bool> {
        for number in self.rows.expired(bound, now_ms) {
            self.rows.remove(number);
        }
        Ok(self.rows.rebuild()? > 0)
    }

    fn snapshot(&mut self, expired_below: &[Option<i64>]) -> Result<StateDelta> {
        let expired_below = expired_below[0];
        Ok(StateDelta { tables: vec![self.rows.take_delta(expired_below)?], instance: None })
    }
}
