//! How the worker processes of a job meet: sockets with a shared token and a deadline.

use millstream_core::{Error, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(2);
/// Version 1 of what is said first: these bytes, the token, the process's index.
const HELLO: [u8; 8] = *b"mlstrm01";
const HELLO_LENGTH: usize = 24;

/// A connection to each other process, in order; `None` at its own place.
pub(crate) fn meet(
    me: usize,
    addresses: &[SocketAddr],
    listener: Option<TcpListener>,
    token: u64,
) -> Result<Vec<Option<TcpStream>>> {
    let deadline = Instant::now() + DEADLINE;
    let own = *addresses.get(me).ok_or_else(|| Error::internal("a process without an address"))?;
    let listener = match listener {
        Some(listener) => listener,
        None => TcpListener::bind(own)?,
    };
    listener.set_nonblocking(true)?;
    let mut sockets: Vec<Option<TcpStream>> = addresses.iter().map(|_| None).collect();
    loop {
        // Each process calls those before it and is called by those after it.
        for peer in 0..me {
            if sockets[peer].is_none() {
                sockets[peer] = call(&addresses[peer], me, token).ok();
            }
        }
        while let Ok((socket, _)) = listener.accept() {
            if let Ok((peer, socket)) = answer(socket, token)
                && peer > me
                && let Some(place) = sockets.get_mut(peer)
            {
                *place = Some(socket);
            }
        }
        let missing: Vec<_> = (0..addresses.len()).filter(|p| *p != me && sockets[*p].is_none()).collect();
        if missing.is_empty() {
            return Ok(sockets);
        }
        if Instant::now() > deadline {
            return Err(Error::retry(format!("worker process {} did not show up", missing[0]))
                .context(format_args!("connect worker process {me} to the others")));
        }
        std::thread::sleep(RETRY);
    }
}

fn call(address: &SocketAddr, me: usize, token: u64) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(address, PATIENCE)?;
    prepare(&socket)?;
    let mut hello = [0; HELLO_LENGTH];
    hello[..8].copy_from_slice(&HELLO);
    hello[8..16].copy_from_slice(&token.to_le_bytes());
    hello[16..].copy_from_slice(&(me as u64).to_le_bytes());
    socket.write_all(&hello)?;
    let mut welcome = [0; 8];
    socket.read_exact(&mut welcome)?;
    if welcome != HELLO {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    }
    socket.set_read_timeout(None)?;
    Ok(socket)
}

fn answer(mut socket: TcpStream, token: u64) -> std::io::Result<(usize, TcpStream)> {
    socket.set_nonblocking(false)?;
    prepare(&socket)?;
    let mut hello = [0; HELLO_LENGTH];
    socket.read_exact(&mut hello)?;
    let u64_at = |at: usize| hello[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or_default();
    if hello[..8] != HELLO || u64_at(8) != token {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    socket.write_all(&HELLO)?;
    socket.set_read_timeout(None)?;
    Ok((u64_at(16) as usize, socket))
}

fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))
}
