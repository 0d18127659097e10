//! What the thread of files tells a shard: files that its connections asked for, and bodies that were compressed for them.

use std::any::Any;
use std::sync::Arc;

use crate::base::buffer::SharedFrame;
use crate::base::slab::Key;

/// A file that is open; only a driver knows what is inside.
pub(crate) type FileHandle = Arc<dyn Any + Send + Sync>;

/// What has become of a piece of work.
#[derive(Debug)]
pub(crate) struct FileAnswer {
    pub(crate) connection: Key,
    pub(crate) outcome: FileOutcome,
}

/// The outcome of each kind of work.
#[derive(Debug)]
pub(crate) enum FileOutcome {
    /// A file was opened: what is to be sent of it, or where its sending begins.
    Found(FileContent),
    /// Nothing of the part that is asked for is in the file, which has so many bytes.
    NotInFile { tag: String, bytes: u64 },
    /// The client has this version of the file already.
    Unchanged { tag: String },
    /// Why a file is not served.
    Failed(FileError),
    /// The next bytes of an open file; fewer than were asked for when it has become shorter or cannot be read.
    Piece(Vec<u8>),
    /// A body in another coding; `None` when that is not worth it.
    Encoded(Option<SharedFrame>),
}

/// A file, or the beginning of a long one.
#[derive(Debug)]
pub(crate) struct FileContent {
    /// The entity tag of this version.
    pub(crate) tag: String,
    /// The coding of the body, as `Content-Encoding` names it.
    pub(crate) coding: Option<&'static str>,
    /// Another client may get another coding.
    pub(crate) is_negotiated: bool,
    /// Bytes of the whole body.
    pub(crate) len: usize,
    /// The body, or its beginning; empty when only the headers are asked for.
    pub(crate) start: SharedFrame,
    /// What the rest is read from.
    pub(crate) rest: Option<FileHandle>,
    /// When it was changed last, once that is long enough ago to name one version.
    pub(crate) modified: Option<String>,
    /// Where the body begins in a file of so many bytes, if it is a part.
    pub(crate) part: Option<FilePart>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilePart {
    pub(crate) from: u64,
    pub(crate) file_bytes: u64,
}

/// Why a file is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileError {
    NotFound,
    TooLarge,
    Unreadable,
    /// Too much waits for the thread of files.
    Busy,
}
