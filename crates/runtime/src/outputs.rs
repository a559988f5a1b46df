//! A task's way out: rows are shared out to their workers, gathered into frames, and held to the credits.

use crate::credit::{Credit, SenderCredits};
use crate::exchange::{Frame, Status};
use crate::fuse::Route;
use arrow::array::{Array, UInt8Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use millstream_core::key::{hash_columns, owner};
use millstream_core::{Batch, Result};

/// A frame on its way.
pub(crate) struct Outgoing {
    /// Which of the task's outputs.
    pub output: usize,
    pub epoch: u64,
    pub frame: Frame,
}

/// All outputs of one task.
pub(crate) struct Outputs {
    edges: Vec<Output>,
    pub epoch: u64,
    pub sent: Vec<Outgoing>,
}

/// One exchange, seen from one sender.
pub(crate) struct Output {
    route: Route,
    schema: SchemaRef,
    me: usize,
    target_rows: usize,
    dests: Vec<Dest>,
    credits: SenderCredits,
    watermark: i64,
    status: Status,
    next_dest: usize,
}

#[derive(Default)]
struct Dest {
    /// Whether this exchange reaches the worker at all.
    reached: bool,
    batches: Vec<Batch>,
    rows: usize,
    /// The watermark or status changed after the gathered rows; rows that follow go into another frame, so
    /// that what is late at the receiver doesn't depend on how rows are gathered.
    news: bool,
}

impl Output {
    pub fn new(route: Route, schema: SchemaRef, me: usize, peers: usize, target_rows: usize, limit_bytes: u64) -> Self {
        let dest = |d: usize| Dest { reached: route != Route::Local || d == me, ..Dest::default() };
        let dests = (0..peers).map(dest).collect();
        let (watermark, status) = (i64::MIN, Status::Active);
        let credits = SenderCredits::new(peers, limit_bytes);
        Output { route, schema, me, target_rows, dests, credits, watermark, status, next_dest: me }
    }

    fn push(&mut self, batch: Batch, send: &mut dyn FnMut(Frame)) -> Result<()> {
        let peers = self.dests.len();
        match &self.route {
            Route::Local => self.gather(self.me, batch, send),
            Route::Rebalance => {
                let dest = self.next_dest;
                self.next_dest = (dest + 1) % peers;
                self.gather(dest, batch, send)
            }
            Route::Hash(columns) if columns.is_empty() || peers == 1 => self.gather(0, batch, send),
            Route::Hash(columns) => {
                let keys: Vec<_> = columns.iter().map(|c| batch.column(*c).clone()).collect();
                let mut indices: Vec<Vec<u32>> = vec![Vec::with_capacity(batch.num_rows() / peers + 16); peers];
                for (row, hash) in hash_columns(&keys, batch.num_rows())?.into_iter().enumerate() {
                    indices[owner(hash, peers)].push(row as u32);
                }
                for (dest, rows) in indices.into_iter().enumerate() {
                    if rows.len() == batch.num_rows() {
                        return self.gather(dest, batch, send);
                    }
                    if !rows.is_empty() {
                        let part = batch.take(&UInt32Array::from(rows))?;
                        self.gather(dest, part, send)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn gather(&mut self, dest: usize, batch: Batch, send: &mut dyn FnMut(Frame)) -> Result<()> {
        if self.dests[dest].news {
            self.send(dest, send)?;
        }
        let d = &mut self.dests[dest];
        d.rows += batch.num_rows();
        d.batches.push(batch);
        if d.rows >= self.target_rows { self.send(dest, send) } else { Ok(()) }
    }

    fn send(&mut self, dest: usize, send: &mut dyn FnMut(Frame)) -> Result<()> {
        let d = &mut self.dests[dest];
        let batch = concat(&self.schema, std::mem::take(&mut d.batches))?;
        (d.rows, d.news) = (0, false);
        let frame = Frame::new(dest, self.me, self.watermark, self.status, batch);
        self.credits.sent(dest, frame.rows as u64, frame.bytes);
        send(frame);
        Ok(())
    }
}

fn concat(schema: &SchemaRef, mut batches: Vec<Batch>) -> Result<Option<Batch>> {
    if batches.len() <= 1 {
        // The exchange's own schema, so that its encoder is found again.
        return batches
            .pop()
            .map(|b| {
                let rows = b.num_rows();
                Ok(Batch::from_columns(schema.clone(), b.rows.columns().to_vec(), rows)?.with_kinds(b.kinds))
            })
            .transpose();
    }
    let num_rows = batches.iter().map(Batch::num_rows).sum();
    let column = |c: usize| {
        let parts: Vec<&dyn Array> = batches.iter().map(|b| b.column(c).as_ref()).collect();
        compute::concat(&parts)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>, _>>()?;
    let kinds = batches.iter().any(|b| b.kinds.is_some()).then(|| {
        let kinds = batches.iter().flat_map(|b| (0..b.num_rows()).map(|row| b.kind(row) as u8));
        UInt8Array::from_iter_values(kinds)
    });
    Ok(Some(Batch::from_columns(schema.clone(), columns, num_rows)?.with_kinds(kinds)))
}

impl Outputs {
    pub fn new(edges: Vec<Output>, epoch: u64) -> Self {
        Outputs { edges, epoch, sent: vec![] }
    }
    fn with(&mut self, output: usize, f: impl FnOnce(&mut Output, &mut dyn FnMut(Frame)) -> Result<()>) -> Result<()> {
        let (epoch, sent) = (self.epoch, &mut self.sent);
        f(&mut self.edges[output], &mut |frame| sent.push(Outgoing { output, epoch, frame }))
    }
    pub fn push(&mut self, output: usize, batch: Batch) -> Result<()> {
        self.with(output, |edge, send| edge.push(batch, send))
    }
    /// The watermark goes along with the next frames; those that have none before the next flush get one then.
    pub fn set_watermark(&mut self, output: usize, watermark: i64) {
        let edge = &mut self.edges[output];
        edge.watermark = edge.watermark.max(watermark);
        edge.dests.iter_mut().for_each(|d| d.news |= d.reached);
    }
    pub fn set_status(&mut self, status: Status) {
        for edge in &mut self.edges {
            if edge.status != status {
                edge.status = status;
                edge.dests.iter_mut().for_each(|d| d.news |= d.reached);
            }
        }
    }
    pub fn has_room(&self) -> bool {
        self.edges.iter().all(|e| e.credits.all_have_room())
    }
    pub fn has_waiting(&self) -> bool {
        self.edges.iter().any(|e| e.dests.iter().any(|d| d.rows > 0 || d.news))
    }
    pub fn returned(&mut self, output: usize, credit: &Credit) {
        self.edges[output].credits.returned(credit);
    }
    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) -> Result<()> {
        for output in 0..self.edges.len() {
            self.with(output, |edge, send| {
                for dest in 0..edge.dests.len() {
                    let d = &edge.dests[dest];
                    if (d.rows > 0 && edge.credits.has_room(dest)) || (d.rows == 0 && d.news) {
                        edge.send(dest, send)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
    /// Sends what waits, and to everyone the watermark, even without credit: a frame a receiver at most. Receivers
    /// always take in the epoch that their senders have not passed, so this can't pile up.
    pub fn end_epoch(&mut self) -> Result<()> {
        for output in 0..self.edges.len() {
            self.with(output, |edge, send| {
                for dest in 0..edge.dests.len() {
                    if edge.dests[dest].reached {
                        edge.send(dest, send)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
    #[cfg(test)]
    pub fn in_flight_rows_max(&self) -> u64 {
        self.edges.iter().flat_map(|e| (0..e.dests.len()).map(|d| e.credits.in_flight_rows(d))).max().unwrap_or(0)
    }
}
