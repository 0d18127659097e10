//! Chunked request bodies (RFC 9112 §7.1): framing removed, extensions and trailers read past.
//!
//! Does not know how long the read buffer is or who wants the body; it consumes what it is given.

use super::error::HttpError;
use super::headers::is_token_byte;
use super::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX};

/// What the next byte must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A hexadecimal digit, or after the first one `;` or CR.
    Size {
        digits: u8,
        size: u64,
    },
    /// A chunk extension up to its CR.
    Extension {
        size: u64,
    },
    /// The LF that ends a size line.
    SizeLineFeed {
        size: u64,
    },
    /// Bytes of a chunk, never zero of them.
    Data {
        left: usize,
    },
    /// The CR after a chunk's data, then its LF.
    DataCarriageReturn,
    DataLineFeed,
    /// The first byte of a trailer line, or the CR of the last, empty one.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    /// The LF after which the body is complete.
    LastLineFeed,
    Nothing,
}

/// Decodes one chunked body from input cut anywhere. After an error it must not be used again.
#[derive(Clone, Debug)]
pub(crate) struct ChunkedDecoder {
    expect: Expect,
    /// Body bytes announced so far; what is left of the current chunk included.
    announced: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub(crate) fn new() -> ChunkedDecoder {
        let expect = Expect::Size { digits: 0, size: 0 };
        ChunkedDecoder { expect, announced: 0, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// Appends the next part of the body to `body`; says how much of `input` it consumed and whether the
    /// body is complete. Until it is, all of `input` is consumed; then what follows is the next request.
    ///
    /// A chunk that would take the whole body beyond `body_bytes_max` is refused by its size line, before
    /// any of its bytes is stored.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        body_bytes_max: usize,
    ) -> Result<(usize, bool), HttpError> {
        let mut rest = input;
        while self.expect != Expect::Nothing {
            if let Expect::Data { left } = self.expect {
                let (data, after) = rest.split_at(left.min(rest.len()));
                body.extend_from_slice(data);
                rest = after;
                if data.len() < left {
                    self.expect = Expect::Data { left: left - data.len() };
                    break;
                }
                self.expect = Expect::DataCarriageReturn;
            }
            let Some((&byte, after)) = rest.split_first() else { break };
            rest = after;
            self.expect = self.step(byte, body_bytes_max)?;
        }
        Ok((input.len() - rest.len(), self.expect == Expect::Nothing))
    }

    fn step(&mut self, byte: u8, body_bytes_max: usize) -> Result<Expect, HttpError> {
        match (self.expect, byte) {
            (Expect::Size { digits, size }, _) => step_size(digits, size, byte),
            (Expect::Extension { size }, b'\r') => Ok(Expect::SizeLineFeed { size }),
            (Expect::Extension { .. }, _) => self.step_extension(byte),
            (Expect::SizeLineFeed { size }, b'\n') => self.begin_chunk(size, body_bytes_max),
            (Expect::SizeLineFeed { .. }, _) => Err(HttpError::ChunkSizeInvalid),
            (Expect::DataCarriageReturn, b'\r') => Ok(Expect::DataLineFeed),
            (Expect::DataLineFeed, b'\n') => Ok(Expect::Size { digits: 0, size: 0 }),
            (Expect::DataCarriageReturn | Expect::DataLineFeed, _) => Err(HttpError::ChunkEndInvalid),
            (Expect::TrailerStart, b'\r') => Ok(Expect::LastLineFeed),
            (Expect::LastLineFeed, b'\n') => Ok(Expect::Nothing),
            (Expect::LastLineFeed, _) => Err(HttpError::TrailerInvalid),
            _ => self.step_trailer(byte),
        }
    }

    fn step_extension(&mut self, byte: u8) -> Result<Expect, HttpError> {
        self.extension_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX || !is_text(byte) {
            return Err(HttpError::ChunkExtensionInvalid);
        }
        Ok(self.expect)
    }

    fn begin_chunk(&mut self, size: u64, body_bytes_max: usize) -> Result<Expect, HttpError> {
        if size == 0 {
            return Ok(Expect::TrailerStart);
        }
        self.announced = self.announced.saturating_add(size);
        match (usize::try_from(self.announced), usize::try_from(size)) {
            (Ok(announced), Ok(left)) if announced <= body_bytes_max => Ok(Expect::Data { left }),
            _ => Err(HttpError::BodyTooLarge),
        }
    }

    /// Trailers are dropped, but a line that is no field is refused: it may be a request for somebody else.
    fn step_trailer(&mut self, byte: u8) -> Result<Expect, HttpError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(HttpError::TrailersTooLarge);
        }
        match (self.expect, byte) {
            (Expect::TrailerStart | Expect::TrailerName, _) if is_token_byte(byte) => Ok(Expect::TrailerName),
            (Expect::TrailerName, b':') => Ok(Expect::TrailerValue),
            (Expect::TrailerValue, b'\r') => Ok(Expect::TrailerLineFeed),
            (Expect::TrailerValue, _) if is_text(byte) => Ok(Expect::TrailerValue),
            (Expect::TrailerLineFeed, b'\n') => Ok(Expect::TrailerStart),
            _ => Err(HttpError::TrailerInvalid),
        }
    }
}

fn step_size(digits: u8, size: u64, byte: u8) -> Result<Expect, HttpError> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        if digits == CHUNK_SIZE_DIGITS_MAX {
            return Err(HttpError::ChunkSizeInvalid);
        }
        return Ok(Expect::Size { digits: digits + 1, size: size << 4 | u64::from(digit) });
    }
    match byte {
        _ if digits == 0 => Err(HttpError::ChunkSizeInvalid),
        b'\r' => Ok(Expect::SizeLineFeed { size }),
        b';' => Ok(Expect::Extension { size }),
        _ => Err(HttpError::ChunkSizeInvalid),
    }
}

/// HTAB, visible characters, blanks and bytes above 0x7F: what a field's value may hold (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}
