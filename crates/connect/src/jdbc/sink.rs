//! Writing to a table of a database: by its primary key, so that what is written again changes nothing, or row after row.

use super::DatabaseTable;
use super::columns::{column_name, identifier};
use crate::formats::json::{JsonEncoder, JsonOptions};
use arrow::row::{RowConverter, SortField};
use millstream_core::connector::TableDef;
use millstream_core::format::{Encoder, OnBadRecord};
use millstream_core::graph::ChangelogMode;
use millstream_core::options::Options;
use millstream_core::sink::{Committer, Sink, SinkContext, SinkWriter};
use millstream_core::source::Waker;
use millstream_core::time::ClockRef;
use millstream_core::{Batch, Error, ErrorKind, Field, Result, RowKind, Schema, TypeKind};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::Client;

/// Statements that may wait for the database before the writer takes no more rows.
const QUEUE: usize = 4;
/// The first wait before a failed statement is tried again; the second is twice as long, and so on.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A table of a database that is written.
#[derive(Clone, Debug)]
pub(super) struct JdbcSink(Arc<Plan>);

#[derive(Debug)]
struct Plan {
    table: DatabaseTable,
    /// The columns, called as in the database.
    schema: Schema,
    /// Those of the primary key.
    key: Vec<usize>,
    put: String,
    delete: String,
    max_rows: usize,
    interval_ms: i64,
    max_retries: u32,
}

impl JdbcSink {
    /// The sink that a table's options describe; the caller refuses options that nobody read.
    pub(super) fn build(table: DatabaseTable, definition: &TableDef, options: &Options) -> Result<Self> {
        let max_rows = options.number("sink.buffer-flush.max-rows")?.unwrap_or(1000usize);
        let interval = options.duration("sink.buffer-flush.interval")?.unwrap_or(Duration::from_secs(1));
        let max_retries = options.number("sink.max-retries")?.unwrap_or(3);
        if options.string("sink.parallelism").is_some() {
            return Err(Error::unsupported("'sink.parallelism'").at(options.place("sink.parallelism")));
        }
        let fields = &definition.schema.fields;
        if let Some(bytes) =
            fields.iter().find(|f| matches!(f.data_type.kind, TypeKind::Binary(_) | TypeKind::VarBinary(_)))
        {
            let what =
                format!("writing column '{}' of type {} to a table of connector 'jdbc'", bytes.name, bytes.data_type);
            return Err(Error::unsupported(what).at(options.place("table-name")));
        }
        let schema =
            Schema::new(fields.iter().map(|f| Field::new(column_name(&f.name), f.data_type.clone())).collect());
        let key: Vec<usize> =
            definition.primary_key.iter().filter_map(|name| definition.schema.index_of(name)).collect();
        let quoted: Vec<String> = fields.iter().map(|f| identifier(&f.name)).collect();
        let of = |prefix: &str, columns: &[usize]| {
            columns.iter().map(|c| format!("{prefix}{}", quoted[*c])).collect::<Vec<_>>().join(", ")
        };
        let all: Vec<usize> = (0..quoted.len()).collect();
        let rest: Vec<usize> = all.iter().copied().filter(|column| !key.contains(column)).collect();
        // The rows come as JSON, so that each value becomes one of its column's own type.
        let rows = format!("json_populate_recordset(NULL::{}, $1::text::json) AS q", table.name);
        let mut put = format!("INSERT INTO {} ({}) SELECT {} FROM {rows}", table.name, of("", &all), of("q.", &all));
        if !key.is_empty() {
            let updates = rest.iter().map(|c| format!("{0} = EXCLUDED.{0}", quoted[*c])).collect::<Vec<_>>().join(", ");
            let action = if rest.is_empty() { "NOTHING".to_string() } else { format!("UPDATE SET {updates}") };
            put.push_str(&format!(" ON CONFLICT ({}) DO {action}", of("", &key)));
        }
        let equal = key.iter().map(|c| format!("t.{0} = q.{0}", quoted[*c])).collect::<Vec<_>>().join(" AND ");
        let delete = format!("DELETE FROM {} AS t USING {rows} WHERE {equal}", table.name);
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        Ok(JdbcSink(Arc::new(Plan {
            table,
            schema,
            key,
            put,
            delete,
            max_rows: max_rows.max(1),
            interval_ms,
            max_retries,
        })))
    }
}

impl Sink for JdbcSink {
    fn accepts(&self) -> ChangelogMode {
        if self.0.key.is_empty() { ChangelogMode::INSERT_ONLY } else { ChangelogMode::UPSERT }
    }
    fn describe(&self) -> String {
        let how = if self.0.key.is_empty() { "appended" } else { "by primary key" };
        format!("jdbc({}, table-name={}, {how})", self.0.table.database, self.0.table.name)
    }
    /// Has the database look at the statements.
    fn check(&self) -> Result<()> {
        let plan = self.0.clone();
        let looked_at = std::thread::spawn(move || {
            runtime()?.block_on(async {
                let client = plan.table.database.connect().await?;
                client.prepare(&plan.put).await.map_err(|e| plan.table.database.error(&e)).map(|_| ())
            })
        });
        let outcome = looked_at.join().map_err(|_| Error::internal("the thread that asks a database has panicked"))?;
        outcome.map_err(|e| e.context(format!("look at {}", self.describe())))
    }
    fn open(&self, ctx: SinkContext) -> Result<Box<dyn SinkWriter>> {
        let (statements, queue) = channel();
        let shared = Arc::new(Shared { waiting: AtomicUsize::new(0), failed: Mutex::new(None), waker: ctx.waker });
        let (plan, of_thread) = (self.0.clone(), shared.clone());
        std::thread::Builder::new()
            .name("jdbc-sink".into())
            .spawn(move || of_thread.write(&plan, &queue))
            .map_err(|e| Error::from(e).context("start the thread that writes to a database"))?;
        let key_types = self.0.key.iter().map(|c| SortField::new(self.0.schema.fields[*c].data_type.arrow()));
        Ok(Box::new(Writer {
            encoder: JsonEncoder::new(&self.0.schema, JsonOptions::new(OnBadRecord::Fail)),
            keys: RowConverter::new(key_types.collect())?,
            plan: self.0.clone(),
            clock: ctx.clock,
            shared,
            statements,
            puts: vec![],
            by_key: HashMap::new(),
            since_ms: None,
        }))
    }
    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(Written))
    }
}

/// What is written is visible at once.
struct Written;

impl Committer for Written {
    fn commit(&mut self, _epoch: u64, _committables: &[Vec<u8>], _last: bool) -> Result<()> {
        Ok(())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::from(e).context("start what talks to a database"))
}

/// What the writer and its thread share.
struct Shared {
    waiting: AtomicUsize,
    failed: Mutex<Option<Error>>,
    waker: Waker,
}

/// Rows to be put and rows to be deleted, as JSON, and who wants to know when that is done.
struct Statement {
    puts: Vec<String>,
    deletes: Vec<String>,
    done: Option<Sender<()>>,
}

impl Shared {
    fn failure(&self) -> Result<()> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Writes what comes, on a thread of its own; after a failure nothing more.
    fn write(&self, plan: &Plan, queue: &Receiver<Statement>) {
        let mut connection: Option<Client> = None;
        let runtime = runtime();
        for statement in queue {
            if self.failure().is_ok() {
                let outcome = match &runtime {
                    Ok(runtime) => runtime.block_on(plan.execute(&mut connection, &statement)),
                    Err(error) => Err(error.clone()),
                };
                if let Err(error) = outcome {
                    let error = error.context(format!("write to {} of {}", plan.table.name, plan.table.database));
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if let Some(done) = statement.done {
                // Nobody waits if the job is over.
                let _ = done.send(());
            }
            (self.waker)();
        }
    }
}

impl Plan {
    async fn execute(&self, connection: &mut Option<Client>, statement: &Statement) -> Result<()> {
        let mut failures = 0;
        loop {
            match self.try_execute(connection, statement).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Retry && failures < self.max_retries => {
                    failures += 1;
                    *connection = None;
                    tracing::warn!(table = self.table.name, failures, "write rows again: {error}");
                    tokio::time::sleep(RETRY_AFTER * failures).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_execute(&self, connection: &mut Option<Client>, statement: &Statement) -> Result<()> {
        let database = &self.table.database;
        let client = match connection.take().filter(|client| !client.is_closed()) {
            Some(client) => connection.insert(client),
            None => connection.insert(database.connect().await?),
        };
        let transaction = client.transaction().await.map_err(|e| database.error(&e))?;
        for (sql, rows) in [(&self.delete, &statement.deletes), (&self.put, &statement.puts)] {
            if !rows.is_empty() {
                let json = format!("[{}]", rows.join(","));
                transaction.execute(sql, &[&json]).await.map_err(|e| database.error(&e))?;
            }
        }
        transaction.commit().await.map_err(|e| database.error(&e))
    }
}

struct Writer {
    plan: Arc<Plan>,
    encoder: JsonEncoder,
    keys: RowConverter,
    clock: ClockRef,
    shared: Arc<Shared>,
    statements: Sender<Statement>,
    /// Rows to be appended.
    puts: Vec<String>,
    /// Of a table with a primary key: the last change of each key, whether it deletes, and its row.
    by_key: HashMap<Box<[u8]>, (bool, String)>,
    /// When the first of them came.
    since_ms: Option<i64>,
}

impl Writer {
    fn send(&mut self, done: Option<Sender<()>>) -> Result<()> {
        let (mut puts, mut deletes) = (std::mem::take(&mut self.puts), vec![]);
        for (is_delete, row) in std::mem::take(&mut self.by_key).into_values() {
            if is_delete { deletes.push(row) } else { puts.push(row) }
        }
        self.since_ms = None;
        if puts.is_empty() && deletes.is_empty() && done.is_none() {
            return Ok(());
        }
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        let gone = |_| Error::internal("the thread that writes to a database has ended");
        self.statements.send(Statement { puts, deletes, done }).map_err(gone)
    }
}

impl SinkWriter for Writer {
    fn is_ready(&mut self) -> Result<bool> {
        self.shared.failure()?;
        Ok(self.shared.waiting.load(Ordering::SeqCst) < QUEUE)
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.shared.failure()?;
        let mut lines = vec![];
        // A name of the database's in place of the script's: the columns are the same.
        let renamed =
            Batch::from_columns(self.plan.schema.arrow().clone(), batch.rows.columns().to_vec(), batch.num_rows())?;
        self.encoder.encode(&renamed, &mut lines)?;
        let lines = String::from_utf8(lines).map_err(|_| Error::internal("JSON that is no text"))?;
        self.since_ms.get_or_insert(self.clock.now_ms());
        if self.plan.key.is_empty() {
            self.puts.extend(lines.lines().map(str::to_string));
        } else {
            let columns: Vec<_> = self.plan.key.iter().map(|c| batch.column(*c).clone()).collect();
            let keys = self.keys.convert_columns(&columns)?;
            for (row, line) in lines.lines().enumerate() {
                let kind = batch.kind(row);
                // The new version of the row takes the old one's place.
                if kind != RowKind::UpdateBefore {
                    self.by_key.insert(keys.row(row).data().into(), (kind == RowKind::Delete, line.to_string()));
                }
            }
        }
        if self.puts.len() + self.by_key.len() >= self.plan.max_rows { self.send(None) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let is_due = |since: i64| self.clock.now_ms().saturating_sub(since) >= self.plan.interval_ms;
        if self.since_ms.is_some_and(is_due) { self.send(None) } else { Ok(()) }
    }

    /// Waits until all is written: what an epoch has, the database has before its checkpoint.
    fn prepare_commit(&mut self, _epoch: u64, _ended: bool) -> Result<Vec<Vec<u8>>> {
        let (done, is_done) = channel();
        self.send(Some(done))?;
        is_done.recv().map_err(|_| Error::internal("the thread that writes to a database has ended"))?;
        self.shared.failure()?;
        Ok(vec![])
    }
}
