//! The wiring of a job's tasks on timely: one operator a task and worker, timestamps are epochs.

use crate::align::Alignment;
use crate::credit::{Credit, ReceiverCredits};
use crate::exchange::{ByDest, Frame};
use crate::fuse::{JobPlan, Route, TaskPlan, fuse};
use crate::node::{Kind, LocalNode, Target};
use crate::operators::{self, WatermarkGenerator};
use crate::outputs::{Output, Outputs};
use crate::rendezvous;
use crate::source::SourceDriver;
use crate::task::{Head, Input, Moment, Outcome, Place, Steer, StepOutput, Task};
use crate::worker::{LOST_PEER_EXIT_CODE, WorkerEvent, WorkerPlan};
use millstream_core::graph::{NodeKind, OperatorSpec};
use millstream_core::key::HashRange;
use millstream_core::operator::{Operator, Restored, TableSpec};
use millstream_core::sink::{SinkContext, id_in_job};
use millstream_core::source::{SourceContext, Waker};
use millstream_core::{Error, Result, settings};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::dataflow::channels::pact::{DistributorPact, Exchange};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{ConnectLoop, Feedback};
use timely::dataflow::{Scope, Stream};
use timely::progress::operate::FrontierInterest;
use timely::scheduling::Activator;
use timely::worker::Worker;

/// Runs the workers of a process until they are done.
pub(crate) fn run(mut plan: WorkerPlan) -> Result<()> {
    die_with_timely();
    let hooks = timely::communication::Hooks::default();
    let local = ProcessBuilder::new_typed_vector(plan.workers_per_process, hooks.refill.clone(), None);
    let (builders, network): (Vec<AllocatorBuilder>, Option<Box<dyn Any + Send>>) = if plan.processes > 1 {
        let sockets = rendezvous::meet(plan.process, &plan.addresses, plan.listener.take(), plan.token)?;
        let (builders, guard) =
            initialize_networking_from_sockets(local, sockets, plan.process, plan.workers_per_process, hooks)?;
        (builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Some(Box::new(guard)))
    } else {
        (local.into_iter().map(AllocatorBuilder::Process).collect(), None)
    };
    let plan = Arc::new(plan);
    let failure: Arc<Mutex<Option<Error>>> = Arc::default();
    let (for_workers, failures) = (plan.clone(), failure.clone());
    let worker_config = timely::WorkerConfig::default();
    let guards = timely::execute::execute_from(builders, Box::new(()), worker_config, move |worker| {
        run_one(worker, &for_workers, &failures);
    })
    .map_err(|e| Error::retry(format!("the workers could not be started: {e}")))?;
    let panicked = guards.join().into_iter().any(|r| r.is_err());
    if plan.control.is_aborted() {
        // Its threads end only when the peers hang up, which a process that gives up does not wait for.
        std::mem::forget(network);
    }
    if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    if panicked { Err(Error::internal("a worker panicked")) } else { Ok(()) }
}

/// A panic in one of timely's threads (a lost peer, a bug) would leave the others waiting for ever.
fn die_with_timely() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // What is said of it is the program's own business.
            previous(info);
            let thread = std::thread::current();
            if thread.name().is_some_and(|n| n.starts_with("timely:")) {
                std::process::exit(LOST_PEER_EXIT_CODE);
            }
        }));
    });
}

/// What the tasks of one worker share.
struct Shared {
    steer: Steer,
    /// The goal no longer follows the control's: the last epoch is being agreed on.
    frozen: bool,
    live_sources: usize,
    tasks: usize,
    epochs_done: BTreeMap<u64, usize>,
    activators: Vec<Activator>,
    end: Option<Activator>,
    start: Instant,
}

impl Shared {
    fn activate_all(&self) {
        self.activators.iter().chain(&self.end).for_each(Activator::activate);
    }
}

type SharedRef = Rc<RefCell<Shared>>;

fn run_one(worker: &mut Worker, plan: &Arc<WorkerPlan>, failure: &Arc<Mutex<Option<Error>>>) {
    plan.control.register_this_thread();
    let shared = Rc::new(RefCell::new(Shared {
        steer: Steer { goal: plan.first_epoch, ..Steer::default() },
        frozen: false,
        live_sources: 0,
        tasks: 0,
        epochs_done: BTreeMap::new(),
        activators: vec![],
        end: None,
        start: Instant::now(),
    }));
    let fail: Rc<dyn Fn(Error)> = {
        let (plan, failure) = (plan.clone(), failure.clone());
        Rc::new(move |error: Error| {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
            (plan.on_event)(WorkerEvent::Failed(error));
            plan.control.abort();
        })
    };
    let jobs = fuse(&plan.graph);
    worker.dataflow::<u64, _, _>(|scope| build(scope, plan, &jobs, &shared, &fail));
    while worker.has_dataflows() {
        if plan.control.is_aborted() {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
            break;
        }
        let mut s = shared.borrow_mut();
        let goal = if s.frozen { s.steer.goal } else { plan.control.goal().max(plan.first_epoch) };
        let (committed, stopping) = (plan.control.last_committed(), plan.control.is_stopping());
        if (goal, committed, stopping) != (s.steer.goal, s.steer.committed, s.steer.stopping) {
            (s.steer.goal, s.steer.committed, s.steer.stopping) = (goal, committed, stopping);
            s.activate_all();
        }
        drop(s);
        worker.step_or_park(None);
    }
}

/// Says that a worker's sources have ended, then in which epoch it stopped taking orders.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct EndNote {
    dest: u64,
    worker: u64,
    /// `None`: all sources of `worker` have ended. `Some`: it starts no epoch after this one by itself.
    frozen_at: Option<u64>,
}

fn build(scope: Scope<'_, u64>, plan: &Arc<WorkerPlan>, jobs: &JobPlan, shared: &SharedRef, fail: &Rc<dyn Fn(Error)>) {
    build_end(scope, plan, shared);
    let (me, peers) = (scope.index(), scope.peers());
    let mut streams: Vec<Option<Stream<'_, u64, Frame>>> = jobs.exchanges.iter().map(|_| None).collect();
    let mut credit_streams = vec![];
    let mut handles = vec![];
    for _ in &jobs.exchanges {
        let (handle, stream) = scope.feedback::<Vec<Credit>>(0);
        handles.push(Some(handle));
        credit_streams.push(Some(stream));
    }
    shared.borrow_mut().tasks = jobs.tasks.len();
    for (index, task_plan) in jobs.tasks.iter().enumerate() {
        let mut builder = OperatorBuilder::new(format!("task {index}"), scope);
        let address = builder.operator_info().address;
        let activator = scope.activator_for(address.clone());
        let sync = Mutex::new(scope.worker().sync_activator_for(address.to_vec()));
        let waker: Waker = Arc::new(move || {
            // A worker that is gone needs no waking.
            let _ = sync.lock().unwrap_or_else(PoisonError::into_inner).activate();
        });
        let mut inputs = vec![];
        for exchange in &task_plan.inputs {
            let stream = streams[*exchange].take().expect("tasks are in topological order");
            inputs.push(builder.new_input_connection(stream, DistributorPact(|_| ByDest), []));
        }
        let mut credit_inputs = vec![];
        for exchange in &task_plan.outputs {
            let stream = credit_streams[*exchange].take().expect("an exchange has one sender task");
            let pact = Exchange::new(|c: &Credit| u64::from(c.sender));
            // Not connected to any output: credits never hold a frontier back.
            credit_inputs.push(builder.new_input_connection(stream, pact, []));
            builder.set_notify_for(inputs.len() + credit_inputs.len() - 1, FrontierInterest::Never);
        }
        let mut outputs = vec![];
        for exchange in &task_plan.outputs {
            let (output, stream) = builder.new_output_connection::<Frame, _>([]);
            streams[*exchange] = Some(stream);
            outputs.push(output);
        }
        let mut credit_outputs = vec![];
        for exchange in &task_plan.inputs {
            let (output, stream) = builder.new_output_connection::<Vec<Credit>, _>([]);
            stream.connect_loop(handles[*exchange].take().expect("an exchange has one receiver task"));
            credit_outputs.push(output);
        }
        // Timely shuts an operator down that holds no capability, so a task without exchanges gets one of its own.
        let alive = (outputs.is_empty() && credit_outputs.is_empty())
            .then(|| builder.new_output_connection::<Vec<Credit>, _>([]).0);
        let mut task = match make_task(plan, jobs, task_plan, me, peers, &waker) {
            Ok(task) => task,
            Err(error) => {
                fail(error);
                // Timely panics at an operator that is not built; as the job is over, this one does nothing.
                builder.build(|_| |_: &[_]| {});
                continue;
            }
        };
        {
            let mut s = shared.borrow_mut();
            s.live_sources += usize::from(task.has_source());
            s.activators.push(activator.clone());
        }
        let (shared, fail, plan) = (shared.clone(), fail.clone(), plan.clone());
        builder.build(move |mut capabilities| {
            capabilities.iter_mut().for_each(|c| c.downgrade(&plan.first_epoch));
            let data_outputs = outputs.len();
            let _alive = alive;
            let mut reported = false;
            let mut wake_at: Option<Instant> = None;
            let mut out = StepOutput::default();
            activator.activate();
            move |frontiers| {
                for (i, input) in inputs.iter_mut().enumerate() {
                    input.for_each(|c, frame| task.receive(i, *c.time(), std::mem::take(frame)));
                    task.set_frontier(i, frontiers[i].frontier().first().copied());
                }
                for (i, input) in credit_inputs.iter_mut().enumerate() {
                    input.for_each(|_, credits| credits.drain(..).for_each(|c| task.returned(i, &c)));
                }
                if capabilities.is_empty() || plan.control.is_aborted() {
                    return;
                }
                let steer = shared.borrow().steer;
                let start = shared.borrow().start;
                let now = Moment { now_ms: plan.clock.now_ms(), mono_us: start.elapsed().as_micros() as u64 };
                let outcome = match task.step(now, &steer, &mut out) {
                    Ok(outcome) => outcome,
                    Err(error) => {
                        fail(error);
                        return;
                    }
                };
                for mut sent in out.frames.drain(..) {
                    let capability = &mut capabilities[sent.output];
                    capability.downgrade(&sent.epoch);
                    outputs[sent.output].activate().give(&*capability, &mut sent.frame);
                }
                for (input, credit) in out.credits.drain(..) {
                    let capability = &capabilities[data_outputs + input];
                    credit_outputs[input].activate().give(capability, &mut vec![credit]);
                }
                report(&plan, &shared, me, &mut out);
                if task.has_source() && task.has_ended() && !reported {
                    reported = true;
                    let mut s = shared.borrow_mut();
                    s.live_sources -= 1;
                    s.end.iter().for_each(Activator::activate);
                }
                match outcome {
                    Outcome::Finished => capabilities.clear(),
                    Outcome::Again | Outcome::Wait(_) => {
                        capabilities.iter_mut().for_each(|c| c.downgrade(&task.epoch()));
                    }
                }
                match outcome {
                    Outcome::Again => activator.activate(),
                    Outcome::Wait(Some(us)) => {
                        let (now, wait) = (Instant::now(), Duration::from_micros(us));
                        // One timer at a time, unless an earlier one is wanted.
                        if wake_at.is_none_or(|at| at <= now || at > now + wait) {
                            wake_at = Some(now + wait);
                            activator.activate_after(wait);
                        }
                    }
                    Outcome::Wait(None) | Outcome::Finished => {}
                }
            }
        });
    }
}

/// Hands a step's events on, and tells when all tasks of the worker are through with an epoch.
fn report(plan: &WorkerPlan, shared: &SharedRef, worker: usize, out: &mut StepOutput) {
    out.events.drain(..).for_each(|event| (plan.on_event)(event));
    for (epoch, ended) in out.epochs_done.drain(..) {
        let mut s = shared.borrow_mut();
        let done = s.epochs_done.entry(epoch).or_default();
        *done += 1;
        if *done < s.tasks {
            continue;
        }
        s.epochs_done.remove(&epoch);
        drop(s);
        (plan.on_event)(WorkerEvent::EpochDone { epoch, worker, ended });
        if ended {
            (plan.on_event)(WorkerEvent::Ended { worker, last_epoch: epoch });
        }
    }
}

/// The workers agree on the job's last epoch: the highest that any of them is in when all sources have ended.
fn build_end(scope: Scope<'_, u64>, plan: &Arc<WorkerPlan>, shared: &SharedRef) {
    let (me, peers) = (scope.index(), scope.peers());
    let (handle, cycle) = scope.feedback::<Vec<EndNote>>(0);
    let mut builder = OperatorBuilder::new("end".into(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut input = builder.new_input_connection(cycle, Exchange::new(|n: &EndNote| n.dest), []);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (mut output, stream) = builder.new_output_connection::<Vec<EndNote>, _>([]);
    stream.connect_loop(handle);
    shared.borrow_mut().end = Some(activator);
    let (shared, first_epoch) = (shared.clone(), plan.first_epoch);
    builder.build(move |mut capabilities| {
        capabilities.iter_mut().for_each(|c| c.downgrade(&first_epoch));
        let (mut ended, mut frozen) = (vec![false; peers], vec![None; peers]);
        let mut told_end = false;
        move |_| {
            input.for_each(|_, notes| {
                for note in notes.drain(..) {
                    match note.frozen_at {
                        None => ended[note.worker as usize] = true,
                        Some(epoch) => frozen[note.worker as usize] = Some(epoch),
                    }
                }
            });
            let Some(capability) = capabilities.first() else { return };
            let mut s = shared.borrow_mut();
            let mut tell = |frozen_at: Option<u64>| {
                let note = |dest| EndNote { dest: dest as u64, worker: me as u64, frozen_at };
                output.activate().give(capability, &mut (0..peers).map(note).collect::<Vec<_>>());
            };
            if s.live_sources == 0 && !told_end {
                told_end = true;
                tell(None);
            }
            if ended.iter().all(|e| *e) && !s.frozen {
                s.frozen = true;
                tell(Some(s.steer.goal));
            }
            if let Some(all) = frozen.iter().copied().collect::<Option<Vec<u64>>>() {
                s.steer.last = all.into_iter().max();
                s.activate_all();
                capabilities.clear();
            }
        }
    });
}

fn make_task(
    plan: &WorkerPlan,
    jobs: &JobPlan,
    task: &TaskPlan,
    me: usize,
    peers: usize,
    waker: &Waker,
) -> Result<Task> {
    let graph = &plan.graph;
    let place = Place {
        worker: me,
        local_worker: me % plan.workers_per_process,
        range: HashRange::of_worker(me, peers),
        metrics: plan.metrics.clone(),
    };
    let mut source = None;
    let mut nodes = vec![];
    for &index in &task.nodes {
        let node = &graph.nodes[index];
        let metrics = plan.metrics.node(index).clone();
        let (mut tables, mut holds_rows) = (vec![], false);
        let kind = match &node.kind {
            NodeKind::Source(spec) => {
                let restored = match &plan.restore {
                    Some(restore) => restore.positions(&node.id)?,
                    None => None,
                };
                let reader = spec.source.open(SourceContext {
                    instance: me,
                    instances: peers,
                    restored,
                    waker: waker.clone(),
                    metrics: metrics.clone(),
                    clock: plan.clock.clone(),
                })?;
                let mut generator = spec.watermark.clone().map(WatermarkGenerator::new);
                if let (Some(generator), Some(restore)) = (&mut generator, &plan.restore) {
                    generator.restore(&restore.instances(&node.id)?)?;
                }
                let schema = node.schema.arrow().clone();
                let mut driver = SourceDriver::new(reader, schema, spec.columns.clone(), generator, metrics.clone());
                driver.idle_timeout = spec.watermark.as_ref().is_some_and(|w| w.idle_timeout_ms.is_some());
                driver.tick_ms = plan.settings.duration(settings::WATERMARK_INTERVAL).as_millis().max(1) as i64;
                driver.batch_rows = plan.settings.number(settings::BATCH_ROWS).max(1) as usize;
                source = Some(driver);
                Kind::Source
            }
            NodeKind::Operator(spec) => {
                let connections = graph.connections(node);
                holds_rows = operators::holds_rows(spec);
                tables = operators::tables(spec, &connections)?;
                let mut operator = operators::create(spec, &connections, me, peers, waker)?;
                restore_operator(plan, &node.id, &tables, &place, operator.as_mut())?;
                Kind::Operator(operator)
            }
            NodeKind::Sink(sink) => Kind::Sink(sink.open(SinkContext {
                job_id: id_in_job(&plan.job_id, &node.id),
                attempt: plan.attempt,
                run: plan.run,
                instance: me,
                instances: peers,
                waker: waker.clone(),
                metrics: metrics.clone(),
                clock: plan.clock.clone(),
                first_epoch: plan.first_epoch,
                storage: plan.sink_storage.clone(),
            })?),
        };
        let mut local = LocalNode::new(index, &node.id, &node.name, kind, node.inputs.len(), metrics);
        local.tables = tables.into();
        local.holds_rows = holds_rows;
        local.targets = targets_of(plan, jobs, task, index).into();
        nodes.push(local);
    }
    let batch_rows = plan.settings.number(settings::BATCH_ROWS).max(1) as usize;
    // Each process bounds what its own workers have sent; a frame is always allowed.
    let links = (jobs.exchanges.len() * plan.workers_per_process * peers).max(1) as u64;
    let limit_bytes = (plan.settings.memory(settings::IN_FLIGHT) / links).max(1);
    let output = |e: &usize| {
        let exchange = &jobs.exchanges[*e];
        let schema = graph.nodes[exchange.from_node].schema.arrow().clone();
        Output::new(exchange.route.clone(), schema, me, peers, batch_rows, limit_bytes)
    };
    let outputs = Outputs::new(task.outputs.iter().map(output).collect(), plan.first_epoch);
    let head = match source {
        Some(driver) => Head::Source(Box::new(driver)),
        None => {
            let senders = |e: &usize| match jobs.exchanges[*e].route {
                Route::Local => (0..peers).map(|w| w == me).collect(),
                Route::Hash(_) | Route::Rebalance => {
                    let most = sending_workers(plan, jobs, jobs.exchanges[*e].from_node);
                    (0..peers).map(|w| w < most).collect()
                }
            };
            let input = |e: &usize| Input {
                schema: graph.nodes[jobs.exchanges[*e].from_node].schema.arrow().clone(),
                credits: ReceiverCredits::new(me, peers),
            };
            Head::Exchanges {
                alignment: Alignment::new(task.inputs.iter().map(senders).collect()),
                inputs: task.inputs.iter().map(input).collect(),
            }
        }
    };
    let latency_us = plan.settings.duration(settings::EXCHANGE_LATENCY).as_micros() as u64;
    Ok(Task::new(place, nodes, head, outputs, latency_us))
}

/// How many workers, from the first on, can have rows of a node: of a source, as many as it has readers with something
/// to read. Whether a row is late doesn't hang on when the others have said that they have nothing.
fn sending_workers(plan: &WorkerPlan, jobs: &JobPlan, node: usize) -> usize {
    let head = jobs.tasks.iter().find(|task| task.nodes.contains(&node)).and_then(|task| task.nodes.first());
    match head.map(|head| &plan.graph.nodes[*head].kind) {
        Some(NodeKind::Source(spec)) if plan.restore.is_none() => spec.source.instances_max().unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
}

/// The nodes of the task, and the exchanges, that take a node's rows.
fn targets_of(plan: &WorkerPlan, jobs: &JobPlan, task: &TaskPlan, node: usize) -> Vec<Target> {
    let mut targets = vec![];
    // The first node's inputs are exchanges, so only those after it are fed directly.
    for (local, &index) in task.nodes.iter().enumerate().skip(1) {
        for (port, edge) in plan.graph.nodes[index].inputs.iter().enumerate() {
            if edge.from == node {
                targets.push(match &plan.graph.nodes[index].kind {
                    NodeKind::Operator(OperatorSpec::LateRows(late)) => Target::Late { local, port: late.port },
                    _ => Target::Node { local, port },
                });
            }
        }
    }
    for (output, exchange) in task.outputs.iter().enumerate() {
        if jobs.exchanges[*exchange].from_node == node {
            targets.push(Target::Output(output));
        }
    }
    targets
}

fn restore_operator(
    plan: &WorkerPlan,
    node_id: &str,
    tables: &[TableSpec],
    place: &Place,
    operator: &mut dyn Operator,
) -> Result<()> {
    let Some(restore) = &plan.restore else { return Ok(()) };
    let instances = restore.instances(node_id)?;
    if !instances.is_empty() {
        operator.restore(Restored::Instances(instances))?;
    }
    for table in tables {
        if table.partition_by.is_empty() && place.worker != 0 {
            continue;
        }
        let name = table.name.clone();
        restore.rows(node_id, table, place.range, &mut |rows| {
            operator.restore(Restored::Rows { table: name.clone(), rows })
        })?;
    }
    Ok(())
}
