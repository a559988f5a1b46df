//! DataFusion's answer: a batch query over what the tables hold in the end.

use crate::engine::text_of;
use crate::query::{Dialect, Query};
use crate::tables::Table;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_trial::Folded;
use std::sync::Arc;

/// Rules that DataFusion can plan without. Its answers with and without them differ for a few queries in a thousand, all with
/// outer joins or joins without an equality, whose conditions it moves where they don't belong.
pub const DISPUTED: [&[&str]; 3] = [&[], &["eliminate_outer_join"], &["eliminate_outer_join", "push_down_filter"]];

/// What the query gives, planned without these rules, or why it can't be told.
pub fn answer(tables: &[Table], query: &Query, without: &[&str]) -> Result<Folded, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
    runtime.block_on(run(tables, query, without)).map_err(|error| error.to_string())
}

async fn run(tables: &[Table], query: &Query, without: &[&str]) -> datafusion::error::Result<Folded> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for rule in without {
        assert!(context.remove_optimizer_rule(rule), "there is no rule {rule}");
    }
    for table in tables {
        context.register_batch(&table.name, table.rows())?;
    }
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..16));
    context.register_batch("numbers", RecordBatch::try_from_iter([("n", numbers)])?)?;
    let mut folded = Folded::new();
    for batch in context.sql(&query.sql(Dialect::Theirs)).await?.collect().await? {
        for row in 0..batch.num_rows() {
            let text: Vec<String> = batch.columns().iter().map(|column| text_of(column, row)).collect();
            *folded.entry(text.join(", ")).or_default() += 1;
        }
    }
    Ok(folded)
}
