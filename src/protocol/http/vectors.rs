//! Replays tests/vectors/http: each case whole, byte by byte and at every cut. Its README has the format.

use std::fmt::Write;
use std::path::Path;

use super::chunked::ChunkedDecoder;
use super::error::HttpError;
use super::head::{BodyLength, HeaderStorage, Version, decode_head};
use crate::base::limits::HEAD_BYTES_DEFAULT;

/// The `max=` of a chunked case that names none.
const BODY_BYTES_MAX_DEFAULT: usize = 1024;

/// Fewer cases than this, and a file has been lost.
const CASES_MIN: usize = 60;

#[derive(Default)]
struct Case {
    name: String,
    input: Vec<u8>,
    expected: String,
    body_bytes_max: Option<usize>,
}

#[test]
fn every_vector_gives_its_outcome_at_every_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/http");
    let mut cases_count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let is_chunked = path.file_name().unwrap().to_str().unwrap().starts_with("chunked");
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            check(&case, is_chunked);
            cases_count += 1;
        }
    }
    assert!(cases_count >= CASES_MIN, "{cases_count} cases");
}

fn check(case: &Case, is_chunked: bool) {
    let outcome = if is_chunked {
        super::fuzz::chunked(&case.input);
        chunked_outcome(&case.input, case.body_bytes_max.unwrap_or(BODY_BYTES_MAX_DEFAULT))
    } else {
        super::fuzz::head(&case.input);
        head_outcome(&case.input)
    };
    let outcome = outcome.unwrap_or_else(|error| format!("{} {error:?}", error.status().code()));
    assert_eq!(outcome, case.expected, "{}", case.name);
}

fn head_outcome(input: &[u8]) -> Result<String, HttpError> {
    let mut storage = HeaderStorage::new();
    let Some((head, length)) = decode_head(input, HEAD_BYTES_DEFAULT, &mut storage)? else {
        return Ok("incomplete".to_owned());
    };
    let version = if head.version == Version::Http11 { "1.1" } else { "1.0" };
    let mut text = format!("{} {} ?{} {version}", head.method, head.path, head.query);
    match head.body {
        BodyLength::None => {}
        BodyLength::Length(bytes) => write!(text, " length={bytes}").unwrap(),
        BodyLength::Chunked => text.push_str(" chunked"),
    }
    text.push_str(if head.keep_alive { " keep-alive" } else { " close" });
    text.push_str(if head.expects_continue { " continue" } else { "" });
    write!(text, " host={} headers={}", head.host.unwrap_or("-"), head.headers.len()).unwrap();
    write!(text, " rest={}", input.len() - length).unwrap();
    Ok(text)
}

fn chunked_outcome(input: &[u8], body_bytes_max: usize) -> Result<String, HttpError> {
    let mut body = Vec::new();
    let (consumed, is_done) = ChunkedDecoder::new().decode(input, &mut body, body_bytes_max)?;
    let state = if is_done { "done" } else { "incomplete" };
    Ok(format!("{state} body={} rest={}", body.escape_ascii(), input.len() - consumed))
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("no key in {line}"));
        if key == "case" {
            cases.push(Case { name: value.to_owned(), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap();
        match key.split_once('*').unwrap_or((key, "1")) {
            ("in", times) => {
                let piece = unescaped(value);
                (0..times.parse().unwrap()).for_each(|_: usize| case.input.extend_from_slice(&piece));
            }
            ("max", _) => case.body_bytes_max = Some(value.parse().unwrap()),
            ("out", _) => case.expected = value.to_owned(),
            _ => panic!("unknown key in {line}"),
        }
    }
    cases
}

/// `\r`, `\n`, `\t`, `\\` and `\xNN`; all else stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..place]);
        let escape = &rest[place + 1..];
        let (byte, length) = match escape.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            _ => panic!("unknown escape in {text}"),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
