//! Marking partitions as complete: a file such as `_SUCCESS` in their folder (flink docs: "Partition Commit").

use super::Plan;
use super::storage::{io_error, object_error, sync_folder};
use crate::blocking::block_on;
use crate::filesystem::partition::values_of;
use crate::filesystem::store::Location;
use crate::formats::temporal::{self, TimestampStandard};
use futures::TryStreamExt;
use millstream_core::options::Options;
use millstream_core::types::SessionZone;
use millstream_core::{Error, Result};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::path::Path;

/// When partitions are complete, and what says so.
#[derive(Clone, Debug)]
pub(super) struct PartitionCommit {
    /// The file's name.
    pub file: String,
    trigger: Trigger,
    delay_ms: i64,
}

#[derive(Clone, Debug)]
enum Trigger {
    /// So long after a partition's first row, by the clock.
    ProcessTime,
    /// So long after the partition's own time, by the watermark.
    PartitionTime {
        /// The time as text, with `$column` for values; without it the first column's value.
        pattern: Option<String>,
        /// Whose time that is.
        zone: SessionZone,
    },
}

impl PartitionCommit {
    /// What the options say; `None` if nothing marks partitions.
    pub(super) fn read(options: &Options<'_>, partitions: &[(String, usize)]) -> Result<Option<PartitionCommit>> {
        let key = "sink.partition-commit.policy.kind";
        let policy = options.string(key);
        let file = options.string("sink.partition-commit.success-file.name").unwrap_or("_SUCCESS").to_string();
        let triggers = [("process-time", false), ("partition-time", true)];
        let by_partition = options.choice("sink.partition-commit.trigger", &triggers)?.unwrap_or(false);
        let delay = options.duration("sink.partition-commit.delay")?.unwrap_or_default();
        let zone_key = "sink.partition-commit.watermark-time-zone";
        let zone = options.string(zone_key).unwrap_or("UTC");
        let is_none =
            |_: Error| options.error(zone_key, format!("the value '{zone}' of option '{zone_key}' is no time zone"));
        let zone = zone.parse().map_err(is_none)?;
        options.choice("partition.time-extractor.kind", &[("default", ())])?;
        let pattern = options.string("partition.time-extractor.timestamp-pattern").map(str::to_string);
        let Some(policy) = policy else { return Ok(None) };
        if let Some(other) = policy.split(',').map(str::trim).find(|kind| !kind.eq_ignore_ascii_case("success-file")) {
            return Err(Error::unsupported(format!("the policy '{other}' of '{key}'"))
                .at(options.place(key))
                .hint("'success-file' writes a file into each partition that is complete"));
        }
        if partitions.is_empty() {
            return Err(options.error(key, "a table without PARTITIONED BY has no partitions to mark"));
        }
        if file.is_empty() || file.contains('/') || !file.starts_with(['_', '.']) {
            let key = "sink.partition-commit.success-file.name";
            return Err(
                options.error(key, format!("'{file}' is no name that readers pass over: it begins with '_' or '.'"))
            );
        }
        let trigger = match by_partition {
            true => Trigger::PartitionTime { pattern, zone },
            false => Trigger::ProcessTime,
        };
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Ok(Some(PartitionCommit { file, trigger, delay_ms }))
    }

    /// From when on a partition is complete, by its trigger's time; its first row came at `now_ms`.
    fn due_ms(&self, folder: &str, now_ms: i64) -> Result<i64> {
        let time = match &self.trigger {
            Trigger::ProcessTime => now_ms,
            Trigger::PartitionTime { pattern, zone } => {
                let values = values_of(folder);
                let text = match pattern {
                    None => values.first().map(|(_, value)| value.clone()).unwrap_or_default(),
                    Some(pattern) => {
                        // The longer names first: `$day` is no `$d`.
                        let mut values = values;
                        values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                        values
                            .iter()
                            .fold(pattern.clone(), |text, (name, value)| text.replace(&format!("${name}"), value))
                    }
                };
                let local = local_ms(&text).ok_or_else(|| {
                    Error::data(format!("the partition '{folder}' has no time: '{text}' is no 'yyyy-MM-dd HH:mm:ss'"))
                        .hint("'partition.time-extractor.timestamp-pattern' makes it from the partition's columns")
                })?;
                zone.to_utc_ms(local)
            }
        };
        Ok(time.saturating_add(self.delay_ms))
    }
}

fn local_ms(text: &str) -> Option<i64> {
    let text = text.trim().as_bytes();
    if let Some(days) = temporal::parse_date(text) {
        return Some(i64::from(days) * 86_400_000);
    }
    let (seconds, nanos) = temporal::parse_timestamp(text, TimestampStandard::Sql, false)?;
    Some(seconds * 1000 + i64::from(nanos / 1_000_000))
}

/// The partitions of one writer that are not marked yet, and when they are due.
pub(super) struct Pending {
    commit: PartitionCommit,
    due_ms: BTreeMap<String, i64>,
    watermark_ms: i64,
}

impl Pending {
    pub(super) fn new(commit: PartitionCommit) -> Self {
        Pending { commit, due_ms: BTreeMap::new(), watermark_ms: i64::MIN }
    }
    /// Event time has reached `watermark_ms`.
    pub(super) fn advance(&mut self, watermark_ms: i64) {
        self.watermark_ms = watermark_ms;
    }
    /// A partition has rows that are not marked.
    pub(super) fn add(&mut self, folder: &str, now_ms: i64) -> Result<()> {
        if !self.due_ms.contains_key(folder) {
            self.due_ms.insert(folder.to_string(), self.commit.due_ms(folder, now_ms)?);
        }
        Ok(())
    }
    /// The partitions that are complete, which it forgets; all of them if no row will follow.
    pub(super) fn take_complete(&mut self, now_ms: i64, ended: bool) -> Vec<String> {
        let is_complete = |due: i64| match self.commit.trigger {
            _ if ended => true,
            Trigger::ProcessTime => now_ms >= due,
            Trigger::PartitionTime { .. } => self.watermark_ms > due,
        };
        self.due_ms.extract_if(.., |_, due| is_complete(*due)).map(|(folder, _)| folder).collect()
    }
}

impl Plan {
    /// The partitions that have parts of the job but no mark since: what a job that goes on still has to mark.
    pub(super) fn unmarked(&self, commit: &PartitionCommit, job: &str) -> Result<Vec<String>> {
        let own = format!("part-{job}-");
        // By folder: when its last part, and its mark, were written.
        let mut found: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut note = |path: &str, modified_ms: i64| {
            let Some((folder, name)) = path.rsplit_once('/') else { return };
            let times = if name.starts_with(&own) {
                &mut found.entry(folder.to_string()).or_insert((i64::MIN, i64::MIN)).0
            } else if name == commit.file {
                &mut found.entry(folder.to_string()).or_insert((i64::MIN, i64::MIN)).1
            } else {
                return;
            };
            *times = (*times).max(modified_ms);
        };
        match &self.target {
            Location::Local(root) => walk(root, "", &mut note)?,
            Location::Objects { store, prefix } => {
                let listed = block_on(store.list(Some(prefix)).try_collect::<Vec<_>>())?;
                for meta in listed.map_err(|e| object_error("list the table", prefix, e))? {
                    let path = meta.location.as_ref().strip_prefix(prefix.as_ref()).unwrap_or_default();
                    note(path.trim_start_matches('/'), meta.last_modified.timestamp_millis());
                }
            }
        }
        let is_unmarked =
            |(folder, (part, mark)): (String, (i64, i64))| (part > i64::MIN && mark < part).then_some(folder);
        Ok(found.into_iter().filter_map(is_unmarked).collect())
    }

    /// Marks partitions; again if need be.
    pub(super) fn mark(&self, folders: &[String]) -> Result<()> {
        let Some(commit) = &self.partition_commit else { return Ok(()) };
        for folder in folders {
            match &self.target {
                Location::Local(root) => {
                    let folder = root.join(folder);
                    let file = folder.join(&commit.file);
                    std::fs::write(&file, b"").map_err(|e| io_error("mark a partition", &file, e))?;
                    sync_folder(&folder)?;
                }
                Location::Objects { store, prefix } => {
                    let key = ObjectPath::from(format!("{prefix}/{folder}/{}", commit.file));
                    block_on(store.put(&key, Vec::new().into()))?
                        .map_err(|e| object_error("mark a partition", &key, e))?;
                }
            }
        }
        Ok(())
    }
}

/// Notes the files below a folder: path and time of writing.
fn walk(folder: &Path, path: &str, note: &mut impl FnMut(&str, i64)) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| io_error("list folder", folder, e))?,
    };
    for entry in entries {
        let entry = entry.map_err(|e| io_error("list folder", folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let inner = if path.is_empty() { name } else { format!("{path}/{name}") };
        let meta = entry.metadata().map_err(|e| io_error("look at file", &entry.path(), e))?;
        match meta.is_dir() {
            true => walk(&entry.path(), &inner, note)?,
            false => {
                let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
                note(&inner, modified.map_or(0, |since| since.as_millis() as i64));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap as Map;

    fn commit(options: &[(&str, &str)]) -> Result<Option<PartitionCommit>> {
        let values: Map<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let options = Options::new("t", "filesystem", &values);
        let commit = PartitionCommit::read(&options, &[("dt".into(), 0), ("hm".into(), 1)])?;
        options.finish()?;
        Ok(commit)
    }

    const SUCCESS: (&str, &str) = ("sink.partition-commit.policy.kind", "success-file");
    const BY_TIME: (&str, &str) = ("sink.partition-commit.trigger", "partition-time");
    const PATTERN: (&str, &str) = ("partition.time-extractor.timestamp-pattern", "$dt $hm:00");

    #[test]
    fn a_partition_is_complete_when_the_watermark_has_passed_its_time_and_the_delay() {
        let delay = ("sink.partition-commit.delay", "1 min");
        for (zone, shift) in [("UTC", 0), ("Asia/Tokyo", -9 * 3_600_000)] {
            let zone = ("sink.partition-commit.watermark-time-zone", zone);
            let mut pending = Pending::new(commit(&[SUCCESS, BY_TIME, PATTERN, delay, zone]).unwrap().unwrap());
            pending.add("dt=1970-01-02/hm=00%3A10", 0).unwrap();
            pending.add("dt=1970-01-02/hm=00%3A11", 0).unwrap();
            let due = 86_400_000 + 11 * 60_000 + shift;
            pending.advance(due);
            assert_eq!(pending.take_complete(i64::MAX, false), Vec::<String>::new());
            pending.advance(due + 1);
            assert_eq!(pending.take_complete(0, false), ["dt=1970-01-02/hm=00%3A10"]);
            assert_eq!(pending.take_complete(0, true), ["dt=1970-01-02/hm=00%3A11"]);
        }
    }

    #[test]
    fn without_a_trigger_the_clock_counts_from_the_first_row() {
        let mut pending = Pending::new(commit(&[SUCCESS, ("sink.partition-commit.delay", "5 ms")]).unwrap().unwrap());
        pending.add("dt=a", 100).unwrap();
        pending.add("dt=a", 104).unwrap();
        assert!(pending.take_complete(104, false).is_empty());
        assert_eq!(pending.take_complete(105, false), ["dt=a"]);
        assert!(commit(&[BY_TIME, PATTERN]).unwrap().is_none(), "nothing marks partitions without a policy");
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        for (options, expected) in [
            (&[("sink.partition-commit.policy.kind", "metastore,success-file")][..], "the policy 'metastore'"),
            (&[SUCCESS, ("sink.partition-commit.trigger", "never")], "one of 'process-time'"),
            (&[SUCCESS, ("sink.partition-commit.success-file.name", "done")], "readers pass over"),
            (&[SUCCESS, ("sink.partition-commit.watermark-time-zone", "Mars")], "'Mars' of option"),
            (&[SUCCESS, ("partition.time-extractor.kind", "custom")], "one of 'default'"),
        ] {
            let error = commit(options).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let mut pending = Pending::new(commit(&[SUCCESS, BY_TIME]).unwrap().unwrap());
        let error = pending.add("dt=soon/hm=x", 0).expect_err("no time").to_string();
        assert!(error.contains("'dt=soon/hm=x' has no time: 'soon'"), "{error}");
    }
}
