//! The nodes of a task, and how rows and calls go from each to those behind it.

use crate::outputs::Outputs;
use arrow::array::{Array, ArrayRef, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema};
use millstream_core::graph::NodeIndex;
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::operator::{Collector, Context, Operator, Port, Progress, TableSpec};
use millstream_core::sink::SinkWriter;
use millstream_core::{Batch, Result, Watermark};
use std::sync::Arc;

/// Where a node's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Node {
        local: usize,
        port: Port,
    },
    /// A node that takes what is late of the rows on a port, in place of the results.
    Late {
        local: usize,
        port: Port,
    },
    Output(usize),
}

pub(crate) enum Kind {
    Source,
    Operator(Box<dyn Operator>),
    Sink(Box<dyn SinkWriter>),
}

/// One node of a task.
pub(crate) struct LocalNode {
    pub node: NodeIndex,
    pub id: String,
    pub name: String,
    pub kind: Kind,
    pub tables: Arc<[TableSpec]>,
    pub targets: Arc<[Target]>,
    pub metrics: MetricsRef,
    /// See [`crate::operators::holds_rows`].
    pub holds_rows: bool,
    /// The watermark that arrived on each port.
    ports: Vec<i64>,
    /// Their minimum, and what the node itself has emitted.
    pub(crate) watermark: i64,
    emitted: i64,
    /// A call that has returned `More`.
    pub(crate) pending: Option<Call>,
    /// What is behind it in the task.
    pub(crate) behind: Behind,
}

/// What an epoch's end has to mind of a task's nodes, told by their edges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behind {
    /// Rows that come to the node reach a sink of the task as they come, through no node that holds them.
    pub reaches_sink: bool,
    /// A later node of the task keeps state: at a snapshot all its instances must have seen the same watermark, so
    /// what this node has due is not left for the next epoch.
    pub has_state: bool,
}

impl LocalNode {
    pub fn new(node: NodeIndex, id: &str, name: &str, kind: Kind, ports: usize, metrics: MetricsRef) -> Self {
        LocalNode {
            node,
            id: id.to_string(),
            name: name.to_string(),
            kind,
            tables: Arc::from([]),
            targets: Arc::from([]),
            metrics,
            holds_rows: false,
            ports: vec![i64::MIN; ports],
            watermark: i64::MIN,
            emitted: i64::MIN,
            pending: None,
            behind: Behind::default(),
        }
    }
}

/// What a node is told besides rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Watermark(Watermark),
    Timer,
    Flush,
    End,
}

/// A call's circumstances.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    pub now_ms: i64,
    /// Whether what has become due may leave.
    pub has_room: bool,
}

pub(crate) fn in_node(error: millstream_core::Error, name: &str) -> millstream_core::Error {
    error.detail(format!("in the operator {name}"))
}

/// What is behind a node: the nodes after it and the exchanges.
pub(crate) struct Downstream<'a> {
    rest: &'a mut [LocalNode],
    /// The place of `rest[0]` in the task.
    base: usize,
    targets: &'a [Target],
    outputs: &'a mut Outputs,
    emitted: &'a mut i64,
    metrics: &'a MetricsRef,
    /// The watermark that the node itself has been told.
    watermark: i64,
    pass: Pass,
}

pub(crate) fn downstream<'a>(
    node: &'a mut LocalNode,
    rest: &'a mut [LocalNode],
    base: usize,
    outputs: &'a mut Outputs,
    pass: Pass,
) -> (&'a mut Kind, Downstream<'a>) {
    let LocalNode { kind, targets, emitted, metrics, watermark, .. } = node;
    (kind, Downstream { rest, base, targets, outputs, emitted, metrics, watermark: *watermark, pass })
}

impl Collector for Downstream<'_> {
    fn has_room(&self) -> bool {
        self.pass.has_room
    }
    fn emit(&mut self, batch: Batch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        add(&self.metrics.rows_out, batch.num_rows() as u64);
        for target in self.targets {
            match *target {
                Target::Node { local, port } => {
                    let (at, rest) = (local - self.base, &mut *self.rest);
                    process(&mut rest[at..], local, port, batch.clone(), self.outputs, self.pass)?;
                }
                Target::Output(output) => self.outputs.push(output, batch.clone())?,
                Target::Late { .. } => {}
            }
        }
        Ok(())
    }

    fn wants_late(&self, of: Port) -> bool {
        self.targets.iter().any(|target| matches!(target, Target::Late { port, .. } if *port == of))
    }

    fn emit_late(&mut self, of: Port, rows: Batch, watermark: Watermark) -> Result<()> {
        // After a restore rows may come before the first watermark, behind the one of the snapshot.
        let watermark = if self.watermark == i64::MIN { watermark.0 } else { self.watermark };
        let batch = marked_late(&rows, watermark)?;
        for target in self.targets {
            if let Target::Late { local, port } = *target
                && port == of
            {
                let at = local - self.base;
                process(&mut self.rest[at..], local, 0, batch.clone(), self.outputs, self.pass)?;
            }
        }
        Ok(())
    }

    fn emit_watermark(&mut self, watermark: Watermark) -> Result<()> {
        if watermark.0 <= *self.emitted {
            return Ok(());
        }
        *self.emitted = watermark.0;
        for target in self.targets {
            let (local, port) = match *target {
                Target::Node { local, port } => (local, port),
                Target::Late { local, .. } => (local, 0),
                Target::Output(output) => {
                    self.outputs.set_watermark(output, watermark.0);
                    continue;
                }
            };
            let nodes = &mut self.rest[local - self.base..];
            nodes[0].ports[port] = watermark.0;
            let lowest = nodes[0].ports.iter().copied().min().unwrap_or(i64::MIN);
            if lowest > nodes[0].watermark {
                nodes[0].watermark = lowest;
                invoke(nodes, local, Call::Watermark(Watermark(lowest)), self.outputs, self.pass)?;
            }
        }
        Ok(())
    }
}

/// Rows with what a [`millstream_core::graph::LateRows`] is told of them: the watermark, and their kind.
fn marked_late(rows: &Batch, watermark: i64) -> Result<Batch> {
    let count = rows.num_rows();
    let kinds = (0..count).map(|row| Some(rows.kind(row).symbol()));
    let more: [ArrayRef; 2] = [
        Arc::new(TimestampMillisecondArray::from_value(watermark, count).with_timezone("UTC")),
        Arc::new(StringArray::from_iter(kinds)),
    ];
    let mut fields: Vec<_> = rows.rows.schema_ref().fields().iter().cloned().collect();
    fields.extend(more.iter().map(|column| Arc::new(ArrowField::new("", column.data_type().clone(), true))));
    let columns = rows.rows.columns().iter().cloned().chain(more).collect();
    Batch::from_columns(Arc::new(ArrowSchema::new(fields)), columns, count)
}

/// Tells each node what is behind it.
pub(crate) fn look_behind(nodes: &mut [LocalNode]) {
    for node in (0..nodes.len()).rev() {
        let keeps_state = |n: &LocalNode| !n.tables.is_empty();
        let mut behind = Behind { reaches_sink: matches!(nodes[node].kind, Kind::Sink(_)), has_state: false };
        for target in nodes[node].targets.iter() {
            if let Target::Node { local, .. } | Target::Late { local, .. } = target {
                behind.has_state |= keeps_state(&nodes[*local]) || nodes[*local].behind.has_state;
                // What is late is not held.
                let passes = !nodes[node].holds_rows || matches!(target, Target::Late { .. });
                behind.reaches_sink |= passes && nodes[*local].behind.reaches_sink;
            }
        }
        nodes[node].behind = behind;
    }
}

/// Finishes a flush, which is short; nothing else may be called before.
pub(crate) fn finish_flush(nodes: &mut [LocalNode], base: usize, outputs: &mut Outputs, pass: Pass) -> Result<()> {
    while let Some(Call::Flush) = nodes[0].pending {
        nodes[0].pending = None;
        invoke_once(nodes, base, Call::Flush, outputs, pass)?;
    }
    Ok(())
}

/// Hands rows to `nodes[0]`, which is at `base` in its task.
pub(crate) fn process(
    nodes: &mut [LocalNode],
    base: usize,
    port: Port,
    batch: Batch,
    outputs: &mut Outputs,
    pass: Pass,
) -> Result<()> {
    finish_flush(nodes, base, outputs, pass)?;
    let (node, rest) = nodes.split_first_mut().expect("a target is a node of the task");
    let (metrics, name) = (node.metrics.clone(), node.name.clone());
    let (kind, mut out) = downstream(node, rest, base + 1, outputs, pass);
    match kind {
        Kind::Source => out.emit(batch),
        Kind::Operator(operator) => {
            add(&metrics.rows_in, batch.num_rows() as u64);
            let mut ctx = Context { out: &mut out, now_ms: pass.now_ms, metrics: &metrics };
            operator.process(port, batch, &mut ctx).map_err(|e| in_node(e, &name))
        }
        Kind::Sink(writer) => {
            add(&metrics.rows_in, batch.num_rows() as u64);
            writer.write(&batch).map_err(|e| in_node(e, &name))?;
            add(&metrics.rows_out, batch.num_rows() as u64);
            Ok(())
        }
    }
}

pub(crate) fn invoke(
    nodes: &mut [LocalNode],
    base: usize,
    call: Call,
    outputs: &mut Outputs,
    pass: Pass,
) -> Result<()> {
    finish_flush(nodes, base, outputs, pass)?;
    match (nodes[0].pending.take(), call) {
        // What is due waits for its own call to go on, or asks for another by its timer.
        (Some(pending), Call::Flush) => {
            invoke_once(nodes, base, call, outputs, pass)?;
            finish_flush(nodes, base, outputs, pass)?;
            nodes[0].pending = Some(pending);
            Ok(())
        }
        (Some(pending @ (Call::Watermark(_) | Call::End)), Call::Timer) => {
            nodes[0].pending = Some(pending);
            Ok(())
        }
        _ => invoke_once(nodes, base, call, outputs, pass),
    }
}

fn invoke_once(nodes: &mut [LocalNode], base: usize, call: Call, outputs: &mut Outputs, pass: Pass) -> Result<()> {
    let (node, rest) = nodes.split_first_mut().expect("a target is a node of the task");
    let metrics = node.metrics.clone();
    let (kind, mut out) = downstream(node, rest, base + 1, outputs, pass);
    let progress = match kind {
        Kind::Operator(operator) => {
            let mut ctx = Context { out: &mut out, now_ms: pass.now_ms, metrics: &metrics };
            match call {
                Call::Watermark(watermark) => operator.on_watermark(watermark, &mut ctx),
                Call::Timer => operator.on_timer(&mut ctx),
                Call::Flush => operator.flush(&mut ctx),
                Call::End => operator.on_end(&mut ctx),
            }
        }
        Kind::Source => match call {
            Call::Watermark(watermark) => out.emit_watermark(watermark).map(|()| Progress::Done),
            Call::Timer | Call::Flush | Call::End => Ok(Progress::Done),
        },
        Kind::Sink(writer) => match call {
            Call::Flush => writer.flush().map(|()| Progress::Done),
            Call::Watermark(watermark) => writer.on_watermark(watermark).map(|()| Progress::Done),
            Call::Timer | Call::End => Ok(Progress::Done),
        },
    };
    if progress.map_err(|e| in_node(e, &node.name))? == Progress::More {
        node.pending = Some(call);
    }
    Ok(())
}
