//! The bounds that only HTTP has. The head's own (`HEAD_BYTES_DEFAULT`, `HEADERS_MAX`) are in `base/limits.rs`.

use crate::base::limits::HEAD_BYTES_DEFAULT;

/// A request line, from the method to its CRLF. Beyond it the answer is 414. RFC 9112 §3 asks for 8000.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;

// A request line that is only just accepted leaves room for headers.
const _: () = assert!(REQUEST_LINE_BYTES_MAX * 2 <= HEAD_BYTES_DEFAULT);

/// Empty lines before a request line: some old clients send one after a POST body (RFC 9112 §2.2).
pub(crate) const EMPTY_LINES_MAX: usize = 2;

/// Hexadecimal digits of one chunk size, leading zeros included: all that fits 64 bits (RFC 9112 §7.1).
pub(crate) const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Chunk extensions over one whole body: nobody sends any, so a flood is an attack (RFC 9112 §7.1.1).
pub(crate) const CHUNK_EXTENSION_BYTES_MAX: usize = 1024;

/// The trailer section of one body, which we drop (RFC 9112 §7.1.2).
pub(crate) const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Characters of a peer's text that an error message repeats.
pub(crate) const SHOWN_CHARS_MAX: usize = 200;
