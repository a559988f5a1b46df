//! The wiring of a job's tasks on timely.

use crate::worker::WorkerPlan;
use millstream_core::{Error, Result};

pub(crate) fn run(plan: WorkerPlan) -> Result<()> {
    let goal = plan.control.goal().max(plan.control.last_committed());
    let idle = plan.control.is_stopping() || plan.control.is_aborted();
    plan.control.register_this_thread();
    plan.metrics.set_watermark(0, 0, millstream_core::Watermark::MIN);
    Err(Error::unsupported(format!("running a job from epoch {goal} ({idle})")))
}
