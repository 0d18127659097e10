//! Entity tags of files and the conditional GET (RFC 9110 §8.8.3, §13.1.2).
//!
//! Does not read the file: its length and time of change are arguments.

use super::headers::elements;

/// A tag that changes whenever the bytes do, which only the caller can promise: a build's bundle, say.
pub(crate) fn strong(bytes: u64, modified_nanos: u128) -> String {
    format!("\"{bytes:x}-{modified_nanos:x}\"")
}

/// A tag for a file on disk, where two writes within one clock tick look alike.
pub(crate) fn weak(bytes: u64, modified_nanos: u128) -> String {
    format!("W/{}", strong(bytes, modified_nanos))
}

/// Whether an `If-None-Match` header names the tag, so that the answer is 304. Compares weakly, as §13.1.2
/// demands; `*` names every tag.
pub(crate) fn if_none_match(header: &str, etag: &str) -> bool {
    header.trim() == "*" || elements(header).any(|other| opaque(other) == opaque(etag))
}

fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s8_8_3_tags_are_quoted() {
        assert_eq!(strong(255, 16), "\"ff-10\"");
        assert_eq!(weak(255, 16), "W/\"ff-10\"");
    }

    #[test]
    fn s13_1_2_tags_compare_weakly() {
        for (header, matches) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", W/\"a\"", true),
            (" * ", true),
            ("\"b\"", false),
            ("a", false),
            ("w/\"a\"", false),
            ("", false),
        ] {
            assert_eq!(if_none_match(header, "\"a\""), matches, "{header}");
            assert_eq!(if_none_match(header, "W/\"a\""), matches, "{header}");
        }
    }
}
