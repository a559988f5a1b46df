//! What the workers hand over at the ends of epochs, kept in memory as a checkpoint would keep it.

use arrow::array::RecordBatch;
use millstream_core::key::HashRange;
use millstream_core::operator::{StateDelta, TableSpec};
use millstream_core::{Error, Result};
use millstream_runtime::RestoreProvider;
use millstream_state::manifest::{Segment, StoredTable};
use millstream_state::{CheckpointStore, DeltaWriter, pack, restore_table};
use std::collections::BTreeMap;

/// The state of a job at the end of an epoch.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    /// For what segments would be read from; all of them are held here.
    store: CheckpointStore,
    /// By node, then by name.
    tables: BTreeMap<String, BTreeMap<String, StoredTable>>,
    instances: BTreeMap<String, Workers>,
    positions: BTreeMap<String, Workers>,
}

/// One value a worker; those of the attempt before until the first of this one arrives.
#[derive(Clone, Debug, Default)]
struct Workers {
    restored: Vec<Vec<u8>>,
    current: BTreeMap<usize, Vec<u8>>,
}

impl Workers {
    fn values(&self) -> Vec<Vec<u8>> {
        if self.current.is_empty() { self.restored.clone() } else { self.current.values().cloned().collect() }
    }
    fn begin(&mut self) {
        *self = Workers { restored: self.values(), current: BTreeMap::new() };
    }
}

/// What the workers have handed over of one epoch.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    segments: Vec<(String, TableSpec, Segment)>,
    instances: Vec<(String, usize, Vec<u8>)>,
    positions: Vec<(String, usize, Vec<u8>)>,
    /// How many workers are through with it.
    pub(crate) done: usize,
}

impl Handed {
    pub(crate) fn snapshot(
        &mut self,
        (epoch, worker): (u64, usize),
        node: &str,
        delta: StateDelta,
        tables: &[TableSpec],
        range: HashRange,
    ) -> Result<()> {
        self.instances.extend(delta.instance.map(|bytes| (node.to_string(), worker, bytes)));
        for table in &delta.tables {
            let spec = tables.iter().find(|spec| spec.name == table.table);
            let spec = spec.ok_or_else(|| Error::internal(format!("{node} has no table '{}'", table.table)))?;
            let encoded = DeltaWriter::encode(spec, table, epoch, range)?;
            let (segments, _) = pack(vec![encoded], "", usize::MAX);
            self.segments.extend(segments.into_iter().map(|segment| (node.to_string(), spec.clone(), segment)));
        }
        Ok(())
    }
    pub(crate) fn position(&mut self, node: String, worker: usize, bytes: Vec<u8>) {
        self.positions.push((node, worker, bytes));
    }
}

impl Memory {
    pub(crate) fn new() -> Result<Memory> {
        let store = CheckpointStore::open("memory:///trial", &[])?;
        let (tables, instances, positions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Memory { store, tables, instances, positions })
    }
    /// A new attempt begins; the number of its workers may be another.
    pub(crate) fn begin(&mut self) {
        self.instances.values_mut().chain(self.positions.values_mut()).for_each(Workers::begin);
    }
    /// An epoch is complete.
    pub(crate) fn absorb(&mut self, handed: Handed) -> Result<()> {
        for (node, spec, segment) in handed.segments {
            let tables = self.tables.entry(node).or_default();
            if !tables.contains_key(&spec.name) {
                tables.insert(spec.name.clone(), StoredTable::of(&spec)?);
            }
            if let Some(table) = tables.get_mut(&spec.name) {
                table.push(segment);
            }
        }
        for (node, worker, bytes) in handed.instances {
            self.instances.entry(node).or_default().current.insert(worker, bytes);
        }
        for (node, worker, bytes) in handed.positions {
            self.positions.entry(node).or_default().current.insert(worker, bytes);
        }
        Ok(())
    }
}

impl RestoreProvider for Memory {
    fn rows(
        &self,
        node_id: &str,
        table: &TableSpec,
        range: HashRange,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        match self.tables.get(node_id).and_then(|tables| tables.get(&table.name)) {
            Some(stored) => restore_table(&self.store, stored, table, range, each),
            None => Ok(()),
        }
    }
    fn instances(&self, node_id: &str) -> Result<Vec<Vec<u8>>> {
        Ok(self.instances.get(node_id).map(Workers::values).unwrap_or_default())
    }
    fn positions(&self, node_id: &str) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(self.positions.get(node_id).map(Workers::values))
    }
}
