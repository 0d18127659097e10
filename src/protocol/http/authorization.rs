//! Who a request says it is from (RFC 9110 §11): the header `Authorization`, as a bearer token (RFC 6750 §2.1) or as a name with a
//! password (RFC 7617).
//!
//! Values are compared in constant time. Does not decide who may do what.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// What a request has in `Authorization`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    Bearer(String),
    Basic {
        user: String,
        password: String,
    },
    /// Another scheme, or not what its scheme says.
    Other,
}

impl Authorization {
    /// Reads the header's value.
    pub(crate) fn parse(value: &str) -> Authorization {
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Authorization::Bearer(rest.to_owned());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Authorization::basic(rest).unwrap_or(Authorization::Other);
        }
        Authorization::Other
    }

    fn basic(encoded: &str) -> Option<Authorization> {
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Authorization::Basic { user: user.to_owned(), password: password.to_owned() })
    }
}

/// Whether two texts are equal. How long it takes says nothing about where they differ: their digests are compared, each byte of them.
pub(crate) fn is_same_secret(one: &str, other: &str) -> bool {
    is_same_digest(&Sha256::digest(one).into(), &Sha256::digest(other).into())
}

/// Whether two digests are equal, with the same promise.
pub(crate) fn is_same_digest(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other));
    std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s11_6_2_schemes_are_read_whatever_their_case() {
        let bearer = |token: &str| Authorization::Bearer(token.to_owned());
        let basic = |user: &str, password: &str| Authorization::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        for (value, expected) in [
            ("Bearer abc", bearer("abc")),
            ("bearer  abc ", bearer("abc")),
            // RFC 7617 §2: the example, and a password with a colon.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", basic("Aladdin", "open sesame")),
            ("BASIC YTpiOmM=", basic("a", "b:c")),
            ("Basic YTo=", basic("a", "")),
            ("Basic YQ==", Authorization::Other),
            ("Basic ///", Authorization::Other),
            ("Basic /w==", Authorization::Other),
            ("Bearer", Authorization::Other),
            ("Bearer ", Authorization::Other),
            ("Digest username=a", Authorization::Other),
            ("", Authorization::Other),
        ] {
            assert_eq!(Authorization::parse(value), expected, "{value:?}");
        }
    }

    #[test]
    fn secrets_are_the_same_or_not() {
        for (one, other, is_same) in [
            ("", "", true),
            ("abc", "abc", true),
            ("abc", "abd", false),
            ("abc", "abcd", false),
            ("", "a", false),
        ] {
            assert_eq!(is_same_secret(one, other), is_same, "{one:?} {other:?}");
        }
    }
}
