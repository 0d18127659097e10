//! The body of an HTTP answer, as it goes out.

use crate::message::files::FileHandle;
use crate::protocol::http::response::{Body, Response};

/// How a client will know where a body ends that follows piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// It has the length of the content.
    Bytes,
    /// By what comes last: a chunk, or the end of the connection.
    Unknown,
}

/// The body of an answer, as it goes out.
#[derive(Debug)]
pub(crate) struct Content {
    /// All of it, or its beginning.
    pub(crate) body: Body,
    /// Bytes of all of it.
    pub(crate) len: usize,
    /// The coding in which it is, as `Content-Encoding` names it.
    pub(crate) coding: Option<&'static str>,
    /// Another client may get another coding.
    pub(crate) is_negotiated: bool,
    /// What the rest is read from.
    pub(crate) rest: Option<FileHandle>,
    /// Where in the file the body begins.
    pub(crate) from: u64,
    /// The body follows piece by piece.
    pub(crate) follows: Option<Follows>,
}

impl Content {
    /// The body of a response as it is.
    pub(crate) fn plain(response: &Response, is_negotiated: bool) -> Content {
        let body = response.shared();
        Content {
            len: body.bytes().len(),
            body,
            coding: None,
            is_negotiated,
            rest: None,
            from: 0,
            follows: None,
        }
    }

    /// A body that follows piece by piece. It is not compressed: what was sent so far must be of use at once.
    /// Its length may be known.
    pub(crate) fn stream(response: &Response, len: Option<usize>) -> Content {
        let follows = Some(if len.is_some() { Follows::Bytes } else { Follows::Unknown });
        Content { body: Body::Static(&[]), len: len.unwrap_or(0), follows, ..Content::plain(response, false) }
    }
}
