//! The nodes of a task, and how rows and calls go from each to those behind it.

use crate::outputs::Outputs;
use millstream_core::graph::NodeIndex;
use millstream_core::metrics::{MetricsRef, add};
use millstream_core::operator::{Collector, Context, Operator, Port, Progress, TableSpec};
use millstream_core::sink::SinkWriter;
use millstream_core::{Batch, Result, Watermark};
use std::sync::Arc;

/// Where a node's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    Node { local: usize, port: Port },
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
    pass: Pass,
}

pub(crate) fn downstream<'a>(
    node: &'a mut LocalNode,
    rest: &'a mut [LocalNode],
    base: usize,
    outputs: &'a mut Outputs,
    pass: Pass,
) -> (&'a mut Kind, Downstream<'a>) {
    let LocalNode { kind, targets, emitted, metrics, .. } = node;
    (kind, Downstream { rest, base, targets, outputs, emitted, metrics, pass })
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
            match *target {
                Target::Node { local, port } => {
                    let nodes = &mut self.rest[local - self.base..];
                    nodes[0].ports[port] = watermark.0;
                    let lowest = nodes[0].ports.iter().copied().min().unwrap_or(i64::MIN);
                    if lowest > nodes[0].watermark {
                        nodes[0].watermark = lowest;
                        invoke(nodes, local, Call::Watermark(Watermark(lowest)), self.outputs, self.pass)?;
                    }
                }
                Target::Output(output) => self.outputs.set_watermark(output, watermark.0),
            }
        }
        Ok(())
    }
}

/// Tells each node what is behind it.
pub(crate) fn look_behind(nodes: &mut [LocalNode]) {
    for node in (0..nodes.len()).rev() {
        let keeps_state = |n: &LocalNode| !n.tables.is_empty();
        let mut behind = Behind { reaches_sink: matches!(nodes[node].kind, Kind::Sink(_)), has_state: false };
        for target in nodes[node].targets.iter() {
            if let Target::Node { local, .. } = target {
                behind.has_state |= keeps_state(&nodes[*local]) || nodes[*local].behind.has_state;
                behind.reaches_sink |= !nodes[node].holds_rows && nodes[*local].behind.reaches_sink;
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
