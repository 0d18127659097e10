//! Bodies in chunks (RFC 9112 §7.1). Extensions and trailers are skipped.

/// A line of a chunk's size with its extensions, and trailers together: longer ones are an attack or a fault.
const LINES_BYTES_MAX: usize = 64 * 1024;

/// What is wrong with a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkFault {
    /// Where the size of a chunk is to stand there is none.
    NoSize,
    /// A chunk does not end where its size says.
    NoEnd,
    /// It is larger than may be, or a size or trailers are endless.
    TooLarge,
}

impl ChunkFault {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ChunkFault::NoSize => "a chunk without a size",
            ChunkFault::NoEnd => "a chunk does not end where it said",
            ChunkFault::TooLarge => "a chunk is too large",
        }
    }
}

/// Reads a whole body of at most so many bytes, and how many bytes it took; `None` while it is incomplete.
pub(crate) fn decode(input: &[u8], bytes_max: usize) -> Result<Option<(Vec<u8>, usize)>, ChunkFault> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let (start, len) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if rest.len() > LINES_BYTES_MAX => {
                return Err(ChunkFault::TooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ChunkFault::NoSize),
        };
        let len = usize::try_from(len).ok().filter(|len| body.len().saturating_add(*len) <= bytes_max);
        let len = len.ok_or(ChunkFault::TooLarge)?;
        at += start;
        let rest = input.get(at..).unwrap_or_default();
        if len == 0 {
            return match end_of_trailers(rest) {
                Some(end) => Ok(Some((body, at + end))),
                None if rest.len() > LINES_BYTES_MAX => Err(ChunkFault::TooLarge),
                None => Ok(None),
            };
        }
        let (Some(chunk), Some(end)) = (rest.get(..len), rest.get(len..len + 2)) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(ChunkFault::NoEnd);
        }
        body.extend_from_slice(chunk);
        at += len + 2;
    }
}

fn end_of_trailers(input: &[u8]) -> Option<usize> {
    if input.starts_with(b"\r\n") {
        Some(2)
    } else {
        memchr::memmem::find(input, b"\r\n\r\n").map(|at| at + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_1_a_body_is_whole_at_its_last_byte_and_not_before() {
        for (input, body) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "abc0123456789"),
            ("1\r\na\r\n0\r\nTrailer: 1\r\n\r\n", "a"),
        ] {
            for cut in 0..input.len() {
                assert_eq!(decode(&input.as_bytes()[..cut], 100), Ok(None), "cut at {cut} of {input:?}");
            }
            let more = format!("{input}HTTP/1.1");
            assert_eq!(decode(more.as_bytes(), 100), Ok(Some((body.as_bytes().to_vec(), input.len()))));
        }
    }

    #[test]
    fn s7_1_what_is_no_body_in_chunks_is_a_fault() {
        let endless = format!("1;{}", "a".repeat(LINES_BYTES_MAX));
        let trailers = format!("0\r\nA: {}", "a".repeat(LINES_BYTES_MAX));
        for (input, expected) in [
            ("zz\r\n", ChunkFault::NoSize),
            ("2\r\nabc\r\n0\r\n\r\n", ChunkFault::NoEnd),
            ("ffffffffffffffff\r\n", ChunkFault::TooLarge),
            ("65\r\n", ChunkFault::TooLarge),
            ("64\r\n", ChunkFault::TooLarge),
            (&endless, ChunkFault::TooLarge),
            (&trailers, ChunkFault::TooLarge),
        ] {
            assert_eq!(decode(input.as_bytes(), 99), Err(expected), "{input:.20}");
        }
    }
}
