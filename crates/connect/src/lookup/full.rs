//! Tables that are held whole: read from their source by a thread, and read again when their options say so.

use super::Reload;
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::row::{RowConverter, SortField};
use millstream_core::lookup::{Answer, Found, Lookup, LookupSource, PartialCache};
use millstream_core::source::{Source, SourceContext, SourcePoll, Waker};
use millstream_core::time::{ClockRef, SystemClock};
use millstream_core::{Batch, Error, Result, Schema};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Rows that are read at once.
const BATCH_ROWS: usize = 8192;

/// A table that is read whole from a source with an end.
pub struct FullTable {
    source: Arc<dyn Source>,
    reload: Option<Reload>,
    max_retries: u32,
    clock: ClockRef,
    /// What is held already, for the other instances of the process.
    open: Mutex<Vec<(Vec<String>, Schema, Weak<Held>)>>,
}

impl FullTable {
    /// A table of what `source` gives.
    pub fn new(source: Arc<dyn Source>, reload: Option<Reload>, max_retries: u32) -> Self {
        FullTable { source, reload, max_retries, clock: Arc::new(SystemClock), open: Mutex::default() }
    }
}

impl fmt::Debug for FullTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} held whole, {:?}", self.source, self.reload)
    }
}

impl LookupSource for FullTable {
    fn schema(&self) -> &Schema {
        self.source.schema()
    }
    fn describe(&self) -> String {
        let again = match self.reload {
            None => String::new(),
            Some(Reload::Every { interval, .. }) => format!(", read again every {} ms", interval.as_millis()),
            Some(Reload::At { time, days: 1, .. }) => format!(", read again at {time}"),
            Some(Reload::At { time, days, .. }) => format!(", read again at {time} every {days} days"),
        };
        format!("{}, held whole{again}", self.source.describe())
    }
    fn cache(&self) -> Option<PartialCache> {
        None
    }
    fn max_retries(&self) -> u32 {
        self.max_retries
    }
    fn open(&self, keys: &[String], columns: &Schema) -> Result<Arc<dyn Lookup>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(.., held)| held.strong_count() > 0);
        let known = open.iter().find(|(k, c, _)| k == keys && c == columns).and_then(|(.., held)| held.upgrade());
        if let Some(held) = known {
            return Ok(held);
        }
        let (sender, index) = watch::channel(None);
        let held = Arc::new(Held { index, end: Arc::default() });
        let mut read = columns.fields.clone();
        let mut key_columns = vec![];
        for key in keys {
            let place = read.iter().position(|field| field.name == *key);
            key_columns.push(match place {
                Some(place) => place,
                None => {
                    let of_key = self.source.schema().fields.iter().find(|field| field.name == *key);
                    read.push(
                        of_key.ok_or_else(|| Error::internal(format!("no column '{key}' to look up by")))?.clone(),
                    );
                    read.len() - 1
                }
            });
        }
        let table = Reading {
            source: self.source.with_projection(Schema::new(read))?,
            key_columns,
            columns: columns.clone(),
            clock: self.clock.clone(),
            end: held.end.clone(),
        };
        let reload = self.reload;
        std::thread::Builder::new()
            .name("lookup".into())
            .spawn(move || table.keep(reload, &sender))
            .map_err(|e| Error::from(e).context("start the thread that reads a table"))?;
        open.push((keys.to_vec(), columns.clone(), Arc::downgrade(&held)));
        Ok(held)
    }
}

/// Tells the thread that nobody looks rows up any more, or that its source has something.
#[derive(Default)]
struct Signal {
    state: Mutex<(bool, bool)>,
    bell: Condvar,
}

impl Signal {
    fn ring(&self, is_end: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0 || is_end, true);
        self.bell.notify_all();
    }
    /// Waits until it rings, or the time is over; whether it is the end.
    fn wait(&self, longest: Option<Duration>) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = match longest {
            None => self.bell.wait_while(state, |s| !s.0 && !s.1).unwrap_or_else(PoisonError::into_inner),
            Some(longest) => {
                let waited = self.bell.wait_timeout_while(state, longest, |s| !s.0 && !s.1);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.1 = false;
        state.0
    }
}

type Loaded = Option<Result<Arc<Index>>>;

/// The table as it was read last.
struct Held {
    index: watch::Receiver<Loaded>,
    end: Arc<Signal>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end.ring(true);
    }
}

impl Lookup for Held {
    fn find(self: Arc<Self>, keys: RecordBatch) -> Answer {
        let known = self.index.borrow().clone();
        if let Some(index) = known {
            return Answer::Now(index.and_then(|index| index.find(&keys)));
        }
        Answer::Later(Box::pin(async move {
            let mut index = self.index.clone();
            let gone = |_| Error::internal("the thread that reads a table has ended");
            let index = index.wait_for(Option::is_some).await.map_err(gone)?.clone();
            index.unwrap_or_else(|| Err(Error::internal("a table that is neither read nor being read")))?.find(&keys)
        }))
    }
}

/// What the thread reads.
struct Reading {
    source: Arc<dyn Source>,
    key_columns: Vec<usize>,
    columns: Schema,
    clock: ClockRef,
    end: Arc<Signal>,
}

impl Reading {
    /// Reads the table, and again, until nobody wants it.
    fn keep(self, reload: Option<Reload>, index: &watch::Sender<Loaded>) {
        loop {
            let started_ms = self.clock.now_ms();
            match self.read() {
                Ok(Some(read)) => index.send_replace(Some(Ok(Arc::new(read)))),
                Ok(None) => return,
                // Whoever looks a row up next fails with it, and the job's restart strategy decides.
                Err(error) => index.send_replace(Some(Err(error.context(format!("read {}", self.source.describe()))))),
            };
            let Some(reload) = reload else { return };
            let wait_ms = reload.wait_ms(started_ms, self.clock.now_ms());
            let until = self.clock.now_ms().saturating_add(wait_ms);
            loop {
                let left = until.saturating_sub(self.clock.now_ms());
                if left <= 0 {
                    break;
                }
                // A time that is far away is waited for in parts: the clock may be set.
                if self.end.wait(Some(Duration::from_millis(left.clamp(1, 60_000) as u64))) {
                    return;
                }
            }
        }
    }

    /// The table's rows by their keys; `None` if nobody wants them any more.
    fn read(&self) -> Result<Option<Index>> {
        let bell = self.end.clone();
        let waker: Waker = Arc::new(move || bell.ring(false));
        let mut reader = self.source.open(SourceContext {
            instance: 0,
            instances: 1,
            restored: None,
            waker,
            metrics: Arc::default(),
            clock: self.clock.clone(),
        })?;
        let mut batches = vec![];
        loop {
            match reader.poll(BATCH_ROWS)? {
                SourcePoll::Rows { batch, .. } => batches.push(batch.rows),
                SourcePoll::SplitAdded(_) | SourcePoll::SplitAtEnd(_) | SourcePoll::SplitEnded(_) => {}
                SourcePoll::Wait(longest) | SourcePoll::Idle(longest) => {
                    if self.end.wait(longest) {
                        return Ok(None);
                    }
                }
                SourcePoll::End => break,
            }
        }
        let rows = concat_batches(self.source.schema().arrow(), &batches)?;
        Index::new(rows, &self.key_columns, &self.columns).map(Some)
    }
}

/// Rows in the order of their keys.
struct Index {
    converter: RowConverter,
    /// Where each key's rows begin, and how many there are.
    places: HashMap<Box<[u8]>, (u32, u32)>,
    rows: Batch,
}

impl Index {
    fn new(rows: RecordBatch, key_columns: &[usize], columns: &Schema) -> Result<Index> {
        let keys: Vec<ArrayRef> = key_columns.iter().map(|column| rows.column(*column).clone()).collect();
        let converter = RowConverter::new(keys.iter().map(|c| SortField::new(c.data_type().clone())).collect())?;
        let encoded = converter.convert_columns(&keys)?;
        let has_key = |row: &u32| keys.iter().all(|column| column.is_valid(*row as usize));
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).filter(has_key).collect();
        // Stable: rows of a key stay in the order of the table.
        order.sort_by(|a, b| encoded.row(*a as usize).cmp(&encoded.row(*b as usize)));
        let mut places: HashMap<Box<[u8]>, (u32, u32)> = HashMap::new();
        let mut start = 0;
        for of_key in order.chunk_by(|a, b| encoded.row(*a as usize) == encoded.row(*b as usize)) {
            places.insert(encoded.row(of_key[0] as usize).data().into(), (start, of_key.len() as u32));
            start += of_key.len() as u32;
        }
        let wanted = rows.columns().get(..columns.len()).unwrap_or_default().to_vec();
        let rows = Batch::from_columns(columns.arrow().clone(), wanted, rows.num_rows())?;
        Ok(Index { converter, places, rows: rows.take(&UInt32Array::from(order))? })
    }

    fn find(&self, keys: &RecordBatch) -> Result<Found> {
        let encoded = self.converter.convert_columns(keys.columns())?;
        let (mut picks, mut counts) = (vec![], Vec::with_capacity(keys.num_rows()));
        for row in encoded.iter() {
            let (start, count) = self.places.get(row.data()).copied().unwrap_or_default();
            picks.extend(start..start + count);
            counts.push(count);
        }
        let picks = UInt32Array::from(picks);
        let columns = self.rows.rows.columns().iter().map(|c| take(c, &picks, None)).collect::<Result<Vec<_>, _>>()?;
        Ok(Found { rows: Batch::from_columns(self.rows.rows.schema(), columns, picks.len())?.rows, counts })
    }
}
