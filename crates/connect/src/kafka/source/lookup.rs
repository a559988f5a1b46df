//! A thread that looks up the topics and partitions there are, at an interval and when it is asked to.

use super::super::client::{Cluster, Topic};
use super::super::options::KafkaTable;
use millstream_core::source::Waker;
use millstream_core::{Error, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel};
use std::time::Duration;

/// How long it waits after a failure that may heal.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread; it ends with the value.
pub(super) struct Lookups {
    ask: SyncSender<()>,
    results: Receiver<Result<Vec<Topic>>>,
}

impl Lookups {
    /// Starts it. `at_once`: without waiting for the interval; `interval`: `None`, only when asked.
    pub fn start(table: &KafkaTable, at_once: bool, interval: Option<Duration>, waker: Waker) -> Result<Lookups> {
        let (ask, asked) = sync_channel(1);
        let (sender, results) = channel();
        let table = table.clone();
        let run = move || {
            let wait = |time: Option<Duration>| match time {
                Some(time) => asked.recv_timeout(time),
                None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut is_due = at_once;
            loop {
                if !is_due && wait(interval) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
                is_due = false;
                let found = loop {
                    match Cluster::new(&table).and_then(|cluster| cluster.topics()) {
                        Err(error) if error.kind().is_restartable() => {
                            tracing::warn!(target: "kafka", "look up topics again: {error}");
                            if wait(Some(PAUSE)) == Err(RecvTimeoutError::Disconnected) {
                                return;
                            }
                        }
                        found => break found,
                    }
                };
                if sender.send(found).is_err() {
                    return;
                }
                waker();
            }
        };
        std::thread::Builder::new().name("kafka-topics".into()).spawn(run)?;
        Ok(Lookups { ask, results })
    }

    /// Asks for a look now.
    pub fn ask(&self) {
        // Who asks twice gets one answer.
        let _ = self.ask.try_send(());
    }

    /// What was found since the last call, if anything was.
    pub fn take(&self) -> Option<Result<Vec<Topic>>> {
        match self.results.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(Error::internal("the thread that looks up topics has ended early")))
            }
        }
    }
}
