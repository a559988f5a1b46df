//! SIGINT and SIGTERM: counted by the supervisor, ignored by its workers (the supervisor tells them to stop).

use std::sync::atomic::{AtomicUsize, Ordering};

static STOP_REQUESTS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: libc::c_int) {
    // The second one ends the process whatever it is doing; its workers die with it.
    if STOP_REQUESTS.fetch_add(1, Ordering::SeqCst) >= 1 {
        // SAFETY: `_exit` may be called from a signal handler.
        unsafe { libc::_exit(130) };
    }
}

/// Counts SIGINT and SIGTERM from now on.
pub fn count_stop_requests() {
    let handler = count as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler only touches an atomic and calls `_exit`, both allowed in a signal handler.
    unsafe {
        libc::signal(libc::SIGINT, handler);
        libc::signal(libc::SIGTERM, handler);
    }
}

/// Whether one came.
pub fn stop_requested() -> bool {
    STOP_REQUESTS.load(Ordering::SeqCst) > 0
}

/// Leaves SIGINT (which a terminal sends to the whole group) and SIGTERM (which `timeout` and service managers do) to
/// the supervisor.
pub fn ignore_interrupts() {
    // SAFETY: installs the system's own "ignore" handler.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
    }
}

/// Has this process die with its parent.
pub fn die_with_parent() {
    // SAFETY: a plain system call without pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}
