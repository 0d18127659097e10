//! The `Sec-WebSocket-Extensions` field (RFC 6455 §9.1), and which offer of permessage-deflate is accepted
//! (RFC 7692 §5, §7.1).
//!
//! The only answer is one without context takeover either way: nothing is kept for a connection between two messages,
//! and a broadcast is compressed once for all. Does not compress (`deflate`).

use super::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use super::handshake::is_token;

/// What was agreed: the value of the answer's field, and whether the client wants the narrow window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) answer: &'static str,
    /// Messages to it refer back by `deflate::WINDOW_BITS_MIN` at most: any window that an offer names holds those.
    pub(crate) is_narrow: bool,
}

/// The answer to an offer that leaves our window alone.
const ACCEPTED: Accepted = Accepted {
    answer: "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    is_narrow: false,
};

/// The answer to one that names the window which we use anyway: it has to be repeated (RFC 7692 §7.1.2.1).
const ACCEPTED_WIDE: Accepted = Accepted {
    answer: "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
    is_narrow: false,
};

/// The answer to one that names a narrower window: the narrowest, so that there are two forms of a message and not seven.
const ACCEPTED_NARROW: Accepted = Accepted {
    answer: "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9",
    is_narrow: true,
};

const _: () = assert!(WINDOW_BITS_MAX == 15 && WINDOW_BITS_MIN == 9, "as the answers say");

/// Whether a field has the form of a list of extensions. One that has not fails the handshake (RFC 6455 §9.1).
pub(crate) fn is_list(field: &str) -> bool {
    offers(field).all(|offer| {
        let mut parts = offer.split(';').map(str::trim_ascii);
        parts.next().is_some_and(is_token) && parts.all(|part| param(part).is_some())
    })
}

/// The answer to the first offer in a list that can be kept; `None` if there is none.
pub(crate) fn accept_deflate(field: &str) -> Option<Accepted> {
    offers(field).find_map(|offer| match offer.split_once(';') {
        None if offer == "permessage-deflate" => Some(ACCEPTED),
        Some((name, params)) if name.trim_ascii() == "permessage-deflate" => answer_to(params),
        _ => None,
    })
}

/// The answer to an offer with these parameters, each of which may stand there once (RFC 7692 §7.1).
fn answer_to(params: &str) -> Option<Accepted> {
    let mut answer = ACCEPTED;
    let names = || params.split(';').map(|part| param(part.trim_ascii()).map(|(name, _)| name));
    for (place, part) in params.split(';').enumerate() {
        let (name, value) = param(part.trim_ascii())?;
        if names().take(place).any(|other| other == Some(name)) {
            return None;
        }
        match (name, value) {
            (
                "server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits",
                None,
            ) => {}
            // Its window is never larger than ours, so any will do.
            ("client_max_window_bits", Some("8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")) => {}
            ("server_max_window_bits", Some("15")) => answer = ACCEPTED_WIDE,
            ("server_max_window_bits", Some("9" | "10" | "11" | "12" | "13" | "14")) => {
                answer = ACCEPTED_NARROW;
            }
            _ => return None,
        }
    }
    Some(answer)
}

fn offers(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').map(str::trim_ascii).filter(|offer| !offer.is_empty())
}

/// A parameter's name and value. A quoted value is a token as well, so it holds no separator.
fn param(part: &str) -> Option<(&str, Option<&str>)> {
    let Some((name, value)) = part.split_once('=') else { return is_token(part).then_some((part, None)) };
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    (is_token(name) && is_token(unquoted)).then_some((name, Some(unquoted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7692_s7_1_the_first_offer_that_can_be_kept_is_answered() {
        let rows = [
            ("permessage-deflate", Some(ACCEPTED)),
            // Chromium, Firefox, Node's ws, Python's websockets.
            ("permessage-deflate; client_max_window_bits", Some(ACCEPTED)),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", Some(ACCEPTED)),
            ("permessage-deflate;client_max_window_bits=10", Some(ACCEPTED)),
            ("permessage-deflate; client_max_window_bits=\"10\"", Some(ACCEPTED)),
            ("permessage-deflate; server_max_window_bits=15", Some(ACCEPTED_WIDE)),
            ("permessage-deflate; server_max_window_bits=10", Some(ACCEPTED_NARROW)),
            // Autobahn 13.3 and 13.5.
            ("permessage-deflate; server_max_window_bits=9", Some(ACCEPTED_NARROW)),
            (
                "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
                Some(ACCEPTED_NARROW),
            ),
            // A smaller window than the compressor has: the next offer may do.
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some(ACCEPTED)),
            ("permessage-bzip2, permessage-deflate", Some(ACCEPTED)),
            ("x-webkit-deflate-frame", None),
            ("permessage-deflate; unknown", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; client_max_window_bits=16", None),
            ("permessage-deflate; client_max_window_bits=08", None),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", None),
            ("Permessage-Deflate", None),
            ("", None),
        ];
        for (field, expected) in rows {
            assert_eq!(accept_deflate(field), expected, "{field}");
            assert!(is_list(field), "{field}");
        }
    }

    #[test]
    fn rfc_6455_s9_1_what_is_no_list_of_extensions_is_told() {
        for field in [
            "permessage deflate",
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"b",
            "permessage-deflate; a=\"b c\"",
            "permessage-deflate; a=\"b;c\"",
            "; a",
            "é",
        ] {
            assert!(!is_list(field), "{field}");
            assert_eq!(accept_deflate(field), None, "{field}");
        }
        assert!(is_list(" , permessage-deflate ,, other ; a = b"));
    }
}
