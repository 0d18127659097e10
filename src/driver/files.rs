//! Static files are read on a thread of their own, so that a slow disk holds no shard up.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::Sender;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::mesh::{FileAnswer, FileContent, FileError, Mesh, ShardMessage};

/// Files that may wait to be read; beyond it a request is answered 500 at once.
const FILES_WAITING_MAX: usize = 1024;

/// How long the thread waits for a shard whose inbox is full.
const FULL_INBOX_PAUSE: Duration = Duration::from_millis(5);

/// One file to read.
#[derive(Debug)]
pub(crate) struct FileJob {
    pub(crate) shard: ShardId,
    pub(crate) connection: Key,
    pub(crate) path: PathBuf,
    pub(crate) root: PathBuf,
}

/// Hands files to the reading thread.
#[derive(Clone, Debug)]
pub(crate) struct FileReader {
    jobs: Sender<FileJob>,
}

impl FileReader {
    /// Starts the thread; it ends when the last `FileReader` is dropped.
    pub(crate) fn start(mesh: Arc<Mesh>, bytes_max: usize) -> FileReader {
        let (jobs, waiting) = crossbeam_channel::bounded::<FileJob>(FILES_WAITING_MAX);
        let thread = std::thread::Builder::new().name("files".to_owned()).spawn(move || {
            for job in waiting {
                let result = read(&job.path, &job.root, bytes_max);
                answer(&mesh, &job, result);
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread for static files: they are answered 500");
        }
        FileReader { jobs }
    }

    /// Has a file read. False when too many wait.
    pub(crate) fn read(&self, job: FileJob) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

fn answer(mesh: &Mesh, job: &FileJob, result: Result<FileContent, FileError>) {
    let mut result = Some(result);
    while let Some(taken) = result.take() {
        let is_full = mesh.is_full(job.shard);
        if is_full {
            // This thread may wait where a shard may not.
            result = Some(taken);
            std::thread::park_timeout(FULL_INBOX_PAUSE);
            continue;
        }
        let answer = FileAnswer { connection: job.connection, result: taken };
        // A shard that is gone has nobody left to answer.
        let _ = mesh.send(job.shard, ShardMessage::File(Box::new(answer)));
    }
    mesh.ring(job.shard);
}

/// Reads a file that lies in `root`, also after symbolic links are followed.
pub(crate) fn read(path: &Path, root: &Path, bytes_max: usize) -> Result<FileContent, FileError> {
    let path = path.canonicalize().map_err(|_| FileError::NotFound)?;
    let root = root.canonicalize().map_err(|_| FileError::NotFound)?;
    if !path.starts_with(&root) {
        tracing::warn!(?path, "a symbolic link leads out of a static folder; not served");
        return Err(FileError::NotFound);
    }
    // Not blocking: a pipe in the folder must not hold the thread up.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let file = file.map_err(|_| FileError::NotFound)?;
    let metadata = file.metadata().map_err(|_| FileError::Unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::NotFound);
    }
    if metadata.len() > bytes_max as u64 {
        return Err(FileError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // A file that grows meanwhile is cut at the limit, not followed.
    file.take(bytes_max as u64).read_to_end(&mut bytes).map_err(|_| FileError::Unreadable)?;
    let modified = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    Ok(FileContent { bytes, modified_nanos: modified.unwrap_or_default().as_nanos() })
}
