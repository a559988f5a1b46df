//! The first rows of each partition in the order of their arrival: what has come out stays.

use super::counted::{Counted, SAME};
use super::expiring::{Expiring, Expiry};
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::SchemaRef;
use millstream_core::graph::{Connections, Rank as Spec, state_tables};
use millstream_core::operator::{Context, Port, Restored, StateDelta, TableSpec};
use millstream_core::{Batch, DataType, Error, Field, Result, Schema, TypeKind};
use std::sync::Arc;

/// Counts the rows of each partition, up to the last that comes out.
pub(super) struct RankArrival {
    spec: Spec,
    schema: SchemaRef,
    taken: Counted,
    expiry: Expiry,
}

/// The state table: partitions with how many rows they had.
pub(super) fn table(spec: &Spec, input: &Schema) -> TableSpec {
    let columns = match spec.partition[..] {
        [] => vec![Field::new("k0", TypeKind::BigInt.not_null())],
        _ => {
            Counted::fields("k", spec.partition.iter().map(|c| &input.fields[*c].data_type).collect::<Vec<&DataType>>())
        }
    };
    Counted::table(state_tables::TAKEN.into(), columns, (0..spec.partition.len()).collect(), vec![])
}

/// The columns by which partitions are known in [`table`].
pub(super) fn partition_columns(spec: &Spec, batch: &Batch) -> Vec<ArrayRef> {
    match spec.partition[..] {
        [] => vec![Arc::new(Int64Array::from(vec![0; batch.num_rows()]))],
        _ => spec.partition.iter().map(|c| batch.column(*c).clone()).collect(),
    }
}

impl RankArrival {
    pub(super) fn new(spec: &Spec, connections: &Connections) -> Result<Self> {
        Ok(RankArrival {
            spec: spec.clone(),
            schema: connections.output.schema.arrow().clone(),
            taken: Counted::new(&table(spec, connections.input(0)?))?,
            expiry: Expiry::new(spec.ttl_ms),
        })
    }
}

impl Expiring for RankArrival {
    fn restore(&mut self, part: Restored) -> Result<()> {
        match part {
            Restored::Instances(_) => Ok(()),
            Restored::Rows { table, rows } if table == self.taken.name() => {
                let width = self.spec.partition.len().max(1);
                let numbers = self.taken.restore(&rows.columns()[..width], &rows, width)?;
                self.taken.done(numbers);
                Ok(())
            }
            Restored::Rows { table, .. } => Err(Error::state(format!("unknown state table {table}"))),
        }
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let numbers = self.taken.find(&partition_columns(&self.spec, &batch), batch.num_rows())?;
        let now = self.expiry.stamp(ctx.now_ms);
        let (from, to) = (self.spec.from as i64, self.spec.to as i64);
        let (mut rows, mut ranks): (Vec<u32>, Vec<i64>) = (vec![], vec![]);
        for (row, part) in (0u32..).zip(&numbers) {
            let is_expired = self.expiry.has_passed(self.taken.touched(*part), ctx.now_ms);
            let before = if is_expired { 0 } else { self.taken.count(*part) };
            if before < to {
                self.taken.set(*part, before + 1);
                if before + 1 >= from {
                    rows.push(row);
                    ranks.push(before + 1);
                }
                self.taken.touch(*part, now);
            }
        }
        self.taken.done(numbers);
        self.expiry.arm(ctx.now_ms);
        if rows.is_empty() {
            return Ok(());
        }
        let count = rows.len();
        let mut columns = match count == batch.num_rows() {
            true => batch.rows.columns().to_vec(),
            false => batch.take(&rows.into())?.rows.columns().to_vec(),
        };
        if self.spec.outputs_rank {
            columns.push(Arc::new(Int64Array::from(ranks)));
        }
        ctx.emit(Batch::from_columns(self.schema.clone(), columns, count)?)
    }

    fn expiries(&self) -> &[Expiry] {
        std::slice::from_ref(&self.expiry)
    }

    fn expiries_mut(&mut self) -> &mut [Expiry] {
        std::slice::from_mut(&mut self.expiry)
    }

    fn forget(&mut self, _: usize, bound: i64, now_ms: i64) -> Result<bool> {
        for part in self.taken.expired(bound, now_ms) {
            self.taken.set(part, 0);
        }
        self.taken.rebuild(SAME)?;
        Ok(self.taken.len() > 0)
    }

    fn snapshot(&mut self, expired_below: &[Option<i64>]) -> Result<StateDelta> {
        let expired_below = expired_below[0];
        let delta = self.taken.take_delta(expired_below, SAME, |_| Ok(vec![]))?;
        Ok(StateDelta { tables: vec![delta], instance: None })
    }
}
