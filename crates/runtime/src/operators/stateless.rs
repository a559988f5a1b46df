//! What operators without state have in common: everything but how they map a batch.

use millstream_core::operator::{Context, Operator, Port, Progress, Restored, StateDelta};
use millstream_core::{Batch, Result, Watermark};

/// What an operator without state does to a batch.
pub(super) trait MapBatch: Send {
    /// Emits the rows that `batch` becomes.
    fn map(&self, batch: Batch, ctx: &mut Context<'_>) -> Result<()>;
    /// Notes how far event time has come, for those whose expressions may ask.
    fn advance(&mut self, _watermark: Watermark) {}
}

/// An operator that maps batches and passes watermarks on.
pub(super) struct Stateless<M>(pub(super) M);

impl<M: MapBatch> Operator for Stateless<M> {
    fn restore(&mut self, _part: Restored) -> Result<()> {
        Ok(())
    }
    fn process(&mut self, _port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        self.0.map(batch, ctx)
    }
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.0.advance(watermark);
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }
    fn on_timer(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn next_timer(&self) -> Option<i64> {
        None
    }
    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        Ok(StateDelta::default())
    }
}
