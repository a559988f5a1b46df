//! A way to a Kafka server on which answers get lost.

use std::collections::BTreeSet;
use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// The request that ends a transaction (Kafka's protocol guide, "API Keys").
const END_TXN: i16 = 26;

/// Stands between clients and a server. While it is told to, it hands the requests that end transactions on, and cuts the
/// connection when the server answers them.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    is_losing: AtomicBool,
    lost: AtomicU32,
}

impl Proxy {
    /// A proxy on a port of its own; [`Proxy::lead_to`] says where it leads.
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection to a server that is away ends at once.
                let Ok(server) = TcpStream::connect(("127.0.0.1", of_thread.target.load(Ordering::SeqCst))) else {
                    continue;
                };
                let pending = Arc::new(Mutex::new(BTreeSet::new()));
                let (shared, to_lose) = (of_thread.clone(), pending.clone());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = pass(&from, &to, |frame| {
                        let (Some(api), Some(id)) = (frame.get(0..2), frame.get(4..8)) else { return true };
                        if api == END_TXN.to_be_bytes() && shared.is_losing.load(Ordering::SeqCst) {
                            to_lose.lock().unwrap().insert(id.to_vec());
                        }
                        true
                    });
                    end(&from, &to);
                });
                let shared = of_thread.clone();
                std::thread::spawn(move || {
                    let _ = pass(&server, &client, |frame| {
                        let is_lost = frame.get(0..4).is_some_and(|id| pending.lock().unwrap().contains(id));
                        if is_lost {
                            shared.lost.fetch_add(1, Ordering::SeqCst);
                        }
                        !is_lost
                    });
                    end(&server, &client);
                });
            }
        });
        Proxy { port, shared }
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Names the server's port.
    pub fn lead_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::SeqCst);
    }

    /// From here on the answers to requests that end transactions are lost, or no longer.
    pub fn lose_answers(&self, is_losing: bool) {
        self.shared.is_losing.store(is_losing, Ordering::SeqCst);
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u32 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

/// Hands frames on, each a length and its bytes, until one is not to be handed on.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut is_wanted: impl FnMut(&[u8]) -> bool) -> Result<()> {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        from.read_exact(&mut frame)?;
        if !is_wanted(&frame) {
            return Ok(());
        }
        to.write_all(&[&length[..], &frame].concat())?;
    }
}

fn end(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}
