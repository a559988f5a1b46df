//! Waiting for requests to object stores and other services.

use millstream_core::{Error, Result};
use std::sync::OnceLock;
use tokio::runtime::Runtime;

/// Waits for a request; not from within a runtime.
///
/// All requests share a runtime that never stands still: a client keeps connections for the requests to come, and one that
/// was opened on a runtime which nobody drives would never answer.
pub(crate) fn block_on<F: Future>(request: F) -> Result<F::Output> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.map_err(|e| Error::from(e).context("start the requests' runtime"))?;
            RUNTIME.get_or_init(|| runtime)
        }
    };
    Ok(runtime.block_on(request))
}
