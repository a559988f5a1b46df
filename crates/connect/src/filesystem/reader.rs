//! One instance of the `filesystem` source: chunks of files, read here or by a thread of its own, and decoded here.

use super::input::{InputFile, OpenFile};
use super::layout::{ChunkId, Layout, Setup, owns};
use super::metadata::FileMetadata;
use super::partition::{escaped, value_text};
use super::source::Plan;
use crate::dead_letter::DeadLetters;
use crate::formats::column::Column;
use crate::formats::container::{Container, FileBytes};
use crate::formats::temporal::TimestampStandard;
use crate::formats::{Framing, ReadContent};
use crate::throttle::{Throttle, Unit};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute;
use flate2::read::MultiGzDecoder;
use millstream_core::format::{Decoder, OnBadRecord};
use millstream_core::metrics::add;
use millstream_core::source::{SourceContext, SourcePoll, SourceReader, Waker};
use millstream_core::{Batch, Error, Field, Place, Result, Schema};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Pieces are small enough to stay in the caches until they are decoded; so many more make up one batch at most.
const MORE_PIECES: usize = 63;

/// Bytes of a chunk that are read at once.
const PART: u64 = 64 << 10;

/// Bytes that are read first to find the end of a chunk's last record.
const LINE_STEP: u64 = 8 << 10;

/// Whole records of one chunk, or rows of a file.
struct Piece {
    path: Arc<str>,
    id: ChunkId,
    /// Where in the file `content` begins: bytes or rows.
    base: u64,
    content: Content,
    /// Where in `content` the first record begins.
    first: usize,
    /// Whether the chunk has nothing more.
    last: bool,
}

enum Content {
    Bytes(Vec<u8>),
    Rows(RecordBatch),
}

impl Piece {
    fn size(&self) -> usize {
        match &self.content {
            Content::Bytes(bytes) => bytes.len(),
            Content::Rows(batch) => batch.num_rows(),
        }
    }
    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Bytes(bytes) => bytes,
            Content::Rows(_) => &[],
        }
    }
}

/// A chunk to be read by the thread.
struct Order {
    file: InputFile,
    id: ChunkId,
    start: u64,
    end: u64,
    resume: Option<u64>,
}

/// Where pieces come from.
enum Pieces {
    /// A thread, which waits for the store, or decompresses.
    Thread(Receiver<Result<Piece>>),
    /// Here and now: cut files of a local disk. The pages are then copied on the core that decodes them, which costs
    /// a fraction of bringing them over from another core.
    Here(Box<Here>),
}

impl Pieces {
    fn try_next(&mut self, plan: &Plan) -> Result<Result<Piece>, TryRecvError> {
        match self {
            Pieces::Thread(receiver) => receiver.try_recv(),
            Pieces::Here(here) => here.next(plan).ok_or(TryRecvError::Disconnected),
        }
    }

    /// Takes the buffer of a piece back that has been decoded.
    fn recycle(&mut self, bytes: Vec<u8>) {
        if let Pieces::Here(here) = self {
            here.spare = bytes;
        }
    }
}

/// Reads chunks in parts that fit the caches together with what they are decoded into, always into the same buffer.
struct Here {
    orders: VecDeque<Order>,
    /// The file that was read last.
    open: Option<(Arc<str>, OpenFile)>,
    spare: Vec<u8>,
}

impl Here {
    fn next(&mut self, plan: &Plan) -> Option<Result<Piece>> {
        let order = self.orders.pop_front()?;
        Some(self.read(plan, &order).map_err(|e| in_file(e, &order)).inspect(|piece| {
            if !piece.last {
                let resume = Some(piece.base + piece.size() as u64);
                self.orders.push_front(Order { resume, ..order });
            }
        }))
    }

    fn read(&mut self, plan: &Plan, order: &Order) -> Result<Piece> {
        if self.open.as_ref().is_none_or(|(path, _)| **path != *order.file.path) {
            self.open = Some((order.file.path.as_str().into(), plan.input.open(&order.file)?));
        }
        let Some((path, file)) = &mut self.open else { return Err(Error::internal("no file is open")) };
        if order.resume.is_none()
            && let Some(next) = self.orders.front().filter(|next| next.file.path == order.file.path)
        {
            // The disk gets the next chunk ready meanwhile.
            file.fetch_ahead(next.start, next.end.saturating_sub(next.start));
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        let (base, first, last) = read_range(file, order, PART, &mut bytes)?;
        Ok(Piece { path: path.clone(), id: order.id, base, content: Content::Bytes(bytes), first, last })
    }
}

fn in_file(error: Error, order: &Order) -> Error {
    error.at(Place::File { path: order.file.path.clone(), line: None })
}

/// One instance.
pub(super) struct FileReader {
    plan: Arc<Plan>,
    ctx: SourceContext,
    layout: Layout,
    /// Of a watched folder: a listing under way, and when the next one is due.
    listing: Option<Receiver<Result<Vec<InputFile>>>>,
    next_listing_ms: i64,
    pieces: Option<Pieces>,
    /// A piece that was taken from them too early.
    upcoming: Option<Result<Piece>>,
    current: Option<(Piece, usize)>,
    /// Of records.
    decoder: Option<Box<dyn Decoder>>,
    /// The columns of the files that are read.
    in_files: Schema,
    projection: Vec<Target>,
    throttle: Throttle,
    dead_letters: Option<DeadLetters>,
    /// A chunk, an offset in its file, and the lines before that.
    lines: Option<(ChunkId, u64, u64)>,
}

/// Where a column of the output comes from.
enum Target {
    Decoded(usize),
    Partition(Field),
    Metadata(FileMetadata),
}

impl FileReader {
    pub fn open(plan: Arc<Plan>, setup: Setup, ctx: SourceContext) -> Result<FileReader> {
        let mut decoded = Vec::new();
        let mut projection = Vec::new();
        for field in &plan.schema.fields {
            if let Some(metadata) = plan.metadata.get(&field.name) {
                projection.push(Target::Metadata(*metadata));
            } else if plan.partitioned_by.contains(&field.name) {
                projection.push(Target::Partition(field.clone()));
            } else {
                projection.push(Target::Decoded(decoded.len()));
                decoded.push(field.clone());
            }
        }
        let in_files = Schema::new(decoded);
        let decoder = match &plan.format.content {
            ReadContent::Records { decoders, .. } => Some(decoders.decoder(&in_files)?),
            ReadContent::Container(_) => None,
        };
        let (instance, instances) = (ctx.instance, sharing(&plan, ctx.instances));
        let layout = match (&ctx.restored, plan.monitor_interval) {
            (Some(positions), Some(_)) => {
                let mut layout = Layout::restore(positions, setup, true, &plan.path)?;
                layout.keep_own(instance, instances);
                layout
            }
            (None, Some(_)) => Layout::empty(setup, true),
            (restored, None) => {
                let start = match (restored, &plan.start) {
                    (Some(_), _) => vec![],
                    (None, Some(start)) => vec![start.clone().into_bytes()],
                    (None, None) => vec![plan.start(setup)?],
                };
                let positions = restored.as_deref().unwrap_or(&start);
                let mut layout = Layout::restore(positions, setup, plan.is_whole(), &plan.path)?;
                layout.share(|place, _| place % instances == instance);
                layout
            }
        };
        Ok(FileReader {
            throttle: Throttle::new(&plan.table, Unit::Rows, plan.rows_per_second, sharing(&plan, ctx.instances)),
            dead_letters: plan.dead_letters.as_ref().map(|p| DeadLetters::new(p, ctx.instance)),
            layout,
            listing: None,
            next_listing_ms: i64::MIN,
            pieces: None,
            upcoming: None,
            current: None,
            decoder,
            in_files,
            projection,
            lines: None,
            plan,
            ctx,
        })
    }

    /// Whether a listing is under way.
    #[cfg(test)]
    pub(super) fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// Looks for files that were not there before, in a watched folder; how long to wait if there are none.
    fn discover(&mut self, interval: Duration) -> Result<Option<Duration>> {
        let now_ms = self.ctx.clock.now_ms();
        match &self.listing {
            None if now_ms < self.next_listing_ms => {
                return Ok(Some(Duration::from_millis((self.next_listing_ms - now_ms) as u64)));
            }
            None => {
                let (sender, receiver) = sync_channel(1);
                let (plan, waker) = (self.plan.clone(), self.ctx.waker.clone());
                let list = move || {
                    // Nobody listens any more if the job has ended meanwhile.
                    let _ = sender.send(plan.files());
                    waker();
                };
                std::thread::Builder::new().name("file-list".into()).spawn(list)?;
                self.listing = Some(receiver);
                return Ok(Some(interval));
            }
            Some(listing) => match listing.try_recv() {
                Err(TryRecvError::Empty) => return Ok(Some(interval)),
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::internal("the thread that lists files has ended early"));
                }
                Ok(files) => {
                    self.listing = None;
                    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
                    self.next_listing_ms = now_ms.saturating_add(interval_ms);
                    let (instance, instances) = (self.ctx.instance, sharing(&self.plan, self.ctx.instances));
                    let files = files?;
                    let lateness_ms =
                        self.plan.monitor_lateness.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
                    self.lines = None;
                    self.layout.forget(&files, |path| self.plan.is_read(path), lateness_ms, (instance, instances));
                    let is_new =
                        |f: &InputFile| f.size > 0 && owns(instance, instances, &f.path) && !self.layout.knows(f);
                    let mut new: Vec<InputFile> = files.into_iter().filter(is_new).collect();
                    new.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
                    self.layout.add(new);
                }
            },
        }
        Ok(self.layout.is_over().then_some(interval))
    }

    fn start(&mut self) -> Result<()> {
        let mut orders = Vec::new();
        for id in self.layout.left() {
            let Some((file, start, end)) = self.layout.range(id) else {
                return Err(Error::state("the position of a file source names a part that no file has"));
            };
            orders.push(Order { file: file.clone(), id, start, end, resume: self.layout.resume(id) });
        }
        if self.plan.input.is_local() && orders.iter().all(|order| order.end != u64::MAX) {
            let here = Here { orders: orders.into(), open: None, spare: Vec::new() };
            self.pieces = Some(Pieces::Here(Box::new(here)));
            return Ok(());
        }
        let (sender, receiver) = sync_channel(3);
        let (plan, waker, schema) = (self.plan.clone(), self.ctx.waker.clone(), self.in_files.clone());
        let read = move || prefetch(&plan, &schema, orders, &sender, &waker);
        std::thread::Builder::new().name("file-read".into()).spawn(read)?;
        self.pieces = Some(Pieces::Thread(receiver));
        Ok(())
    }

    /// How many lines the file of a chunk has before the offset `base`.
    fn lines_before(&mut self, id: ChunkId, base: u64, path: &str) -> Result<u64> {
        if let Some((known, at, lines)) = self.lines
            && (known, at) == (id, base)
        {
            return Ok(lines);
        }
        let file = self.layout.file(id).cloned();
        let Some(file) = file else { return Err(Error::internal(format!("no chunk {id:?} in {path}"))) };
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
        self.lines = Some((id, base, lines));
        Ok(lines)
    }

    fn take_piece(&mut self, piece: Piece) {
        let first = piece.first;
        self.current = Some((piece, first));
    }

    /// The next piece, if it is there already and of the same file.
    fn next_of(&mut self, path: &str) -> Option<Piece> {
        if self.upcoming.is_none() {
            let plan = &self.plan;
            self.upcoming = self.pieces.as_mut().and_then(|pieces| pieces.try_next(plan).ok());
        }
        let fits = |next: &Result<Piece>| next.as_ref().is_ok_and(|piece| &*piece.path == path);
        self.upcoming.take_if(|next| fits(next)).and_then(Result::ok)
    }

    /// Decodes from the current piece and at most `more` that follow it; the batch, if it has rows.
    fn decode(&mut self, max_rows: usize, more: usize) -> Result<Option<Batch>> {
        let Some(decoder) = &mut self.decoder else { return self.rows(max_rows) };
        let Some((piece, at)) = &mut self.current else { return Ok(None) };
        let mut bad = Vec::new();
        let from = *at;
        let rest = piece.bytes().get(from..).unwrap_or_default();
        let outcome = decoder.decode(rest, max_rows, &mut bad);
        let (path, id, base) = (piece.path.clone(), piece.id, piece.base);
        if let Ok(consumed) = &outcome {
            *at += (*consumed).max(usize::from(rest.is_empty()));
        }
        if !bad.is_empty() {
            let before = memchr::memchr_iter(b'\n', piece.bytes().get(..from).unwrap_or_default()).count() as u64;
            if self.plan.format.on_bad != OnBadRecord::Skip {
                let first = self.lines_before(id, base, &path)? + before + 1;
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
        let done = self.end_piece();
        let rows = self.decoder.as_ref().map_or(0, |decoder| decoder.num_rows());
        if done
            && rows < max_rows
            && more > 0
            && let Some(piece) = self.next_of(&path)
        {
            self.take_piece(piece);
            return self.decode(max_rows, more - 1);
        }
        if rows == 0 {
            return Ok(None);
        }
        let Some(decoder) = &mut self.decoder else { return Err(Error::internal("records without a decoder")) };
        let batch = decoder.take()?;
        self.finish(batch, id, &path).map(Some)
    }

    /// The next rows of the current piece, which has rows.
    fn rows(&mut self, max_rows: usize) -> Result<Option<Batch>> {
        let Some((piece, at)) = &mut self.current else { return Ok(None) };
        let Content::Rows(batch) = &piece.content else { return Err(Error::internal("rows were to be read")) };
        let rows = batch.slice(*at, (batch.num_rows() - *at).min(max_rows.max(1)));
        *at += rows.num_rows();
        let (path, id) = (piece.path.clone(), piece.id);
        self.end_piece();
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        self.finish(Batch { rows, kinds: None }, id, &path).map(Some)
    }

    /// Notes how far the current chunk has been read if its piece is at its end; whether it is.
    fn end_piece(&mut self) -> bool {
        let is_over = |(piece, at): &mut (Piece, usize)| *at >= piece.size();
        let Some((piece, _)) = self.current.take_if(is_over) else { return false };
        if piece.last {
            self.layout.finish(piece.id, self.plan.monitor_interval.is_some());
        } else {
            self.layout.advance(piece.id, piece.base + piece.size() as u64);
        }
        if let (Some(pieces), Content::Bytes(bytes)) = (&mut self.pieces, piece.content) {
            pieces.recycle(bytes);
        }
        true
    }

    /// Adds the partition columns, whose values are in the path, and the metadata columns.
    fn finish(&self, batch: Batch, id: ChunkId, path: &str) -> Result<Batch> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projection.len());
        for target in &self.projection {
            columns.push(match target {
                Target::Decoded(i) => batch.column(*i).clone(),
                Target::Metadata(metadata) => match self.layout.file(id) {
                    Some(file) => metadata.column(file, rows),
                    None => return Err(Error::internal(format!("no chunk {id:?} in {path}"))),
                },
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
        Ok(Batch::from_columns(self.plan.schema.arrow().clone(), columns, rows)?.with_kinds(batch.kinds))
    }
}

impl SourceReader for FileReader {
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll> {
        let max_rows = match self.throttle.admit(self.ctx.clock.now_ms(), max_rows) {
            Ok(rows) => rows,
            Err(wait) => return Ok(SourcePoll::Wait(Some(wait))),
        };
        loop {
            if self.current.is_some() {
                let Some(batch) = self.decode(max_rows, MORE_PIECES)? else { continue };
                self.throttle.spend(batch.num_rows());
                return Ok(SourcePoll::Rows { split: 0, batch });
            }
            if self.layout.is_over() {
                self.pieces = None;
                let Some(interval) = self.plan.monitor_interval else { return Ok(SourcePoll::End) };
                if let Some(wait) = self.discover(interval)? {
                    let listed = self.next_listing_ms > 0;
                    let nothing = if listed && !self.layout.has_read() { SourcePoll::Idle } else { SourcePoll::Wait };
                    return Ok(nothing(Some(wait)));
                }
            }
            if self.pieces.is_none() {
                self.start()?;
            }
            let next = match self.upcoming.take() {
                Some(piece) => Some(Ok(piece)),
                None => self.pieces.as_mut().map(|pieces| pieces.try_next(&self.plan)),
            };
            match next {
                Some(Ok(piece)) => self.take_piece(piece?),
                Some(Err(TryRecvError::Empty)) => return Ok(SourcePoll::Wait(None)),
                Some(Err(TryRecvError::Disconnected)) | None => {
                    return Err(Error::internal("the thread that reads files has ended early"));
                }
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        self.layout.position(self.current.as_ref().map(|(piece, at)| (piece.id, piece.base + *at as u64)))
    }
}

/// Among how many instances, from the first on, files are shared out.
fn sharing(plan: &Plan, instances: usize) -> usize {
    if plan.is_ordered() { 1 } else { instances.max(1) }
}

/// The reading thread: sends the pieces of all orders, then ends; also when nobody listens any more.
fn prefetch(plan: &Plan, schema: &Schema, orders: Vec<Order>, sender: &SyncSender<Result<Piece>>, waker: &Waker) {
    for order in orders {
        let mut send = |piece: Result<Piece>| {
            let sent = sender.send(piece).is_ok();
            waker();
            sent
        };
        let outcome = match &plan.format.content {
            ReadContent::Records { framing, .. } => read_chunk(plan, *framing, &order, &mut send),
            ReadContent::Container(container) => read_container(plan, container.as_ref(), schema, &order, &mut send),
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => {
                send(Err(in_file(e, &order)));
                return;
            }
        }
    }
}

/// Sends the rows of a file; false when nobody listens.
fn read_container(
    plan: &Plan,
    container: &dyn Container,
    schema: &Schema,
    order: &Order,
    send: &mut dyn FnMut(Result<Piece>) -> bool,
) -> Result<bool> {
    let path: Arc<str> = order.file.path.as_str().into();
    let mut base = order.resume.unwrap_or(0);
    let mut reader = container.reader(FileBytes::new(plan.input.open(&order.file)?), schema, base)?;
    loop {
        let batch = reader.next()?;
        let last = batch.is_none();
        let batch = batch.unwrap_or_else(|| RecordBatch::new_empty(schema.arrow().clone()));
        let rows = batch.num_rows() as u64;
        let piece = Piece { path: path.clone(), id: order.id, base, content: Content::Rows(batch), first: 0, last };
        if !send(Ok(piece)) || last {
            return Ok(last);
        }
        base += rows;
    }
}

/// Sends one chunk; false when nobody listens.
fn read_chunk(
    plan: &Plan,
    framing: Framing,
    order: &Order,
    send: &mut dyn FnMut(Result<Piece>) -> bool,
) -> Result<bool> {
    let path: Arc<str> = order.file.path.as_str().into();
    let mut file = plan.input.open(&order.file)?;
    if order.end == u64::MAX {
        let resume = order.resume.unwrap_or(0);
        let is_gzip = path.ends_with(".gz");
        let mut source: Box<dyn Read> = if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        return read_stream(&mut *source, framing, resume, is_gzip, &path, order.id, send);
    }
    let mut bytes = Vec::new();
    let (base, first, last) = read_range(&mut file, order, u64::MAX, &mut bytes)?;
    Ok(send(Ok(Piece { path, id: order.id, base, content: Content::Bytes(bytes), first, last })))
}

/// Reads records whose first byte is in the chunk, from where it is to go on and about `part` bytes of them, into the
/// empty `bytes`. Gives where in the file the bytes begin, where among them the records, and whether the chunk has no
/// more.
fn read_range(file: &mut OpenFile, order: &Order, part: u64, bytes: &mut Vec<u8>) -> Result<(u64, usize, bool)> {
    // The byte before the chunk tells whether a record starts with it.
    let from = order.resume.unwrap_or(order.start.saturating_sub(1));
    let length = order.end.saturating_sub(from);
    bytes.reserve((length.min(part) + LINE_STEP) as usize);
    file.read_at(from, length.min(part), bytes)?;
    let mut skip = 0;
    if order.resume.is_none() && order.start > 0 {
        let found = loop {
            match memchr::memchr(b'\n', bytes) {
                None if (bytes.len() as u64) < length => {
                    let before = bytes.len() as u64;
                    file.read_at(from + before, (length - before).min(part), bytes)?;
                    if bytes.len() as u64 == before {
                        break None;
                    }
                }
                found => break found,
            }
        };
        match found {
            Some(i) if from + i as u64 + 1 < order.end => skip = i + 1,
            _ => {
                bytes.clear();
                return Ok((order.end, 0, true));
            }
        }
    }
    let last = bytes.len() as u64 >= length;
    if !last && let Some(i) = memchr::memrchr(b'\n', bytes.get(skip..).unwrap_or_default()) {
        bytes.truncate(skip + i + 1);
        return Ok((from, skip, false));
    }
    // The last record goes on behind the chunk, or it is longer than a part.
    let mut step = LINE_STEP;
    while bytes.last().is_some_and(|b| *b != b'\n') {
        let before = bytes.len();
        file.read_at(from + before as u64, step, bytes)?;
        step *= 2;
        if bytes.len() == before {
            break;
        }
        if let Some(i) = memchr::memchr(b'\n', bytes.get(before..).unwrap_or_default()) {
            bytes.truncate(before + i + 1);
        }
    }
    Ok((from, skip, from + bytes.len() as u64 >= order.end))
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
    id: ChunkId,
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
        let content = Content::Bytes(std::mem::replace(&mut bytes, rest));
        let piece = Piece { path: path.clone(), id, base, content, first: 0, last: ended };
        base += piece.size() as u64;
        if !send(Ok(piece)) || ended {
            return Ok(ended);
        }
        want = 1 << 20;
    }
}
