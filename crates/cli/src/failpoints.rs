//! Fail points from the environment: at which step, and at which of its hits, a process of the job dies.
//!
//! `MILLSTREAM_FAILPOINTS` holds plans, separated by `;`, each of four words: the role (`supervisor` or `worker`), the
//! point's name, the action (`crash` or `panic`), and the hits at which it is taken (`1,3`). Hits are counted in files of
//! the folder `MILLSTREAM_FAILPOINTS_DIR`, over all processes of that role and over restarts.

use std::fs::OpenOptions;
use std::io::{Seek, Write};
use std::path::PathBuf;

#[derive(Clone, Copy)]
enum Action {
    /// As SIGKILL from outside: nothing is cleaned up.
    Crash,
    /// As a bug.
    Panic,
}

/// Sets up what the environment says for a process of `role`.
pub fn set_up(role: &str) {
    let Ok(plans) = std::env::var("MILLSTREAM_FAILPOINTS") else { return };
    let folder = PathBuf::from(std::env::var_os("MILLSTREAM_FAILPOINTS_DIR").expect("the folder of counters is set"));
    for plan in plans.split(';') {
        let words: Vec<&str> = plan.split_whitespace().collect();
        let [of_role, point, action, hits] = words[..] else { panic!("not a plan for a fail point: {plan}") };
        if of_role != role {
            continue;
        }
        let action = match action {
            "crash" => Action::Crash,
            "panic" => Action::Panic,
            other => panic!("no such action at a fail point: {other}"),
        };
        let hits: Vec<u64> = hits.split(',').map(|h| h.parse().expect("hits are numbers")).collect();
        let counter = folder.join(format!("{role} {}", point.replace("::", ".")));
        let hit = move || {
            if hits.contains(&count(&counter)) {
                act(action);
            }
        };
        fail::cfg_callback(point, hit).expect("the fail point can be set");
    }
}

/// Adds one to the count and returns it; processes may do so at the same time.
fn count(counter: &PathBuf) -> u64 {
    let counted = OpenOptions::new().append(true).create(true).open(counter).and_then(|mut file| {
        file.write_all(b".")?;
        file.stream_position()
    });
    counted.expect("the counter can be written")
}

#[allow(clippy::panic, reason = "that is what was asked for")]
fn act(action: Action) {
    match action {
        Action::Panic => panic!("a fail point panics"),
        // SAFETY: ends this process; no memory is touched.
        Action::Crash => unsafe {
            libc::raise(libc::SIGKILL);
        },
    }
}
