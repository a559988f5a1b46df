//! The thread that puts bytes where they belong: local files written aside, or multipart uploads.

use super::Plan;
use super::commit::{Committable, Published};
use crate::blocking::block_on;
use crate::filesystem::store::{Location, Objects};
use millstream_core::source::Waker;
use millstream_core::{Error, ErrorKind, Place, Result, fail_point};
use object_store::path::Path as ObjectPath;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};

/// Chunks that may wait for the thread; with those a writer holds, what bounds its memory.
const QUEUE: usize = 8;
/// Stores want parts of equal size, of at least 5 MiB, and take 10 000 of them.
const PART_BYTES: usize = 16 << 20;

/// Names a file within its writer.
pub(super) type FileId = u64;

enum Command {
    /// Begins a file in `folder` (a `col=value/` path, or empty).
    Create {
        file: FileId,
        folder: String,
        name: String,
    },
    Append {
        file: FileId,
        bytes: Vec<u8>,
    },
    /// The file is whole.
    Finish {
        file: FileId,
    },
    /// Makes durable all that is finished; replies with what to commit.
    Prepare {
        epoch: u64,
        reply: Sender<Result<Vec<Published>>>,
    },
}

/// The writer's end of the thread's queue.
pub(super) struct Storage {
    commands: Option<SyncSender<Command>>,
    /// What the queue had no room for.
    waiting: VecDeque<Command>,
    wants_wake: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<Error>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Storage {
    pub(super) fn start(plan: Arc<Plan>, waker: Waker) -> Result<Self> {
        let (commands, queue) = sync_channel(QUEUE);
        let wants_wake = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(Mutex::new(None));
        let (wants, fault) = (wants_wake.clone(), failed.clone());
        let thread = std::thread::Builder::new()
            .name("file-sink".into())
            .spawn(move || run(&plan, &queue, &wants, &fault, &waker))
            .map_err(|e| Error::from(e).context("start the file sink's thread"))?;
        Ok(Storage { commands: Some(commands), waiting: VecDeque::new(), wants_wake, failed, thread: Some(thread) })
    }
    pub(super) fn create(&mut self, file: FileId, folder: String, name: String) {
        self.waiting.push_back(Command::Create { file, folder, name });
    }
    pub(super) fn append(&mut self, file: FileId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.waiting.push_back(Command::Append { file, bytes });
        }
    }
    pub(super) fn finish(&mut self, file: FileId) {
        self.waiting.push_back(Command::Finish { file });
    }
    /// Hands over what fits; whether all did. When not, the waker is called once there is room.
    pub(super) fn drain(&mut self) -> Result<bool> {
        while let Some(command) = self.waiting.pop_front() {
            self.wants_wake.store(true, Ordering::SeqCst);
            let Some(commands) = &self.commands else { return Err(self.fault()) };
            match commands.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => {
                    self.waiting.push_front(command);
                    return Ok(false);
                }
                Err(TrySendError::Disconnected(_)) => return Err(self.fault()),
            }
        }
        self.wants_wake.store(false, Ordering::SeqCst);
        Ok(true)
    }
    /// Waits until all finished files are durable.
    pub(super) fn prepare(&mut self, epoch: u64) -> Result<Vec<Published>> {
        let (reply, answer) = channel();
        self.waiting.push_back(Command::Prepare { epoch, reply });
        while let Some(command) = self.waiting.pop_front() {
            let sent = self.commands.as_ref().is_some_and(|c| c.send(command).is_ok());
            if !sent {
                return Err(self.fault());
            }
        }
        answer.recv().map_err(|_| self.fault())?
    }
    fn fault(&self) -> Error {
        let fault = self.failed.lock().ok().and_then(|f| f.clone());
        fault.unwrap_or_else(|| Error::internal("the file sink's thread has stopped"))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the channel already.
            let _ = thread.join();
        }
    }
}

/// Where one file's bytes go.
enum Open {
    Local { file: File, temp: PathBuf, folder: PathBuf, name: String },
    Object { key: ObjectPath, upload: Option<String>, parts: Vec<String>, buffer: Vec<u8> },
}

struct Thread<'a> {
    plan: &'a Plan,
    open: HashMap<FileId, Open>,
    finished: Vec<Open>,
}

fn run(plan: &Plan, queue: &Receiver<Command>, wants_wake: &AtomicBool, failed: &Mutex<Option<Error>>, waker: &Waker) {
    let mut thread = Thread { plan, open: HashMap::new(), finished: Vec::new() };
    while let Ok(command) = queue.recv() {
        if let Err(error) = thread.handle(command) {
            if let Ok(mut failed) = failed.lock() {
                *failed = Some(error);
            }
            break;
        }
        if wants_wake.swap(false, Ordering::SeqCst) {
            waker();
        }
    }
    thread.discard();
    waker();
}

impl Thread<'_> {
    fn handle(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Create { file, folder, name } => {
                let open = self.create(&folder, name)?;
                self.open.insert(file, open);
            }
            Command::Append { file, bytes } => {
                let Some(mut open) = self.open.remove(&file) else {
                    return Err(Error::internal("bytes for a file that is not open"));
                };
                let done = self.append(&mut open, bytes);
                self.open.insert(file, open);
                done?;
            }
            Command::Finish { file } => self.finished.extend(self.open.remove(&file)),
            Command::Prepare { epoch, reply } => {
                let prepared = self.prepare(epoch);
                let failed = prepared.as_ref().err().cloned();
                // Nobody listens when the writer is gone; its files are then left for recovery.
                let _ = reply.send(prepared);
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
    fn create(&mut self, folder: &str, name: String) -> Result<Open> {
        match &self.plan.target {
            Location::Local(root) => {
                let folder = root.join(folder);
                std::fs::create_dir_all(&folder).map_err(|e| io_error("make folder", &folder, e))?;
                let temp = folder.join(format!(".{name}.inprogress"));
                let file = File::create(&temp).map_err(|e| io_error("make file", &temp, e))?;
                Ok(Open::Local { file, temp, folder, name })
            }
            Location::Objects { prefix, .. } => {
                let parts = [prefix.as_ref(), folder, &name];
                let key = parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/");
                // Not by adding parts to a path, which would escape the folder's escapes once more.
                let key = ObjectPath::parse(&key)
                    .map_err(|e| Error::data(format!("'{key}' can't be an object's key: {e}")))?;
                Ok(Open::Object { key, upload: None, parts: vec![], buffer: vec![] })
            }
        }
    }
    fn append(&mut self, open: &mut Open, bytes: Vec<u8>) -> Result<()> {
        match open {
            Open::Local { file, temp, .. } => file.write_all(&bytes).map_err(|e| io_error("write file", temp, e)),
            Open::Object { key, upload, parts, buffer } => {
                buffer.extend_from_slice(&bytes);
                while buffer.len() >= PART_BYTES {
                    let rest = buffer.split_off(PART_BYTES);
                    let part = std::mem::replace(buffer, rest);
                    self.upload(key, upload, parts, part)?;
                }
                Ok(())
            }
        }
    }
    fn upload(
        &mut self,
        key: &ObjectPath,
        upload: &mut Option<String>,
        parts: &mut Vec<String>,
        part: Vec<u8>,
    ) -> Result<()> {
        let store = self.store()?;
        let id = block_on(async {
            let id = match &*upload {
                Some(id) => id.clone(),
                None => upload.insert(store.create_multipart(key).await?).clone(),
            };
            store.put_part(key, &id, parts.len(), part.into()).await
        })?;
        parts.push(id.map_err(|e| object_error("upload", key, e))?.content_id);
        Ok(())
    }
    fn prepare(&mut self, epoch: u64) -> Result<Vec<Published>> {
        fail_point!("sink::before_fsync")?;
        let mut published = Vec::new();
        let mut folders = Vec::new();
        for open in std::mem::take(&mut self.finished) {
            match open {
                Open::Local { file, temp, folder, name } => {
                    file.sync_all().map_err(|e| io_error("sync file", &temp, e))?;
                    // From now on the name says which epoch it belongs to, for the clean-up after a crash.
                    let prepared = folder.join(format!(".{name}.{epoch}.inprogress"));
                    std::fs::rename(&temp, &prepared).map_err(|e| io_error("rename file", &temp, e))?;
                    published.push(Published::File {
                        temp: self.relative(&prepared),
                        path: self.relative(&folder.join(name)),
                    });
                    folders.push(folder);
                    fail_point!("sink::mid_prepare")?;
                }
                Open::Object { key, mut upload, mut parts, buffer } => {
                    if !buffer.is_empty() || parts.is_empty() {
                        self.upload(&key, &mut upload, &mut parts, buffer)?;
                    }
                    let upload = upload.ok_or_else(|| Error::internal("an upload without id"))?;
                    published.push(Published::Object { key: key.to_string(), upload, parts });
                }
            }
        }
        if let Location::Local(root) = &self.plan.target {
            // Partition folders may be new, so all of them up to the table's own are synced.
            let mut all: Vec<&Path> =
                folders.iter().flat_map(|f| f.ancestors().take_while(|a| a.starts_with(root))).collect();
            all.sort();
            all.dedup();
            all.into_iter().try_for_each(sync_folder)?;
        }
        Ok(published)
    }
    fn relative(&self, path: &Path) -> String {
        match &self.plan.target {
            Location::Local(root) => path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned(),
            Location::Objects { .. } => path.to_string_lossy().into_owned(),
        }
    }
    fn store(&self) -> Result<Arc<dyn Objects>> {
        match &self.plan.target {
            Location::Objects { store, .. } => Ok(store.clone()),
            Location::Local(_) => Err(Error::internal("a local file in an object store")),
        }
    }
    /// Removes what was not prepared; best effort, since hidden names and open uploads hurt nobody.
    fn discard(&mut self) {
        let left: Vec<Open> = self.open.drain().map(|(_, o)| o).chain(std::mem::take(&mut self.finished)).collect();
        for open in left {
            match open {
                Open::Local { temp, .. } => drop(std::fs::remove_file(temp)),
                Open::Object { key, upload: Some(upload), .. } => {
                    if let Ok(store) = self.store() {
                        drop(block_on(store.abort_multipart(&key, &upload)));
                    }
                }
                Open::Object { upload: None, .. } => {}
            }
        }
    }
}

/// What is committed is JSON, with a version of its own.
pub(super) fn encode(committable: &Committable) -> Result<Vec<u8>> {
    serde_json::to_vec(committable).map_err(|e| Error::internal(format!("a committable has no JSON form: {e}")))
}

pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_error("sync folder", folder, e))
}

pub(super) fn io_error(doing: &str, path: &Path, e: std::io::Error) -> Error {
    let denied = e.kind() == std::io::ErrorKind::PermissionDenied;
    let error = Error::from(e).at(Place::File { path: path.display().to_string(), line: None }).context(doing);
    if denied { error.hint("the folder and its files have to be writable for this user") } else { error }
}

pub(super) fn object_error(doing: &str, key: &ObjectPath, e: object_store::Error) -> Error {
    use object_store::Error as E;
    let kind = match e {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::NotImplemented { .. } => ErrorKind::Data,
        _ => ErrorKind::Retry,
    };
    Error::new(kind, e.to_string()).at(Place::File { path: key.to_string(), line: None }).context(doing)
}
