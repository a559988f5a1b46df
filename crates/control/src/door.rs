//! Where worker processes report: lets in those of the job, and nobody else who happens to find the port.

use crate::protocol::{self, FromWorker, Receiver, Sender};
use millstream_core::error::Result;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long someone who connects may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// When somebody who can't be let in for want of files is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

/// A listening thread, which ends with this.
pub struct Door {
    is_open: Arc<AtomicBool>,
    address: SocketAddr,
}

impl Door {
    /// Listens on a free loopback port; `admit` is given each worker process's connection and what it said first.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub fn open(token: u64, admit: impl Fn(Sender, Receiver, FromWorker) + Send + Sync + 'static) -> Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let door = Door { is_open: Arc::new(AtomicBool::new(true)), address: listener.local_addr()? };
        let (is_open, admit) = (door.is_open.clone(), Arc::new(admit));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if !is_open.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else {
                    // There are too many open files just now.
                    std::thread::sleep(ACCEPT_AGAIN);
                    continue;
                };
                // One who connects and says nothing keeps nobody waiting.
                let admit = Arc::clone(&admit);
                std::thread::spawn(move || {
                    let worker = greeted(stream, token);
                    worker.into_iter().for_each(|(sender, receiver, hello)| admit(sender, receiver, hello));
                });
            }
        });
        Ok(door)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Release);
        // The thread looks up when somebody knocks; if nobody can, it has ended already.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

/// A worker process of this job; `None`: whoever that was, it is none, such as a client of a server that had this port before.
fn greeted(stream: TcpStream, token: u64) -> Option<(Sender, Receiver, FromWorker)> {
    let socket = stream.try_clone().ok()?;
    socket.set_read_timeout(Some(HELLO_TIMEOUT)).ok()?;
    let (sender, mut receiver) = protocol::split(stream).ok()?;
    let hello = receiver.receive::<FromWorker>().ok()??;
    socket.set_read_timeout(None).ok()?;
    let is_known = matches!(&hello, FromWorker::Hello { token: theirs, version, .. }
        if *theirs == token && *version == protocol::VERSION);
    is_known.then_some((sender, receiver, hello))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc::channel;

    fn hello(token: u64, process: usize) -> FromWorker {
        let (version, fingerprint) = (protocol::VERSION, String::new());
        FromWorker::Hello { version, token, process, address: None, fingerprint }
    }

    #[test]
    fn only_workers_of_the_job_come_in_whoever_else_knocks() {
        let (admitted, inbox) = channel();
        let door = Door::open(7, move |_, _, hello| drop(admitted.send(hello))).unwrap();
        let connect = || TcpStream::connect(door.address()).unwrap();
        let _silent = connect();
        let mut garbage = connect();
        garbage.write_all(&[0, 0, 0, 35, 0, 18, 255, 254, b'\n']).unwrap();
        drop(connect());
        let (stranger, _receiver) = protocol::split(connect()).unwrap();
        stranger.send(&hello(8, 1)).unwrap();
        let (worker, _receiver) = protocol::split(connect()).unwrap();
        worker.send(&hello(7, 2)).unwrap();
        let first = inbox.recv().unwrap();
        assert!(matches!(first, FromWorker::Hello { token: 7, process: 2, .. }), "{first:?}");
        drop(door);
        assert!(inbox.try_recv().is_err());
    }
}
