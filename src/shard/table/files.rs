//! Answers that need the thread of files: what a shard asks of it, and what it does with the outcome.
//!
//! Files are opened, read and compressed there, and so are long bodies of routes and polls. A long file is sent in pieces: the next
//! is read when the last has nearly left, so a slow reader holds two of them and not the file.

use std::path::PathBuf;

use crate::base::buffer::SharedFrame;
use crate::base::slab::Key;
use crate::message::files::{FileAnswer, FileContent, FileError, FileHandle, FileOutcome, FilePart};
use crate::protocol::http::coding::{self, Coding};
use crate::protocol::http::response::{Body, Response};
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::table::bundle::CACHE_CONTROL;
use crate::shard::value::connection::{Ending, Kind};
use crate::shard::value::content::Content;
use crate::shard::value::effect::{Deferred, Output};
use crate::shard::value::files::{
    Awaited, FILE_PATIENCE, FILE_PIECE_BYTES, FileLookup, FileRequest, FileWork,
};

impl Tables {
    /// Has a file opened; the answer comes as a message.
    pub(crate) fn await_file(&mut self, key: Key, mut request: FileRequest, path: &str, root: PathBuf) {
        let has_strong_tag = request.tag.as_ref().is_some_and(|tag| !tag.starts_with("W/"));
        let Some(endpoint) = self.http_mut(key).map(|http| http.framing.endpoint) else { return };
        let may_be_coded = self.endpoint(endpoint).settings.http_compression
            && coding::is_text_like(&request.content_type)
            && !has_strong_tag;
        let coded_bytes_min = self.env.config.compression_threshold;
        let Some(http) = self.http_mut(key) else { return };
        let lookup = FileLookup {
            root,
            path: path.to_owned(),
            if_none_match: request.if_none_match.take(),
            ranges: request.ranges.take(),
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
        self.effects.outputs.push(Output::File { connection: key, work });
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
            FileOutcome::Found(content) => {
                let response = ranged(Response::new(Status::OK), &content)
                    .header("content-type", request.content_type.clone());
                let FileContent { tag, coding, is_negotiated, len, start, rest, part, .. } = content;
                let (body, from) = (Body::Shared(start), part.map_or(0, |part| part.from));
                let content = Content { body, len, coding, is_negotiated, rest, from, follows: None };
                return self.send_answer(key, &finish(response, tag), content);
            }
            FileOutcome::NotInFile { tag, bytes } => {
                let response = Response::text("the file has no such part")
                    .with_status(Status::RANGE_NOT_SATISFIABLE)
                    .header("content-range", format!("bytes */{bytes}"));
                finish(response, tag)
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
        self.effects.outputs.push(Output::File { connection: key, work });
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
            self.effects.deferred.push(Deferred::Lost(key));
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

/// Says which part of a file a body is, and that parts can be had (RFC 9110 §14.3, §14.4).
fn ranged(response: Response, content: &FileContent) -> Response {
    let response = match &content.modified {
        Some(date) => response.header("accept-ranges", "bytes").header("last-modified", date.clone()),
        None => response,
    };
    let Some(FilePart { from, file_bytes }) = content.part else { return response };
    let last = from + (content.len as u64).saturating_sub(1);
    response
        .with_status(Status::PARTIAL_CONTENT)
        .header("content-range", format!("bytes {from}-{last}/{file_bytes}"))
}

/// The thread of files does not come after, or does not come back.
pub(crate) fn too_busy() -> Response {
    Response::text("the server is busy reading files; try again")
        .with_status(Status::SERVICE_UNAVAILABLE)
        .header("retry-after", "5")
}
