//! The header fields of one request, borrowed from the read buffer (RFC 9110 §5, §6.3).
//!
//! Does not decide what a field means; `head.rs` reads those that frame the message.

use std::mem::MaybeUninit;

use crate::base::limits::HEADERS_MAX;

/// Room for the fields of one head, left uninitialised: making one costs nothing, so keep it on the stack.
pub(crate) struct HeaderStorage<'a> {
    pub(super) fields: [MaybeUninit<httparse::Header<'a>>; HEADERS_MAX],
    /// Empty, and without memory, for nearly every head.
    pub(super) lossy: Vec<LossyValue>,
}

impl HeaderStorage<'_> {
    /// Empty room.
    pub(crate) fn new() -> Self {
        HeaderStorage { fields: [const { MaybeUninit::uninit() }; HEADERS_MAX], lossy: Vec::new() }
    }
}

/// A value that is not UTF-8, in the form in which it is shown.
#[derive(Debug)]
pub(super) struct LossyValue {
    /// The place of its field.
    place: usize,
    text: String,
}

/// The header fields of one request, in the order they came.
///
/// Names compare without case, and the blanks around values are removed. A value is bytes (RFC 9110 §5.5), nearly always
/// text: where it is not UTF-8, methods that give text have U+FFFD (\u{FFFD}) in place of those bytes, and methods whose
/// names end in `bytes` have the value as it came.
#[derive(Clone, Copy)]
pub struct Headers<'a, 's> {
    fields: &'s [httparse::Header<'a>],
    /// Every value that is not UTF-8: `Headers::new` is the only way in.
    lossy: &'s [LossyValue],
}

impl<'a, 's> Headers<'a, 's> {
    /// `head` is what the fields were read from: one look at nearly every head finds nothing but ASCII, and spares a
    /// look at each value.
    pub(super) fn new(
        head: &[u8],
        fields: &'s [httparse::Header<'a>],
        lossy: &'s mut Vec<LossyValue>,
    ) -> Headers<'a, 's> {
        if !head.is_ascii() {
            let broken = fields.iter().enumerate().filter(|(_, field)| str::from_utf8(field.value).is_err());
            lossy.extend(broken.map(|(place, field)| LossyValue {
                place,
                text: String::from_utf8_lossy(field.value).into_owned(),
            }));
        }
        Headers { fields, lossy }
    }

    /// The first value of a field, as text.
    pub fn get(&self, name: &str) -> Option<&'s str> {
        let place = self.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(self.text(place))
    }

    /// The first value of a field, as it came.
    ///
    /// ```
    /// # use shardcast::http::{Request, Response};
    /// /// A client that writes its name in Latin-1, in which every byte is a character of the same number.
    /// fn name(request: &Request<'_>) -> String {
    ///     let name = request.headers().get_bytes("x-name").unwrap_or_default();
    ///     name.iter().map(|&byte| char::from(byte)).collect()
    /// }
    /// ```
    pub fn get_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Every value of a field, in order, as text.
    pub fn get_all<'n>(&self, name: &'n str) -> impl DoubleEndedIterator<Item = &'s str> + use<'a, 's, 'n> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every value of a field, in order, as they came.
    pub fn get_all_bytes<'n>(
        &self,
        name: &'n str,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 's, 'n> {
        self.iter_bytes().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every name with its value, in order, as text.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'s str)> + use<'a, 's> {
        let headers = *self;
        self.fields.iter().enumerate().map(move |(place, field)| (field.name, headers.text(place)))
    }

    /// Every name with its value, in order, as they came.
    pub fn iter_bytes(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> + use<'a, 's> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// The first value of a field if it is UTF-8: for what is compared and must not be equal to another by what is shown of
    /// it.
    pub(crate) fn get_utf8(&self, name: &str) -> Option<&'a str> {
        str::from_utf8(self.get_bytes(name)?).ok()
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

    fn text(&self, place: usize) -> &'s str {
        let value = self.fields.get(place).map_or(&[][..], |field| field.value);
        str::from_utf8(value).unwrap_or_else(|_| {
            let shown = self.lossy.iter().find(|lossy| lossy.place == place);
            shown.map_or("", |lossy| lossy.text.as_str())
        })
    }
}

impl std::fmt::Debug for Headers<'_, '_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1.2).
pub(crate) fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

/// The elements of a list that may hold any bytes.
pub(super) fn byte_elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether a byte may stand in a token: a method, a field name, a cookie name (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a text is a token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_1_names_compare_without_case_and_the_first_wins() {
        let fields = [
            httparse::Header { name: "X-One", value: b"1" },
            httparse::Header { name: "x-one", value: "zwei \u{fc}".as_bytes() },
        ];
        let mut lossy = Vec::new();
        let headers = Headers::new(b"\xff", &fields, &mut lossy);
        assert_eq!(headers.get("X-ONE"), Some("1"));
        assert_eq!(headers.get("X-Two"), None);
        assert_eq!(headers.get_all("x-One").collect::<Vec<_>>(), ["1", "zwei \u{fc}"]);
        assert_eq!(headers.len(), 2);
        assert!(headers.lossy.is_empty(), "UTF-8 is shown as it came");
    }

    #[test]
    fn s5_6_1_tokens_are_found_in_any_line_of_a_list() {
        let fields = [
            httparse::Header { name: "Connection", value: b"keep-alive ,, \tUpgrade, caf\xe9" },
            httparse::Header { name: "connection", value: b"TE" },
        ];
        let mut lossy = Vec::new();
        let headers = Headers::new(b"\xff", &fields, &mut lossy);
        for (token, found) in
            [("upgrade", true), ("Keep-Alive", true), ("te", true), ("close", false), ("", false)]
        {
            assert_eq!(headers.contains_token("Connection", token), found, "{token}");
        }
    }

    #[test]
    fn s5_5_a_value_is_bytes_and_shown_as_text() {
        let fields = [
            httparse::Header { name: "User-Agent", value: b"caf\xe9/1" },
            httparse::Header { name: "Cookie", value: b"a=1" },
            httparse::Header { name: "cookie", value: b"b=\xff\xfe" },
        ];
        let mut lossy = Vec::new();
        let headers = Headers::new(b"\xff", &fields, &mut lossy);
        assert_eq!(headers.get("user-agent"), Some("caf\u{fffd}/1"));
        assert_eq!(headers.get_bytes("user-agent"), Some(&b"caf\xe9/1"[..]));
        assert_eq!(headers.get_utf8("user-agent"), None);
        assert_eq!(headers.get_utf8("cookie"), Some("a=1"));
        assert_eq!(headers.get_all("COOKIE").collect::<Vec<_>>(), ["a=1", "b=\u{fffd}\u{fffd}"]);
        assert_eq!(headers.get_all_bytes("cookie").last(), Some(&b"b=\xff\xfe"[..]));
        assert_eq!(headers.iter_bytes().map(|(_, value)| value.len()).sum::<usize>(), 6 + 3 + 4);
    }
}
