//! A table of a database, read whole by the first instance, in an order that a restart finds again.

use super::DatabaseTable;
use super::columns::{self, Rows};
use futures::TryStreamExt;
use millstream_core::connector::TableDef;
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader, Waker};
use millstream_core::{Batch, Error, Result, Schema};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// Rows of a batch.
const BATCH_ROWS: usize = 4096;
/// Batches that are read ahead.
const AHEAD: usize = 4;
const VERSION: u32 = 1;

/// A table of a database.
#[derive(Clone, Debug)]
pub(super) struct JdbcSource {
    table: DatabaseTable,
    /// The columns by which rows are read in order: those of the primary key, or all.
    order: Vec<String>,
    schema: Schema,
}

impl JdbcSource {
    pub(super) fn new(table: DatabaseTable, definition: &TableDef) -> Self {
        let all = || definition.schema.fields.iter().map(|field| field.name.clone()).collect();
        let order = if definition.primary_key.is_empty() { all() } else { definition.primary_key.clone() };
        JdbcSource { table, order, schema: definition.schema.clone() }
    }

    fn statement(&self, skipped: u64) -> Result<String> {
        let values = self.schema.fields.iter().map(columns::value).collect::<Result<Vec<_>>>()?.join(", ");
        let order = self.order.iter().map(|name| format!("t.{}", columns::identifier(name))).collect::<Vec<_>>();
        Ok(format!("SELECT {values} FROM {} AS t ORDER BY {} OFFSET {skipped}", self.table.name, order.join(", ")))
    }
}

impl Source for JdbcSource {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(JdbcSource { schema, ..self.clone() }))
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        format!("jdbc({}, table-name={})", self.table.database, self.table.name)
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        let mut position = Position { version: VERSION, rows: 0, ended: ctx.instance != 0 };
        for bytes in ctx.restored.iter().flatten() {
            let old: Position = serde_json::from_slice(bytes)
                .map_err(|e| Error::state(format!("the position of a database's table can't be read: {e}")))?;
            if old.version != VERSION {
                return Err(Error::state(format!("the position of a database's table is of version {}", old.version)));
            }
            // One of the instances has read, the others have ended.
            if ctx.instance == 0 {
                position.rows += old.rows;
                position.ended |= old.ended && old.rows > 0;
            }
        }
        let batches = match position.ended {
            true => None,
            false => {
                let (sender, batches) = sync_channel(AHEAD);
                let (source, skipped) = (self.clone(), position.rows);
                std::thread::Builder::new()
                    .name("jdbc".into())
                    .spawn(move || {
                        source.read(skipped, &sender, &ctx.waker);
                        // That it has ended is something to wake for, too.
                        drop(sender);
                        (ctx.waker)();
                    })
                    .map_err(|e| Error::from(e).context("start the thread that reads a table"))?;
                Some(batches)
            }
        };
        Ok(Box::new(Reader { position, batches }))
    }
}

impl JdbcSource {
    /// Reads the table on a thread of its own; what is read, and what fails, goes to the reader.
    fn read(&self, skipped: u64, sender: &SyncSender<Result<Batch>>, waker: &Waker) {
        let send = |batch: Result<Batch>| {
            let is_wanted = sender.send(batch).is_ok();
            waker();
            is_wanted
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => runtime.block_on(self.read_all(skipped, &send)),
            Err(e) => Err(Error::from(e).context("start what talks to a database")),
        };
        if let Err(error) = outcome {
            send(Err(error.context(format!("read {}", self.describe()))));
        }
    }

    async fn read_all(&self, skipped: u64, send: &dyn Fn(Result<Batch>) -> bool) -> Result<()> {
        let database = &self.table.database;
        let client = database.connect().await?;
        let parameters: [&str; 0] = [];
        let answer = client.query_raw(&self.statement(skipped)?, parameters).await.map_err(|e| database.error(&e))?;
        let mut answer = std::pin::pin!(answer);
        let mut rows = Rows::new(&self.schema)?;
        while let Some(row) = answer.try_next().await.map_err(|e| database.error(&e))? {
            rows.push(&row, 0)?;
            if rows.count == BATCH_ROWS && !send(Ok(Batch::insert_only(rows.take()?))) {
                return Ok(());
            }
        }
        if rows.count > 0 {
            send(Ok(Batch::insert_only(rows.take()?)));
        }
        Ok(())
    }
}

/// What is persisted of an instance.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    version: u32,
    /// Rows that were read, in their order.
    rows: u64,
    /// Whether those are all.
    ended: bool,
}

struct Reader {
    position: Position,
    /// `None`: nothing more.
    batches: Option<Receiver<Result<Batch>>>,
}

impl SourceReader for Reader {
    fn poll(&mut self, _max_rows: usize) -> Result<SourcePoll> {
        let Some(batches) = &self.batches else { return Ok(SourcePoll::End) };
        match batches.try_recv() {
            Ok(batch) => {
                let batch = batch?;
                self.position.rows += batch.num_rows() as u64;
                Ok(SourcePoll::Rows { split: 0, batch })
            }
            Err(TryRecvError::Empty) => Ok(SourcePoll::Wait(None)),
            Err(TryRecvError::Disconnected) => {
                self.batches = None;
                self.position.ended = true;
                Ok(SourcePoll::End)
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.position).map_err(|e| Error::internal(format!("a position can't be written: {e}")))
    }
}
