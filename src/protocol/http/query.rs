//! Query strings and percent-encoding (RFC 3986 §2.1; WHATWG URL, application/x-www-form-urlencoded).
//!
//! Borrows wherever nothing had to be decoded, which is every Engine.IO request.

use std::borrow::Cow;

/// The names and values of a query, decoded: `+` is a space, bytes that are not UTF-8 become U+FFFD, a `%`
/// without two hexadecimal digits stays. Empty pieces are left out.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|piece| !piece.is_empty()).map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        (form_decode(name), form_decode(value))
    })
}

/// The value of a name; of a name given twice the last one, as Python and Node clients' servers have it.
pub(crate) fn get_last<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    query.rsplit('&').filter(|piece| !piece.is_empty()).find_map(|piece| {
        let (found, value) = piece.split_once('=').unwrap_or((piece, ""));
        (form_decode(found) == name).then(|| form_decode(value))
    })
}

/// Encodes a name or a value: everything but letters, digits and `-._~` is escaped.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Decodes a path once: `+` stays a plus. `None` when an escape is broken or the result is not UTF-8, which
/// no file and no route of ours is named.
pub(crate) fn percent_decode_path(path: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'%', path.as_bytes()).is_none() {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = if byte == b'%' { decode_escape(after)? } else { (byte, after) };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match byte {
            b'+' => (b' ', after),
            b'%' => decode_escape(after).unwrap_or((b'%', after)),
            _ => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(_) => String::from_utf8(bytes).expect("from_utf8_lossy borrows only what is UTF-8"),
        Cow::Owned(text) => text,
    })
}

/// The byte that two hexadecimal digits name, and what follows them.
fn decode_escape(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], rest) = after_percent.split_first_chunk()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(high)? << 4 | digit(low)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_as_forms_are() {
        for (query, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("EIO=4&transport=polling", &[("EIO", "4"), ("transport", "polling")]),
            ("a", &[("a", "")]),
            ("a=&=b&a=b=c", &[("a", ""), ("", "b"), ("a", "b=c")]),
            ("a+b=c%20d%2Be", &[("a b", "c d+e")]),
            ("%e2%82%ac=%E2%82%AC", &[("\u{20ac}", "\u{20ac}")]),
            ("a=%ff%zz%4", &[("a", "\u{fffd}%zz%4")]),
            ("a=%", &[("a", "%")]),
            ("a=%%41", &[("a", "%A")]),
        ] {
            let pairs: Vec<_> = pairs(query).collect();
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(pairs, expected, "{query}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_name_wins() {
        for (query, expected) in [
            ("EIO=3&EIO=4", Some("4")),
            ("%45IO=4", Some("4")),
            ("EIO", Some("")),
            ("eio=4", None),
            ("", None),
        ] {
            assert_eq!(get_last(query, "EIO").as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn a_path_is_decoded_once_and_strictly() {
        for (path, expected) in [
            ("/plain+plus", Some("/plain+plus")),
            ("/a%20b", Some("/a b")),
            ("/%252e", Some("/%2e")),
            ("/%e2%82%ac", Some("/\u{20ac}")),
            ("/%ff", None),
            ("/%4", None),
            ("/%+1", None),
        ] {
            assert_eq!(percent_decode_path(path).as_deref(), expected, "{path}");
        }
    }
}
