//! How files are cut into chunks, and which chunks an instance has still to read: the source's position.

use super::input::InputFile;
use millstream_core::{Error, Place, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How files are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// Bytes of the first chunks of a file.
    pub first_chunk: u64,
    /// Bytes of the later ones.
    pub chunk: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Setup { first_chunk: 64 << 10, chunk: 256 << 10 }
    }
}

/// How many of a file's chunks are small, so that all instances start soon.
const FIRST_CHUNKS: u64 = 16;

/// A chunk of a file: the file's place in the layout, and the chunk's in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChunkId {
    pub file: usize,
    pub chunk: u64,
}

/// Files, in the order in which they are read, and the chunks of them that are still to be read.
#[derive(Debug)]
pub(super) struct Layout {
    setup: Setup,
    /// Whether files are never cut.
    whole: bool,
    files: Vec<InputFile>,
    left: VecDeque<ChunkId>,
    /// Where partly read chunks go on.
    resume: BTreeMap<ChunkId, u64>,
    done: Done,
}

/// Of a watched folder, what has been read.
#[derive(Debug, Default)]
struct Done {
    /// The files that have been read to their end and are remembered, and when they were last written.
    files: BTreeMap<String, i64>,
    /// Those of them that the last listing didn't have.
    gone: BTreeSet<String>,
    /// Older files that have been read but are not remembered.
    older: Vec<Older>,
}

/// What an instance had read without remembering it: of the files that were its own, those last written before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Older {
    instance: usize,
    instances: usize,
    below_ms: i64,
}

impl Older {
    fn covers(&self, file: &InputFile) -> bool {
        file.modified_ms < self.below_ms && owns(self.instance, self.instances, &file.path)
    }
}

const VERSION: u32 = 3;

/// What is persisted of an instance.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    version: u32,
    /// Sizes of chunks, so that a later version may cut otherwise.
    first_chunk: u64,
    chunk: u64,
    /// The files that have something left, in order.
    files: Vec<FileLeft>,
    /// Of a watched folder, the files that have been read to their end: path and modification time.
    done: Vec<(String, i64)>,
    /// And those that have been, but are not remembered.
    older: Vec<Older>,
}

/// What is left of one file.
#[derive(Debug, Serialize, Deserialize)]
struct FileLeft {
    #[serde(flatten)]
    file: InputFile,
    /// Chunks: from, to (exclusive), step.
    left: Vec<(u64, u64, u64)>,
    /// Where partly read ones go on: chunk and offset in the file.
    resume: Vec<(u64, u64)>,
}

impl Layout {
    /// Nothing to read yet.
    pub fn empty(setup: Setup, whole: bool) -> Layout {
        Layout { setup, whole, files: vec![], left: VecDeque::new(), resume: BTreeMap::new(), done: Done::default() }
    }

    /// Adds files to what is to be read, all of them.
    pub fn add(&mut self, files: impl IntoIterator<Item = InputFile>) {
        for file in files {
            let (index, chunks) = (self.files.len(), self.count(&file));
            self.left.extend((0..chunks).map(|chunk| ChunkId { file: index, chunk }));
            self.files.push(file);
        }
    }

    /// What positions of any number of instances leave to be read together.
    pub fn restore(positions: &[Vec<u8>], setup: Setup, whole: bool, path: &str) -> Result<Layout> {
        let mut layout = Layout::empty(setup, whole);
        let mut merged: BTreeMap<(i64, String), (InputFile, BTreeMap<u64, Option<u64>>)> = BTreeMap::new();
        let mut is_first = true;
        for bytes in positions {
            let position: Position = serde_json::from_slice(bytes)
                .map_err(|e| Error::state("the position of a file source can't be read").detail(e.to_string()))?;
            if position.version != VERSION {
                let found = position.version;
                return Err(Error::state(format!("the position of a file source has version {found}, not {VERSION}")));
            }
            let cut = Setup { first_chunk: position.first_chunk.max(1), chunk: position.chunk.max(1) };
            if !is_first && cut != layout.setup {
                return Err(Error::state("the positions of a file source cut files differently")
                    .at(Place::Named(path.to_string())));
            }
            (layout.setup, is_first) = (cut, false);
            for FileLeft { file, left, resume } in position.files {
                let key = (if whole { file.modified_ms } else { 0 }, file.path.clone());
                let (_, chunks) = merged.entry(key).or_insert_with(|| (file, BTreeMap::new()));
                for (from, to, step) in left {
                    chunks.extend((from..to).step_by(step.max(1) as usize).map(|chunk| (chunk, None)));
                }
                chunks.extend(resume.into_iter().map(|(chunk, at)| (chunk, Some(at))));
            }
            layout.done.files.extend(position.done);
            layout.done.older.extend(position.older);
        }
        // Instances that went on from the same position hand over the same.
        layout.done.older.sort_unstable();
        layout.done.older.dedup();
        for (file, chunks) in merged.into_values() {
            let index = layout.files.len();
            for (chunk, resume) in chunks {
                let id = ChunkId { file: index, chunk };
                layout.left.push_back(id);
                layout.resume.extend(resume.map(|at| (id, at)));
            }
            layout.files.push(file);
        }
        Ok(layout)
    }

    /// Keeps the chunks for which `is_mine` holds, given their place in order and their file.
    pub fn share(&mut self, is_mine: impl Fn(usize, &InputFile) -> bool) {
        let mut place = 0;
        let files = &self.files;
        self.left.retain(|id| {
            place += 1;
            files.get(id.file).is_some_and(|file| is_mine(place - 1, file))
        });
        let kept: BTreeSet<ChunkId> = self.left.iter().copied().collect();
        self.resume.retain(|id, _| kept.contains(id));
    }

    /// What is persisted.
    pub fn position(&self, running: Option<(ChunkId, u64)>) -> Result<Vec<u8>> {
        let mut files: Vec<FileLeft> = Vec::new();
        let mut last = None;
        for id in &self.left {
            let Some(file) = self.file(*id) else { continue };
            if last != Some(id.file) {
                last = Some(id.file);
                files.push(FileLeft { file: file.clone(), left: vec![], resume: vec![] });
            }
            let Some(entry) = files.last_mut() else { continue };
            let number = id.chunk;
            match entry.left.last_mut() {
                Some((from, to, step)) if *to == *from + 1 => {
                    *step = number - *from;
                    *to = number + 1;
                }
                Some((_, to, step)) if number + 1 == *to + *step => *to = number + 1,
                _ => entry.left.push((number, number + 1, 1)),
            }
            let at = running.filter(|(running, _)| running == id).map(|(_, at)| at);
            entry.resume.extend(at.or_else(|| self.resume.get(id).copied()).map(|at| (number, at)));
        }
        let Setup { first_chunk, chunk } = self.setup;
        let done = self.done.files.iter().map(|(path, modified_ms)| (path.clone(), *modified_ms)).collect();
        let older = self.done.older.clone();
        serde_json::to_vec(&Position { version: VERSION, first_chunk, chunk, files, done, older })
            .map_err(|e| Error::internal(e.to_string()))
    }

    /// The chunks that are still to be read, first first.
    pub fn left(&self) -> impl Iterator<Item = ChunkId> {
        self.left.iter().copied()
    }
    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.left.is_empty()
    }
    /// The file of a chunk.
    pub fn file(&self, id: ChunkId) -> Option<&InputFile> {
        self.files.get(id.file)
    }
    /// Where a partly read chunk goes on.
    pub fn resume(&self, id: ChunkId) -> Option<u64> {
        self.resume.get(&id).copied()
    }
    /// Notes that a chunk has been read up to `at`.
    pub fn advance(&mut self, id: ChunkId, at: u64) {
        self.resume.insert(id, at);
    }
    /// Notes that the first chunk left has been read; `remember` that its file has, too.
    pub fn finish(&mut self, id: ChunkId, remember: bool) {
        self.left.pop_front();
        self.resume.remove(&id);
        if remember && let Some(file) = self.files.get(id.file) {
            self.done.files.insert(file.path.clone(), file.modified_ms);
        }
    }
    /// Of a watched folder: keeps what is known of the files of one instance.
    pub fn keep_own(&mut self, instance: usize, instances: usize) {
        self.share(|_, file| owns(instance, instances, &file.path));
        self.done.files.retain(|path, _| owns(instance, instances, path));
    }
    /// Whether a file of a watched folder has been read.
    pub fn has_read(&self) -> bool {
        !self.done.files.is_empty()
    }
    /// Whether a file is to be read or has been.
    pub fn knows(&self, file: &InputFile) -> bool {
        self.done.files.contains_key(&file.path)
            || self.left.iter().any(|id| self.file(*id).is_some_and(|f| f.path == file.path))
            || self.done.older.iter().any(|older| older.covers(file))
    }
    /// Forgets what need not be remembered of the files that have been read, when nothing is left to read: files that
    /// two listings in a row don't have and, with `lateness_ms`, those last written so long before the newest. The
    /// newest is never forgotten, so that an instance that has had files is known by it. `is_listed`: whether a listing
    /// would have the file, if it were there.
    pub fn forget(
        &mut self,
        listed: &[InputFile],
        is_listed: impl Fn(&str) -> bool,
        lateness_ms: Option<i64>,
        (instance, instances): (usize, usize),
    ) {
        self.files.clear();
        let done = &mut self.done;
        let Some((newest, newest_ms)) = done.files.iter().max_by_key(|(path, ms)| (**ms, path.as_str())) else {
            return;
        };
        let (newest, newest_ms) = (newest.clone(), *newest_ms);
        // A folder without a file may be one that is not mounted.
        if !listed.is_empty() {
            let there: BTreeSet<&str> = listed.iter().map(|file| file.path.as_str()).collect();
            let is_gone = |path: &str| path != newest && !there.contains(path) && is_listed(path);
            let gone: BTreeSet<String> = done.files.keys().filter(|path| is_gone(path)).cloned().collect();
            done.files.retain(|path, _| !(gone.contains(path) && done.gone.contains(path)));
            done.gone = gone;
        }
        if let Some(lateness_ms) = lateness_ms {
            let below_ms = newest_ms.saturating_sub(lateness_ms);
            let before = done.files.len();
            done.files.retain(|_, modified_ms| *modified_ms >= below_ms);
            if done.files.len() < before {
                done.older.retain(|older| older.below_ms > below_ms);
                done.older.push(Older { instance, instances, below_ms });
            }
        }
    }

    fn is_whole(&self, file: &InputFile) -> bool {
        self.whole || file.path.ends_with(".gz")
    }
    fn count(&self, file: &InputFile) -> u64 {
        let small = self.setup.first_chunk * FIRST_CHUNKS;
        if file.size == 0 {
            0
        } else if self.is_whole(file) {
            1
        } else if file.size <= small {
            file.size.div_ceil(self.setup.first_chunk)
        } else {
            FIRST_CHUNKS + (file.size - small).div_ceil(self.setup.chunk)
        }
    }
    /// The file of a chunk and its range; the end is `u64::MAX` for a file that is not cut.
    pub fn range(&self, id: ChunkId) -> Option<(&InputFile, u64, u64)> {
        let file = self.file(id)?;
        if id.chunk >= self.count(file) {
            return None;
        }
        if self.is_whole(file) {
            return Some((file, 0, u64::MAX));
        }
        let small = self.setup.first_chunk * FIRST_CHUNKS;
        let (start, size) = if id.chunk < FIRST_CHUNKS {
            (id.chunk * self.setup.first_chunk, self.setup.first_chunk)
        } else {
            (small + (id.chunk - FIRST_CHUNKS) * self.setup.chunk, self.setup.chunk)
        };
        Some((file, start, (start + size).min(file.size)))
    }
}

/// Whether a file of a watched folder belongs to this instance: all of them agree, whatever they have seen so far.
pub(super) fn owns(instance: usize, instances: usize, path: &str) -> bool {
    // FNV-1a.
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    hash % instances as u64 == instance as u64
}
