//! What must hold for any bytes: no panic, and the same result for every way of cutting them.
//!
//! Called by the fuzz targets, by the vectors' runner and by a property test.

use super::chunked::ChunkedDecoder;
use super::error::HttpError;
use super::head::{HeaderStorage, decode_head, head_bytes};
use crate::base::limits::HEAD_BYTES_DEFAULT;

/// Inputs longer than this are cut at every prime-th place only, to keep a run short.
const EVERY_CUT_BYTES_MAX: usize = 512;
const LONG_INPUT_STEP: usize = 251;

/// A body limit that small inputs can reach.
const BODY_BYTES_MAX: usize = 64;

/// Every prefix of `input` is incomplete until one is answered, and the answer stays; where the head ends
/// does not depend on how it was looked for.
pub(crate) fn head(input: &[u8]) {
    let whole = head_outcome(input);
    match (&whole, head_bytes(input)) {
        (Ok(Some((length, _))), end) => assert_eq!(end, Ok(Some(*length))),
        (Ok(None), end) => assert_eq!(end, Ok(None)),
        (Err(error), Err(end)) => assert_eq!(*error, end),
        (Err(_), end) => assert!(end.is_ok_and(|end| end.is_some()), "refused before its end: {whole:?}"),
    }
    for cut in cuts(input) {
        let part = head_outcome(&input[..cut]);
        assert!(part == Ok(None) || part == whole, "cut at {cut}: {part:?}, whole: {whole:?}");
        if let Ok(Some((length, _))) = &whole {
            assert_eq!(part == whole, cut >= *length, "cut at {cut} of a head of {length}");
        }
    }
}

/// Every way of cutting `input` in two, and byte by byte, gives the same body and the same end.
pub(crate) fn chunked(input: &[u8]) {
    let whole = chunked_outcome(&[input]);
    for cut in cuts(input) {
        let (left, right) = input.split_at(cut);
        assert_eq!(chunked_outcome(&[left, right]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(chunked_outcome(&bytes), whole, "byte by byte");
}

fn cuts(input: &[u8]) -> impl Iterator<Item = usize> {
    let step = if input.len() > EVERY_CUT_BYTES_MAX { LONG_INPUT_STEP } else { 1 };
    (0..=input.len()).step_by(step)
}

/// Length and a rendering of the head, to compare answers that borrow from different inputs.
fn head_outcome(input: &[u8]) -> Result<Option<(usize, String)>, HttpError> {
    let mut storage = HeaderStorage::new();
    let outcome = decode_head(input, HEAD_BYTES_DEFAULT, &mut storage)?;
    Ok(outcome.map(|(head, length)| (length, format!("{head:?}"))))
}

/// The body, how many bytes of all pieces it took, and whether it is complete.
type ChunkedOutcome = Result<(Vec<u8>, usize, bool), HttpError>;

fn chunked_outcome(pieces: &[&[u8]]) -> ChunkedOutcome {
    let (mut decoder, mut body) = (ChunkedDecoder::new(), Vec::new());
    let (mut consumed, mut is_done) = (0, false);
    for piece in pieces {
        let (piece_consumed, piece_is_done) = decoder.decode(piece, &mut body, BODY_BYTES_MAX)?;
        assert!(piece_is_done || piece_consumed == piece.len(), "all of an unfinished body is consumed");
        assert!(body.len() <= BODY_BYTES_MAX, "the limit holds before the bytes are stored");
        consumed += piece_consumed;
        is_done = piece_is_done;
    }
    Ok((body, consumed, is_done))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Pieces of heads and of chunked bodies: random bytes alone would never get past the first line.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let known: &[&[u8]] = &[
            b"GET ",
            b"POST ",
            b"OPTIONS * ",
            b"/",
            b"/a?b=c#d",
            b"http://h/p",
            b" HTTP/1.1\r\n",
            b" HTTP/1.0\r\n",
            b" HTTP/2.0\r\n",
            b"Host: a\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Expect: 100-continue\r\n",
            b"X: \xfc\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b" ",
            b":",
            b"5\r\nhello\r\n",
            b"0\r\n",
            b"1;e=\"x\"\r\na\r\n",
            b"a\r\n",
            b"ffffffffffffffff",
            b"T: v\r\n",
        ];
        let piece = prop_oneof![
            9 => prop::sample::select(known).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_cut_changes_an_answer(input in pieces()) {
            super::head(&input);
            super::chunked(&input);
        }

        #[test]
        fn what_follows_a_request_line_changes_nothing_before_it(input in pieces()) {
            super::head(&[b"GET / HTTP/1.1\r\nHost: a\r\n", input.as_slice()].concat());
        }
    }
}
