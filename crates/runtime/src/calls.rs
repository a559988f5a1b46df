//! Calls to other systems: futures that run beside the workers, whose results wake the worker that wants them.

use crossbeam_channel::{Receiver, Sender};
use millstream_core::source::Waker;
use millstream_core::{Error, Result};
use std::future::Future;
use std::sync::OnceLock;
use tokio::runtime::Runtime;

/// How many threads poll the calls of a process; they only wait for others.
const THREADS: usize = 2;

/// The calls of one operator and what has come of them.
pub(crate) struct Calls<T> {
    waker: Waker,
    sender: Sender<T>,
    results: Receiver<T>,
}

impl<T: Send + 'static> Calls<T> {
    /// None yet; results wake `waker`.
    pub(crate) fn new(waker: Waker) -> Self {
        let (sender, results) = crossbeam_channel::unbounded();
        Calls { waker, sender, results }
    }
    /// Starts a call.
    pub(crate) fn start(&self, call: impl Future<Output = T> + Send + 'static) -> Result<()> {
        let (sender, waker) = (self.sender.clone(), self.waker.clone());
        runtime()?.spawn(async move {
            // An operator that is gone wants no result.
            if sender.send(call.await).is_ok() {
                waker();
            }
        });
        Ok(())
    }
    /// Whether a result has come that nobody took yet.
    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }
    /// Takes a result.
    pub(crate) fn take(&self) -> Option<T> {
        self.results.try_recv().ok()
    }
}

/// The runtime of all calls of the process.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("calls")
        .enable_all()
        .build()
        .map_err(|e| Error::retry(format!("the threads for calls can't be started: {e}")))?;
    Ok(RUNTIME.get_or_init(|| built))
}
