//! What a shard asks of the thread of files, and what a connection waits for meanwhile.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::buffer::SharedFrame;
use crate::message::files::FileHandle;
use crate::protocol::http::coding::Coding;
use crate::protocol::http::response::Response;

/// Bytes of a file that are read at a time. A connection holds two such pieces at most.
pub(crate) const FILE_PIECE_BYTES: usize = 128 * 1024;

/// A longer file is not compressed: it would hold up all others that wait to be read.
pub(crate) const CODED_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a request waits for the thread of files. A disk that is slower than this does not come back for it.
pub(crate) const FILE_PATIENCE: Duration = Duration::from_secs(30);

/// Something to be done on the thread of files.
#[derive(Debug)]
pub(crate) enum FileWork {
    /// Open a file, and read the beginning of what is to be sent.
    Open(Box<FileLookup>),
    /// Read the next piece.
    Read { handle: FileHandle, offset: u64, len: usize },
    /// Compress a body.
    Encode { body: SharedFrame, coding: Coding },
}

/// Which file, and what the client takes of it.
#[derive(Debug)]
pub(crate) struct FileLookup {
    pub(crate) root: PathBuf,
    /// Below the root.
    pub(crate) path: String,
    pub(crate) if_none_match: Option<String>,
    pub(crate) ranges: Option<RangeAsked>,
    /// The entity tag, when it is known without the file.
    pub(crate) tag: Option<String>,
    /// Only the headers are asked for.
    pub(crate) is_head: bool,
    /// It may be compressed for clients that accept it.
    pub(crate) may_be_coded: bool,
    pub(crate) coding: Coding,
    /// A shorter file is not compressed.
    pub(crate) coded_bytes_min: usize,
}

/// Which part of a file is asked for, as the request says it.
#[derive(Debug, Default)]
pub(crate) struct RangeAsked {
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

/// What an awaited file's answer must know of its request.
#[derive(Debug)]
pub(crate) struct FileRequest {
    pub(crate) content_type: Cow<'static, str>,
    pub(crate) if_none_match: Option<String>,
    /// Present where parts of the file may be asked for.
    pub(crate) ranges: Option<RangeAsked>,
    /// The entity tag, when it is known without the file.
    pub(crate) tag: Option<String>,
    /// Headers that the answer carries besides.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Where the file was expected, if its absence is a mistake of ours.
    pub(crate) missing: Option<PathBuf>,
}

/// What a request waits for from the thread of files.
#[derive(Debug)]
pub(crate) enum Awaited {
    File(FileRequest),
    /// The response whose body is being compressed.
    Coding(Response),
}

/// The rest of a file that is being sent.
#[derive(Debug)]
pub(crate) struct FileStream {
    pub(crate) handle: FileHandle,
    pub(crate) offset: u64,
    pub(crate) left: usize,
    pub(crate) is_reading: bool,
}

impl FileStream {
    /// What is left of `len` bytes, of which the first `sent` went out with the head; they begin at `from` in the file.
    pub(crate) fn new((handle, from): (FileHandle, u64), sent: usize, len: usize) -> FileStream {
        FileStream { handle, offset: from + sent as u64, left: len - sent, is_reading: false }
    }
}
