//! A peer's words in a log line or an error: bounded, and safe to print.
//!
//! Serde quotes what it does not know, a handler's error what it was given, and a terminal does what an escape sequence
//! says. Does not decide what is logged.

use std::fmt::{self, Write};

/// Characters that are shown of a peer's text, each escape counted as one. Enough to recognise it by.
const SHOWN_CHARS_MAX: usize = 300;

/// Shows a value without control characters and without what rearranges a line, and no more than its beginning: `{}` as it
/// is, `{:?}` in quotes.
#[derive(Clone, Copy)]
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_shown(formatter, &self.0, UNQUOTED)
    }
}

impl<T: fmt::Display> fmt::Debug for Shown<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_char('"')?;
        write_shown(formatter, &self.0, &['\''])?;
        formatter.write_char('"')
    }
}

fn write_shown(
    formatter: &mut fmt::Formatter<'_>,
    value: &impl fmt::Display,
    as_they_are: &'static [char],
) -> fmt::Result {
    let mut escaping = Escaping { out: formatter, as_they_are, left: SHOWN_CHARS_MAX, is_cut: false };
    write!(escaping, "{value}")?;
    if escaping.is_cut { formatter.write_str("..") } else { Ok(()) }
}

/// A character, or an escape in the place of one that prints nothing or something else.
pub(crate) fn safe(char: char, as_they_are: &[char]) -> impl Iterator<Item = char> + use<> {
    let escaped = (!as_they_are.contains(&char)).then(|| char.escape_debug());
    let plain = escaped.is_none().then_some(char);
    escaped.into_iter().flatten().chain(plain)
}

/// What needs no escape outside of quotes.
pub(crate) const UNQUOTED: &[char] = &['\'', '"', '\\'];

struct Escaping<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    as_they_are: &'static [char],
    left: usize,
    is_cut: bool,
}

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.left == 0 {
                self.is_cut = true;
                return Ok(());
            }
            self.left -= 1;
            safe(char, self.as_they_are).try_for_each(|char| self.out.write_char(char))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_begins_a_line_or_moves_the_cursor() {
        let rows = [
            ("plain, `quoted` \"ä\" 'x' \\", "plain, `quoted` \"ä\" 'x' \\"),
            ("a\r\nINFO forged", "a\\r\\nINFO forged"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("left\u{202e}right\u{2028}\u{85}", "left\\u{202e}right\\u{2028}\\u{85}"),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\0"),
        ];
        for (text, expected) in rows {
            assert_eq!(Shown(text).to_string(), expected);
        }
        assert_eq!(format!("{:?}", Shown("a\"b\n'")), r#""a\"b\n'""#);
    }

    #[test]
    fn only_the_beginning_is_shown() {
        let long = "x".repeat(SHOWN_CHARS_MAX);
        assert_eq!(Shown(&long).to_string(), long);
        let longer = format!("{long}\n{long}");
        assert_eq!(Shown(&longer).to_string(), format!("{long}.."));
        assert_eq!(format!("{}", Shown(format_args!("{long}{}", 7))), format!("{long}.."));
    }
}
