//! The `nexmark` connector: the events of the Nexmark benchmark, generated.

mod config;
mod generator;
#[cfg(test)]
mod tests;
mod text;

use crate::blackhole::{not_writable, refuse_metadata};
use crate::datagen::sequence::{Pacer, Sequence};
use config::Config;
use generator::Plan;
use millstream_core::connector::{Connector, SessionInfo, TableDef, WriteMode};
use millstream_core::options::Options;
use millstream_core::sink::Sink;
use millstream_core::source::{Source, SourceContext, SourcePoll, SourceReader};
use millstream_core::time::ClockRef;
use millstream_core::{Batch, Result, Schema};
use std::sync::Arc;
use text::Texts;

/// The `nexmark` connector, with the options of the Nexmark project's connector for Flink.
///
/// Event `i` is a function of the options and `i` alone. Its time is a fixed instant
/// (`millstream.base-time`, milliseconds; 2015-07-15 00:00 unless told) plus `i / first-event.rate`.
/// Events come as fast as they are taken, unless `rate.limited` is true or `max-emit-speed` false: then
/// all instances together give `first-event.rate` a second; `scan.rate-limit.rows-per-second` is a limit of
/// its own, which doesn't change the events' times.
#[derive(Debug)]
pub struct NexmarkConnector;

impl Connector for NexmarkConnector {
    fn name(&self) -> &str {
        "nexmark"
    }
    fn source(&self, table: &TableDef, _session: &SessionInfo) -> Result<Arc<dyn Source>> {
        refuse_metadata(table, self.name())?;
        let options = Options::new(&table.name, self.name(), &table.options);
        let config = Config::read(&options)?;
        options.finish()?;
        let plan = Plan::new(&table.schema).map_err(|e| options.error("connector", e))?;
        Ok(Arc::new(Nexmark { schema: table.schema.clone(), plan, config }))
    }
    fn sink(&self, table: &TableDef, _mode: WriteMode, _session: &SessionInfo) -> Result<Arc<dyn Sink>> {
        Err(not_writable(&table.name, self.name()))
    }
}

#[derive(Clone, Debug)]
struct Nexmark {
    schema: Schema,
    plan: Plan,
    config: Config,
}

impl Source for Nexmark {
    fn schema(&self) -> &Schema {
        &self.schema
    }
    fn with_projection(&self, schema: Schema) -> Result<Arc<dyn Source>> {
        let plan = Plan::new(&schema).map_err(millstream_core::Error::internal)?;
        Ok(Arc::new(Nexmark { schema, plan, config: self.config.clone() }))
    }
    fn is_bounded(&self) -> bool {
        self.config.events.is_some() && !self.config.keep_alive
    }
    fn describe(&self) -> String {
        let columns: Vec<String> = self.schema.fields.iter().map(|f| f.name.clone()).collect();
        let events = self.config.events.map_or("unbounded".to_string(), |n| n.to_string());
        format!("nexmark(events={events}, columns={})", columns.join(", "))
    }
    fn open(&self, ctx: SourceContext) -> Result<Box<dyn SourceReader>> {
        let now = ctx.clock.now_ms();
        let (restored, total) = (ctx.restored.as_deref(), self.config.events);
        Ok(Box::new(Reader {
            sequence: Sequence::open(total, restored, ctx.instance, ctx.instances, self.config.base_ms)?,
            pacer: Pacer::new(self.config.pace, ctx.instances, now),
            texts: Texts::new(&self.config),
            source: self.clone(),
            clock: ctx.clock,
            ids: Vec::new(),
        }))
    }
}

struct Reader {
    source: Nexmark,
    texts: Texts,
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
            return Ok(if self.source.config.keep_alive { SourcePoll::Wait(None) } else { SourcePoll::End });
        }
        self.pacer.gave(self.ids.len());
        let columns = self.source.plan.generate(&self.source.config, &self.texts, &self.ids)?;
        let batch = Batch::from_columns(self.source.schema.arrow().clone(), columns, self.ids.len())?;
        Ok(SourcePoll::Rows { split: 0, batch })
    }
    fn snapshot(&mut self) -> Result<Vec<u8>> {
        self.sequence.snapshot()
    }
}
