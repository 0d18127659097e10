//! Answers that need the thread of files: what a shard asks of it, and what it does with the outcome.
//!
//! Files are opened, read and compressed there, and so are long bodies of routes and polls. A long file is sent in pieces: the next
//! is read when the last has nearly left, so a slow reader holds two of them and not the file.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::buffer::SharedFrame;
use crate::base::slab::Key;
use crate::message::files::{FileAnswer, FileContent, FileError, FileHandle, FileOutcome};
use crate::protocol::http::coding::{self, Coding};
use crate::protocol::http::response::{Body, Response};
use crate::protocol::http::status::Status;
use crate::shard::bundle::CACHE_CONTROL;
use crate::shard::connection::{Ending, Kind};
use crate::shard::core::{Core, Deferred, Output};
use crate::shard::http::Content;

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

/// What an awaited file's answer must know of its request.
#[derive(Debug)]
pub(crate) struct FileRequest {
    pub(crate) content_type: Cow<'static, str>,
    pub(crate) if_none_match: Option<String>,
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
    handle: FileHandle,
    offset: u64,
    left: usize,
    is_reading: bool,
}

impl FileStream {
    pub(crate) fn new(handle: FileHandle, sent: usize, len: usize) -> FileStream {
        FileStream { handle, offset: sent as u64, left: len - sent, is_reading: false }
    }
}

impl Core {
    /// Has a file opened; the answer comes as a message.
    pub(crate) fn await_file(&mut self, key: Key, mut request: FileRequest, path: &str, root: PathBuf) {
        let has_strong_tag = request.tag.as_ref().is_some_and(|tag| !tag.starts_with("W/"));
        let may_be_coded =
            self.config.http_compression && coding::is_text_like(&request.content_type) && !has_strong_tag;
        let coded_bytes_min = self.config.compression_threshold;
        let Some(http) = self.http_mut(key) else { return };
        let lookup = FileLookup {
            root,
            path: path.to_owned(),
            if_none_match: request.if_none_match.take(),
            tag: request.tag.take(),
            is_head: http.framing.is_head,
            may_be_coded,
            coding: http.framing.coding,
            coded_bytes_min,
        };
        self.await_work(key, Awaited::File(request), FileWork::Open(Box::new(lookup)));
    }

    /// Has the body of an answer compressed before it leaves.
    pub(crate) fn await_coding(&mut self, key: Key, response: Response, coding: Coding) {
        let body = match response.shared() {
            Body::Shared(body) => body,
            Body::Static(bytes) => SharedFrame::new(bytes.to_vec()),
        };
        self.await_work(key, Awaited::Coding(response), FileWork::Encode { body, coding });
    }

    fn await_work(&mut self, key: Key, awaited: Awaited, work: FileWork) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_open = connection.ending == Ending::Open;
        let Some(http) = connection.http_mut().filter(|_| is_open) else { return };
        http.is_answering = true;
        http.awaited = Some(Box::new(awaited));
        self.outputs.push(Output::File { connection: key, work });
        self.arm_connection(key, FILE_PATIENCE);
    }

    /// The thread of files has done something for a connection.
    pub(crate) fn deliver_file(&mut self, answer: FileAnswer) {
        let key = answer.connection;
        let FileOutcome::Piece(piece) = answer.outcome else {
            let awaited = self.http_mut(key).and_then(|http| http.awaited.take());
            match (awaited.map(|awaited| *awaited), answer.outcome) {
                (Some(Awaited::File(request)), outcome) => self.answer_file(key, request, outcome),
                (Some(Awaited::Coding(response)), FileOutcome::Encoded(coded)) => {
                    self.answer_coded(key, &response, coded);
                }
                (Some(Awaited::Coding(response)), _) => self.answer_coded(key, &response, None),
                // It was given up meanwhile.
                (None, _) => {}
            }
            return;
        };
        self.send_piece(key, piece);
    }

    fn answer_file(&mut self, key: Key, request: FileRequest, outcome: FileOutcome) {
        let finish = |response: Response, tag: String| {
            let response = response.header("etag", tag).header("cache-control", CACHE_CONTROL);
            request
                .headers
                .iter()
                .fold(response, |response, (name, value)| response.header(*name, value.clone()))
        };
        let response = match outcome {
            FileOutcome::Found(FileContent { tag, coding, is_negotiated, len, start, rest }) => {
                let response = Response::new(Status::OK).header("content-type", request.content_type.clone());
                let content = Content { body: Body::Shared(start), len, coding, is_negotiated, rest };
                return self.send_answer(key, &finish(response, tag), content);
            }
            FileOutcome::Unchanged { tag } => finish(Response::new(Status::NOT_MODIFIED), tag),
            FileOutcome::Failed(FileError::NotFound) => {
                if let Some(path) = &request.missing {
                    tracing::warn!(
                        ?path,
                        "not found: client_bundle names a folder like npm's socket.io-client/dist"
                    );
                }
                Response::text("Not Found").with_status(Status::NOT_FOUND)
            }
            FileOutcome::Failed(FileError::TooLarge) => {
                Response::text("the file is larger than static_file_bytes_max")
                    .with_status(Status::INTERNAL_SERVER_ERROR)
            }
            FileOutcome::Failed(FileError::Busy) => too_busy(),
            FileOutcome::Failed(FileError::Unreadable) | FileOutcome::Piece(_) | FileOutcome::Encoded(_) => {
                Response::text("the file cannot be read").with_status(Status::INTERNAL_SERVER_ERROR)
            }
        };
        self.respond(key, &response);
    }

    fn answer_coded(&mut self, key: Key, response: &Response, coded: Option<SharedFrame>) {
        let name = self.http_mut(key).and_then(|http| http.framing.coding.name());
        let plain = Content::plain(response, true);
        let content = match (coded, name) {
            (Some(coded), Some(name)) => {
                Content { len: coded.len(), body: Body::Shared(coded), coding: Some(name), ..plain }
            }
            _ => plain,
        };
        self.send_answer(key, response, content);
    }

    /// Has the next piece of a file read, if one is being sent and little of it is left to go.
    pub(crate) fn pump_file(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending != Ending::Open || connection.outbox.len() > FILE_PIECE_BYTES {
            return;
        }
        let Kind::Http(http) = &mut connection.kind else { return };
        let Some(stream) = http.stream.as_mut().filter(|stream| !stream.is_reading) else { return };
        stream.is_reading = true;
        let len = stream.left.min(FILE_PIECE_BYTES);
        let work = FileWork::Read { handle: FileHandle::clone(&stream.handle), offset: stream.offset, len };
        self.outputs.push(Output::File { connection: key, work });
    }

    fn send_piece(&mut self, key: Key, piece: Vec<u8>) {
        let Some(stream) = self.http_mut(key).and_then(|http| http.stream.as_mut()) else { return };
        stream.is_reading = false;
        if piece.len() != stream.left.min(FILE_PIECE_BYTES) {
            // The length was promised; only an end of the connection can take that back.
            tracing::warn!(
                left = stream.left,
                "closed: a file became shorter, or unreadable, while it was sent"
            );
            self.deferred.push(Deferred::Lost(key));
            return;
        }
        stream.offset += piece.len() as u64;
        stream.left -= piece.len();
        let is_last = stream.left == 0;
        self.queue_body(key, &Body::Shared(SharedFrame::new(piece)));
        if is_last {
            if let Some(http) = self.http_mut(key) {
                http.stream = None;
            }
            self.finish_answer(key);
        } else {
            self.pump_file(key);
        }
    }
}

/// The thread of files does not come after, or does not come back.
pub(crate) fn too_busy() -> Response {
    Response::text("the server is busy reading files; try again")
        .with_status(Status::SERVICE_UNAVAILABLE)
        .header("retry-after", "5")
}
