//! The settings of a job: Flink's configuration keys, typed, with their defaults.

use crate::error::{Error, Place, Result};
use crate::options::{parse_duration, parse_memory_size};
use crate::suggest::did_you_mean;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a setting's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number, 0 or more.
    Number,
    /// A whole number, 1 or more.
    Count,
    /// A number with a fraction, 0 or more.
    Fraction,
    /// A duration: `10 s`.
    Duration,
    /// A memory size: `64 mb`.
    Memory,
    /// A time zone: `UTC`, `Europe/Berlin`, `GMT+02:00`.
    TimeZone,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// A setting that exists.
#[derive(Clone, Copy, Debug)]
pub struct SettingSpec {
    /// Flink's key, where it means the same.
    pub key: &'static str,
    /// What its value must be.
    pub kind: SettingKind,
    /// The value when it is not set.
    pub default: &'static str,
    /// What it does, a sentence.
    pub about: &'static str,
}

macro_rules! settings {
    ($($name:ident: $key:literal, $kind:expr, $default:literal, $about:literal;)*) => {
        $(#[doc = $about] pub const $name: &str = $key;)*
        /// Every setting.
        pub const SETTINGS: &[SettingSpec] = &[
            $(SettingSpec { key: $key, kind: $kind, default: $default, about: $about },)*
        ];
    };
}

use SettingKind::{Boolean, Choice, Count, Fraction, Memory, Number, Text, TimeZone};

settings! {
    STATE_TTL: "table.exec.state.ttl", SettingKind::Duration, "0 ms",
        "State of a join, aggregate or the like that was not used for this long is forgotten; `0`: never.";
    CDC_DUPLICATES: "table.exec.source.cdc-events-duplicate", Boolean, "false",
        "A table of changes may give some twice: its primary key tells which are known already.";
    UPSERT_MATERIALIZE: "table.exec.sink.upsert-materialize", Choice(&["AUTO", "FORCE", "NONE"]), "AUTO",
        "Whether all rows of a key are kept before a sink that takes upserts; AUTO: where the query may give several at a time.";
    MINI_BATCH: "table.exec.mini-batch.enabled", Boolean, "false",
        "Taken, without effect: results are always brought up to date a batch at a time.";
    MINI_BATCH_LATENCY: "table.exec.mini-batch.allow-latency", SettingKind::Duration, "0 ms",
        "Taken, without effect: a batch is what has arrived.";
    MINI_BATCH_SIZE: "table.exec.mini-batch.size", Number, "0",
        "Taken, without effect: a batch is what has arrived.";
    SPLIT_DISTINCT: "table.optimizer.distinct-agg.split.enabled", Boolean, "false",
        "Taken, without effect: the distinct values of a group are kept apart from it in any case.";
    LATE_ROWS_SINK: "table.exec.late-rows.sink", Text, "",
        "The table that rows go to which operators of the statements that follow drop as late; empty: none.";
    CHECKPOINT_INTERVAL: "execution.checkpointing.interval", SettingKind::Duration, "1 s",
        "Time between the starts of two checkpoints; `0` turns periodic checkpoints off.";
    CHECKPOINT_MIN_PAUSE: "execution.checkpointing.min-pause", SettingKind::Duration, "0 ms",
        "Time that must pass between a checkpoint's end and the next one's start.";
    CHECKPOINT_TIMEOUT: "execution.checkpointing.timeout", SettingKind::Duration, "10 min",
        "A checkpoint that takes longer counts as failed; its epoch is still waited for.";
    CHECKPOINT_TOLERABLE_FAILURES: "execution.checkpointing.tolerable-failed-checkpoints", Number, "0",
        "How many checkpoints in a row may fail, and how often in a row storing one, before the job is restarted.";
    CHECKPOINT_MAX_CONCURRENT: "execution.checkpointing.max-concurrent-checkpoints", Choice(&["1"]), "1",
        "One checkpoint is under way at a time.";
    CHECKPOINT_RETAINED: "state.checkpoints.num-retained", Count, "2",
        "How many finished checkpoints are kept.";
    STATE_INLINE_BELOW: "state.storage.fs.memory-threshold", Memory, "20 kb",
        "Pieces of state smaller than this are kept in the checkpoint's manifest, not in a file of their own.";
    CHECKPOINT_DIR: "state.checkpoints.dir", Text, "",
        "Where checkpoints are stored: a folder or an object store's URL; empty: in the state directory.";
    PARALLELISM: "parallelism.default", Number, "0",
        "How many workers run each operator, over all processes; `0`: the number of cores.";
    TIME_ZONE: "table.local-time-zone", TimeZone, "UTC",
        "The session's time zone: how TIMESTAMP_LTZ is shown and days are cut.";
    IDLE_TIMEOUT: "table.exec.source.idle-timeout", SettingKind::Duration, "0 ms",
        "A source split without rows for this long leaves the watermark's minimum; `0`: never.";
    WATERMARK_INTERVAL: "pipeline.auto-watermark-interval", SettingKind::Duration, "200 ms",
        "A row that moves event time by more than this emits a watermark.";
    RUNTIME_MODE: "execution.runtime-mode", Choice(&["streaming"]), "streaming",
        "How the job runs; a bounded job ends by itself in streaming mode, too.";
    PIPELINE_NAME: "pipeline.name", Text, "",
        "The job's name; empty: the script's.";
    TWO_PHASE: "table.optimizer.agg-phase-strategy", Choice(&["AUTO", "ONE_PHASE", "TWO_PHASE"]), "AUTO",
        "Whether aggregates combine before the exchange; AUTO: where it reduces.";
    RESTART_STRATEGY: "restart-strategy.type",
        Choice(&["exponential-delay", "fixed-delay", "failure-rate", "none", "disable", "off"]), "exponential-delay",
        "What happens when the job fails.";
    RESTART_EXP_INITIAL: "restart-strategy.exponential-delay.initial-backoff", SettingKind::Duration, "1 s",
        "The first delay.";
    RESTART_EXP_MAX: "restart-strategy.exponential-delay.max-backoff", SettingKind::Duration, "1 min",
        "The longest delay.";
    RESTART_EXP_MULTIPLIER: "restart-strategy.exponential-delay.backoff-multiplier", Fraction, "1.5",
        "By what each delay is multiplied for the next.";
    RESTART_EXP_RESET: "restart-strategy.exponential-delay.reset-backoff-threshold", SettingKind::Duration, "1 h",
        "After running this long without a failure the delay is the first one again.";
    RESTART_EXP_JITTER: "restart-strategy.exponential-delay.jitter-factor", Fraction, "0.1",
        "The share by which a delay varies at random.";
    RESTART_EXP_ATTEMPTS: "restart-strategy.exponential-delay.attempts-before-reset-backoff", Number, "0",
        "How many restarts before the job is given up; `0`: no limit.";
    RESTART_FIXED_ATTEMPTS: "restart-strategy.fixed-delay.attempts", Number, "1",
        "How many restarts before the job is given up.";
    RESTART_FIXED_DELAY: "restart-strategy.fixed-delay.delay", SettingKind::Duration, "1 s",
        "The delay before a restart.";
    RESTART_RATE_MAX: "restart-strategy.failure-rate.max-failures-per-interval", Number, "1",
        "How many failures in the interval give the job up.";
    RESTART_RATE_INTERVAL: "restart-strategy.failure-rate.failure-rate-interval", SettingKind::Duration, "1 min",
        "The interval in which failures are counted.";
    RESTART_RATE_DELAY: "restart-strategy.failure-rate.delay", SettingKind::Duration, "1 s",
        "The delay before a restart.";
    LOOKUP_CAPACITY: "table.exec.async-lookup.buffer-capacity", Count, "100",
        "A lookup join takes no more rows while so many wait for an answer.";
    LOOKUP_TIMEOUT: "table.exec.async-lookup.timeout", SettingKind::Duration, "3 min",
        "A lookup that takes longer, with all its retries, fails the job.";
    LOOKUP_ORDER: "table.exec.async-lookup.output-mode", Choice(&["ORDERED", "ALLOW_UNORDERED"]), "ORDERED",
        "Whether rows of a lookup join leave in their order, or, where nothing is updated, as they are answered.";
    BATCH_ROWS: "millstream.batch.rows", Number, "8192",
        "Rows in a batch, about.";
    EXCHANGE_LATENCY: "execution.buffer-timeout.interval", SettingKind::Duration, "5 ms",
        "How long rows may wait for a batch to fill before an exchange.";
    IN_FLIGHT: "millstream.exchange.memory", Memory, "32 mb",
        "The bound on memory in flight between the operators of a job.";
    MEMORY: "taskmanager.memory.process.size", Memory, "2 gb",
        "The memory that a worker process may take: near it, rows of joins and the like go to files, to be read when they are needed.";
    SCRATCH_DIR: "io.tmp.dirs", Text, "",
        "The folder for such files, which are gone when the process is; empty: in the state directory, or the system's.";
    S3_ENDPOINT: "s3.endpoint", Text, "",
        "The address of an S3-compatible store, such as `http://localhost:9000`; empty: Amazon's.";
    S3_REGION: "s3.region", Text, "",
        "The region of the buckets; empty: the environment's `AWS_REGION`, or `us-east-1`.";
    S3_ACCESS_KEY: "s3.access-key", Text, "",
        "The access key of S3; empty: the environment's `AWS_ACCESS_KEY_ID`.";
    S3_SECRET_KEY: "s3.secret-key", Text, "",
        "The secret key of S3; empty: the environment's `AWS_SECRET_ACCESS_KEY`.";
    S3_PATH_STYLE: "s3.path.style.access", Boolean, "true",
        "Whether a bucket is named in the path of a request (`true`) or in its host.";
    HEARTBEAT_TIMEOUT: "heartbeat.timeout", SettingKind::Duration, "50 s",
        "A worker process that is silent for this long counts as lost.";
}

/// The values that were set; everything else has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Sets `key`; a script error if there is no such key (it names the nearest one) or the value
    /// is not of its kind.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let spec = spec_of(key)?;
        check(spec, value)?;
        self.values.insert(spec.key, value.trim().to_string());
        Ok(())
    }
    /// Back to the default: one key, or all.
    pub fn reset(&mut self, key: Option<&str>) -> Result<()> {
        match key {
            None => self.values.clear(),
            Some(key) => {
                self.values.remove(spec_of(key)?.key);
            }
        }
        Ok(())
    }
    /// What was set, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(k, v)| (*k, v.as_str()))
    }
    /// Whether `key` was set.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
    /// The value, or the default, of one of this module's keys.
    pub fn text(&self, key: &'static str) -> &str {
        match self.values.get(key) {
            Some(value) => value,
            None => SETTINGS.iter().find(|s| s.key == key).map_or("", |s| s.default),
        }
    }
    /// A [`SettingKind::Duration`].
    pub fn duration(&self, key: &'static str) -> Duration {
        parse_duration(self.text(key)).expect("values are checked when they are set")
    }
    /// A [`SettingKind::Number`] or [`SettingKind::Count`].
    pub fn number(&self, key: &'static str) -> u64 {
        self.text(key).parse().expect("values are checked when they are set")
    }
    /// A [`SettingKind::Fraction`].
    pub fn fraction(&self, key: &'static str) -> f64 {
        self.text(key).parse().expect("values are checked when they are set")
    }
    /// A [`SettingKind::Memory`], bytes.
    pub fn memory(&self, key: &'static str) -> u64 {
        parse_memory_size(self.text(key)).expect("values are checked when they are set")
    }
    /// A [`SettingKind::Boolean`].
    pub fn boolean(&self, key: &'static str) -> bool {
        self.text(key).eq_ignore_ascii_case("true")
    }
}

impl Settings {
    /// What the `s3.*` settings mean for an object store's client, by the names that its environment
    /// variables have in lower case; they are to win over the environment.
    pub fn storage_options(&self) -> Vec<(String, String)> {
        let mut options = Vec::new();
        let mut add = |key: &str, value: &str| options.push((key.to_string(), value.to_string()));
        for (setting, key) in [
            (S3_ENDPOINT, "aws_endpoint"),
            (S3_REGION, "aws_region"),
            (S3_ACCESS_KEY, "aws_access_key_id"),
            (S3_SECRET_KEY, "aws_secret_access_key"),
        ] {
            if !self.text(setting).is_empty() {
                add(key, self.text(setting));
            }
        }
        if self.text(S3_ENDPOINT).starts_with("http://") {
            add("aws_allow_http", "true");
        }
        if self.is_set(S3_PATH_STYLE) {
            add("aws_virtual_hosted_style_request", if self.boolean(S3_PATH_STYLE) { "false" } else { "true" });
        }
        options
    }
}

fn spec_of(key: &str) -> Result<&'static SettingSpec> {
    SETTINGS.iter().find(|s| s.key == key).ok_or_else(|| {
        let error = Error::script(format!("there is no setting '{key}'"));
        match did_you_mean(key, SETTINGS.iter().map(|s| s.key)) {
            Some(hint) => error.hint(hint),
            None => error.hint("docs/settings.md lists the settings"),
        }
    })
}

fn check(spec: &SettingSpec, value: &str) -> Result<()> {
    let text = value.trim();
    let expected =
        match spec.kind {
            Text => None,
            Boolean => (!["true", "false"].contains(&text.to_ascii_lowercase().as_str()))
                .then(|| "'true' or 'false'".to_string()),
            Number => text.parse::<u64>().is_err().then(|| "a whole number, 0 or more".to_string()),
            Count => (!text.parse::<u64>().is_ok_and(|n| n > 0)).then(|| "a whole number, 1 or more".to_string()),
            Fraction => (!text.parse::<f64>().is_ok_and(|v| v.is_finite() && v >= 0.0))
                .then(|| "a number, 0 or more".to_string()),
            SettingKind::Duration => parse_duration(text).err(),
            Memory => parse_memory_size(text).err(),
            TimeZone => text.parse::<crate::types::SessionZone>().err().map(|e| e.message().to_string()),
            Choice(choices) => (!choices.iter().any(|c| c.eq_ignore_ascii_case(text)))
                .then(|| format!("one of {}", choices.iter().map(|c| format!("'{c}'")).collect::<Vec<_>>().join(", "))),
        };
    match expected {
        None => Ok(()),
        Some(expected) => {
            Err(Error::script(format!("the value '{value}' of setting '{}' is not {expected}", spec.key))
                .at(Place::Named(format!("setting '{}'", spec.key))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(kind: SettingKind) -> String {
        match kind {
            Text => "text".into(),
            Boolean => "`true` or `false`".into(),
            Number => "whole number".into(),
            Count => "whole number, 1 or more".into(),
            Fraction => "number".into(),
            SettingKind::Duration => "duration".into(),
            Memory => "memory size".into(),
            TimeZone => "time zone".into(),
            Choice(choices) => choices.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", "),
        }
    }

    #[test]
    fn the_documentation_lists_every_setting() {
        let mut text = String::from(
            "# Settings\n\n\
            Set in the script (`SET 'key' = 'value';`) or on the command line (`--set key=value`; the script's own SET wins).\n\
            Keys have Flink's names where they mean the same. A key that is not listed, or a value that is not of its type, is\n\
            an error.\n\n\
            | key | type | default | meaning |\n|---|---|---|---|\n",
        );
        for s in SETTINGS {
            let default = if s.default.is_empty() { String::new() } else { format!("`{}`", s.default) };
            text.push_str(&format!("| `{}` | {} | {default} | {} |\n", s.key, kind(s.kind), s.about));
        }
        // Run with UPDATE_EXPECT=1 to write the file.
        expect_test::expect_file!["../../../docs/settings.md"].assert_eq(&text);
    }

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        for s in SETTINGS {
            check(s, s.default).unwrap();
        }
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        for (key, value) in [
            (CHECKPOINT_RETAINED, "0"),
            (CHECKPOINT_MAX_CONCURRENT, "2"),
            (CHECKPOINT_INTERVAL, "soon"),
            (RUNTIME_MODE, "batch"),
            (MEMORY, "much"),
            ("taskmanager.memory.size", "1 gb"),
        ] {
            assert!(Settings::default().set(key, value).is_err(), "{key} = {value}");
        }
    }
}
