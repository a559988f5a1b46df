//! Which nodes of a job graph run fused in one task, and which edges become exchanges.

use millstream_core::graph::{JobGraph, NodeIndex, Partitioning};

/// Where an exchange's rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To the same worker.
    Local,
    /// By the hash of these columns; none: to worker 0.
    Hash(Vec<usize>),
    /// Round robin by batch.
    Rebalance,
}

/// An edge between two tasks.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub from_node: NodeIndex,
    pub route: Route,
}

/// Nodes that run fused, in topological order; the first is a source or takes the exchanges.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskPlan {
    pub nodes: Vec<NodeIndex>,
    /// The exchanges into the first node, one for each of its ports.
    pub inputs: Vec<usize>,
    /// The exchanges that its nodes feed.
    pub outputs: Vec<usize>,
}

/// The tasks in topological order, and the exchanges between them.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobPlan {
    pub tasks: Vec<TaskPlan>,
    pub exchanges: Vec<Exchange>,
}

/// A node joins its inputs' task if all its edges are `Forward` and come from that one task. Any other node
/// starts a task, so tasks never form a cycle.
pub(crate) fn fuse(graph: &JobGraph) -> JobPlan {
    let mut plan = JobPlan::default();
    let mut task_of: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let forward = node.inputs.iter().all(|e| e.partitioning == Partitioning::Forward);
        let first = node.inputs.first().map(|e| task_of[e.from]);
        let one_task = node.inputs.iter().all(|e| Some(task_of[e.from]) == first);
        if let (true, true, Some(task)) = (forward, one_task, first) {
            plan.tasks[task].nodes.push(index);
            task_of.push(task);
            continue;
        }
        let mut task = TaskPlan { nodes: vec![index], ..TaskPlan::default() };
        for edge in &node.inputs {
            let route = match &edge.partitioning {
                Partitioning::Forward => Route::Local,
                Partitioning::Hash(columns) => Route::Hash(columns.clone()),
                Partitioning::Rebalance => Route::Rebalance,
            };
            plan.tasks[task_of[edge.from]].outputs.push(plan.exchanges.len());
            task.inputs.push(plan.exchanges.len());
            plan.exchanges.push(Exchange { from_node: edge.from, route });
        }
        task_of.push(plan.tasks.len());
        plan.tasks.push(task);
    }
    plan
}
