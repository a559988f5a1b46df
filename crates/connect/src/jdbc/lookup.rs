//! Looking rows up in a table of a database: one statement for many keys.

use super::DatabaseTable;
use super::columns::{self, Rows};
use millstream_core::lookup::{Answer, Found, Lookup, LookupSource, PartialCache};
use millstream_core::{Error, Result, Schema};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// A table of a database.
#[derive(Debug)]
pub(super) struct JdbcLookup {
    table: DatabaseTable,
    schema: Schema,
    cache: Option<PartialCache>,
    max_retries: u32,
}

impl JdbcLookup {
    pub(super) fn new(table: DatabaseTable, schema: Schema, cache: Option<PartialCache>, max_retries: u32) -> Self {
        JdbcLookup { table, schema, cache, max_retries }
    }
}

impl LookupSource for JdbcLookup {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn describe(&self) -> String {
        let kept = if self.cache.is_some() { ", answers are kept" } else { "" };
        format!("jdbc({}, table-name={}){kept}", self.table.database, self.table.name)
    }
    fn cache(&self) -> Option<PartialCache> {
        self.cache
    }
    fn max_retries(&self) -> u32 {
        self.max_retries
    }
    fn open(&self, keys: &[String], columns: &Schema) -> Result<Arc<dyn Lookup>> {
        let (mut names, mut parameters, mut conditions) = (vec![], vec![], vec![]);
        for (number, key) in keys.iter().enumerate() {
            let field = self.schema.fields.iter().find(|field| field.name == *key);
            let field = field.ok_or_else(|| Error::internal(format!("no column '{key}' to look up by")))?;
            let value = columns::key(&format!("q.k{number}"), &field.data_type)?;
            names.push(format!("k{number}"));
            parameters.push(format!("${}::text[]", number + 1));
            conditions.push(format!("t.{} = {value}", columns::identifier(key)));
        }
        let values = columns.fields.iter().map(columns::value).collect::<Result<Vec<_>>>()?;
        let select: String = values.iter().map(|value| format!(", {value}")).collect();
        let statement = format!(
            "SELECT q.n{select} FROM unnest({}) WITH ORDINALITY AS q({}, n) JOIN {} AS t ON {} ORDER BY q.n",
            parameters.join(", "),
            names.join(", "),
            self.table.name,
            conditions.join(" AND ")
        );
        let (table, columns) = (self.table.clone(), columns.clone());
        Ok(Arc::new(Open { table, columns, statement, connection: Mutex::new(None) }))
    }
}

/// A table that is being looked up in.
struct Open {
    table: DatabaseTable,
    columns: Schema,
    statement: String,
    /// Statements of one connection are sent without waiting for each other's results.
    connection: Mutex<Option<Arc<(Client, Statement)>>>,
}

impl Open {
    /// The connection, or a new one if it is lost.
    async fn connection(&self) -> Result<Arc<(Client, Statement)>> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.0.is_closed()) {
            return Ok(open.clone());
        }
        let client = self.table.database.connect().await?;
        let statement = client.prepare(&self.statement).await.map_err(|e| self.table.database.error(&e))?;
        Ok(connection.insert(Arc::new((client, statement))).clone())
    }

    async fn ask(&self, texts: Vec<Vec<Option<String>>>, keys: usize) -> Result<Found> {
        let connection = self.connection().await?;
        let parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|t| t as &(dyn ToSql + Sync)).collect();
        let (client, statement) = &*connection;
        let answer = client.query(statement, &parameters).await.map_err(|e| self.table.database.error(&e))?;
        let (mut rows, mut counts) = (Rows::new(&self.columns)?, vec![0; keys]);
        for row in &answer {
            let number: i64 = row.try_get(0).map_err(|e| Error::internal(e.to_string()))?;
            let count = usize::try_from(number - 1).ok().and_then(|key| counts.get_mut(key));
            *count.ok_or_else(|| Error::internal("an answer to no key"))? += 1;
            rows.push(row, 1)?;
        }
        Ok(Found { rows: rows.take()?, counts })
    }
}

impl Lookup for Open {
    fn find(self: Arc<Self>, keys: arrow::array::RecordBatch) -> Answer {
        let texts: Result<Vec<_>> = keys.columns().iter().map(columns::texts).collect();
        match texts {
            Ok(texts) => Answer::Later(Box::pin(async move { self.ask(texts, keys.num_rows()).await })),
            Err(error) => Answer::Now(Err(error)),
        }
    }
}
