//! When a failed job is started again: Flink's restart strategies.

use millstream_core::settings::{self, Settings};
use std::collections::VecDeque;
use std::time::Duration;

/// Decides, from the settings, whether and when a failed job is started again.
///
/// Semantics: Flink's documentation, "Task Failure Recovery".
#[derive(Debug)]
pub enum RestartStrategy {
    /// The job fails for good.
    None,
    /// A number of restarts, each after the same delay.
    Fixed {
        /// Restarts left.
        left: u64,
        /// The delay.
        delay: Duration,
    },
    /// Gives up when there were too many failures in an interval.
    Rate {
        /// Failures allowed in the interval.
        max: usize,
        /// The interval.
        interval_ms: i64,
        /// The delay.
        delay: Duration,
        /// When the job failed, latest last.
        failures_ms: VecDeque<i64>,
    },
    /// Delays that grow, back to the first after a long enough run.
    Exponential {
        /// The first delay.
        initial: Duration,
        /// The longest.
        max: Duration,
        /// By what each is multiplied.
        multiplier: f64,
        /// Without a failure for this long the delay starts over.
        reset_ms: i64,
        /// The share by which a delay varies.
        jitter: f64,
        /// Restarts before giving up; 0: no limit.
        attempts: u64,
        /// Restarts since the delay last started over.
        used: u64,
        /// The next delay.
        next: Duration,
        /// When the job last failed.
        last_failure_ms: Option<i64>,
    },
}

impl RestartStrategy {
    /// By the `restart-strategy.*` settings.
    pub fn from_settings(s: &Settings) -> Self {
        match s.text(settings::RESTART_STRATEGY).to_ascii_lowercase().as_str() {
            "none" | "disable" | "off" => RestartStrategy::None,
            "fixed-delay" => RestartStrategy::Fixed {
                left: s.number(settings::RESTART_FIXED_ATTEMPTS),
                delay: s.duration(settings::RESTART_FIXED_DELAY),
            },
            "failure-rate" => RestartStrategy::Rate {
                max: s.number(settings::RESTART_RATE_MAX) as usize,
                interval_ms: s.duration(settings::RESTART_RATE_INTERVAL).as_millis() as i64,
                delay: s.duration(settings::RESTART_RATE_DELAY),
                failures_ms: VecDeque::new(),
            },
            _ => {
                let initial = s.duration(settings::RESTART_EXP_INITIAL);
                RestartStrategy::Exponential {
                    initial,
                    max: s.duration(settings::RESTART_EXP_MAX),
                    multiplier: s.fraction(settings::RESTART_EXP_MULTIPLIER).max(1.0),
                    reset_ms: s.duration(settings::RESTART_EXP_RESET).as_millis() as i64,
                    jitter: s.fraction(settings::RESTART_EXP_JITTER).min(1.0),
                    attempts: s.number(settings::RESTART_EXP_ATTEMPTS),
                    used: 0,
                    next: initial,
                    last_failure_ms: None,
                }
            }
        }
    }

    /// The job failed at `now_ms`: the delay before it starts again, or `None` to give up. `random` is
    /// uniform in 0..1.
    pub fn on_failure(&mut self, now_ms: i64, random: f64) -> Option<Duration> {
        match self {
            RestartStrategy::None => None,
            RestartStrategy::Fixed { left, delay } => {
                *left = left.checked_sub(1)?;
                Some(*delay)
            }
            RestartStrategy::Rate { max, interval_ms, delay, failures_ms } => {
                failures_ms.push_back(now_ms);
                while failures_ms.front().is_some_and(|t| now_ms - *t > *interval_ms) {
                    failures_ms.pop_front();
                }
                (failures_ms.len() <= *max).then_some(*delay)
            }
            RestartStrategy::Exponential {
                initial,
                max,
                multiplier,
                reset_ms,
                jitter,
                attempts,
                used,
                next,
                last_failure_ms,
            } => {
                if last_failure_ms.is_some_and(|t| now_ms - t >= *reset_ms) {
                    (*next, *used) = (*initial, 0);
                }
                *last_failure_ms = Some(now_ms);
                *used += 1;
                if *attempts > 0 && *used > *attempts {
                    return None;
                }
                let delay = next.mul_f64(1.0 + *jitter * (2.0 * random - 1.0));
                *next = next.mul_f64(*multiplier).min(*max);
                Some(delay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(set: &[(&str, &str)], failures_ms: &[i64]) -> Vec<Option<u128>> {
        let mut s = Settings::default();
        for (key, value) in set {
            s.set(key, value).unwrap();
        }
        let mut strategy = RestartStrategy::from_settings(&s);
        failures_ms.iter().map(|t| strategy.on_failure(*t, 0.5).map(|d| d.as_millis())).collect()
    }

    #[test]
    fn exponential_delays_grow_to_the_maximum_and_start_over_after_a_long_run() {
        let set = [
            ("restart-strategy.exponential-delay.initial-backoff", "100 ms"),
            ("restart-strategy.exponential-delay.max-backoff", "300 ms"),
            ("restart-strategy.exponential-delay.backoff-multiplier", "2"),
            ("restart-strategy.exponential-delay.reset-backoff-threshold", "1 min"),
        ];
        assert_eq!(delays(&set, &[0, 200, 600, 1000, 70_000]), [Some(100), Some(200), Some(300), Some(300), Some(100)]);
    }

    #[test]
    fn a_fixed_number_of_attempts_ends() {
        let set = [("restart-strategy.type", "fixed-delay"), ("restart-strategy.fixed-delay.attempts", "2")];
        assert_eq!(delays(&set, &[0, 1, 2]), [Some(1000), Some(1000), None]);
    }

    #[test]
    fn too_many_failures_in_the_interval_give_up() {
        let set = [
            ("restart-strategy.type", "failure-rate"),
            ("restart-strategy.failure-rate.max-failures-per-interval", "2"),
        ];
        assert_eq!(delays(&set, &[0, 70_000, 80_000, 90_000]), [Some(1000), Some(1000), Some(1000), None]);
    }

    #[test]
    fn no_strategy_gives_up_at_once() {
        assert_eq!(delays(&[("restart-strategy.type", "none")], &[0]), [None]);
    }
}
