//! JSON text (RFC 8259): is it valid, and where does one value of it end?
//!
//! Accepts what `JSON.parse` accepts, which is what serde_json skips: escapes of lone surrogates and
//! numbers too large for a double among it. Does not build values; serde_json does, from the elements that
//! are found here.

use std::borrow::Cow;

use serde::Deserialize;

use crate::base::limits::JSON_DEPTH_MAX;
use crate::protocol::surrogates;

// `Nesting` keeps a bit a level.
const _: () = assert!(JSON_DEPTH_MAX <= 128);

/// Bytes of one step through a string, and of one that is looked at as a whole.
const STEP_BYTES: usize = 8;
const WIDE_STEP_BYTES: usize = 16;
const ONES: u64 = u64::from_ne_bytes([0x01; STEP_BYTES]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; STEP_BYTES]);

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    Invalid,
    /// More than `JSON_DEPTH_MAX` arrays and objects within one another.
    TooDeep,
}

/// Checks that the text is one JSON value, with white space around it or not.
pub(crate) fn validate(text: &str) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.value()?;
    scanner.skip_white_space();
    if scanner.at == text.len() { Ok(()) } else { Err(JsonError::Invalid) }
}

/// The text without JSON's white space at either end.
#[inline]
pub(crate) fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if !is_white_space(*first) && !is_white_space(*last) => text,
        _ => text.trim_matches([' ', '\t', '\n', '\r']),
    }
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What a string of valid JSON says, given with its quotes; U+FFFD where it has half a character. `None` if it is no string.
pub(crate) fn unescape(quoted: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', quoted.as_bytes()).is_none() {
        return quoted.get(1..quoted.len().checked_sub(1)?).map(Cow::Borrowed);
    }
    surrogates::read_json(quoted).ok().map(Cow::Owned)
}

/// The elements of an array that is known to be valid, given without its brackets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(elements: &'a str) -> Elements<'a> {
        Elements { rest: trim(elements) }
    }

    /// Reads the next element as a type, in one pass: its end is where the reader stops. `None` if it is of another type, or there
    /// is none; then nothing is taken.
    #[inline]
    pub(crate) fn read<T: Deserialize<'a>>(&mut self) -> Option<T> {
        if self.rest.is_empty() {
            return None;
        }
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<T>();
        let value = values.next()?.ok()?;
        let rest = trim(self.rest.get(values.byte_offset()..)?);
        // A type that does not take the whole element would leave something else here.
        self.rest = match rest.as_bytes().first() {
            None => rest,
            Some(b',') => trim(rest.get(1..)?),
            Some(_) => return None,
        };
        Some(value)
    }

    /// What has not been taken.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (element, rest) = self.rest.split_at_checked(skip_value(self.rest))?;
        let rest = trim(rest);
        self.rest = trim(rest.strip_prefix(',').unwrap_or_default());
        Some(element)
    }
}

/// The length of the value that valid JSON begins with; does not check it again.
pub(crate) fn skip_value(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'"') => skip_string(bytes, 0),
        Some(b'{' | b'[') => skip_container(bytes),
        _ => bytes.iter().position(|byte| b",]} \t\n\r".contains(byte)).unwrap_or(bytes.len()),
    }
}

fn skip_container(bytes: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = skip_string(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// The place after the string whose opening quote is at `start`.
fn skip_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        at += plain_len(bytes.get(at..).unwrap_or_default());
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}

/// A place in a JSON text, and what may come next. After an error the place means nothing.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    pub(crate) at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// The text from a former place to this one.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// All from here on; nothing within a character.
    pub(crate) fn rest_text(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes past white space and the byte behind it.
    pub(crate) fn take(&mut self) -> Option<u8> {
        self.skip_white_space();
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Goes past white space and one value of at most `JSON_DEPTH_MAX` levels.
    pub(crate) fn value(&mut self) -> Result<(), JsonError> {
        self.value_within(JSON_DEPTH_MAX)
    }

    /// The same with fewer levels.
    pub(crate) fn value_within(&mut self, depth_max: usize) -> Result<(), JsonError> {
        let mut nesting = Nesting { depth: 0, depth_max: depth_max.min(JSON_DEPTH_MAX), objects: 0 };
        loop {
            self.skip_white_space();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if self.open(open, &mut nesting)? {
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            if !self.close(&mut nesting)? {
                return Ok(());
            }
        }
    }

    /// Goes past an object's key and its colon; the key with its quotes.
    pub(crate) fn key(&mut self) -> Result<&'a str, JsonError> {
        self.skip_white_space();
        let start = self.at;
        self.string()?;
        let key = self.since(start);
        if self.take() == Some(b':') { Ok(key) } else { Err(JsonError::Invalid) }
    }

    /// Goes past a string, a number or a literal.
    pub(crate) fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(JsonError::Invalid),
        }
    }

    /// Goes into a container; false if it is empty and has been left again.
    fn open(&mut self, open: u8, nesting: &mut Nesting) -> Result<bool, JsonError> {
        let is_object = open == b'{';
        nesting.push(is_object)?;
        self.at += 1;
        self.skip_white_space();
        if self.peek() == Some(if is_object { b'}' } else { b']' }) {
            self.at += 1;
            nesting.pop();
            return Ok(false);
        }
        if is_object {
            self.key()?;
        }
        Ok(true)
    }

    /// After a value: leaves containers until one goes on. False if none does.
    fn close(&mut self, nesting: &mut Nesting) -> Result<bool, JsonError> {
        while let Some(is_object) = nesting.is_in_object() {
            match (self.take(), is_object) {
                (Some(b','), true) => return self.key().map(|_| true),
                (Some(b','), false) => return Ok(true),
                (Some(b'}'), true) | (Some(b']'), false) => nesting.pop(),
                _ => return Err(JsonError::Invalid),
            }
        }
        Ok(false)
    }

    fn string(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(JsonError::Invalid);
        }
        self.at += 1;
        loop {
            self.at += plain_len(self.rest());
            match self.rest() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|byte| byte.is_ascii_hexdigit()) => {
                    self.at += 6;
                }
                _ => return Err(JsonError::Invalid),
            }
        }
    }

    /// Ends after the zero of "01"; nothing takes a digit there.
    fn number(&mut self) -> Result<(), JsonError> {
        self.take_if(b"-");
        if !self.take_if(b"0") {
            self.digits()?;
        }
        if self.take_if(b".") {
            self.digits()?;
        }
        if self.take_if(b"eE") {
            self.take_if(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let len = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += len;
        if len == 0 { Err(JsonError::Invalid) } else { Ok(()) }
    }

    fn take_if(&mut self, any_of: &[u8]) -> bool {
        let is_taken = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(is_taken);
        is_taken
    }

    fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        if !self.rest().starts_with(literal.as_bytes()) {
            return Err(JsonError::Invalid);
        }
        self.at += literal.len();
        Ok(())
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// Which containers are open: a bit a level, the innermost lowest, set for objects.
#[derive(Debug)]
struct Nesting {
    depth: usize,
    /// At most as many as `objects` has bits.
    depth_max: usize,
    objects: u128,
}

impl Nesting {
    fn push(&mut self, is_object: bool) -> Result<(), JsonError> {
        if self.depth == self.depth_max {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.objects = (self.objects << 1) | u128::from(is_object);
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn is_in_object(&self) -> Option<bool> {
        if self.depth == 0 { None } else { Some(self.objects & 1 == 1) }
    }
}

/// How many bytes come before a quote, a backslash or a control character. Most texts end within the first eight; long ones are
/// looked at sixteen bytes at a time.
#[inline]
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let Some(first) = bytes.first_chunk::<STEP_BYTES>() else { return plain_len_by_byte(bytes) };
    match special_bytes(u64::from_le_bytes(*first)) {
        0 => STEP_BYTES + long_plain_len(bytes.get(STEP_BYTES..).unwrap_or_default()),
        special => special.trailing_zeros() as usize / 8,
    }
}

/// At most sixteen bytes as a number, the first being the lowest, if none of them is a quote, a backslash or a control character.
#[inline]
pub(super) fn short_plain(bytes: &[u8]) -> Option<u128> {
    // Each is read by two loads that overlap, so that none is of a size which only the run knows.
    let (number, words) = match bytes.len() {
        8..=16 => {
            let (first, last) =
                (u64::from_le_bytes(*bytes.first_chunk()?), u64::from_le_bytes(*bytes.last_chunk()?));
            let number = u128::from(first) | u128::from(last) << (8 * (bytes.len() - 8));
            (number, [first, last])
        }
        4..=7 => {
            let (first, last) =
                (u32::from_le_bytes(*bytes.first_chunk()?), u32::from_le_bytes(*bytes.last_chunk()?));
            let (first, last) = (u64::from(first), u64::from(last));
            let word = first | last << 32;
            (u128::from(first | last << (8 * (bytes.len() - 4))), [word, word])
        }
        2..=3 => {
            let (first, last) =
                (u16::from_le_bytes(*bytes.first_chunk()?), u16::from_le_bytes(*bytes.last_chunk()?));
            let (first, last) = (u64::from(first), u64::from(last));
            let word = (first | last << 16) * (1 | 1 << 32);
            (u128::from(first | last << (8 * (bytes.len() - 2))), [word, word])
        }
        1 => {
            let byte = u64::from(*bytes.first()?);
            (u128::from(byte), [byte * ONES; 2])
        }
        0 => return Some(0),
        _ => return None,
    };
    (special_bytes(words[0]) | special_bytes(words[1]) == 0).then_some(number)
}

fn long_plain_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(chunk) = bytes.get(len..).and_then(|rest| rest.first_chunk::<WIDE_STEP_BYTES>()) {
        if has_special(chunk) {
            break;
        }
        len += WIDE_STEP_BYTES;
    }
    while let Some(chunk) = bytes.get(len..).and_then(|rest| rest.first_chunk::<STEP_BYTES>()) {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return len + special.trailing_zeros() as usize / 8;
        }
        len += STEP_BYTES;
    }
    len + plain_len_by_byte(bytes.get(len..).unwrap_or_default())
}

/// Whether there is one among these. Without a branch, so that the compiler compares all at once.
#[inline]
fn has_special(chunk: &[u8; WIDE_STEP_BYTES]) -> bool {
    chunk
        .iter()
        .fold(false, |is_special, &byte| is_special | (byte == b'"') | (byte == b'\\') | (byte < 0x20))
}

/// The naive twin of `plain_len`.
fn plain_len_by_byte(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| byte != b'"' && byte != b'\\' && byte >= 0x20).count()
}

/// The high bit of each byte that ends a run of plain ones. A borrow may mark bytes above the lowest mark
/// wrongly, never below it.
fn special_bytes(word: u64) -> u64 {
    let quotes = word ^ (ONES * u64::from(b'"'));
    let backslashes = word ^ (ONES * u64::from(b'\\'));
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let is_control = word.wrapping_sub(ONES * 0x20) & !word;
    (is_zero(quotes) | is_zero(backslashes) | is_control) & HIGH_BITS
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn assert_agrees_with_serde_json(text: &str) {
        let expected = serde_json::from_str::<IgnoredAny>(text).is_ok();
        assert_eq!(validate(text).is_ok(), expected, "{text:?}");
    }

    #[test]
    fn s2_to_s7_texts_are_valid_or_not_as_in_serde_json() {
        #[rustfmt::skip]
        let rows = [
            "", " ", "null", "nul", "nulll", "true", "tru e", "false", "True", "NaN", "Infinity", "undefined",
            "0", "-0", "-", "+1", "01", "-01", "00", "1.", ".5", "1.5", "1e5", "1E+5", "1e-5", "1e", "1e+",
            "1e999", "-1e-999", "1.e1", "0x10", "1 2", "1,", "123456789012345678901234567890", "0e0", "0.0",
            "[]", "[ ]", "[,]", "[1,]", "[1 ,2]", "[1 2]", "[", "]", "[1", "[[]]", "[[],[]]",
            "[]]", "[}", "{]",
            "{}", "{ }", "{,}",
            "{\"a\"}", "{\"a\":}", "{\"a\":1}", "{\"a\":1,}", "{\"a\" : 1 , \"b\" : [ { } ] }",
            "{a:1}", "{1:1}", "{\"a\":1 \"b\":2}", "{\"a\":1}}",
            "{\"a\":{\"b\":{}}}", "[{\"a\":[1]},2]", "{\"a\":1]",
            "\"\"", "\"", "\"a", "\"a\"b", "'a'", "\"\\\"\"", "\"\\\\\"", "\"\\\"", "\"\\x\"", "\"\\u12\"",
            "\"\\u12g4\"", "\"\\u1234\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\ude00\"",
            "\"\\ud83dx\"",
            "\"\\u00\"", "\"\\b\\f\\n\\r\\t\\/\"", "\"\\U1234\"", "\"\u{0}\"", "\"\u{1f}\"", "\"\u{7f}\"",
            "\"\n\"", "\"abcdefg\u{1f}\"", "\"äöü€😀\"", "\"0123456789abcdef\\n0123456789abcdef\"", "\u{feff}1",
            "\u{a0}1", "\u{b}1", "\t\r\n 1\t\r\n ", "/**/1", "[1]//", "\"\u{2028}\"", "t", "tr", "n", "f",
        ];
        rows.into_iter().for_each(assert_agrees_with_serde_json);
    }

    #[test]
    fn short_texts_are_plain_or_not_as_their_bytes_are() {
        for len in 0..=17_usize {
            let plain: Vec<u8> = (0..len as u8).map(|number| b'a' + number).collect();
            let number =
                |bytes: &[u8]| bytes.iter().rev().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
            assert_eq!(short_plain(&plain), (len <= 16).then(|| number(&plain)), "{len}");
            for (place, byte) in (0..len.min(16)).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
                let mut bytes = plain.clone();
                bytes[place] = byte;
                let is_plain = plain_len_by_byte(&bytes) == len && len <= 16;
                assert_eq!(
                    short_plain(&bytes),
                    is_plain.then(|| number(&bytes)),
                    "{byte} at {place} of {len}"
                );
            }
        }
    }

    #[test]
    fn depth_is_limited_however_it_is_reached() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(validate(&nested(JSON_DEPTH_MAX)), Ok(()));
            assert_eq!(validate(&nested(JSON_DEPTH_MAX + 1)), Err(JsonError::TooDeep));
        }
        assert_eq!(validate(&format!("[{}]", ["[]"; 1_000].join(","))), Ok(()));
    }

    #[test]
    fn elements_are_split_at_the_commas_between_them() {
        let rows: [(&str, &[&str]); 6] = [
            ("", &[]),
            (" ", &[]),
            ("1", &["1"]),
            (
                " 1 , \"a,]\" ,[1,[2]], {\"a\":\"}\"} , null ",
                &["1", "\"a,]\"", "[1,[2]]", "{\"a\":\"}\"}", "null"],
            ),
            ("\"\\\"\",\"\\\\\",2", &["\"\\\"\"", "\"\\\\\"", "2"]),
            ("[],{},\"\"", &["[]", "{}", "\"\""]),
        ];
        for (text, expected) in rows {
            assert_eq!(Elements::new(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn a_string_of_no_unicode_has_no_value() {
        assert_eq!(unescape("\"a\""), Some(Cow::Borrowed("a")));
        assert_eq!(unescape("\"\\u0061\""), Some(Cow::Borrowed("a")));
        assert_eq!(unescape("\"\\ud800\""), Some(Cow::Borrowed("\u{fffd}")));
        assert_eq!(unescape("\""), None);
    }

    /// Mostly JSON: values as a client writes them, with or without white space.
    pub(crate) fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "\\PC{0,20}".prop_map(|value| serde_json::to_string(&value).unwrap()),
            "\"([a-z\\]\\[{},: ]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,12}\"",
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = "\"[a-z\\]}]{0,3}\"";
            prop_oneof![
                (prop::collection::vec(inner.clone(), 0..4), "[ \t\n]{0,2}").prop_map(
                    |(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},")))
                ),
                (prop::collection::vec((key, inner), 0..4), "[ \r]{0,2}").prop_map(|(members, space)| {
                    let members: Vec<_> =
                        members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
                    format!("{{{space}{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_valid_or_not_as_in_serde_json(text in "\\PC{0,40}") {
            assert_agrees_with_serde_json(&text);
        }

        #[test]
        fn tokens_in_any_order_are_valid_or_not_as_in_serde_json(
            text in "([\\[\\]{}:,\"]|\"a\"|\"a\":|\\\\u|[0-9eE.+-]|null|true|[ \n\u{1}]){0,12}"
        ) {
            assert_agrees_with_serde_json(&text);
        }

        #[test]
        fn json_with_a_flaw_is_valid_or_not_as_in_serde_json(
            text in json(), place in any::<prop::sample::Index>(), flaw in prop::option::of(any::<char>())
        ) {
            prop_assert_eq!(validate(&text), Ok(()));
            let mut chars: Vec<char> = text.chars().collect();
            let place = place.index(chars.len());
            match flaw {
                Some(flaw) => chars[place] = flaw,
                None => { chars.remove(place); }
            }
            assert_agrees_with_serde_json(&chars.into_iter().collect::<String>());
        }

        #[test]
        fn skipping_ends_where_checking_does(
            text in json(), rest in prop::sample::select(vec!["", ",1", "]", " }"])
        ) {
            let text = format!("{text}{rest}");
            let mut scanner = Scanner::new(&text);
            prop_assert_eq!(scanner.value(), Ok(()));
            prop_assert_eq!(skip_value(&text), scanner.at);
        }

        #[test]
        fn elements_join_to_their_array(items in prop::collection::vec(json(), 0..5)) {
            let text = items.join(",");
            prop_assert_eq!(Elements::new(&text).collect::<Vec<_>>(), items);
        }

        #[test]
        fn anything_can_be_skipped(text in "[\\[\\]{}\",\\\\a ]{0,20}") {
            prop_assert!(skip_value(&text) <= text.len());
            prop_assert!(Elements::new(&text).count() <= text.len());
        }

        #[test]
        fn plain_bytes_are_counted_as_one_by_one(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(plain_len(&bytes), plain_len_by_byte(&bytes));
        }

        #[test]
        fn mostly_plain_bytes_are_counted_as_one_by_one(
            bytes in prop::collection::vec(prop_oneof![50 => 0x20_u8..=255, 1 => 0_u8..0x60], 0..90)
        ) {
            prop_assert_eq!(plain_len(&bytes), plain_len_by_byte(&bytes));
        }
    }

    /// Why values are not read by simd-json, which is faster for long ones: what clients may send, it reads otherwise or not at all.
    /// Should a row become equal, decision 7 in ARCHITECTURE.md says what else to look at.
    #[test]
    fn simd_json_reads_what_clients_send_otherwise() {
        let read = |text: &str| {
            let expected = serde_json::from_str::<serde_json::Value>(text).ok();
            let value = simd_json::serde::from_slice::<serde_json::Value>(&mut text.as_bytes().to_vec()).ok();
            (expected, value)
        };
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for text in ["18446744073709551616", "-0", r#""\ud800x""#, &deep] {
            let (expected, value) = read(text);
            assert_ne!(
                expected.map(|value| value.to_string()),
                value.map(|value| value.to_string()),
                "{text} is read alike now"
            );
        }
        for text in ["1", "[1,2.5,null,true]", r#"{"a":"b\n"}"#, "1.5", "18446744073709551615"] {
            let (expected, value) = read(text);
            assert!(expected.is_some() && expected == value, "{text}");
        }
    }
}
