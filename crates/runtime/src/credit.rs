//! Credits: how much each sender may have in flight to each receiver, so that memory stays bounded.

use millstream_core::operator::TARGET_BATCH_ROWS;
use serde::{Deserialize, Serialize};

/// What a receiver gives back to a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credit {
    /// The worker that sent.
    pub sender: u32,
    /// The worker that received.
    pub receiver: u32,
    /// Rows taken in since the last credit.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many rows may be in flight from now on.
    pub limit_rows: u64,
}

/// The fewest rows that may be in flight.
const LIMIT_ROWS_MIN: u64 = 2 * TARGET_BATCH_ROWS as u64;
/// In flight is what a receiver takes in within this time.
const HORIZON_US: u64 = 100_000;
/// The rate is measured over at least this time.
const WINDOW_US: u64 = 50_000;

/// The sender's side of one exchange.
pub(crate) struct SenderCredits {
    limit_bytes: u64,
    receivers: Vec<InFlight>,
}

struct InFlight {
    rows: u64,
    bytes: u64,
    limit_rows: u64,
}

impl SenderCredits {
    pub fn new(receivers: usize, limit_bytes: u64) -> Self {
        let new = || InFlight { rows: 0, bytes: 0, limit_rows: LIMIT_ROWS_MIN };
        SenderCredits { limit_bytes, receivers: (0..receivers).map(|_| new()).collect() }
    }
    /// Whether a frame may go out; one always may when none is in flight.
    pub fn has_room(&self, receiver: usize) -> bool {
        let r = &self.receivers[receiver];
        r.rows == 0 || (r.rows < r.limit_rows && r.bytes < self.limit_bytes)
    }
    pub fn all_have_room(&self) -> bool {
        (0..self.receivers.len()).all(|r| self.has_room(r))
    }
    pub fn sent(&mut self, receiver: usize, rows: u64, bytes: u64) {
        let r = &mut self.receivers[receiver];
        r.rows += rows;
        r.bytes += bytes;
    }
    pub fn returned(&mut self, credit: &Credit) {
        let r = &mut self.receivers[credit.receiver as usize];
        assert!(credit.rows <= r.rows && credit.bytes <= r.bytes, "a receiver gives back what it was sent");
        r.rows -= credit.rows;
        r.bytes -= credit.bytes;
        r.limit_rows = credit.limit_rows;
    }
    #[cfg(test)]
    pub fn in_flight_rows(&self, receiver: usize) -> u64 {
        self.receivers[receiver].rows
    }
}

/// The receiver's side of one exchange.
pub(crate) struct ReceiverCredits {
    me: u32,
    senders: Vec<Taken>,
}

#[derive(Clone, Copy)]
struct Taken {
    rows: u64,
    bytes: u64,
    window_start_us: u64,
    window_rows: u64,
    limit_rows: u64,
}

impl ReceiverCredits {
    pub fn new(me: usize, senders: usize) -> Self {
        let taken = Taken { rows: 0, bytes: 0, window_start_us: 0, window_rows: 0, limit_rows: LIMIT_ROWS_MIN };
        ReceiverCredits { me: me as u32, senders: vec![taken; senders] }
    }
    pub fn taken(&mut self, sender: usize, rows: u64, bytes: u64) {
        let s = &mut self.senders[sender];
        s.rows += rows;
        s.bytes += bytes;
        s.window_rows += rows;
    }
    /// The credits to give back now.
    pub fn drain(&mut self, now_us: u64, out: &mut impl FnMut(Credit)) {
        for (sender, s) in self.senders.iter_mut().enumerate() {
            if s.rows == 0 && s.bytes == 0 {
                continue;
            }
            let elapsed = now_us.saturating_sub(s.window_start_us);
            if elapsed >= WINDOW_US {
                let wanted = s.window_rows.saturating_mul(HORIZON_US) / elapsed;
                s.limit_rows = wanted.max(LIMIT_ROWS_MIN);
                (s.window_start_us, s.window_rows) = (now_us, 0);
            }
            let (rows, bytes, limit_rows) = (s.rows, s.bytes, s.limit_rows);
            (s.rows, s.bytes) = (0, 0);
            out(Credit { sender: sender as u32, receiver: self.me, rows, bytes, limit_rows });
        }
    }
}
