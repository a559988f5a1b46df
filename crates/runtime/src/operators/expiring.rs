//! What operators have in common whose state may have a time to live, of processing time.

use millstream_core::operator::{Context, Operator, Port, Progress, Restored, StateDelta};
use millstream_core::{Batch, Result, Watermark};

/// State is looked through for what has expired no more often than this; milliseconds.
const MIN_SWEEP_MS: i64 = 1000;

/// A time to live, and when what has outlived it is looked for.
pub(super) struct Expiry {
    ttl_ms: Option<i64>,
    sweep_at: Option<i64>,
    /// Up to where rows have expired since the last snapshot.
    expired_below: Option<i64>,
}

impl Expiry {
    pub(super) fn new(ttl_ms: Option<i64>) -> Self {
        Expiry { ttl_ms, sweep_at: None, expired_below: None }
    }
    /// What is noted of a row that is used now; `None` if nothing expires.
    pub(super) fn stamp(&self, now_ms: i64) -> Option<i64> {
        self.ttl_ms.map(|_| now_ms)
    }
    /// Whether a row that was last used then is as good as gone; 0 is a row of which nothing has been noted.
    pub(super) fn has_passed(&self, touched: i64, now_ms: i64) -> bool {
        touched > 0 && self.bound(now_ms).is_some_and(|bound| touched < bound)
    }
    /// When to look for what has expired.
    pub(super) fn next_sweep(&self) -> Option<i64> {
        self.sweep_at
    }
    /// Before what time rows were last used that are to be forgotten now; `None` if nothing expires.
    pub(super) fn bound(&self, now_ms: i64) -> Option<i64> {
        self.ttl_ms.map(|ttl| now_ms.saturating_sub(ttl))
    }
    /// Notes that the rows last used before `bound` have been forgotten, and whether any is left.
    pub(super) fn swept(&mut self, bound: i64, now_ms: i64, is_left: bool) {
        let pause = (self.ttl_ms.unwrap_or(0) / 2).max(MIN_SWEEP_MS);
        self.expired_below = Some(bound);
        self.sweep_at = is_left.then(|| now_ms.saturating_add(pause));
    }
    /// Up to where rows have been forgotten since this was last asked.
    pub(super) fn take_expired_below(&mut self) -> Option<i64> {
        self.expired_below.take()
    }
    /// Notes that there are rows now.
    pub(super) fn arm(&mut self, now_ms: i64) {
        if let Some(ttl) = self.ttl_ms {
            self.sweep_at.get_or_insert(now_ms.saturating_add(ttl.max(MIN_SWEEP_MS)));
        }
    }
}

/// An operator whose state may have a time to live, and that holds nothing back.
pub(super) trait Expiring: Send {
    /// As [`Operator::restore`].
    fn restore(&mut self, part: Restored) -> Result<()>;
    /// As [`Operator::process`]; arms [`Expiring::expiries`] if there are rows that may expire.
    fn process(&mut self, port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()>;
    /// As [`Operator::on_watermark`].
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        ctx.emit_watermark(watermark)?;
        Ok(Progress::Done)
    }
    /// Its times to live: one, or one for the rows of each input.
    fn expiries(&self) -> &[Expiry];
    /// The same, to be changed.
    fn expiries_mut(&mut self) -> &mut [Expiry];
    /// Forgets rows under the time to live of that number that were last used before `bound`; whether any is left.
    fn forget(&mut self, number: usize, bound: i64, now_ms: i64) -> Result<bool>;
    /// As [`Operator::snapshot`]; rows that were last used before `expired_below`, by time to live, are gone.
    fn snapshot(&mut self, expired_below: &[Option<i64>]) -> Result<StateDelta>;
}

/// The driver of such operators.
pub(super) struct Expires<O>(pub(super) O);

impl<O: Expiring> Operator for Expires<O> {
    fn restore(&mut self, part: Restored) -> Result<()> {
        self.0.restore(part)
    }
    fn process(&mut self, port: Port, batch: Batch, ctx: &mut Context<'_>) -> Result<()> {
        self.0.process(port, batch, ctx)
    }
    fn on_watermark(&mut self, watermark: Watermark, ctx: &mut Context<'_>) -> Result<Progress> {
        self.0.on_watermark(watermark, ctx)
    }
    fn on_timer(&mut self, ctx: &mut Context<'_>) -> Result<Progress> {
        for number in 0..self.0.expiries().len() {
            let expiry = &self.0.expiries()[number];
            let is_due = expiry.next_sweep().is_some_and(|at| at <= ctx.now_ms);
            if let Some(bound) = expiry.bound(ctx.now_ms).filter(|_| is_due) {
                let is_left = self.0.forget(number, bound, ctx.now_ms)?;
                self.0.expiries_mut()[number].swept(bound, ctx.now_ms, is_left);
            }
        }
        Ok(Progress::Done)
    }
    fn next_timer(&self) -> Option<i64> {
        self.0.expiries().iter().filter_map(Expiry::next_sweep).min()
    }
    fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn on_end(&mut self, _ctx: &mut Context<'_>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn snapshot(&mut self, _epoch: u64) -> Result<StateDelta> {
        let expired_below: Vec<_> = self.0.expiries_mut().iter_mut().map(Expiry::take_expired_below).collect();
        self.0.snapshot(&expired_below)
    }
}
