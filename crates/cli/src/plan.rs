//! From a script's text to a plan, the same way in the supervisor and in every worker process.

use crate::args::Format;
use crate::output::SelectSink;
use millstream_core::connector::SessionInfo;
use millstream_core::error::{Error, Result};
use millstream_core::settings::{self, Settings};
use millstream_core::sink::Sink;
use millstream_core::types::SessionZone;
use millstream_sql::{Output, PlanOptions, Planned};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// What decides a plan; sent to the worker processes, so that they plan the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanSpec {
    /// The script's text.
    pub script: String,
    /// The script's file name without its extension.
    pub name: String,
    /// `KEY=VALUE` from the command line.
    pub set: Vec<String>,
    /// What relative paths are relative to.
    pub base_dir: PathBuf,
    /// Workers that run each operator, over all processes.
    pub parallelism: usize,
    /// How a SELECT's result is printed: `table`, `jsonl` or `csv`.
    pub format: String,
}

/// The settings that `KEY=VALUE`s of the command line make.
pub fn settings_of(set: &[String]) -> Result<Settings> {
    let mut settings = Settings::default();
    for pair in set {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::script(format!("--set {pair} is not of the form KEY=VALUE"))
                .hint("for example --set execution.checkpointing.interval='5 s'")
        })?;
        settings.set(key.trim(), value.trim().trim_matches('\''))?;
    }
    Ok(settings)
}

impl PlanSpec {
    /// Plans the script.
    pub fn plan(&self) -> Result<Planned> {
        let settings = settings_of(&self.set)?;
        let zone: SessionZone = settings.text(settings::TIME_ZONE).parse()?;
        let format = match self.format.as_str() {
            "table" => Format::Table,
            "csv" => Format::Csv,
            _ => Format::Jsonl,
        };
        let sink = SelectSink::new(format, zone);
        let options = PlanOptions {
            session: SessionInfo {
                base_dir: self.base_dir.clone(),
                time_zone: settings.text(settings::TIME_ZONE).to_string(),
                storage: settings.storage_options(),
            },
            settings,
            registry: millstream_connect::registry(),
            name: self.name.clone(),
            parallelism: self.parallelism,
            select_sink: Some(Arc::clone(&sink) as Arc<dyn Sink>),
        };
        let planned = millstream_sql::plan_script(&self.script, options)?;
        if let Output::Select { schema, .. } = &planned.output {
            sink.set_schema(schema.clone());
        }
        Ok(planned)
    }
}
