//! The header fields of one request, borrowed from the read buffer (RFC 9110 §5, §6.3).
//!
//! Does not decide what a field means; `head.rs` reads those that frame the message.

use std::mem::MaybeUninit;

use crate::base::limits::HEADERS_MAX;

/// Room for the fields of one head, left uninitialised: making one costs nothing, so keep it on the stack.
pub(crate) struct HeaderStorage<'a>(pub(super) [MaybeUninit<httparse::Header<'a>>; HEADERS_MAX]);

impl HeaderStorage<'_> {
    /// Empty room.
    pub(crate) fn new() -> Self {
        HeaderStorage([const { MaybeUninit::uninit() }; HEADERS_MAX])
    }
}

/// The header fields of one request, in the order they came.
///
/// Names compare without case. Values are UTF-8 with the blanks around them removed; a request with
/// other bytes in a value was answered 400 before anybody saw it.
#[derive(Clone, Copy)]
pub struct Headers<'a, 's> {
    /// Every value has passed `from_utf8`: `Headers::checked` is the only way in.
    fields: &'s [httparse::Header<'a>],
}

impl<'a, 's> Headers<'a, 's> {
    /// `None` when a value is not UTF-8. `head` is what the fields were read from: one look at nearly every
    /// head finds nothing but ASCII, and spares a look at each value.
    pub(super) fn checked(head: &[u8], fields: &'s [httparse::Header<'a>]) -> Option<Headers<'a, 's>> {
        let is_text = |field: &httparse::Header<'_>| std::str::from_utf8(field.value).is_ok();
        (head.is_ascii() || fields.iter().all(is_text)).then_some(Headers { fields })
    }

    /// Names and values before the values are taken for text.
    pub(super) fn raw(&self) -> impl Iterator<Item = (&'a str, RawValue<'a>)> + use<'a, 's> {
        self.fields.iter().map(|field| (field.name, RawValue(field.value)))
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let field = self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(text(field.value))
    }

    /// Every value of a field, in order.
    pub fn get_all<'n>(&self, name: &'n str) -> impl DoubleEndedIterator<Item = &'a str> + use<'a, 's, 'n> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every name with its value, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> + use<'a, 's> {
        self.fields.iter().map(|field| (field.name, text(field.value)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field at all, which only HTTP/1.0 allows.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether a comma-separated field such as `Connection` or `Upgrade` lists `token`, in any case and in
    /// any of its lines (RFC 9110 §5.6.1).
    pub fn contains_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token))
    }
}

impl std::fmt::Debug for Headers<'_, '_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

/// A value that is taken for text only when somebody cares: most fields of a request interest nobody.
pub(super) struct RawValue<'a>(&'a [u8]);

impl<'a> RawValue<'a> {
    pub(super) fn text(self) -> &'a str {
        text(self.0)
    }
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1.2).
pub(crate) fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

/// Whether a byte may stand in a token: a method, a field name, a cookie name (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a text is a token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).expect("Headers::checked has seen every value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a, 's>(fields: &'s [httparse::Header<'a>]) -> Headers<'a, 's> {
        Headers::checked(b"\xff", fields).expect("the table is UTF-8")
    }

    #[test]
    fn s5_1_names_compare_without_case_and_the_first_wins() {
        let fields = [
            httparse::Header { name: "X-One", value: b"1" },
            httparse::Header { name: "x-one", value: "zwei \u{fc}".as_bytes() },
        ];
        let headers = headers(&fields);
        assert_eq!(headers.get("X-ONE"), Some("1"));
        assert_eq!(headers.get("X-Two"), None);
        assert_eq!(headers.get_all("x-One").collect::<Vec<_>>(), ["1", "zwei \u{fc}"]);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn s5_6_1_tokens_are_found_in_any_line_of_a_list() {
        let fields = [
            httparse::Header { name: "Connection", value: b"keep-alive ,, \tUpgrade" },
            httparse::Header { name: "connection", value: b"TE" },
        ];
        for (token, found) in
            [("upgrade", true), ("Keep-Alive", true), ("te", true), ("close", false), ("", false)]
        {
            assert_eq!(headers(&fields).contains_token("Connection", token), found, "{token}");
        }
    }

    #[test]
    fn s5_5_a_value_that_is_not_utf8_is_no_value() {
        assert!(Headers::checked(b"\xfc", &[httparse::Header { name: "a", value: b"\xfc" }]).is_none());
    }
}
