//! The dead-letter file: where records that could not be decoded are kept, as JSON lines.
//!
//! Each instance writes a file of its own. Records are written when they are met, so that those read again
//! after a restart are written again: at least once.

use millstream_core::error::ResultExt;
use millstream_core::{Error, Place, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes dead letters into one folder.
#[derive(Debug)]
pub struct DeadLetters {
    folder: PathBuf,
    instance: usize,
    file: Option<File>,
}

impl DeadLetters {
    /// Into `folder`, which is made when the first record comes.
    pub fn new(folder: &Path, instance: usize) -> Self {
        DeadLetters { folder: folder.to_path_buf(), instance, file: None }
    }

    /// Keeps a record of a file; `line` counts from 1.
    pub fn write(&mut self, path: &str, line: u64, reason: &Error, record: &[u8]) -> Result<()> {
        self.keep(serde_json::json!({
            "file": path,
            "line": line,
            "reason": reason.message(),
            "record": String::from_utf8_lossy(record),
        }))
    }

    /// Keeps a record of a topic.
    pub fn write_record(&mut self, at: (&str, i32, i64), reason: &Error, record: &[u8]) -> Result<()> {
        let (topic, partition, offset) = at;
        self.keep(serde_json::json!({
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "reason": reason.message(),
            "record": String::from_utf8_lossy(record),
        }))
    }

    fn keep(&mut self, letter: serde_json::Value) -> Result<()> {
        let doing = format!("write a dead letter to {}", self.folder.display());
        if self.file.is_none() {
            self.file = Some(self.create().context(&doing)?);
        }
        let mut text = letter.to_string();
        text.push('\n');
        match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()).context(&doing),
            None => Err(Error::internal("the dead-letter file is not open")),
        }
    }

    fn create(&self) -> Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        for n in 0..u32::MAX {
            let name = format!("dead-letter-{}-{}-{n}.jsonl", self.instance, std::process::id());
            match File::options().append(true).create_new(true).open(self.folder.join(name)) {
                Ok(file) => return Ok(file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::from(e).at(Place::Named(self.folder.display().to_string()))),
            }
        }
        Err(Error::retry("no name is left for a dead-letter file"))
    }
}
