//! What Flask-Login keeps in the session, and its `remember_token` cookie (Flask-Login 0.6).

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha512};

use super::session::Session;

impl Session {
    /// Who is logged in with Flask-Login: its user's `get_id()`.
    pub fn user_id(&self) -> Option<&str> {
        self.text("_user_id")
    }

    /// Whether the login is of this browser session, and not from a `remember_token`.
    pub fn is_fresh(&self) -> bool {
        self.flag("_fresh")
    }

    /// Whether the session was made for a client with this address and `User-Agent`: Flask-Login's
    /// `session_protection`, which logs out on a mismatch when it is `"strong"`. True for a session that does not say.
    ///
    /// `address` is what Flask saw: the first of `X-Forwarded-For`, or else the peer's.
    pub fn belongs_to(&self, address: &str, user_agent: Option<&str>) -> bool {
        self.text("_id").is_none_or(|identifier| identifier == client_identifier(address, user_agent))
    }
}

/// The user of a `remember_token` cookie, if this `SECRET_KEY` signed it.
///
/// Flask-Login puts no time into it: it holds for as long as the key does, and the browser keeps it.
///
/// ```
/// let token = concat!(
///     "42|e5a20dd7ab48a09857fdf7843681c2d771de5a438ad546c4eafde765624ce446",
///     "1181033904abfa958575bdcaa688894bf2cd0dbad7a7238d61e7fcc520da8269",
/// );
/// assert_eq!(shardcast::flask::remember_token(token, "secret!"), Some("42"));
/// assert_eq!(shardcast::flask::remember_token(token, "another"), None);
/// ```
pub fn remember_token(cookie: &str, secret_key: impl AsRef<[u8]>) -> Option<&str> {
    let secret_key = secret_key.as_ref();
    // With an empty key everybody could have signed it.
    if secret_key.is_empty() {
        return None;
    }
    let (user, signature) = cookie.rsplit_once('|')?;
    let signature = decode_hex(signature)?;
    let hmac = Hmac::<Sha512>::new_from_slice(secret_key).ok()?;
    hmac.chain_update(user).verify_slice(&signature).ok().map(|()| user)
}

/// Flask-Login hashes the text of two Python byte strings.
fn client_identifier(address: &str, user_agent: Option<&str>) -> String {
    let user_agent = user_agent.map_or_else(|| "None".to_owned(), bytes_literal);
    encode_hex(&Sha512::digest(format!("{}|{user_agent}", bytes_literal(address))))
}

/// `b'..'`, as Python writes it.
fn bytes_literal(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\'' if quote == '\'' => out.push_str("\\'"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push(quote);
    out
}

fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower case only, as it is written.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_literals_are_pythons() {
        for (text, literal) in [
            ("127.0.0.1", "b'127.0.0.1'"),
            ("it's", "b\"it's\""),
            ("both ' and \"", "b'both \\' and \"'"),
            ("a\\b\t\u{7f}é", "b'a\\\\b\\t\\x7f\\xc3\\xa9'"),
        ] {
            assert_eq!(bytes_literal(text), literal);
        }
    }

    #[test]
    fn a_changed_token_is_nobodys() {
        let genuine = "42|e5a20dd7ab48a09857fdf7843681c2d771de5a438ad546c4eafde765624ce4461181033904abfa958575bdcaa688894bf2cd0dbad7a7238d61e7fcc520da8269";
        assert_eq!(remember_token(genuine, "secret!"), Some("42"));
        for changed in [
            genuine.replacen("42", "43", 1),
            genuine.replace("e5a2", "E5A2"),
            genuine[..genuine.len() - 2].to_owned(),
            format!("{genuine}0"),
            "42|".to_owned(),
            "42".to_owned(),
        ] {
            assert_eq!(remember_token(&changed, "secret!"), None, "{changed}");
        }
    }
}
