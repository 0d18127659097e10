//! Static files are opened, read and compressed on a thread of their own, and so are long bodies: neither a slow disk nor a
//! compressor holds a shard up.

mod beneath;
pub(crate) mod coded;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::base::buffer::SharedFrame;
use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::driver::clock::unix_millis;
use crate::driver::files::coded::CodedFiles;
use crate::mesh::{InboxError, Mesh, ShardMessage};
use crate::message::files::{FileAnswer, FileContent, FileError, FileHandle, FileOutcome, FilePart};
use crate::protocol::http::coding::BodyEncoder;
use crate::protocol::http::date::{HTTP_DATE_BYTES, http_date};
use crate::protocol::http::etag;
use crate::protocol::http::range::{self, Part};
use crate::shard::value::files::{CODED_FILE_BYTES_MAX, FILE_PIECE_BYTES, FileLookup, FileWork};

/// Requests that may wait for this thread; beyond it one is answered 503 at once. The pieces of a file that is being sent are
/// one for each connection, and always have room.
pub(crate) const FILES_WAITING_MAX: usize = 1024;

/// Bytes of bodies that may wait for this thread to compress them. Beyond it a body goes out as it is, and counts towards
/// `outboxes_bytes_max` at once.
pub(crate) const UNCODED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of answers that may wait for shards with full inboxes, pieces of files not counted: there are two of those for each
/// connection at most. Beyond it a file is answered 503, and a body goes out as it is.
pub(crate) const UNDELIVERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer rests whose shard has a full inbox. Other work goes on meanwhile.
const FULL_INBOX_PAUSE: Duration = Duration::from_millis(5);

/// How old the last change of a file must be before its compressed form is kept: within one tick of the file system's clock a
/// file may change again and bear the same tag.
const VERSION_AGE_MIN: Duration = Duration::from_secs(2);

/// One piece of work for a connection.
#[derive(Debug)]
pub(crate) struct FileJob {
    pub(crate) shard: ShardId,
    pub(crate) connection: Key,
    pub(crate) work: FileWork,
}

/// Hands work to the thread of files.
#[derive(Clone, Debug)]
pub(crate) struct FileReader {
    jobs: Sender<FileJob>,
    waiting: Arc<Waiting>,
}

/// What waits for the thread of files, or for the shards that it answers.
#[derive(Debug, Default)]
struct Waiting {
    /// Jobs whose answer is not with its shard yet.
    jobs: AtomicUsize,
    /// Bytes of the bodies that are to be compressed.
    uncoded: AtomicUsize,
}

impl FileWork {
    /// Bytes of a body that is to be compressed.
    fn uncoded_bytes(&self) -> usize {
        match self {
            FileWork::Encode { body, .. } => body.len(),
            FileWork::Open(_) | FileWork::Read { .. } => 0,
        }
    }
}

impl FileReader {
    /// Starts the thread; it ends when the last `FileReader` is dropped.
    pub(crate) fn start(mesh: Arc<Mesh>, bytes_max: usize) -> FileReader {
        let (jobs, coming) = crossbeam_channel::unbounded::<FileJob>();
        let waiting = Arc::new(Waiting::default());
        let counter = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || serve(&mesh, &coming, &counter, &mut FileDesk::new(bytes_max)));
        if let Err(error) = thread {
            tracing::error!(%error, "no thread for static files: they are answered 503");
        }
        FileReader { jobs, waiting }
    }

    /// Has something done. What is refused is answered at once.
    pub(crate) fn submit(&self, job: FileJob) -> Option<FileAnswer> {
        let connection = job.connection;
        let (is_piece, bytes) = (matches!(job.work, FileWork::Read { .. }), job.work.uncoded_bytes());
        let waiting = self.waiting.jobs.fetch_add(1, Ordering::Relaxed);
        let uncoded = self.waiting.uncoded.fetch_add(bytes, Ordering::Relaxed);
        let has_room = is_piece || waiting < FILES_WAITING_MAX;
        let is_too_much = bytes > 0 && uncoded + bytes > UNCODED_BYTES_MAX;
        if has_room && !is_too_much && self.jobs.send(job).is_ok() {
            return None;
        }
        self.waiting.jobs.fetch_sub(1, Ordering::Relaxed);
        self.waiting.uncoded.fetch_sub(bytes, Ordering::Relaxed);
        let outcome = match has_room {
            _ if is_piece => FileOutcome::Piece(Vec::new()),
            true if is_too_much => FileOutcome::Encoded(None),
            _ => FileOutcome::Failed(FileError::Busy),
        };
        Some(FileAnswer { connection, outcome })
    }
}

/// Works until every shard is gone. An answer for a shard with a full inbox waits, and holds no other answer up.
fn serve(mesh: &Mesh, jobs: &Receiver<FileJob>, waiting: &Waiting, desk: &mut FileDesk) {
    let mut undelivered = Undelivered::default();
    loop {
        let job = if undelivered.answers.is_empty() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(FULL_INBOX_PAUSE)
        };
        match job {
            Ok(FileJob { shard, connection, work }) => {
                let bytes = work.uncoded_bytes();
                undelivered.push(shard, FileAnswer { connection, outcome: desk.perform(work) });
                waiting.uncoded.fetch_sub(bytes, Ordering::Relaxed);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        waiting.jobs.fetch_sub(undelivered.deliver(mesh), Ordering::Relaxed);
    }
}

/// Answers whose shards had no room for them yet.
#[derive(Debug, Default)]
struct Undelivered {
    answers: VecDeque<(ShardId, ShardMessage)>,
    /// Bytes of those that are no pieces.
    bytes: usize,
}

impl Undelivered {
    /// Takes an answer in, or what stands for it if too much waits.
    fn push(&mut self, shard: ShardId, mut answer: FileAnswer) {
        if self.bytes + bounded_bytes(&answer) > UNDELIVERED_BYTES_MAX {
            answer.outcome = match answer.outcome {
                FileOutcome::Encoded(_) => FileOutcome::Encoded(None),
                _ => FileOutcome::Failed(FileError::Busy),
            };
        }
        self.bytes += bounded_bytes(&answer);
        self.answers.push_back((shard, ShardMessage::File(Box::new(answer))));
    }

    /// Sends each answer whose shard has room for it; the others stay. Says how many have gone.
    fn deliver(&mut self, mesh: &Mesh) -> usize {
        let before = self.answers.len();
        for _ in 0..before {
            let Some((shard, message)) = self.answers.pop_front() else { break };
            let bytes = if let ShardMessage::File(answer) = &message { bounded_bytes(answer) } else { 0 };
            match mesh.offer(shard, message) {
                Err((InboxError::Full, message)) => {
                    self.answers.push_back((shard, message));
                    continue;
                }
                Ok(()) => mesh.ring(shard),
                // The shard has stopped: the answer is dropped.
                Err((InboxError::Gone, _)) => {}
            }
            self.bytes -= bytes;
        }
        before - self.answers.len()
    }
}

/// What an answer counts towards [`UNDELIVERED_BYTES_MAX`].
fn bounded_bytes(answer: &FileAnswer) -> usize {
    match &answer.outcome {
        FileOutcome::Piece(_) => 0,
        outcome => outcome.len_bytes(),
    }
}

/// Does the work, one piece after another.
#[derive(Debug)]
pub(crate) struct FileDesk {
    bytes_max: usize,
    encoder: BodyEncoder,
    coded: CodedFiles,
}

impl FileDesk {
    /// A desk that opens no file of more than `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> FileDesk {
        FileDesk { bytes_max, encoder: BodyEncoder::default(), coded: CodedFiles::default() }
    }

    pub(crate) fn perform(&mut self, work: FileWork) -> FileOutcome {
        match work {
            FileWork::Open(lookup) => self.open(&lookup).unwrap_or_else(FileOutcome::Failed),
            FileWork::Read { handle, offset, len } => FileOutcome::Piece(
                handle.downcast_ref::<File>().map_or_else(Vec::new, |file| read_piece(file, offset, len)),
            ),
            FileWork::Encode { body, coding } => {
                FileOutcome::Encoded(self.encoder.encode(coding, &body).map(SharedFrame::new))
            }
        }
    }

    fn open(&mut self, lookup: &FileLookup) -> Result<FileOutcome, FileError> {
        let file = beneath::open(&lookup.root, &lookup.path).map_err(|_| FileError::NotFound)?;
        let metadata = file.metadata().map_err(|_| FileError::Unreadable)?;
        if !metadata.is_file() {
            return Err(FileError::NotFound);
        }
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if len > self.bytes_max {
            return Err(FileError::TooLarge);
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default();
        let nanos = modified.as_nanos();
        let age = Duration::from_millis(unix_millis()).saturating_sub(modified);
        let is_settled = age >= VERSION_AGE_MIN;
        let tag = lookup.tag.clone().unwrap_or_else(|| etag::weak(len as u64, nanos));
        if lookup.if_none_match.as_ref().is_some_and(|known| etag::if_none_match(known, &tag)) {
            return Ok(FileOutcome::Unchanged { tag });
        }
        let is_negotiated =
            lookup.may_be_coded && (lookup.coded_bytes_min..=CODED_FILE_BYTES_MAX).contains(&len);
        // Two versions of a file that has just been changed may bear one date.
        let modified = lookup.ranges.as_ref().filter(|_| is_settled).map(|_| last_modified(modified));
        if is_negotiated
            && let Some(name) = lookup.coding.name()
            && let Some(body) = self.coded(lookup, (&file, len), (&tag, is_settled), name)?
        {
            // Whoever gets it compressed has no use for bytes of the file itself: no parts, and no date to ask for them by.
            let (len, start) = (body.len(), if lookup.is_head { SharedFrame::default() } else { body });
            let coding = Some(name);
            let (rest, modified, part) = (None, None, None);
            let content = FileContent { tag, coding, is_negotiated, len, start, rest, modified, part };
            return Ok(FileOutcome::Found(content));
        }
        read_plain(
            file,
            lookup,
            FileContent {
                tag,
                coding: None,
                is_negotiated,
                len,
                start: SharedFrame::default(),
                rest: None,
                modified,
                part: None,
            },
        )
    }

    /// The compressed form of a file, kept or made now; `None` when it is not worth it.
    fn coded(
        &mut self,
        lookup: &FileLookup,
        (file, len): (&File, usize),
        (tag, is_settled): (&str, bool),
        name: &'static str,
    ) -> Result<Option<SharedFrame>, FileError> {
        let key = (lookup.root.join(&lookup.path).to_string_lossy().into_owned(), name);
        if let Some(known) = self.coded.get(&key, tag) {
            return Ok(known);
        }
        let bytes = read_piece(file, 0, len);
        if bytes.len() < len {
            return Err(FileError::Unreadable);
        }
        let body = self.encoder.encode(lookup.coding, &bytes).map(SharedFrame::new);
        if is_settled {
            self.coded.keep(key, tag.to_owned(), body.clone());
        }
        Ok(body)
    }
}

/// A file as it is, or the part of it that is asked for.
fn read_plain(file: File, lookup: &FileLookup, content: FileContent) -> Result<FileOutcome, FileError> {
    if lookup.is_head {
        return Ok(FileOutcome::Found(content));
    }
    let bytes = content.len as u64;
    let asked = lookup.ranges.as_ref();
    let asked = asked.filter(|asked| range::if_range(asked.if_range.as_deref(), content.modified.as_deref()));
    let (from, len, part) = match range::part(asked.and_then(|asked| asked.range.as_deref()), bytes) {
        Part::Whole => (0, content.len, None),
        Part::Unsatisfiable => return Ok(FileOutcome::NotInFile { tag: content.tag, bytes }),
        Part::Bytes(part) => {
            let len = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
            (part.start, len, Some(FilePart { from: part.start, file_bytes: bytes }))
        }
    };
    let start = read_piece(&file, from, len.min(FILE_PIECE_BYTES));
    if start.len() < len.min(FILE_PIECE_BYTES) {
        return Err(FileError::Unreadable);
    }
    let rest = (start.len() < len).then(|| Arc::new(file) as FileHandle);
    Ok(FileOutcome::Found(FileContent { start: SharedFrame::new(start), rest, len, part, ..content }))
}

/// The time of a file's last change, for `Last-Modified`.
fn last_modified(modified: Duration) -> String {
    let mut date = [0; HTTP_DATE_BYTES];
    http_date(modified.as_secs(), &mut date);
    String::from_utf8_lossy(&date).into_owned()
}

/// Bytes of a file from a place on: fewer than `len` where it ends before, or cannot be read.
fn read_piece(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    bytes.truncate(filled);
    bytes
}

#[cfg(test)]
mod tests;
