//! One page: a request, and the answer that a WSGI application gives, whole or piece by piece.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use pyo3::exceptions::{PyConnectionError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use shardcast::http::{BodyWriter, Request, RequestBody, Responder, Response, Status};

use crate::courier::lock;
use crate::environ::{Environ, environ, latin1};

/// Bytes of a file that are read and written at a time.
const FILE_PIECE_BYTES: usize = 64 * 1024;

/// What a request says, kept for a thread outside its shard.
pub(crate) struct Head {
    method: String,
    path: String,
    query: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    /// The body, if it has come whole.
    body: Option<Vec<u8>>,
    peer: Option<SocketAddr>,
    address: Option<IpAddr>,
    is_secure: bool,
}

impl Head {
    /// Copies what is needed of a request.
    pub(crate) fn of(request: &Request<'_>) -> Head {
        let headers = request.headers();
        let length = headers.get("content-length").and_then(|length| length.trim().parse::<usize>().ok());
        let is_chunked = headers.get("transfer-encoding").is_some();
        let body = request.body();
        let is_whole = !is_chunked && length.unwrap_or(0) == body.len();
        let peer = match request.peer() {
            shardcast::Peer::Tcp(address) => Some(address),
            _ => None,
        };
        Head {
            method: request.method_name().to_owned(),
            path: request.path().to_owned(),
            query: request.query_string().to_owned(),
            version: if request.version() == shardcast::http::Version::Http10 {
                "HTTP/1.0"
            } else {
                "HTTP/1.1"
            },
            headers: headers.iter_bytes().map(|(name, value)| (name.to_owned(), latin1(value))).collect(),
            body: is_whole.then(|| body.to_vec()),
            peer,
            address: request.address(),
            is_secure: request.is_secure(),
        }
    }
}

/// How far the answer is.
enum Stage {
    Awaited(Responder),
    Begun(BodyWriter),
    Over,
}

/// One request with its answer, for `_wsgi.py`.
#[pyclass(frozen, module = "flask_shardcast._native")]
pub(crate) struct Exchange {
    head: Box<Head>,
    stage: Mutex<Stage>,
    reader: Mutex<Option<RequestBody>>,
}

impl Exchange {
    pub(crate) fn new(head: Box<Head>, responder: Responder) -> Exchange {
        let reader = head.body.is_none().then(|| responder.body());
        Exchange { head, stage: Mutex::new(Stage::Awaited(responder)), reader: Mutex::new(reader) }
    }
}

#[pymethods]
impl Exchange {
    /// The WSGI environment, as far as the request says it.
    fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Head { method, path, query, version, headers, peer, address, is_secure, .. } = &*self.head;
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request =
            Environ { method, path, query, version, peer: *peer, address: *address, is_secure: *is_secure };
        environ(py, &request, headers)
    }

    /// The body, or nothing if it comes while it is read.
    fn body<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.head.body.as_ref().map(|body| PyBytes::new(py, body))
    }

    /// The next bytes of a body that comes while it is read: at most so many, none at its end.
    fn read<'py>(&self, py: Python<'py>, bytes_max: usize) -> PyResult<Bound<'py, PyBytes>> {
        let mut piece = vec![0; bytes_max.min(FILE_PIECE_BYTES)];
        let count = py.detach(|| match lock(&self.reader).as_mut() {
            Some(reader) => reader.read(&mut piece),
            None => Ok(0),
        });
        let count = count.map_err(|error| PyOSError::new_err(format!("the request's body: {error}")))?;
        Ok(PyBytes::new(py, piece.get(..count).unwrap_or_default()))
    }

    /// Answers with a whole body.
    fn respond(&self, status: u16, headers: &Bound<'_, PyList>, body: &[u8]) -> PyResult<()> {
        let response = response(status, headers)?.body(body.to_vec());
        let Stage::Awaited(responder) = self.take() else { return Err(begun()) };
        responder.respond(response);
        Ok(())
    }

    /// Answers with a head; the body follows, of so many bytes if that is known.
    fn begin(&self, status: u16, headers: &Bound<'_, PyList>, length: Option<usize>) -> PyResult<()> {
        let response = response(status, headers)?;
        let Stage::Awaited(responder) = self.take() else { return Err(begun()) };
        *lock(&self.stage) = Stage::Begun(responder.begin(response, length));
        Ok(())
    }

    /// Writes a piece of the body, and waits where the client is behind.
    fn write(&self, py: Python<'_>, piece: &[u8]) -> PyResult<()> {
        let Stage::Begun(mut writer) = self.take() else { return Err(begun()) };
        // What fits is copied at once. Only a client that is behind is worth giving the GIL away for.
        let count = writer.try_write(piece).map_err(gone)?;
        let rest = piece.get(count..).unwrap_or_default();
        if !rest.is_empty() {
            py.detach(|| writer.write(rest)).map_err(gone)?;
        }
        *lock(&self.stage) = Stage::Begun(writer);
        Ok(())
    }

    /// Writes a file from a place on to its end.
    fn write_file(&self, py: Python<'_>, descriptor: i32, offset: u64) -> PyResult<()> {
        let Stage::Begun(mut writer) = self.take() else { return Err(begun()) };
        let file = open_again(descriptor).map_err(|error| PyOSError::new_err(error.to_string()))?;
        let sent = py.detach(|| write_file(&mut writer, &file, offset));
        sent.map_err(|error| PyConnectionError::new_err(error.to_string()))?;
        *lock(&self.stage) = Stage::Begun(writer);
        Ok(())
    }

    /// That was all.
    fn finish(&self) {
        if let Stage::Begun(writer) = self.take() {
            writer.finish();
        }
    }
}

impl Exchange {
    fn take(&self) -> Stage {
        std::mem::replace(&mut lock(&self.stage), Stage::Over)
    }
}

/// The file of a descriptor that Python owns, as a file of ours.
fn open_again(descriptor: i32) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{descriptor}"))
}

fn write_file(writer: &mut BodyWriter, file: &File, offset: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut piece = vec![0; FILE_PIECE_BYTES];
    let mut at = offset;
    loop {
        let count = file.read_at(&mut piece, at)?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else { return Ok(()) };
        writer.write(read).map_err(std::io::Error::other)?;
        at += count as u64;
    }
}

/// A status and headers as an application gives them. The server writes those itself that say how long a body is and how it is sent.
fn response(status: u16, headers: &Bound<'_, PyList>) -> PyResult<Response> {
    let known =
        Status::new(status).ok_or_else(|| PyValueError::new_err(format!("{status} is no status of HTTP")))?;
    let mut response = Response::new(known);
    for header in headers.iter() {
        let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) = header.extract()?;
        let (name, value) = (name.to_str()?.to_owned(), value.to_str()?.to_owned());
        if ["content-length", "transfer-encoding", "connection"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own))
        {
            continue;
        }
        // One that cannot be sent is named, and the page goes out without it.
        if let Err(error) = response.try_header(name.clone(), value) {
            tracing::warn!(name, %error, "a page's header is left out");
        }
    }
    Ok(response)
}

fn begun() -> PyErr {
    PyRuntimeError::new_err("the request is answered already")
}

fn gone(error: impl std::fmt::Display) -> PyErr {
    PyConnectionError::new_err(error.to_string())
}
