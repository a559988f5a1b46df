//! Lookup joins: each row meets the rows that a table outside has for it just then.

use super::lookup_cache::{LookupCache, Rows};
use crate::calls::Calls;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt8Array, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use millstream_core::graph::{Connections, LookupJoin as Spec};
use millstream_core::lookup::{Answer, Found, Lookup};
use millstream_core::operator::{Context, InFlight, Operator, Port, Progress, Restored, StateDelta, TARGET_BATCH_ROWS};
use millstream_core::source::Waker;
use millstream_core::{Batch, Error, ErrorKind, Result, Watermark};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Keys that are asked for in one call at most.
const CALL_KEYS: usize = 1024;
/// The first wait before a failed lookup is tried again; the second is twice as long, and so on.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Rows wait in the order in which they came, a batch at a time, for the answers to their keys; watermarks wait among them.
pub(super) struct LookupJoin {
    spec: Arc<Spec>,
    table: Arc<dyn Lookup>,
    output: SchemaRef,
    keys: SchemaRef,
    converter: RowConverter,
    cache: Option<LookupCache>,
    calls: Calls<Answered>,
    waiting: VecDeque<Waiting>,
    /// The number of the first that waits.
    first: u64,
    rows_waiting: u64,
}

enum Waiting {
    Rows(Box<Pending>),
    Watermark(Watermark),
}

/// A batch whose rows may wait for answers.
struct Pending {
    batch: Batch,
    /// The number of each row's key among the batch's; `None` if a part of it is NULL.
    key_of: Vec<Option<u32>>,
    /// The rows of each key, once they are known.
    rows: Vec<Option<Rows>>,
    /// The keys as bytes, if there is a cache.
    bytes: Vec<Box<[u8]>>,
    /// Calls that are under way.
    calls: usize,
}

/// What has become of a call: for which batch, and which of its keys.
struct Answered {
    number: u64,
    keys: Vec<u32>,
    found: Result<Found>,
}

impl Pending {
    /// No rows, in the place of others.
    fn none(batch: &Batch) -> Box<Pending> {
        Box::new(Pending { batch: batch.slice(0, 0), key_of: vec![], rows: vec![], bytes: vec![], calls: 0 })
    }
}

impl LookupJoin {
    pub(super) fn new(spec: &Spec, connections: &Connections, waker: Waker) -> Result<Self> {
        let names: Vec<String> = spec.keys.iter().map(|key| key.column.clone()).collect();
        let table = spec.table.open(&names, &spec.read)?;
        let types = || spec.keys.iter().map(|key| key.value.data_type().arrow());
        let fields = names.iter().zip(types()).map(|(name, kind)| arrow::datatypes::Field::new(name, kind, false));
        let keys = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        Ok(LookupJoin {
            spec: Arc::new(spec.clone()),
            table,
            output: connections.output.schema.arrow().clone(),
            keys,
            converter: RowConverter::new(types().map(SortField::new).collect())?,
            cache: spec.table.cache().map(LookupCache::new),
            calls: Calls::new(waker),
            waiting: VecDeque::new(),
            first: 0,
            rows_waiting: 0,
        })
    }

    /// Looks the keys of a batch up; what isn't known is asked for.
    fn ask(&mut self, batch: Batch, ctx: &Context<'_>) -> Result<Pending> {
        let rows = batch.num_rows();
        let values = self.spec.keys.iter().map(|key| key.value.evaluate(&batch, &ctx.eval())?.into_array(rows));
        let values = values.collect::<Result<Vec<ArrayRef>>>()?;
        let encoded = self.converter.convert_columns(&values)?;
        let mut numbers: HashMap<&[u8], u32, ahash::RandomState> = HashMap::default();
        let (mut key_of, mut first_rows) = (Vec::with_capacity(rows), vec![]);
        for row in 0..rows {
            let is_null = values.iter().any(|column| column.is_null(row));
            key_of.push((!is_null).then(|| {
                *numbers.entry(encoded.row(row).data()).or_insert_with(|| {
                    first_rows.push(row as u32);
                    first_rows.len() as u32 - 1
                })
            }));
        }
        let mut found: Vec<Option<Rows>> = vec![None; first_rows.len()];
        let mut bytes = vec![];
        if let Some(cache) = &mut self.cache {
            for (row, found) in first_rows.iter().zip(&mut found) {
                let key = encoded.row(*row as usize);
                *found = cache.get(key.data(), ctx.now_ms);
                bytes.push(key.data().into());
            }
        }
        let unknown: Vec<u32> = (0..found.len() as u32).filter(|key| found[*key as usize].is_none()).collect();
        let mut pending = Pending { batch, key_of, rows: found, bytes, calls: 0 };
        let number = self.first + self.waiting.len() as u64;
        for part in unknown.chunks(CALL_KEYS) {
            let of_rows: UInt32Array = part.iter().map(|key| first_rows[*key as usize]).collect();
            let columns = values.iter().map(|column| take(column, &of_rows, None)).collect::<Result<Vec<_>, _>>()?;
            let keys = RecordBatch::try_new(self.keys.clone(), columns)?;
            let retries = self.spec.calls.retry_missing.is_some();
            let call = match self.table.clone().find(keys.clone()) {
                Answer::Now(Ok(found)) if !retries || found.counts.iter().all(|count| *count > 0) => {
                    self.take_in(&mut pending, part, found, ctx.now_ms)?;
                    continue;
                }
                Answer::Now(found) => Answer::Later(Box::pin(std::future::ready(found))),
                later => later,
            };
            pending.calls += 1;
            let (spec, table, part) = (self.spec.clone(), self.table.clone(), part.to_vec());
            self.calls.start(async move {
                let found = answered(&spec, table, keys, call).await;
                Answered { number, keys: part, found }
            })?;
        }
        Ok(pending)
    }

    /// Notes an answer.
    fn take_in(&mut self, pending: &mut Pending, keys: &[u32], found: Found, now_ms: i64) -> Result<()> {
        let found = found.checked(keys.len())?;
        let answer = Arc::new(found.rows);
        let mut start = 0;
        for (key, count) in keys.iter().zip(found.counts) {
            let rows = Rows { answer: answer.clone(), start, count };
            start += count;
            if let Some(cache) = &mut self.cache {
                cache.put(&pending.bytes[*key as usize], rows.clone(), now_ms);
            }
            pending.rows[*key as usize] = Some(rows);
        }
        Ok(())
    }

    /// Takes the answers that have come.
    fn take_answers(&mut self, now_ms: i64) -> Result<()> {
        while let Some(Answered { number, keys, found }) = self.calls.take() {
            let at = number.checked_sub(self.first).map(|at| at as usize);
            let waits = at.and_then(|at| self.waiting.get_mut(at));
            let Some(Waiting::Rows(pending)) = waits else {
                return Err(Error::internal("an answer to a lookup that nobody waits for"));
            };
            // Its place is kept while it is filled in.
            let none = Pending::none(&pending.batch);
            let mut pending = std::mem::replace(pending, none);
            self.take_in(&mut pending, &keys, found?, now_ms)?;
            pending.calls -= 1;
            if let Some(place) = at.and_then(|at| self.waiting.get_mut(at)) {
                *place = Waiting::Rows(pending);
            }
        }
        Ok(())
    }

    /// Emits what waits for nothing any more.
    fn emit_answered(&mut self, ctx: &mut Context<'_>) -> Result<()> {
        loop {
            match self.waiting.front() {
                Some(Waiting::Rows(pending)) if pending.calls > 0 => break,
                None => return Ok(()),
                Some(_) => {}
            }
            self.first += 1;
            match self.waiting.pop_front() {
                Some(Waiting::Rows(pending)) => {
                    self.rows_waiting -= pending.batch.num_rows() as u64;
                    self.emit(&pending, ctx)?;
                }
                Some(Waiting::Watermark(watermark)) => ctx.emit_watermark(watermark)?,
                None => return Ok(()),
            }
        }
        if self.spec.calls.ordered {
            return Ok(());
        }
        for at in 1..self.waiting.len() {
            let Some(Waiting::Rows(pending)) = self.waiting.get_mut(at) else { break };
            if pending.calls > 0 || pending.batch.num_rows() == 0 {
                continue;
            }
            // What overtakes others leaves its place behind, as answers find theirs by number.
            let none = Pending::none(&pending.batch);
            let pending = std::mem::replace(pending, none);
            self.rows_waiting -= pending.batch.num_rows() as u64;
            self.emit(&pending, ctx)?;
        }
        Ok(())
    }

    /// Emits the rows of a batch with their matches.
    fn emit(&self, pending: &Pending, ctx: &mut Context<'_>) -> Result<()> {
        let mut answers: Vec<&RecordBatch> = vec![];
        let mut number_of: HashMap<*const RecordBatch, usize> = HashMap::new();
        let (mut from, mut pairs) = (0, Pairs::default());
        for row in 0..pending.batch.num_rows() {
            if let Some(rows) = pending.key_of[row].and_then(|key| pending.rows[key as usize].as_ref()) {
                let answer = *number_of.entry(Arc::as_ptr(&rows.answer)).or_insert_with(|| {
                    answers.push(&rows.answer);
                    answers.len() - 1
                });
                for at in rows.start..rows.start + rows.count {
                    pairs.rows.push(row as u32);
                    pairs.matches.push((answer, at as usize));
                }
            }
            if pairs.rows.len() >= TARGET_BATCH_ROWS || row + 1 == pending.batch.num_rows() {
                self.emit_pairs(&pending.batch, from..row as u32 + 1, &answers, &std::mem::take(&mut pairs), ctx)?;
                from = row as u32 + 1;
            }
        }
        Ok(())
    }

    /// Emits the rows `range` of a batch: those of the pairs that count, and, of an outer join, those of none.
    fn emit_pairs(
        &self,
        batch: &Batch,
        range: std::ops::Range<u32>,
        answers: &[&RecordBatch],
        pairs: &Pairs,
        ctx: &mut Context<'_>,
    ) -> Result<()> {
        let read = self.spec.read.arrow().clone();
        let columns = (0..read.fields().len()).map(|column| gather(answers, column, &pairs.matches));
        let columns = match pairs.rows.is_empty() {
            true => read.fields().iter().map(|f| arrow::array::new_empty_array(f.data_type())).collect(),
            false => columns.collect::<Result<Vec<_>>>()?,
        };
        let found = Batch::from_columns(read, columns, pairs.rows.len())?;
        let mut counts = vec![true; pairs.rows.len()];
        let all_of = |mask: ArrayRef, counts: &mut [bool]| {
            let mask: &BooleanArray = mask.as_boolean();
            counts.iter_mut().enumerate().for_each(|(at, counts)| *counts &= mask.is_valid(at) && mask.value(at));
        };
        if let Some(filter) = &self.spec.filter {
            all_of(filter.evaluate(&found, &ctx.eval())?.into_array(found.num_rows())?, &mut counts);
        }
        let (kept, rows): (Vec<u32>, Vec<u32>) =
            (0u32..).zip(&pairs.rows).filter(|(at, _)| counts[*at as usize]).map(|(at, row)| (at, *row)).unzip();
        let found = if kept.len() == pairs.rows.len() { found } else { found.take(&kept.into())? };
        let evaluated = self.spec.columns.iter().map(|e| e.evaluate(&found, &ctx.eval())?.into_array(rows.len()));
        let right = evaluated.collect::<Result<Vec<ArrayRef>>>()?;
        let of_rows = UInt32Array::from(rows);
        let left = |of_rows: &UInt32Array| {
            batch
                .rows
                .columns()
                .iter()
                .map(|column| Ok(take(column, of_rows, None)?))
                .collect::<Result<Vec<ArrayRef>>>()
        };
        let mut counts = vec![true; of_rows.len()];
        if let Some(condition) = &self.spec.condition {
            let both = left(&of_rows)?.into_iter().chain(right.iter().cloned()).collect();
            let both = Batch::from_columns(self.output.clone(), both, of_rows.len())?;
            all_of(condition.evaluate(&both, &ctx.eval())?.into_array(of_rows.len())?, &mut counts);
        }
        let mut picks: (Vec<u32>, Vec<Option<u32>>) = Default::default();
        let mut pairs = (0u32..).zip(of_rows.values()).filter(|(at, _)| counts[*at as usize]).peekable();
        for row in range {
            let before = picks.0.len();
            while let Some((at, _)) = pairs.next_if(|(_, of)| **of == row) {
                picks.0.push(row);
                picks.1.push(Some(at));
            }
            if self.spec.outer && picks.0.len() == before {
                picks.0.push(row);
                picks.1.push(None);
            }
        }
        let (of_rows, matches) = (UInt32Array::from(picks.0), UInt32Array::from(picks.1));
        let mut columns = left(&of_rows)?;
        for (column, field) in right.iter().zip(&self.output.fields()[columns.len()..]) {
            // Of no matches at all there is nothing to take, not even NULLs.
            columns.push(match column.is_empty() {
                true => arrow::array::new_null_array(field.data_type(), matches.len()),
                false => take(column, &matches, None)?,
            });
        }
        let kinds = match &batch.kinds {
            None => None,
            Some(kinds) => Some(UInt8Array::from(take(kinds, &of_rows, None)?.to_data())),
        };
        ctx.emit(Batch::from_columns(self.output.clone(), columns, of_rows.len())?.with_kinds(kinds))
    }
}

/// Pairs of a batch's rows and rows of answers.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    /// The answer's number, and the row in it.
    matches: Vec<(usize, usize)>,
}

fn gather(answers: &[&RecordBatch], column: usize, matches: &[(usize, usize)]) -> Result<ArrayRef> {
    if let [answer] = answers {
        let rows: UInt32Array = matches.iter().map(|(_, row)| *row as u32).collect();
        return Ok(take(answer.column(column), &rows, None)?);
    }
    let columns: Vec<&dyn Array> = answers.iter().map(|answer| answer.column(column).as_ref()).collect();
    Ok(interleave(&columns, matches)?)
}

/// Waits for an answer; asks again after failures that may heal, and for keys without a row, if that is wanted.
async fn answered(spec: &Spec, table: Arc<dyn Lookup>, keys: RecordBatch, first: Answer) -> Result<Found> {
    let limit = Duration::from_millis(spec.calls.timeout_ms);
    let whole = async {
        let mut found = asked(spec, &table, &keys, first).await?;
        for _ in 0..spec.calls.retry_missing.map_or(0, |retry| retry.max_attempts) {
            let missing: Vec<u32> = (0u32..).zip(&found.counts).filter(|(_, n)| **n == 0).map(|(key, _)| key).collect();
            if missing.is_empty() {
                break;
            }
            sleep(Duration::from_millis(spec.calls.retry_missing.map_or(0, |retry| retry.delay_ms))).await;
            let of_keys = UInt32Array::from(missing.clone());
            let columns = keys.columns().iter().map(|c| take(c, &of_keys, None)).collect::<Result<Vec<_>, _>>()?;
            let asked_again = RecordBatch::try_new(keys.schema(), columns)?;
            let again = table.clone().find(asked_again.clone());
            found = merged(found, &missing, asked(spec, &table, &asked_again, again).await?)?;
        }
        Ok(found)
    };
    match timeout(limit, whole).await {
        Ok(found) => found,
        Err(_) => Err(Error::retry(format!(
            "a lookup in {} took longer than {} ms",
            spec.table.describe(),
            limit.as_millis()
        ))
        .hint("the option 'timeout' of the LOOKUP hint, or 'table.exec.async-lookup.timeout', is its limit")),
    }
}

/// Waits for an answer, and asks again after failures that may heal.
async fn asked(spec: &Spec, table: &Arc<dyn Lookup>, keys: &RecordBatch, first: Answer) -> Result<Found> {
    let mut answer = first;
    let mut failures = 0;
    loop {
        let found = match answer {
            Answer::Now(found) => found,
            Answer::Later(found) => found.await,
        };
        match found {
            Ok(found) => return found.checked(keys.num_rows()),
            Err(error) if error.kind() == ErrorKind::Retry && failures < spec.table.max_retries() => {
                failures += 1;
                tracing::warn!(table = spec.table.describe(), failures, "look rows up again: {error}");
                sleep(RETRY_AFTER * failures).await;
            }
            Err(error) => return Err(error.context(format!("look rows up in {}", spec.table.describe()))),
        }
        answer = table.clone().find(keys.clone());
    }
}

/// An answer in which the keys `missing` had no row, with what was found for them later.
fn merged(found: Found, missing: &[u32], later: Found) -> Result<Found> {
    let mut counts = found.counts;
    for (key, count) in missing.iter().zip(&later.counts) {
        counts[*key as usize] = *count;
    }
    let is_missing = |key: usize| missing.binary_search(&(key as u32)).is_ok();
    let (mut from_found, mut from_later, mut picks) = (0, 0, vec![]);
    for (key, count) in counts.iter().enumerate() {
        let (answer, next) = if is_missing(key) { (1, &mut from_later) } else { (0, &mut from_found) };
        picks.extend((*next..*next + *count as usize).map(|row| (answer, row)));
        *next += *count as usize;
    }
    let answers = [&found.rows, &later.rows];
    let columns = (0..found.rows.num_columns()).map(|column| gather(&answers, column, &picks));
    let options = RecordBatchOptions::new().with_row_count(Some(picks.len()));
    let rows = RecordBatch::try_new_with_options(found.rows.schema(), columns.collect::<Result<_>>()?, &options)?;
    Ok(Found { rows, counts })
}

impl Operator for LookupJoin {
    fn restore(&mut self, _part: Restored) -> Result<()> {
        Ok(())
    }

    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        let pending = self.ask(batch, ctx)?;
        self.rows_waiting += pending.batch.num_rows() as u64;
        self.waiting.push_back(Waiting::Rows(Box::new(pending)));
        self.emit_answered(ctx)
    }

    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        match self.waiting.back_mut() {
            Some(Waiting::Watermark(last)) => *last = watermark,
            Some(Waiting::Rows(_)) => self.waiting.push_back(Waiting::Watermark(watermark)),
            None => ctx.emit_watermark(watermark)?,
        }
        Ok(Progress::Done)
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        self.take_answers(ctx.now_ms)?;
        self.emit_answered(ctx)?;
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<i64> {
        self.calls.has_results().then_some(0)
    }

    fn in_flight(&self) -> InFlight {
        match self.waiting.is_empty() {
            true => InFlight::Nothing,
            false if self.rows_waiting >= self.spec.calls.capacity => InFlight::Full,
            false => InFlight::Some,
        }
    }

    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        assert!(self.waiting.is_empty(), "an epoch ends after the lookups of its rows");
        Ok(StateDelta::default())
    }
}
