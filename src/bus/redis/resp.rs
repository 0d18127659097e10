//! RESP, as far as it is spoken without the crate: commands are written, short answers are read (Redis serialization protocol
//! specification). No IO.

/// The longest line of an answer, and the longest bulk string: a number, an error's text, an id of a stream.
const ANSWER_BYTES_MAX: usize = 4096;

/// An answer of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// It was done.
    Done,
    /// What Redis says is wrong.
    Wrong(&'a str),
}

/// What came is no answer that is expected here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// Writes a command.
pub(super) fn write_command(out: &mut Vec<u8>, parts: &[&[u8]]) {
    write_head(out, b'*', parts.len());
    for part in parts {
        write_head(out, b'$', part.len());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

fn write_head(out: &mut Vec<u8>, kind: u8, number: usize) {
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Reads an answer; with it how many bytes it has. `None`: it is not whole.
pub(super) fn read_answer(input: &[u8]) -> Result<Option<(Answer<'_>, usize)>, Garbage> {
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(ANSWER_BYTES_MAX)]) else {
        return if input.len() < ANSWER_BYTES_MAX { Ok(None) } else { Err(Garbage) };
    };
    let [kind, text @ .., b'\r'] = &input[..end] else { return Err(Garbage) };
    let text = str::from_utf8(text).map_err(|_| Garbage)?;
    let line = end + 1;
    match kind {
        b'+' | b':' => Ok(Some((Answer::Done, line))),
        b'-' => Ok(Some((Answer::Wrong(text), line))),
        b'$' => {
            let len: usize = text.parse().map_err(|_| Garbage)?;
            if len > ANSWER_BYTES_MAX {
                return Err(Garbage);
            }
            let whole = line + len + 2;
            let Some(bulk) = input.get(line..whole) else { return Ok(None) };
            if bulk.ends_with(b"\r\n") { Ok(Some((Answer::Done, whole))) } else { Err(Garbage) }
        }
        _ => Err(Garbage),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        write_command(&mut out, &[b"PUBLISH", b"a", &[0xff; 10], b""]);
        let mut expected = b"*4\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$10\r\n".to_vec();
        expected.extend([0xff; 10]);
        expected.extend(b"\r\n$0\r\n\r\n");
        assert_eq!(out, expected);
        let mut out = Vec::new();
        write_head(&mut out, b'$', usize::MAX);
        assert_eq!(out, format!("${}\r\n", usize::MAX).as_bytes());
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let long = format!("-{}\r\n", "x".repeat(ANSWER_BYTES_MAX));
        type Row<'a> = (&'a [u8], Result<Option<(Answer<'a>, usize)>, Garbage>);
        let rows: [Row<'_>; 12] = [
            (b":12\r\n", Ok(Some((Answer::Done, 5)))),
            (b"+OK\r\n:1\r\n", Ok(Some((Answer::Done, 5)))),
            (b"$3\r\n1-2\r\n", Ok(Some((Answer::Done, 9)))),
            (b"-NOPERM no\r\n", Ok(Some((Answer::Wrong("NOPERM no"), 12)))),
            (b"", Ok(None)),
            (b"$-1\r\n", Err(Garbage)),
            (b"$9999999\r\n", Err(Garbage)),
            (b"$1\r\nabc", Err(Garbage)),
            (b"*1\r\n", Err(Garbage)),
            (b"\n", Err(Garbage)),
            (b":1\n", Err(Garbage)),
            (long.as_bytes(), Err(Garbage)),
        ];
        for (input, expected) in rows {
            assert_eq!(read_answer(input), expected, "{}", input.escape_ascii());
            if let Ok(Some((_, len))) = expected {
                for cut in 0..len {
                    assert_eq!(read_answer(&input[..cut]), Ok(None), "{} at {cut}", input.escape_ascii());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_answered_panics(input in proptest::collection::vec(any::<u8>(), 0..40), kind in 0..5_usize) {
            let input = [&b"$+-:*"[kind..=kind], &input].concat();
            if let Ok(Some((_, len))) = read_answer(&input) {
                prop_assert!(len <= input.len());
            }
        }
    }
}
