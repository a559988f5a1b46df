//! What the supervisor and its worker processes say to each other: one JSON message a line over a loopback socket.

use millstream_core::error::{Error, ErrorKind, Place, Result};
use millstream_state::manifest::Segment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

/// Raised with every change of the messages; both sides must be equal.
pub const VERSION: u32 = 5;

/// From a worker process to the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// The first message: who it is and what it planned.
    Hello {
        /// [`VERSION`]
        version: u32,
        /// The secret that the supervisor gave its children.
        token: u64,
        /// Which process, from 0.
        process: usize,
        /// Where it listens for its peers.
        address: Option<SocketAddr>,
        /// The fingerprint of its plan.
        fingerprint: String,
    },
    /// The dataflow runs.
    Running,
    /// An epoch of this process is stored.
    EpochStored(Box<EpochAck>),
    /// The epoch's output of this process is committed.
    Committed(u64),
    /// The counters, for the progress line and the summary.
    Progress(Progress),
    /// The job failed here.
    Failed(WireError),
}

/// From the supervisor to a worker process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Build the dataflow and run.
    Start {
        /// Names the job for ever.
        job_id: String,
        /// Counts the starts.
        attempt: u64,
        /// A number that no other start has.
        run: u64,
        /// The first epoch.
        first_epoch: u64,
        /// The epoch whose manifest is restored, if any.
        restore: Option<u64>,
        /// Where the processes listen, in order.
        addresses: Vec<SocketAddr>,
        /// The supervisor's clock at the start, for the log alone.
        started_ms: i64,
    },
    /// Sources end this epoch and go on with the next one, unless `stop`.
    EndEpoch {
        /// The epoch.
        epoch: u64,
        /// Sources read no further.
        stop: bool,
    },
    /// The epoch's checkpoint is durable: commit it.
    Commit {
        /// The epoch.
        epoch: u64,
        /// The job ends with it.
        last: bool,
    },
    /// By group of sources, how far the slowest in all other processes is, milliseconds; of a group that isn't there it is not
    /// known yet.
    SlowestElsewhere(BTreeMap<String, i64>),
    /// Exit.
    Exit,
}

/// What one process stored for one epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EpochAck {
    /// Which process.
    pub process: usize,
    /// The epoch.
    pub epoch: u64,
    /// Its inputs have ended: no epoch follows.
    pub ended: bool,
    /// New segments, by operator id and table.
    pub tables: BTreeMap<String, BTreeMap<String, Vec<Segment>>>,
    /// Operators' own state, base64, by operator id and worker; what did not change is left out.
    pub instances: BTreeMap<String, BTreeMap<usize, String>>,
    /// Source positions, base64, by node id and worker.
    pub sources: BTreeMap<String, BTreeMap<usize, String>>,
    /// What sinks prepared, base64, by node id.
    pub committables: BTreeMap<String, Vec<String>>,
    /// The objects that sinks have stored.
    pub sink_objects: Vec<String>,
    /// Bytes stored.
    pub bytes: u64,
}

/// The counters of one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Which process.
    pub process: usize,
    /// By node id.
    pub nodes: BTreeMap<String, NodeProgress>,
    /// By group of sources that wait for each other in event time, how far the slowest here is, milliseconds; `i64::MAX`: none
    /// has more rows.
    pub slowest: BTreeMap<String, i64>,
}

/// The counters of one node in one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeProgress {
    /// Rows in.
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Late rows dropped.
    pub late_rows: u64,
    /// Records that could not be decoded and were passed over.
    pub bad_records: u64,
    /// Calls to another system that were made again.
    pub retries: u64,
    /// The watermark, milliseconds; `i64::MIN`: none yet.
    pub watermark_ms: i64,
}

/// An [`Error`] on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireError {
    kind: String,
    message: String,
    place: Option<String>,
    details: Vec<String>,
    hint: Option<String>,
}

impl From<&Error> for WireError {
    fn from(e: &Error) -> Self {
        let kind = match e.kind() {
            ErrorKind::Script => "script",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Data => "data",
            ErrorKind::Retry => "retry",
            ErrorKind::State => "state",
            ErrorKind::Internal => "internal",
        };
        WireError {
            kind: kind.into(),
            message: e.message().into(),
            place: e.place().map(ToString::to_string),
            details: e.details().to_vec(),
            hint: e.hint_text().map(str::to_string),
        }
    }
}

impl From<WireError> for Error {
    fn from(e: WireError) -> Self {
        let kind = match e.kind.as_str() {
            "script" => ErrorKind::Script,
            "unsupported" => ErrorKind::Unsupported,
            "data" => ErrorKind::Data,
            "retry" => ErrorKind::Retry,
            "state" => ErrorKind::State,
            _ => ErrorKind::Internal,
        };
        let mut error = Error::new(kind, e.message);
        if let Some(place) = e.place {
            error = error.at(Place::Named(place));
        }
        for detail in e.details {
            error = error.detail(detail);
        }
        match e.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// The sending half of a connection; lines are whole whatever thread sends.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<TcpStream>>);

impl Sender {
    /// Sends one message.
    pub fn send<M: Serialize>(&self, message: &M) -> Result<()> {
        let mut line = serde_json::to_vec(message).map_err(|e| Error::internal(format!("encode a message: {e}")))?;
        line.push(b'\n');
        let mut stream = self.0.lock().map_err(|_| Error::internal("a thread died while sending a message"))?;
        stream.write_all(&line).map_err(Error::from)
    }
}

/// The receiving half.
pub struct Receiver(BufReader<TcpStream>);

impl Receiver {
    /// The next message; `None` when the other side is gone.
    pub fn receive<M: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<M>> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => {
                serde_json::from_str(&line).map(Some).map_err(|e| Error::internal(format!("decode a message: {e}")))
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Splits a connection.
pub fn split(stream: TcpStream) -> Result<(Sender, Receiver)> {
    stream.set_nodelay(true)?;
    let reader = BufReader::new(stream.try_clone()?);
    Ok((Sender(Arc::new(Mutex::new(stream))), Receiver(reader)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_the_wire_whole() {
        let error = Error::data("bad value").at(Place::Named("x.json, line 3".into())).detail("d").hint("h");
        let back = Error::from(WireError::from(&error));
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!(back.kind(), error.kind());
    }
}
