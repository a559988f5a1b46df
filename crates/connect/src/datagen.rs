//! The `datagen` connector: a source of random or counted rows.

mod column;
pub(crate) mod sequence;
#[cfg(test)]
mod tests;

use crate::blackhole::{not_writable, refuse_metadata};
use column::{Column, Rows};
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader};
use millstream_core::time::ClockRef;
use millstream_core::types::SessionZone;
use millstream_core::{Batch, Error, Result, Schema};
use sequence::{Pacer, Sequence};
use std::sync::Arc;

/// The `datagen` connector (flink docs: connectors/table/datagen).
///
/// Row `i` of the stream is a function of the seed and `i` alone, so a restored or rescaled job goes on
/// with exactly the rows that it would have given. Unlike Flink's, its times are: the time at which the
/// stream began plus `i / rows-per-second`, less a random part of `max-past`.
#[derive(Debug)]
pub struct DatagenConnector;

impl Connector for DatagenConnector {
    fn name(&self) -> &str {
        "datagen"
    }
    fn source(&self, table: &TableDef, session: &SessionInfo) -> Result<Arc<dyn Source>> {
        refuse_metadata(table, self.name())?;
        let options = Options::new(&table.name, self.name(), &table.options);
        let rate: Option<u64> = options.number("rows-per-second")?;
        let alias: Option<u64> = options.number("scan.rate-limit.rows-per-second")?;
        let rate = rate.or(alias).unwrap_or(10_000);
        if rate == 0 {
            return Err(options.error("rows-per-second", "the value '0' of option 'rows-per-second' is not positive"));
        }
        let mut total: Option<u64> = options.number("number-of-rows")?;
        let seed: u64 = options.number("millstream.seed")?.unwrap_or(0);
        let zone: SessionZone = session.time_zone.parse()?;
        let mut columns = Vec::new();
        for field in &table.schema.fields {
            let (column, rows) = Column::build(&field.name, &field.data_type, &options, seed, zone)?;
            total = [total, rows].into_iter().flatten().min();
            columns.push(column);
        }
        options.finish()?;
        Ok(Arc::new(Datagen { schema: table.schema.clone(), columns: columns.into(), rate, total }))
    }
    fn sink(&self, table: &TableDef, _mode: WriteMode, _session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        Err(not_writable(&table.name, self.name()))
    }
}

#[derive(Clone, Debug)]
struct Datagen {
    schema: Schema,
    columns: Arc<[Column]>,
    rate: u64,
    total: Option<u64>,
}

impl Source for Datagen {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        let columns = schema.fields.iter().map(|field| {
            let index = self.schema.index_of(&field.name);
            let column = index.and_then(|i| self.columns[i].project(&field.data_type));
            column.ok_or_else(|| Error::internal(format!("a projection asks for the unknown column '{}'", field.name)))
        });
        let columns: Vec<Column> = columns.collect::<Result<_>>()?;
        Ok(Arc::new(Datagen { columns: columns.into(), schema, ..*self }))
    }
    fn is_bounded(&self) -> bool {
        self.total.is_some()
    }
    fn describe(&self) -> String {
        match self.total {
            Some(total) => format!("datagen(rows-per-second={}, rows={total})", self.rate),
            None => format!("datagen(rows-per-second={})", self.rate),
        }
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        let now = ctx.clock.now_ms();
        Ok(Box::new(Reader {
            sequence: Sequence::open(self.total, ctx.restored.as_deref(), ctx.instance, ctx.instances, now)?,
            pacer: Pacer::new(Some(self.rate as f64), ctx.instances, now),
            source: self.clone(),
            clock: ctx.clock,
            ids: Vec::new(),
        }))
    }
}

struct Reader {
    source: Datagen,
    sequence: Sequence,
    pacer: Pacer,
    clock: ClockRef,
    ids: Vec<u64>,
}

impl SourceReader for Reader {
    fn poll(&mut self, max_rows: usize) -> Result<SourcePoll> {
        let count = match self.pacer.allowed(self.clock.now_ms(), max_rows.max(1)) {
            Ok(count) => count,
            Err(wait) => return Ok(SourcePoll::Wait(Some(wait))),
        };
        self.sequence.take(count, &mut self.ids);
        if self.ids.is_empty() {
            return Ok(SourcePoll::End);
        }
        self.pacer.gave(self.ids.len());
        let ms_per_row = 1000.0 / self.source.rate as f64;
        let times: Vec<i64> =
            self.ids.iter().map(|i| self.sequence.base_ms.saturating_add((*i as f64 * ms_per_row) as i64)).collect();
        let rows = Rows { ids: &self.ids, times: &times };
        let columns = self.source.columns.iter().map(|c| c.generate(&rows)).collect::<Result<_>>()?;
        let batch = Batch::from_columns(self.source.schema.arrow().clone(), columns, self.ids.len())?;
        Ok(SourcePoll::Rows { split: 0, batch })
    }
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        self.sequence.snapshot()
    }
}
