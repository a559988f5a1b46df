//! One instance of the `filesystem` source: chunks come from a thread of its own, decoding happens here.

use super::input::{InputFile, OpenFile};
use super::partition::{escaped, value_text};
use super::source::Plan;
use crate::dead_letter::DeadLetters;
use crate::formats::Framing;
use crate::formats::column::Column;
use crate::formats::temporal::TimestampStandard;
use crate::throttle::Throttle;
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute;
use flate2::read::MultiGzDecoder;
use millstream_core::format::{Decoder, OnBadRecord};
use millstream_core::metrics::add;
use millstream_core::source::{SourceContext, SourcePoll, SourceReader, Waker};
use millstream_core::{Batch, Error, Field, Place, Result, Schema};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// How files are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Bytes of the first chunks of a file.
    pub first_chunk: u64,
    /// Bytes of the later ones.
    pub chunk: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { first_chunk: 256 << 10, chunk: 1 << 20 }
    }
}

/// How many of a file's chunks are small, so that all instances start soon.
const FIRST_CHUNKS: u64 = 16;

/// What is persisted of an instance. The files and where each of this instance's chunks stands.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    version: u32,
    /// Size of chunks, so that a later version may cut otherwise.
    first_chunk: u64,
    chunk: u64,
    /// All files known, in order.
    files: Vec<InputFile>,
    /// Chunks that this instance still has to read: ranges of the chunks' numbers.
    left: Vec<(u64, u64, u64)>,
    /// Where partly read chunks go on: chunk number and offset.
    resume: Vec<(u64, u64)>,
    /// With monitoring: files that have been read to their end; `files` are those that have not.
    done: Vec<String>,
}

/// The chunks of all files, numbered in order.
struct Layout {
    setup: Setup,
    files: Vec<InputFile>,
    /// The number of the first chunk of each file, and the end.
    first: Vec<u64>,
    whole: bool,
}

impl Layout {
    fn new(setup: Setup, files: Vec<InputFile>, whole: bool) -> Layout {
        let mut layout = Layout { setup, files, first: vec![0], whole };
        for i in 0..layout.files.len() {
            let next = layout.first[i] + layout.count(&layout.files[i]);
            layout.first.push(next);
        }
        layout
    }
    fn is_whole(&self, file: &InputFile) -> bool {
        self.whole || file.path.ends_with(".gz")
    }
    fn count(&self, file: &InputFile) -> u64 {
        let small = self.setup.first_chunk * FIRST_CHUNKS;
        if file.size == 0 {
            0
        } else if self.is_whole(file) {
            1
        } else if file.size <= small {
            file.size.div_ceil(self.setup.first_chunk)
        } else {
            FIRST_CHUNKS + (file.size - small).div_ceil(self.setup.chunk)
        }
    }
    fn total(&self) -> u64 {
        self.first.last().copied().unwrap_or(0)
    }
    /// The file of chunk `number` and its range.
    fn chunk(&self, number: u64) -> Option<(&InputFile, u64, u64)> {
        let index = self.first.partition_point(|f| *f <= number).checked_sub(1)?;
        let file = self.files.get(index)?;
        let i = number - self.first[index];
        if self.is_whole(file) {
            return Some((file, 0, u64::MAX));
        }
        let small = self.setup.first_chunk * FIRST_CHUNKS;
        let (start, size) = if i < FIRST_CHUNKS {
            (i * self.setup.first_chunk, self.setup.first_chunk)
        } else {
            (small + (i - FIRST_CHUNKS) * self.setup.chunk, self.setup.chunk)
        };
        Some((file, start, (start + size).min(file.size)))
    }
}

/// Bytes of one chunk: whole records.
struct Piece {
    path: Arc<str>,
    number: u64,
    base: u64,
    bytes: Vec<u8>,
    /// Whether the chunk has nothing more.
    last: bool,
}

/// A chunk to be read by the thread.
struct Order {
    file: InputFile,
    number: u64,
    start: u64,
    end: u64,
    resume: Option<u64>,
}

type Prefetched = Receiver<Result<Piece>>;

/// One instance.
pub(super) struct FileReader {
    plan: Arc<Plan>,
    ctx: SourceContext,
    layout: Layout,
    /// The numbers of the chunks that are still to be read, this instance's share, first first.
    left: std::collections::VecDeque<u64>,
    resume: BTreeMap<u64, u64>,
    done: BTreeSet<String>,
    pieces: Option<Prefetched>,
    current: Option<(Piece, usize)>,
    decoder: Box<dyn Decoder>,
    projection: Vec<Target>,
    throttle: Option<Throttle>,
    dead_letters: Option<DeadLetters>,
    lines: Option<(u64, u64, u64)>,
}

/// Where a column of the output comes from.
enum Target {
    Decoded(usize),
    Partition(Field),
}

impl FileReader {
    pub fn open(plan: Arc<Plan>, setup: Setup, ctx: SourceContext) -> Result<FileReader> {
        let mut decoded = Vec::new();
        let mut projection = Vec::new();
        for field in &plan.schema.fields {
            if plan.partitioned_by.contains(&field.name) {
                projection.push(Target::Partition(field.clone()));
            } else {
                projection.push(Target::Decoded(decoded.len()));
                decoded.push(field.clone());
            }
        }
        let decoder = plan.format.decoders.decoder(&Schema::new(decoded))?;
        let whole = plan.format.framing != Framing::Lines;
        let mut reader = FileReader {
            throttle: plan.rows_per_second.map(|r| Throttle::new(r, ctx.instances)),
            dead_letters: plan.dead_letters.as_ref().map(|p| DeadLetters::new(p, ctx.instance)),
            layout: Layout::new(setup, vec![], whole),
            left: Default::default(),
            resume: BTreeMap::new(),
            done: BTreeSet::new(),
            pieces: None,
            current: None,
            decoder,
            projection,
            lines: None,
            plan,
            ctx,
        };
        match reader.ctx.restored.take() {
            Some(positions) => reader.restore(&positions)?,
            None if reader.plan.monitor_interval.is_some() => reader.discover()?,
            None => {
                reader.layout = Layout::new(setup, reader.plan.files()?, whole);
                reader.left = (0..reader.layout.total()).filter(|n| reader.is_mine(*n)).collect();
            }
        }
        Ok(reader)
    }

    fn is_mine(&self, position: u64) -> bool {
        position % self.ctx.instances.max(1) as u64 == self.ctx.instance as u64
    }

    fn owns(&self, path: &str) -> bool {
        // FNV-1a; every instance of the same job must agree, whatever it has seen so far.
        let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        hash % self.ctx.instances.max(1) as u64 == self.ctx.instance as u64
    }

    fn restore(&mut self, positions: &[Vec<u8>]) -> Result<()> {
        let mut left = BTreeSet::new();
        let mut files: Vec<InputFile> = Vec::new();
        let watching = self.plan.monitor_interval.is_some();
        let whole = self.layout.whole;
        let mut by_path: BTreeMap<String, (InputFile, u64)> = BTreeMap::new();
        for bytes in positions {
            let p: Position = serde_json::from_slice(bytes)
                .map_err(|e| Error::state("the position of a file source can't be read").detail(e.to_string()))?;
            if p.version != 1 {
                return Err(Error::state(format!("the position of a file source has version {}, not 1", p.version)));
            }
            self.layout.setup = Setup { first_chunk: p.first_chunk.max(1), chunk: p.chunk.max(1) };
            if watching {
                let resume: BTreeMap<u64, u64> = p.resume.into_iter().collect();
                for (i, file) in p.files.into_iter().enumerate() {
                    let at = resume.get(&(i as u64)).copied().unwrap_or(0);
                    by_path.insert(file.path.clone(), (file, at));
                }
                self.done.extend(p.done);
                continue;
            }
            if !files.is_empty() && files != p.files {
                return Err(Error::state("the folder changed while the job's instances started")
                    .at(Place::Named(self.plan.path.clone())));
            }
            files = p.files;
            for (from, to, step) in p.left {
                left.extend((from..to).step_by(step.max(1) as usize));
            }
            self.resume.extend(p.resume);
        }
        if watching {
            let mine: Vec<_> = by_path.into_values().filter(|(f, _)| self.owns(&f.path)).collect();
            for (i, (file, at)) in mine.iter().enumerate() {
                if *at > 0 {
                    self.resume.insert(i as u64, *at);
                }
                files.push(file.clone());
            }
            self.left = (0..files.len() as u64).collect();
            self.layout = Layout::new(self.layout.setup, files, true);
            return self.discover();
        }
        self.layout = Layout::new(self.layout.setup, files, whole);
        self.left = left.into_iter().enumerate().filter(|(i, _)| self.is_mine(*i as u64)).map(|(_, n)| n).collect();
        let kept: BTreeSet<u64> = self.left.iter().copied().collect();
        self.resume.retain(|n, _| kept.contains(n));
        Ok(())
    }

    /// Looks for files that were not there before (monitoring).
    fn discover(&mut self) -> Result<()> {
        let known: BTreeSet<&str> = self.layout.files.iter().map(|f| f.path.as_str()).collect();
        let new: Vec<InputFile> = self
            .plan
            .files()?
            .into_iter()
            .filter(|f| f.size > 0 && self.owns(&f.path) && !known.contains(f.path.as_str()))
            .filter(|f| !self.done.contains(&f.path))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut files = std::mem::take(&mut self.layout.files);
        self.left.extend(files.len() as u64..(files.len() + new.len()) as u64);
        files.extend(new);
        self.layout = Layout::new(self.layout.setup, files, true);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let mut orders = Vec::new();
        for number in &self.left {
            let Some((file, start, end)) = self.layout.chunk(*number) else {
                return Err(Error::state("the position of a file source names a part that no file has"));
            };
            orders.push((file.clone(), *number, start, end));
        }
        let orders: Vec<Order> = orders
            .into_iter()
            .map(|(file, number, start, end)| Order {
                file,
                number,
                start,
                end,
                resume: self.resume.get(&number).copied(),
            })
            .collect();
        let (sender, receiver) = sync_channel(3);
        let (plan, waker) = (self.plan.clone(), self.ctx.waker.clone());
        std::thread::Builder::new().name("file-read".into()).spawn(move || prefetch(&plan, orders, &sender, &waker))?;
        self.pieces = Some(receiver);
        Ok(())
    }

    fn number_of_line(&mut self, piece_number: u64, base: u64, path: &str) -> Result<u64> {
        if let Some((number, at, lines)) = self.lines
            && (number, at) == (piece_number, base)
        {
            return Ok(lines);
        }
        let file = self.layout.chunk(piece_number).map(|(f, ..)| f.clone());
        let Some(file) = file else { return Err(Error::internal(format!("no chunk {piece_number} in {path}"))) };
        let mut opened = self.plan.input.open(&file)?;
        let mut lines = 0;
        let mut left = base;
        let mut source: Box<dyn Read> = if path.ends_with(".gz") {
            Box::new(MultiGzDecoder::new(opened))
        } else {
            let mut bytes = Vec::new();
            let mut at = 0;
            while at < base {
                bytes.clear();
                opened.read_at(at, (base - at).min(1 << 20), &mut bytes)?;
                if bytes.is_empty() {
                    break;
                }
                lines += memchr::memchr_iter(b'\n', &bytes).count() as u64;
                at += bytes.len() as u64;
            }
            left = 0;
            Box::new(std::io::empty())
        };
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let n = source.read(buffer.get_mut(..want).unwrap_or_default())?;
            if n == 0 {
                break;
            }
            lines += memchr::memchr_iter(b'\n', buffer.get(..n).unwrap_or_default()).count() as u64;
            left -= n as u64;
        }
        self.lines = Some((piece_number, base, lines));
        Ok(lines)
    }

    /// Decodes from the current piece; the batch, if it has rows.
    fn decode(&mut self, max_rows: usize) -> Result<Option<Batch>> {
        let Some((piece, at)) = &mut self.current else { return Ok(None) };
        let mut bad = Vec::new();
        let from = *at;
        let rest = piece.bytes.get(from..).unwrap_or_default();
        let outcome = self.decoder.decode(rest, max_rows, &mut bad);
        let (path, number, base) = (piece.path.clone(), piece.number, piece.base);
        if let Ok(consumed) = &outcome {
            *at += (*consumed).max(usize::from(rest.is_empty()));
        }
        if !bad.is_empty() {
            let before = memchr::memchr_iter(b'\n', piece.bytes.get(..from).unwrap_or_default()).count() as u64;
            if self.plan.format.on_bad != OnBadRecord::Skip {
                let first = self.number_of_line(number, base, &path)? + before + 1;
                for record in &bad {
                    let line = first + record.line as u64;
                    match &mut self.dead_letters {
                        Some(letters) => letters.write(&path, line, &record.reason, &record.record)?,
                        None => {
                            let place = Place::File { path: path.to_string(), line: Some(line) };
                            let shown = record.record.get(..record.record.len().min(200)).unwrap_or_default();
                            return Err(record
                                .reason
                                .clone()
                                .at(place)
                                .detail(format!("the record: {}", String::from_utf8_lossy(shown)))
                                .hint("'dead-letter.path' keeps such records aside and goes on"));
                        }
                    }
                }
            }
            add(&self.ctx.metrics.bad_records, bad.len() as u64);
        }
        outcome.map_err(|e| e.at(Place::File { path: path.to_string(), line: None }))?;
        let done = self.current.as_ref().is_some_and(|(p, at)| *at >= p.bytes.len());
        if done && let Some((piece, _)) = self.current.take() {
            if piece.last {
                self.left.pop_front();
                self.resume.remove(&number);
                if self.plan.monitor_interval.is_some() {
                    self.done.insert(path.to_string());
                }
            } else {
                self.resume.insert(number, piece.base + piece.bytes.len() as u64);
            }
        }
        if self.decoder.num_rows() == 0 {
            return Ok(None);
        }
        let batch = self.decoder.take()?;
        self.finish(batch, &path).map(Some)
    }

    /// Adds the partition columns, whose values are in the path.
    fn finish(&self, batch: Batch, path: &str) -> Result<Batch> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projection.len());
        for target in &self.projection {
            columns.push(match target {
                Target::Decoded(i) => batch.column(*i).clone(),
                Target::Partition(field) => {
                    let prefix = format!("{}=", escaped(&field.name));
                    let place = || Place::File { path: path.to_string(), line: None };
                    let Some(value) = path.rsplit('/').find_map(|part| part.strip_prefix(&prefix)) else {
                        return Err(Error::data(format!("no folder of the path is called '{prefix}...'")).at(place()));
                    };
                    let mut column = Column::new(&field.name, &field.data_type)?;
                    if value != escaped(&self.plan.default_partition) {
                        let bytes = value_text(value, &field.data_type.kind);
                        column.write_text(0, &bytes, TimestampStandard::Sql).map_err(|e| Error::data(e).at(place()))?;
                    }
                    compute::take(&column.finish(1)?, &UInt32Array::from(vec![0; rows]), None)?
                }
            });
        }
        Batch::from_columns(self.plan.schema.arrow().clone(), columns, rows)
    }
}

impl SourceReader for FileReader {
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll> {
        let mut max_rows = max_rows;
        if let Some(throttle) = &mut self.throttle {
            match throttle.admit(self.ctx.clock.now_ms(), max_rows) {
                Ok(rows) => max_rows = rows,
                Err(wait) => return Ok(SourcePoll::Wait(Some(wait))),
            }
        }
        loop {
            if self.current.is_some() {
                let Some(batch) = self.decode(max_rows)? else { continue };
                if let Some(throttle) = &mut self.throttle {
                    throttle.spend(batch.num_rows());
                }
                return Ok(SourcePoll::Rows { split: 0, batch });
            }
            if self.left.is_empty() {
                self.pieces = None;
                let Some(interval) = self.plan.monitor_interval else { return Ok(SourcePoll::End) };
                self.discover()?;
                if self.left.is_empty() {
                    return Ok(SourcePoll::Wait(Some(interval)));
                }
            }
            if self.pieces.is_none() {
                self.start()?;
            }
            match self.pieces.as_ref().map(Receiver::try_recv) {
                Some(Ok(piece)) => self.current = Some((piece?, 0)),
                Some(Err(TryRecvError::Empty)) => return Ok(SourcePoll::Wait(None)),
                Some(Err(TryRecvError::Disconnected)) | None => {
                    return Err(Error::internal("the thread that reads files has ended early"));
                }
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        let mut resume = self.resume.clone();
        if let Some((piece, at)) = &self.current {
            resume.insert(piece.number, piece.base + *at as u64);
        }
        let watching = self.plan.monitor_interval.is_some();
        let (mut files, mut ranges) = (self.layout.files.clone(), Vec::<(u64, u64, u64)>::new());
        if watching {
            files = self.left.iter().filter_map(|n| self.layout.chunk(*n)).map(|(f, ..)| f.clone()).collect();
            let numbers: BTreeMap<u64, u64> = self.left.iter().enumerate().map(|(i, n)| (*n, i as u64)).collect();
            resume = resume.into_iter().filter_map(|(n, at)| numbers.get(&n).map(|i| (*i, at))).collect();
        } else {
            for number in &self.left {
                match ranges.last_mut() {
                    Some((from, to, step)) if *to == *from + 1 => {
                        *step = number - *from;
                        *to = number + 1;
                    }
                    Some((_, to, step)) if *number + 1 == *to + *step => *to = number + 1,
                    _ => ranges.push((*number, number + 1, 1)),
                }
            }
        }
        let position = Position {
            version: 1,
            first_chunk: self.layout.setup.first_chunk,
            chunk: self.layout.setup.chunk,
            files,
            left: ranges,
            resume: resume.into_iter().collect(),
            done: self.done.iter().cloned().collect(),
        };
        serde_json::to_vec(&position).map_err(|e| Error::internal(e.to_string()))
    }
}

/// The reading thread: sends the pieces of all orders, then ends; also when nobody listens any more.
fn prefetch(plan: &Plan, orders: Vec<Order>, sender: &SyncSender<Result<Piece>>, waker: &Waker) {
    for order in orders {
        let mut send = |piece: Result<Piece>| {
            let sent = sender.send(piece).is_ok();
            waker();
            sent
        };
        match read_chunk(plan, &order, &mut send) {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => {
                let place = Place::File { path: order.file.path.clone(), line: None };
                send(Err(e.at(place)));
                return;
            }
        }
    }
}

/// Sends one chunk; false when nobody listens.
fn read_chunk(plan: &Plan, order: &Order, send: &mut dyn FnMut(Result<Piece>) -> bool) -> Result<bool> {
    let path: Arc<str> = order.file.path.as_str().into();
    let mut file = plan.input.open(&order.file)?;
    if order.end == u64::MAX {
        let resume = order.resume.unwrap_or(0);
        let is_gzip = path.ends_with(".gz");
        let mut source: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        return read_stream(&mut *source, plan.format.framing, resume, is_gzip, &path, order.number, send);
    }
    let (base, bytes) = read_range(&mut file, order)?;
    Ok(send(Ok(Piece { path, number: order.number, base, bytes, last: true })))
}

/// The records whose first byte is in the chunk, and where the first one starts.
fn read_range(file: &mut OpenFile, order: &Order) -> Result<(u64, Vec<u8>)> {
    let mut bytes = Vec::new();
    // The byte before the chunk tells whether a record starts with it.
    let from = order.resume.unwrap_or(order.start.saturating_sub(1));
    file.read_at(from, order.end.saturating_sub(from), &mut bytes)?;
    let mut skip = 0;
    if order.resume.is_none() && order.start > 0 {
        match memchr::memchr(b'\n', &bytes) {
            Some(i) if from + i as u64 + 1 < order.end => skip = i + 1,
            _ => return Ok((order.end, Vec::new())),
        }
    }
    while bytes.last().is_some_and(|b| *b != b'\n') {
        let before = bytes.len();
        file.read_at(from + before as u64, 16 << 10, &mut bytes)?;
        if bytes.len() == before {
            break;
        }
        if let Some(i) = memchr::memchr(b'\n', bytes.get(before..).unwrap_or_default()) {
            bytes.truncate(before + i + 1);
        }
    }
    bytes.drain(..skip);
    Ok((from + skip as u64, bytes))
}

/// The end of the last whole record in `bytes`, which starts with a record; 0 if there is none.
fn last_end(bytes: &[u8], framing: Framing) -> usize {
    let Framing::QuotedLines { quote, escape } = framing else {
        return memchr::memrchr(b'\n', bytes).map_or(0, |i| i + 1);
    };
    let (mut quoted, mut escaped, mut end) = (false, false, 0);
    for (i, b) in bytes.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if Some(*b) == escape {
            escaped = true;
        } else if *b == quote {
            quoted = !quoted;
        } else if *b == b'\n' && !quoted {
            end = i + 1;
        }
    }
    end
}

/// Sends a file that can't be cut, piece by piece, from `resume` on.
fn read_stream(
    source: &mut dyn Read,
    framing: Framing,
    resume: u64,
    is_gzip: bool,
    path: &Arc<str>,
    number: u64,
    send: &mut dyn FnMut(Result<Piece>) -> bool,
) -> Result<bool> {
    let broken = |e: std::io::Error| {
        if is_gzip { Error::data("the gzip file is damaged").detail(e.to_string()) } else { Error::from(e) }
    };
    let mut base = std::io::copy(&mut (&mut *source).take(resume), &mut std::io::sink()).map_err(broken)?;
    let mut bytes = Vec::new();
    let mut want = 256u64 << 10;
    loop {
        let before = bytes.len();
        (&mut *source).take(want).read_to_end(&mut bytes).map_err(broken)?;
        let ended = ((bytes.len() - before) as u64) < want;
        let end = if ended { bytes.len() } else { last_end(&bytes, framing) };
        if !ended && end == 0 {
            // A record longer than all that was read: read as much again, so that the work stays linear.
            want = want.max(bytes.len() as u64);
            continue;
        }
        let rest = bytes.split_off(end);
        let piece = Piece { path: path.clone(), number, base, bytes: std::mem::replace(&mut bytes, rest), last: ended };
        base += piece.bytes.len() as u64;
        if !send(Ok(piece)) || ended {
            return Ok(ended);
        }
        want = 1 << 20;
    }
}
