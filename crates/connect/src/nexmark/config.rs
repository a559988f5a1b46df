//! The options of the Nexmark generator.

use millstream_core::options::Options;
use millstream_core::{Error, Result};

/// 2015-07-15 00:00 UTC, the base time of the benchmark's first implementation.
const DEFAULT_BASE_MS: i64 = 1_436_918_400_000;

/// What the events depend on.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// How many events there are; `None`: no end.
    pub(super) events: Option<u64>,
    /// Events a second of event time.
    pub(super) rate: u64,
    /// Events a second of processing time; `None`: as fast as they are taken.
    pub(super) pace: Option<f64>,
    /// After the last event the source waits for ever instead of ending.
    pub(super) keep_alive: bool,
    pub(super) base_ms: i64,
    pub(super) seed: u64,
    /// Of each `people + auctions + bids` events, in this order.
    pub(super) people: u64,
    pub(super) auctions: u64,
    pub(super) bids: u64,
    /// One of so many is not hot.
    pub(super) hot_auctions: u64,
    pub(super) hot_bidders: u64,
    pub(super) hot_sellers: u64,
    /// Average bytes of an event.
    pub(super) person_bytes: usize,
    pub(super) auction_bytes: usize,
    pub(super) bid_bytes: usize,
}

impl Config {
    pub(super) fn read(options: &Options<'_>) -> Result<Config> {
        let positive = |key: &str, default: u64| -> Result<u64> {
            match options.number::<u32>(key)?.map(u64::from) {
                Some(0) => Err(options.error(key, format!("the value '0' of option '{key}' is not positive"))),
                value => Ok(value.unwrap_or(default)),
            }
        };
        let bytes = |key: &str, default: usize| -> Result<usize> {
            let value = options.memory_size(key)?.unwrap_or(default as u64);
            match usize::try_from(value) {
                Ok(value) if value <= 1 << 20 => Ok(value),
                _ => Err(options.error(key, format!("the value of option '{key}' is more than 1 mb"))),
            }
        };
        let rate = positive("first-event.rate", 10_000)?;
        if positive("next-event.rate", rate)? != rate {
            return Err(Error::unsupported("a 'next-event.rate' that differs from 'first-event.rate'")
                .detail("the rate of events is constant"));
        }
        // The shape says how the rate changes; with one rate there is nothing to shape.
        options.choice("rate.shape", &[("SQUARE", ()), ("SINE", ())])?;
        options.duration("rate.period")?;
        let events: u64 = options.number("events.num")?.unwrap_or(0);
        let stop_at: i64 = options.number("stop-at")?.unwrap_or(-1);
        let limits = [(events > 0).then_some(events), u64::try_from(stop_at).ok()];
        let limited = options.boolean("rate.limited")?.unwrap_or(false);
        let max_speed = options.boolean("max-emit-speed")?.unwrap_or(true);
        let own_pace = (limited || !max_speed).then_some(rate as f64);
        let key = "scan.rate-limit.rows-per-second";
        let limit = options.number::<f64>(key)?;
        if limit.is_some_and(|r| !r.is_finite() || r <= 0.0) {
            return Err(options.error(key, format!("'{key}' must be above 0")));
        }
        Ok(Config {
            events: limits.into_iter().flatten().min(),
            rate,
            pace: own_pace.into_iter().chain(limit).reduce(f64::min),
            keep_alive: options.boolean("keep-alive")?.unwrap_or(false),
            base_ms: options.number("millstream.base-time")?.unwrap_or(DEFAULT_BASE_MS),
            seed: options.number("millstream.seed")?.unwrap_or(0),
            people: positive("person.proportion", 1)?,
            auctions: positive("auction.proportion", 3)?,
            bids: positive("bid.proportion", 46)?,
            hot_auctions: positive("bid.hot-ratio.auctions", 2)?,
            hot_bidders: positive("bid.hot-ratio.bidders", 4)?,
            hot_sellers: positive("auction.hot-ratio.sellers", 4)?,
            person_bytes: bytes("person.avg-size", 200)?,
            auction_bytes: bytes("auction.avg-size", 500)?,
            bid_bytes: bytes("bid.avg-size", 100)?,
        })
    }
}
