//! Texts with placeholders: the arguments of `--event`, `--auth`, `--query` and `--header`.
//!
//! A text is cut into pieces once, so that a message costs copies and a few digits. What a placeholder becomes needs no escape in JSON, so a
//! template that is JSON once is JSON each time. Random pieces depend on the client and the number of its message alone, so every run
//! sends the same.

use super::clock;
use super::error::BenchError;
use super::packet::push_number;

/// One text with its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
    clients: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The client's number, from 0.
    Client,
    /// The same, divided by this: what is left.
    ClientModulo(u32),
    /// The number of this message among the client's, from 0.
    N,
    /// A number that no other message of the run has.
    Count,
    /// A number from the first to the second.
    Random(u64, u64),
    /// So many letters, from the first to the second number.
    Letters(u64, u64),
    /// One of these.
    Pick(Vec<String>),
    /// Milliseconds since 1970.
    Now,
}

/// The placeholders, and how they are written.
const NAMES: [(&str, &str); 7] = [
    ("client", "{{client}}"),
    ("n", "{{n}}"),
    ("count", "{{count}}"),
    ("random", "{{random}} or {{random 1 6}}"),
    ("text", "{{text 100}} or {{text 10 2000}}"),
    ("pick", "{{pick red green blue}}"),
    ("now", "{{now}}"),
];
/// The most letters of one `{{text}}`: a message of these alone is one that no server takes unasked.
const LETTERS_MAX: u64 = 1 << 20;
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

impl Template {
    /// The event's name and its arguments as one JSON array, to be sent as it is.
    pub(super) fn of_event(name: &str, data: &[String], clients: u32) -> Result<Self, BenchError> {
        let mut text = format!("[{}", serde_json::Value::from(name));
        for argument in data {
            Self::json("--data", argument, clients)?;
            text.push(',');
            text.push_str(argument);
        }
        text.push(']');
        Self::json("--event", &text, clients)
    }

    /// Reads JSON with placeholders; `option` is named when it is none.
    pub(super) fn json(option: &str, text: &str, clients: u32) -> Result<Self, BenchError> {
        let template = Self::text(option, text, clients)?;
        let mut sample = Vec::new();
        template.render(&mut sample, 1, 1);
        match serde_json::from_slice::<serde::de::IgnoredAny>(&sample) {
            Ok(_) => Ok(template),
            Err(error) => Err(BenchError::Usage(format!(
                "{option} {text} is not JSON: {error}; a text needs quotes of its own, as in {option} '\"hello\"'"
            ))),
        }
    }

    /// Reads any text with placeholders.
    pub(super) fn text(option: &str, text: &str, clients: u32) -> Result<Self, BenchError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, inner)) = rest.split_once("{{") {
            let Some((words, after)) = inner.split_once("}}") else { break };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(
                Piece::parse(words).map_err(|why| BenchError::Usage(format!("{option} {text}: {why}")))?,
            );
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { pieces, clients })
    }

    /// `name=`, and the client's number among so many.
    pub(super) fn of_group(name: &str, groups: u32) -> Self {
        Self { pieces: vec![Piece::Text(format!("{name}=")), Piece::ClientModulo(groups)], clients: 1 }
    }

    /// With every text changed, as by an escape.
    pub(super) fn escaped(self, escape: impl Fn(&str) -> String) -> Self {
        let change = |piece| match piece {
            Piece::Text(text) => Piece::Text(escape(&text)),
            Piece::Pick(words) => Piece::Pick(words.iter().map(|word| escape(word)).collect()),
            piece => piece,
        };
        Self { pieces: self.pieces.into_iter().map(change).collect(), ..self }
    }

    /// Appends the text for one message.
    pub(super) fn render(&self, out: &mut Vec<u8>, client: u32, n: u64) {
        for (place, piece) in self.pieces.iter().enumerate() {
            let mixed = || mix(u64::from(client) << 40 ^ n << 8 ^ place as u64);
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Client => push_number(out, u64::from(client)),
                Piece::ClientModulo(groups) => push_number(out, u64::from(client % groups)),
                Piece::N => push_number(out, n),
                Piece::Count => push_number(out, n * u64::from(self.clients) + u64::from(client)),
                Piece::Random(from, to) => push_number(out, between(mixed(), *from, *to)),
                Piece::Letters(from, to) => push_letters(out, mixed(), between(mixed(), *from, *to)),
                Piece::Pick(words) => {
                    let at = between(mixed(), 0, words.len() as u64 - 1);
                    out.extend_from_slice(words.get(at as usize).map_or("", String::as_str).as_bytes());
                }
                Piece::Now => push_number(out, clock::unix_nanos() / 1_000_000),
            }
        }
    }
}

impl Piece {
    fn parse(words: &str) -> Result<Self, String> {
        let mut words = words.split_whitespace();
        let name = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let Some((_, written)) = NAMES.iter().find(|known| known.0 == name) else {
            let nearest = NAMES
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a.0, name).total_cmp(&strsim::jaro_winkler(b.0, name)));
            let nearest = nearest.map_or("", |known| known.1);
            return Err(format!("{{{{{name}}}}} is no placeholder; did you mean {nearest}?"));
        };
        let numbers: Option<Vec<u64>> = rest.iter().map(|word| word.parse().ok()).collect();
        let piece = match (name, numbers.as_deref()) {
            ("client", Some([])) => Some(Self::Client),
            ("n", Some([])) => Some(Self::N),
            ("count", Some([])) => Some(Self::Count),
            ("now", Some([])) => Some(Self::Now),
            ("random", Some([])) => Some(Self::Random(0, u64::from(u32::MAX))),
            ("random", Some(&[from, to])) if from <= to => Some(Self::Random(from, to)),
            ("text", Some(&[len])) if len <= LETTERS_MAX => Some(Self::Letters(len, len)),
            ("text", Some(&[from, to])) if from <= to && to <= LETTERS_MAX => Some(Self::Letters(from, to)),
            ("pick", _) if !rest.is_empty() && rest.iter().all(|word| is_plain(word)) => {
                Some(Self::Pick(rest.iter().map(|&word| word.to_owned()).collect()))
            }
            _ => None,
        };
        piece.ok_or_else(|| {
            format!(
                "{{{{{name} {}}}}} makes no sense; write {written}, with at most {LETTERS_MAX} letters",
                rest.join(" ")
            )
        })
    }
}

/// True for what needs no escape within quotes.
fn is_plain(word: &str) -> bool {
    !word.chars().any(|char| char.is_control() || matches!(char, '"' | '\\'))
}

fn between(mixed: u64, from: u64, to: u64) -> u64 {
    match (to - from).checked_add(1) {
        Some(values) => from + mixed % values,
        None => mixed,
    }
}

fn push_letters(out: &mut Vec<u8>, mut seed: u64, len: u64) {
    let mut left = len;
    while left > 0 {
        seed = mix(seed);
        // Ten letters of six bits each.
        for shift in 0..left.min(10) {
            out.push(LETTERS[(seed >> (6 * shift) & 63) as usize]);
        }
        left -= left.min(10);
    }
}

/// splitmix64's finisher: numbers beside each other become numbers far apart.
pub(super) fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn rendered(text: &str, client: u32, n: u64) -> String {
        let mut out = Vec::new();
        Template::json("--data", text, 10).unwrap().render(&mut out, client, n);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn placeholders_are_replaced_wherever_they_stand() {
        let rows = [
            ("1", "1"),
            ("\"{{client}}\"", "\"7\""),
            ("{{ client }}", "7"),
            ("{\"user\":\"u-{{client}}\",\"n\":{{n}}}", "{\"user\":\"u-7\",\"n\":42}"),
            ("[{{n}},{{client}},{{count}}]", "[42,7,427]"),
            ("\"{{pick a}} {{random 5 5}} \u{e9} }} {\"", "\"a 5 \u{e9} }} {\""),
        ];
        for (text, expected) in rows {
            assert_eq!(rendered(text, 7, 42), expected, "{text}");
        }
    }

    #[test]
    fn random_pieces_differ_come_again_and_keep_to_their_bounds() {
        let of = |client, n| rendered("{{random}}", client, n).parse::<u32>().unwrap();
        assert_eq!(of(1, 1), of(1, 1));
        assert!(of(1, 1) != of(1, 2) && of(1, 1) != of(2, 1));
        let (mut sizes, mut words) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..200 {
            assert!((1..=6).contains(&rendered("{{random 1 6}}", 0, n).parse::<u32>().unwrap()));
            let text = rendered("\"{{text 3 30}}\"", 0, n);
            assert!((5..=32).contains(&text.len()), "{text}");
            sizes.insert(text.len());
            words.insert(rendered("\"{{pick red green}}\"", 0, n));
        }
        assert_eq!((sizes.len(), words.len()), (28, 2), "every size and every word comes");
        assert_eq!(rendered("\"{{text 1000}}\"", 3, 4).len(), 1_002);
    }

    #[test]
    fn what_is_no_json_is_refused_with_the_option_in_the_text() {
        for text in ["", "hello", "{{n}", "{\"a\":}", "\"{{n}}", "1 2"] {
            let error = Template::json("--data", text, 1).unwrap_err().to_string();
            assert!(error.contains("--data") && error.contains("JSON"), "{error}");
        }
        assert!(
            Template::of_event("a", &["1],[2".to_owned()], 1).is_err(),
            "an argument cannot end the array"
        );
    }

    #[test]
    fn a_placeholder_that_is_none_names_the_nearest() {
        let rows = [
            ("{{clinet}}", "did you mean {{client}}?"),
            ("{{Random}}", "did you mean {{random}}"),
            ("{{texts 5}}", "did you mean {{text 100}}"),
            ("{{text}}", "write {{text 100}}"),
            ("{{random 6 1}}", "write {{random}} or {{random 1 6}}"),
            ("{{text 99999999}}", "at most 1048576 letters"),
            ("{{pick}}", "write {{pick red"),
            ("{{pick a\\b}}", "write {{pick red"),
        ];
        for (text, expected) in rows {
            let error = Template::json("--data", text, 1).unwrap_err().to_string();
            assert!(error.starts_with("--data") && error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_event_is_its_name_and_its_arguments() {
        let mut out = Vec::new();
        let data = ["{\"text\":\"{{n}}\"}".to_owned(), "true".to_owned()];
        Template::of_event("say \"hi\"", &data, 1).unwrap().render(&mut out, 0, 3);
        assert_eq!(String::from_utf8(out).unwrap(), r#"["say \"hi\"",{"text":"3"},true]"#);
    }
}
