//! The dictionary that a WSGI application is called with (PEP 3333), less what Python adds to each alike.

use std::net::{IpAddr, SocketAddr};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// What a request line and a connection say.
pub(crate) struct Environ<'a> {
    pub(crate) method: &'a str,
    /// As it came: not decoded.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) version: &'a str,
    pub(crate) peer: Option<SocketAddr>,
    /// The client's, if a trusted proxy says another than the peer's.
    pub(crate) address: Option<IpAddr>,
    pub(crate) is_secure: bool,
}

/// Makes the dictionary.
pub(crate) fn environ<'py, 'a>(
    py: Python<'py>,
    request: &Environ<'_>,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> PyResult<Bound<'py, PyDict>> {
    let environ = PyDict::new(py);
    let target = match request.query {
        "" => request.path.to_owned(),
        query => format!("{}?{query}", request.path),
    };
    environ.set_item(pyo3::intern!(py, "REQUEST_METHOD"), request.method)?;
    environ.set_item(pyo3::intern!(py, "SCRIPT_NAME"), "")?;
    environ.set_item(pyo3::intern!(py, "PATH_INFO"), unquoted(request.path))?;
    environ.set_item(pyo3::intern!(py, "QUERY_STRING"), latin1(request.query.as_bytes()))?;
    environ.set_item(pyo3::intern!(py, "RAW_URI"), &target)?;
    environ.set_item(pyo3::intern!(py, "REQUEST_URI"), &target)?;
    environ.set_item(pyo3::intern!(py, "SERVER_PROTOCOL"), request.version)?;
    environ.set_item(pyo3::intern!(py, "SERVER_SOFTWARE"), "shardcast")?;
    let scheme = if request.is_secure { "https" } else { "http" };
    environ.set_item(pyo3::intern!(py, "wsgi.url_scheme"), scheme)?;
    if let Some(address) = request.address.or(request.peer.map(|peer| peer.ip())) {
        environ.set_item(pyo3::intern!(py, "REMOTE_ADDR"), address.to_string())?;
    }
    if let Some(peer) = request.peer {
        environ.set_item(pyo3::intern!(py, "REMOTE_PORT"), peer.port().to_string())?;
    }
    let mut name_buffer = String::new();
    for (name, value) in headers {
        // `a_b` would become the variable of `a-b`, by which a client could say what only a proxy should.
        if name.contains('_') {
            continue;
        }
        name_buffer.clear();
        if !name.eq_ignore_ascii_case("content-type") && !name.eq_ignore_ascii_case("content-length") {
            name_buffer.push_str("HTTP_");
        }
        name_buffer
            .extend(name.chars().map(|char| if char == '-' { '_' } else { char.to_ascii_uppercase() }));
        let key = PyString::new(py, &name_buffer);
        match environ.get_item(&key)? {
            Some(before) => {
                let glue = if name.eq_ignore_ascii_case("cookie") { "; " } else { "," };
                environ.set_item(key, format!("{before}{glue}{value}"))?;
            }
            None => environ.set_item(key, value)?,
        }
    }
    Ok(environ)
}

/// A path with its `%` escapes undone, and each byte as the character of that number: WSGI's way to write bytes.
fn unquoted(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| hex_pair(bytes.get(at + 1..at + 3))).flatten();
        match escaped {
            Some(value) => {
                out.push(char::from(value));
                at += 3;
            }
            None => {
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
    out
}

fn hex_pair(digits: Option<&[u8]>) -> Option<u8> {
    let &[high, low] = digits? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Bytes as the characters of their numbers.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
