//! Replays `tests/vectors/websocket/*.txt`: whole, byte by byte and at every cut.
//!
//! The format is described in this folder's README. Holds no cases of its own.

use std::fs;
use std::path::PathBuf;

use super::frame::FrameError;
use super::fuzz::{Event, events_at_every_cut};
use super::message::MessageLimits;

/// Cases that the files hold at least; fewer means that the runner has lost some.
const CASES_MIN: usize = 60;

/// One paragraph of a file.
#[derive(Debug, Default)]
struct Case {
    name: String,
    limits: Option<MessageLimits>,
    input: Vec<u8>,
    expected: Vec<Event>,
}

const SERVER_LIMITS: MessageLimits = MessageLimits {
    payload_bytes_max: 1_000,
    fragments_max: 1_000,
    must_be_masked: true,
    may_be_compressed: false,
};

#[test]
fn every_vector_gives_its_events_however_cut() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/websocket"));
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for paragraph in text.split("\n\n").filter(|paragraph| paragraph.contains("in:")) {
            let case = parse_case(paragraph);
            let place = format!("{}: {}", path.display(), case.name);
            let actual = events_at_every_cut(&case.input, case.limits.unwrap_or(SERVER_LIMITS));
            assert!(actual == case.expected, "{place}\n  actual {actual:?}\nexpected {:?}", case.expected);
            count += 1;
        }
    }
    assert!(count >= CASES_MIN, "only {count} cases");
}

fn parse_case(paragraph: &str) -> Case {
    let mut case = Case::default();
    for line in paragraph.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
        let value = value.trim();
        let limits = case.limits.unwrap_or(SERVER_LIMITS);
        match key {
            "name" => case.name = value.to_owned(),
            "limit" => {
                case.limits = Some(MessageLimits { payload_bytes_max: value.parse().unwrap(), ..limits });
            }
            "fragments" => {
                case.limits = Some(MessageLimits { fragments_max: value.parse().unwrap(), ..limits });
            }
            "role" => case.limits = Some(MessageLimits { must_be_masked: value == "server", ..limits }),
            "deflate" => case.limits = Some(MessageLimits { may_be_compressed: value == "yes", ..limits }),
            "in" => case.input.extend(parse_bytes(value)),
            "out" => case.expected.push(parse_event(value)),
            _ => panic!("unknown key: {line}"),
        }
    }
    assert!(!case.name.is_empty() && !case.expected.is_empty(), "a case has a name and events: {case:?}");
    case
}

fn parse_event(text: &str) -> Event {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let string = |rest: &str| String::from_utf8(parse_bytes(rest)).unwrap();
    match kind {
        "text" => Event::Text(string(rest)),
        "binary" => Event::Binary(parse_bytes(rest)),
        "ping" => Event::Ping(parse_bytes(rest)),
        "pong" => Event::Pong(parse_bytes(rest)),
        "peer-closes" if rest.is_empty() => Event::Close(None),
        "peer-closes" => {
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            Event::Close(Some((code.parse().unwrap(), string(reason))))
        }
        "fragment" => Event::Fragment,
        "incomplete" => Event::Incomplete,
        "refused" => {
            let (code, name) = rest.split_once(' ').unwrap();
            let error = parse_error(name);
            assert_eq!(error.close_code().number().to_string(), code, "{name}");
            Event::Refused(error)
        }
        _ => panic!("unknown event: {text}"),
    }
}

fn parse_error(name: &str) -> FrameError {
    let found = FrameError::ALL.into_iter().find(|error| format!("{error:?}") == name);
    found.unwrap_or_else(|| panic!("unknown error: {name}"))
}

/// Hexadecimal digits and quoted text without escapes, each with an optional `*count`.
fn parse_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (item, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (item, after) = quoted.split_once('"').unwrap();
                (item.as_bytes().to_vec(), after)
            }
            None => {
                let (item, after) = rest.split_at(rest.find([' ', '*']).unwrap_or(rest.len()));
                (parse_hex(item), after)
            }
        };
        let (times, after) = after.split_at(after.find(' ').unwrap_or(after.len()));
        let times = times.strip_prefix('*').map_or(1, |times| times.parse().unwrap());
        bytes.extend(item.repeat(times));
        rest = after.trim_start();
    }
    bytes
}

fn parse_hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2) && digits.is_ascii(), "{digits}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
