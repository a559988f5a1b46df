//! The writer: rows to the open part of their partition, parts to the storage thread.

use super::commit::{COMMITTABLE_VERSION, Committable};
use super::partition_commit::Pending;
use super::storage::{FileId, Storage, encode};

use super::{Plan, short_job};
use crate::filesystem::partition::folders;
use crate::formats::WriteFormat;
use crate::formats::container::BatchWriter;
use arrow::array::UInt32Array;
use millstream_core::format::Encoder;
use millstream_core::sink::{SinkContext, SinkWriter};
use millstream_core::time::ClockRef;
use millstream_core::{Batch, Result, Watermark, fail_point};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes gathered before they go to the thread.
const CHUNK_BYTES: usize = 256 << 10;
/// More partitions than this at once would hold too much memory: the open parts are then ended.
const MAX_OPEN_PARTS: usize = 256;

pub(super) struct FileWriter {
    plan: Arc<Plan>,
    job: String,
    attempt: u64,
    instance: usize,
    storage: Storage,
    /// The open part of each partition, by its folder.
    parts: BTreeMap<String, Part>,
    next_file: FileId,
    clock: ClockRef,
    /// The partitions that are to be marked.
    pending: Option<Pending>,
}

struct Part {
    file: FileId,
    written: u64,
    /// When it began, for those that end after a time.
    since_ms: i64,
    content: PartContent,
}

enum PartContent {
    Records { encoder: Box<dyn Encoder>, buffer: Vec<u8> },
    Container(Box<dyn BatchWriter>),
}

impl FileWriter {
    pub(super) fn open(plan: Arc<Plan>, ctx: SinkContext) -> Result<Self> {
        let job = short_job(&ctx.job_id);
        let mut pending = plan.partition_commit.clone().map(Pending::new);
        if let (Some(pending), Some(commit), 0) = (&mut pending, &plan.partition_commit, ctx.instance) {
            // What an earlier attempt has written, and none has marked, one instance knows of.
            for folder in plan.unmarked(commit, &job)? {
                pending.add(&folder, ctx.clock.now_ms())?;
            }
        }
        Ok(FileWriter {
            storage: Storage::start(plan.clone(), ctx.waker)?,
            plan,
            job,
            pending,
            attempt: ctx.attempt,
            instance: ctx.instance,
            parts: BTreeMap::new(),
            next_file: 0,
            clock: ctx.clock,
        })
    }

    fn write_part(&mut self, folder: &str, batch: Batch) -> Result<()> {
        if !self.parts.contains_key(folder) {
            if self.parts.len() >= MAX_OPEN_PARTS {
                self.end_parts()?;
            }
            let part = self.new_part(folder)?;
            if let Some(pending) = &mut self.pending {
                pending.add(folder, part.since_ms)?;
            }
            self.parts.insert(folder.to_string(), part);
        }
        let Some(part) = self.parts.get_mut(folder) else { return Ok(()) };
        let (bytes, size) = match &mut part.content {
            PartContent::Records { encoder, buffer } => {
                encoder.encode(&batch, buffer)?;
                let size = part.written + buffer.len() as u64;
                (if buffer.len() >= CHUNK_BYTES { std::mem::take(buffer) } else { Vec::new() }, size)
            }
            PartContent::Container(writer) => {
                writer.write(&batch.rows)?;
                let bytes = writer.take();
                let size = part.written + (bytes.len() + writer.pending_bytes()) as u64;
                (bytes, size)
            }
        };
        part.written += bytes.len() as u64;
        self.storage.append(part.file, bytes);
        if size >= self.plan.rolling_bytes
            && let Some(part) = self.parts.remove(folder)
        {
            self.end_part(part)?;
        }
        Ok(())
    }

    fn new_part(&mut self, folder: &str) -> Result<Part> {
        let file = self.next_file;
        self.next_file += 1;
        let name = format!("part-{}-{}-{}-{file}.{}", self.job, self.attempt, self.instance, self.plan.extension);
        self.storage.create(file, folder.to_string(), name);
        let content = match &self.plan.content {
            WriteFormat::Records(encoders) => {
                PartContent::Records { encoder: encoders.encoder(&self.plan.file_schema)?, buffer: Vec::new() }
            }
            WriteFormat::Container(container) => PartContent::Container(container.writer(&self.plan.file_schema)?),
        };
        Ok(Part { file, written: 0, since_ms: self.clock.now_ms(), content })
    }

    fn end_part(&mut self, part: Part) -> Result<()> {
        let rest = match part.content {
            PartContent::Records { buffer, .. } => buffer,
            PartContent::Container(writer) => writer.finish()?,
        };
        self.storage.append(part.file, rest);
        self.storage.finish(part.file);
        Ok(())
    }

    fn end_parts(&mut self) -> Result<()> {
        for part in std::mem::take(&mut self.parts).into_values() {
            self.end_part(part)?;
        }
        Ok(())
    }
}

impl FileWriter {
    /// Ends the parts that have been open for the time that parts may take.
    fn end_old_parts(&mut self) -> Result<()> {
        let Some(rollover_ms) = self.plan.rollover_ms else { return Ok(()) };
        let now_ms = self.clock.now_ms();
        for (_, part) in
            self.parts.extract_if(.., |_, p| now_ms.saturating_sub(p.since_ms) >= rollover_ms).collect::<Vec<_>>()
        {
            self.end_part(part)?;
        }
        Ok(())
    }
}

impl SinkWriter for FileWriter {
    fn is_ready(&mut self) -> Result<bool> {
        self.storage.drain()
    }
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.end_old_parts()?;
        let rows = batch.rows.project(&self.plan.file_columns)?;
        if self.plan.partitions.is_empty() {
            self.write_part("", Batch { rows, kinds: batch.kinds.clone() })?;
        } else {
            let rows = Batch { rows, kinds: batch.kinds.clone() };
            for (folder, indices) in folders(&self.plan.partitions, &self.plan.default_partition, &batch.rows) {
                match indices.len() == batch.num_rows() {
                    true => self.write_part(&folder, rows.clone())?,
                    false => self.write_part(&folder, rows.take(&UInt32Array::from(indices))?)?,
                }
            }
        }
        self.storage.drain().map(|_| ())
    }
    fn on_watermark(&mut self, watermark: Watermark) -> Result<()> {
        if let Some(pending) = &mut self.pending {
            pending.advance(watermark.0);
        }
        Ok(())
    }
    fn prepare_commit(&mut self, epoch: u64, ended: bool) -> Result<Vec<Vec<u8>>> {
        self.end_parts()?;
        let published = self.storage.prepare(epoch)?;
        fail_point!("sink::after_prepare")?;
        // An overwrite that wrote nothing still has to empty the table: its end is told even without a file.
        // An overwrite shows nothing before its end.
        let complete = match &mut self.pending {
            Some(pending) if ended || !self.plan.overwrite => pending.take_complete(self.clock.now_ms(), ended),
            Some(_) | None => Vec::new(),
        };
        if published.is_empty() && complete.is_empty() && !(ended && self.plan.overwrite) {
            return Ok(Vec::new());
        }
        let (version, job) = (COMMITTABLE_VERSION, self.job.clone());
        let committable = Committable { version, job, files: published, complete };
        Ok(vec![encode(&committable)?])
    }
}
