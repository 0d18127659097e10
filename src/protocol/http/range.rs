//! A part of a representation (RFC 9110 §14): what `Range` asks for, and what `If-Range` makes of it.
//!
//! One range of bytes is served. A request for several is answered with the whole, as §14.2 allows: nobody needs them, and many
//! overlapping ones would make a small request cost much.

use std::ops::Range;

/// What a request for a part is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: 200. The header is absent, cannot be read, is of another unit, or names several ranges.
    Whole,
    /// These bytes, never none of them: 206.
    Bytes(Range<u64>),
    /// Nothing of what it asks for is there: 416.
    Unsatisfiable,
}

/// Reads a `Range` header for a representation of `len` bytes (§14.1.2, §14.2).
pub(crate) fn part(header: Option<&str>, len: u64) -> Part {
    let Some((unit, set)) = header.and_then(|header| header.split_once('=')) else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Part::Whole;
    }
    let Some((first, last)) = set.trim_matches([' ', '\t']).split_once('-') else { return Part::Whole };
    match (number(first), number(last)) {
        (Number::Empty, Number::Value(0)) => Part::Unsatisfiable,
        (Number::Empty, Number::Value(_)) if len == 0 => Part::Unsatisfiable,
        (Number::Empty, Number::Value(count)) => Part::Bytes(len.saturating_sub(count)..len),
        (Number::Value(first), Number::Value(last)) if first > last => Part::Whole,
        (Number::Value(first), Number::Value(_) | Number::Empty) if first >= len => Part::Unsatisfiable,
        (Number::Value(first), Number::Empty) => Part::Bytes(first..len),
        (Number::Value(first), Number::Value(last)) => Part::Bytes(first..last.saturating_add(1).min(len)),
        _ => Part::Whole,
    }
}

/// Whether `If-Range` still holds (§13.1.5): only a date counts, and only the very `Last-Modified` that was sent. Our tags
/// are weak, and a weak one never holds here.
pub(crate) fn if_range(header: Option<&str>, last_modified: Option<&str>) -> bool {
    header.is_none_or(|header| last_modified.is_some_and(|date| header.trim() == date))
}

enum Number {
    Empty,
    /// One beyond 64 bits is the largest: it lies behind the end of every file.
    Value(u64),
    Invalid,
}

fn number(text: &str) -> Number {
    if text.is_empty() {
        return Number::Empty;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Invalid;
    }
    Number::Value(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_1_2_a_range_is_a_part_or_the_whole_or_cannot_be_satisfied() {
        const HUGE: &str = "bytes=99999999999999999999999-";
        for (header, len, expected) in [
            ("bytes=0-0", 10, Part::Bytes(0..1)),
            ("bytes=0-9", 10, Part::Bytes(0..10)),
            ("bytes=0-99", 10, Part::Bytes(0..10)),
            ("bytes=3-5", 10, Part::Bytes(3..6)),
            ("Bytes= 3-5 ", 10, Part::Bytes(3..6)),
            ("bytes=3-", 10, Part::Bytes(3..10)),
            ("bytes=9-", 10, Part::Bytes(9..10)),
            ("bytes=-3", 10, Part::Bytes(7..10)),
            ("bytes=-99", 10, Part::Bytes(0..10)),
            ("bytes=0-18446744073709551615", 10, Part::Bytes(0..10)),
            ("bytes=1-99999999999999999999999", 10, Part::Bytes(1..10)),
            ("bytes=-99999999999999999999999", 10, Part::Bytes(0..10)),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=10-20", 10, Part::Unsatisfiable),
            (HUGE, 10, Part::Unsatisfiable),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=-5", 0, Part::Unsatisfiable),
            ("bytes=5-3", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=", 10, Part::Whole),
            ("bytes", 10, Part::Whole),
            ("bytes=a-b", 10, Part::Whole),
            ("bytes=+1-2", 10, Part::Whole),
            ("bytes=1--2", 10, Part::Whole),
            ("bytes=0x1-2", 10, Part::Whole),
            ("lines=0-1", 10, Part::Whole),
        ] {
            assert_eq!(part(Some(header), len), expected, "{header} of {len}");
        }
        assert_eq!(part(None, 10), Part::Whole);
    }

    #[test]
    fn s13_1_5_only_the_date_that_was_sent_holds() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (header, holds) in [
            (None, true),
            (Some(date), true),
            (Some("Sun, 06 Nov 1994 08:49:38 GMT"), false),
            (Some("W/\"a-1\""), false),
            (Some("\"a-1\""), false),
            (Some(""), false),
        ] {
            assert_eq!(if_range(header, Some(date)), holds, "{header:?}");
        }
        assert!(!if_range(Some(date), None));
    }
}
