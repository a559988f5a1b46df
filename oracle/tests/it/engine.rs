//! Millstream's answer: a planned job on trial, folded.

use crate::query::{Dialect, Query};
use crate::tables::Table;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use millstream_core::Result;
use millstream_core::connector::{Connector, ConnectorRegistry, SessionInfo, TableDef, WriteMode};
use millstream_core::graph::ChangelogMode;
use millstream_core::settings::Settings;
use millstream_core::sink::Sink;
use millstream_core::source::Source;
use millstream_core::{Batch, Error};
use millstream_sql::{PlanOptions, plan_script};
use millstream_trial::{Course, Crash, Epoch, Folded, Rows, Stage, Trial, fold};
use std::sync::Arc;

/// How a job is run.
#[derive(Clone, Debug)]
pub struct Run {
    pub workers: usize,
    pub batch_rows: usize,
    /// How much of each table, in thousandths, has come when each epoch ends.
    pub epochs: Vec<Vec<usize>>,
    pub crashes: Vec<Crash>,
}

/// The script.
pub fn script(tables: &[Table], query: &Query) -> String {
    let ddl: String = tables.iter().map(Table::ddl).collect();
    format!("{ddl}{};\n", query.sql(Dialect::Ours))
}

#[derive(Debug)]
struct Registry {
    stage: Arc<Stage>,
    tables: Vec<Table>,
}

#[derive(Clone, Debug)]
struct Memory(Arc<Registry>);

impl ConnectorRegistry for Memory {
    fn connector(&self, _: &str) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Connector for Memory {
    fn name(&self) -> &str {
        "rows"
    }
    fn source(&self, table: &TableDef, _: &SessionInfo) -> Result<Arc<dyn Source>> {
        let rows = self.0.tables.iter().find(|t| t.name == table.name).expect("the script names tables that there are");
        self.0.stage.source(&table.name, || {
            let changelog = if rows.updating { ChangelogMode::ALL } else { ChangelogMode::INSERT_ONLY };
            Ok(Rows { schema: rows.our_schema(), batch: rows.batch(), changelog, is_bounded: true })
        })
    }
    fn sink(&self, _: &TableDef, _: WriteMode, _: &SessionInfo) -> Result<Arc<dyn Sink>> {
        Err(Error::internal("the script writes no table"))
    }
}

/// What the query gives over these tables. With `keys` it is told without `-U`, as the first so many columns are a key.
pub fn answer(tables: &[Table], query: &Query, keys: Option<usize>, run: &Run) -> Result<Folded> {
    let stage = Stage::new();
    let accepts = if keys.is_some() { ChangelogMode::UPSERT } else { ChangelogMode::ALL };
    let sink = stage.sink("select", accepts);
    let registry = Arc::new(Memory(Arc::new(Registry { stage: Arc::clone(&stage), tables: tables.to_vec() })));
    let (text, batch_rows) = (script(tables, query), run.batch_rows);
    let plan = move |parallelism| {
        let mut settings = Settings::default();
        settings.set("millstream.batch.rows", &batch_rows.to_string())?;
        let options = PlanOptions {
            settings,
            registry: registry.clone(),
            session: SessionInfo { base_dir: ".".into(), time_zone: "UTC".into(), storage: vec![] },
            name: "oracle".into(),
            parallelism,
            select_sink: Some(sink.clone()),
        };
        let planned = plan_script(&text, options)?;
        Ok((Arc::new(planned.graph), planned.settings))
    };
    plan(1)?;
    let inputs = stage.inputs();
    let epoch = |(i, parts): (usize, &Vec<usize>)| {
        let rows = |(name, rows): &(String, usize)| {
            let table = tables.iter().position(|t| t.name == *name).expect("the stage has the script's tables");
            rows * parts[table] / 1000
        };
        Epoch { now_ms: 1_800_000_000_000 + i as i64 * 1000, rows: inputs.iter().map(rows).collect() }
    };
    let epochs = run.epochs.iter().enumerate().map(epoch).collect();
    let course = Course { workers: run.workers, epochs, crashes: run.crashes.clone() };
    let outcome = Trial { stage, plan: Box::new(plan) }.run(&course)?;
    let key: Option<Vec<usize>> = keys.map(|keys| (0..keys).collect());
    Ok(fold(&outcome.written["select"], key.as_deref(), &text_of_row))
}

fn text_of_row(batch: &Batch, row: usize, columns: &[usize]) -> String {
    columns.iter().map(|c| text_of(batch.column(*c), row)).collect::<Vec<_>>().join(", ")
}

/// A value as text, the same for all types that stand for the same kind.
pub fn text_of(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) || *array.data_type() == DataType::Null {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().value(row).to_string()
        }
        // Nearer than any two quotients of small numbers are.
        DataType::Float64 => format!("{:.9e}", array.as_primitive::<Float64Type>().value(row) + 0.0),
        DataType::Decimal128(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            let text = Decimal128Type::format_decimal(value, 38, *scale);
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
        }
        DataType::Utf8 => format!("'{}'", array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => format!("'{}'", array.as_string::<i64>().value(row)),
        DataType::Utf8View => format!("'{}'", array.as_string_view().value(row)),
        other => panic!("no query gives a {other}"),
    }
}
