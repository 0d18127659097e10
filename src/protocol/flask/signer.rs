//! Signed cookies, as Flask's `SecureCookieSessionInterface` signs them (itsdangerous 2, `URLSafeTimedSerializer`).

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::session::Session;

/// What Flask derives the key from; it keeps one secret's uses apart.
const SALT: &[u8] = b"cookie-session";

/// Browsers keep 4,096 bytes of a cookie; a longer one has come from no browser.
const COOKIE_BYTES_MAX: usize = 8 * 1024;

/// A shorter key is found by trying: 128 bits, what Flask's documentation has one generate (`secrets.token_hex()`) is more.
const KEY_BYTES_MIN: usize = 16;

/// Flask's `PERMANENT_SESSION_LIFETIME`.
const MAX_AGE: Duration = Duration::from_secs(31 * 24 * 60 * 60);

type HmacSha1 = Hmac<Sha1>;

/// Reads and writes the session cookie of a Flask application that has the same `SECRET_KEY`.
///
/// ```
/// use shardcast::flask::{CookieSigner, Session};
///
/// let signer = CookieSigner::new("secret!");
/// let cookie = "eyJ1c2VyIjoiYWxpY2UiLCJuIjoxfQ.ZVPxAA.OtbSRiq3bk9WDjZNChBq9f0XSRA";
/// let session = signer.read(cookie, 1_700_000_060)?;
/// assert_eq!(session.get::<String>("user").as_deref(), Some("alice"));
/// # Ok::<(), shardcast::flask::CookieError>(())
/// ```
#[derive(Clone)]
pub struct CookieSigner {
    /// The first signs, each verifies. An empty secret makes no key: with it anybody could sign.
    keys: Vec<HmacSha1>,
    /// Bytes of the shortest secret given.
    shortest_key: usize,
    cookie_name: String,
    max_age: Duration,
}

/// Why a cookie is not believed. Flask treats each as an empty session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CookieError {
    /// It is not a payload, a time and a signature.
    Malformed,
    /// Another key signed it, or somebody changed it.
    BadSignature,
    /// It is older than `max_age`, or from the future.
    Expired,
    /// It was signed, but holds no session: another application has the same key.
    BadPayload,
    /// The signer's `SECRET_KEY` is empty: everybody could have signed it.
    NoKey,
}

impl fmt::Display for CookieError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CookieError::Malformed => "the cookie is not a signed session",
            CookieError::BadSignature => "the cookie's signature does not match: is the SECRET_KEY the same?",
            CookieError::Expired => "the cookie is too old, or the clocks differ",
            CookieError::BadPayload => "the cookie is signed, but holds no session",
            CookieError::NoKey => "the SECRET_KEY is empty: everybody could have signed the cookie",
        })
    }
}

impl std::error::Error for CookieError {}

/// Without the keys.
impl fmt::Debug for CookieSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CookieSigner")
            .field("cookie_name", &self.cookie_name)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

impl CookieSigner {
    /// For an application with this `SECRET_KEY`. With an empty one, which everybody knows, no cookie is believed or written, and a
    /// server does not start; of a short one its log warns.
    pub fn new(secret_key: impl AsRef<[u8]>) -> CookieSigner {
        let secret_key = secret_key.as_ref();
        CookieSigner {
            keys: derive_key(secret_key).into_iter().collect(),
            shortest_key: secret_key.len(),
            cookie_name: "session".to_owned(),
            max_age: MAX_AGE,
        }
    }

    /// A key that was in use before, and still verifies: one of Flask's `SECRET_KEY_FALLBACKS`.
    pub fn fallback(mut self, secret_key: impl AsRef<[u8]>) -> CookieSigner {
        let secret_key = secret_key.as_ref();
        self.shortest_key = self.shortest_key.min(secret_key.len());
        // An empty first key stays none: the others verify and do not sign.
        if !self.keys.is_empty() {
            self.keys.extend(derive_key(secret_key));
        }
        self
    }

    /// Flask's `SESSION_COOKIE_NAME`. Default `session`.
    pub fn with_cookie_name(mut self, name: impl Into<String>) -> CookieSigner {
        self.cookie_name = name.into();
        self
    }

    /// How old a cookie may be: Flask's `PERMANENT_SESSION_LIFETIME`, which holds for every session. Default 31 days.
    pub fn with_max_age(mut self, max_age: Duration) -> CookieSigner {
        self.max_age = max_age;
        self
    }

    /// The cookie's name.
    pub fn cookie_name(&self) -> &str {
        &self.cookie_name
    }

    /// How old a cookie may be.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// The session in a cookie's value. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`CookieError`]: treat it as an empty session.
    pub fn read(&self, cookie: &str, now: u64) -> Result<Session, CookieError> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return Err(CookieError::Malformed);
        }
        if self.keys.is_empty() {
            return Err(CookieError::NoKey);
        }
        let (signed, signature) = cookie.rsplit_once('.').ok_or(CookieError::Malformed)?;
        let (payload, timestamp) = signed.rsplit_once('.').ok_or(CookieError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| CookieError::Malformed)?;
        let is_genuine = self.keys.iter().fold(false, |is_genuine, key| {
            is_genuine | key.clone().chain_update(signed).verify_slice(&signature).is_ok()
        });
        if !is_genuine {
            return Err(CookieError::BadSignature);
        }
        let issued = decode_timestamp(timestamp).ok_or(CookieError::Malformed)?;
        let is_alive = now.checked_sub(issued).is_some_and(|age| age <= self.max_age.as_secs());
        if !is_alive {
            return Err(CookieError::Expired);
        }
        Session::decode(payload).ok_or(CookieError::BadPayload)
    }

    /// Says what is wrong with the keys: an error of an empty one.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.shortest_key {
            0 => {
                Err("SECRET_KEY is empty: everybody could sign a login; give the Flask application's"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The length of a key that can be guessed, in bytes.
    pub(crate) fn short_key(&self) -> Option<usize> {
        (self.shortest_key < KEY_BYTES_MIN).then_some(self.shortest_key)
    }

    /// A cookie's value with a session, signed with the first key. Empty if that key is.
    pub fn write(&self, session: &Session, now: u64) -> String {
        let Some(key) = self.keys.first() else { return String::new() };
        let mut cookie = session.encode();
        cookie.push('.');
        let timestamp = now.to_be_bytes();
        let zeros = (now.leading_zeros() / 8) as usize;
        URL_SAFE_NO_PAD.encode_string(&timestamp[zeros.min(7)..], &mut cookie);
        let signature = key.clone().chain_update(&cookie).finalize().into_bytes();
        cookie.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut cookie);
        cookie
    }
}

/// `None` for an empty secret.
fn derive_key(secret: &[u8]) -> Option<HmacSha1> {
    if secret.is_empty() {
        return None;
    }
    let derived = new_hmac(secret).chain_update(SALT).finalize().into_bytes();
    Some(new_hmac(&derived))
}

fn new_hmac(key: &[u8]) -> HmacSha1 {
    HmacSha1::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn decode_timestamp(text: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() <= size_of::<u64>())?;
    Some(bytes.iter().fold(0, |time, byte| time << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_key_signs_and_verifies_nothing() {
        let forged = {
            let derived = new_hmac(b"").chain_update(SALT).finalize().into_bytes();
            let anybody = CookieSigner { keys: vec![new_hmac(&derived)], ..CookieSigner::new("of anybody") };
            anybody.write(&Session::default(), 1_700_000_000)
        };
        for signer in [CookieSigner::new(""), CookieSigner::new("").fallback("a key that is long enough")] {
            assert_eq!(signer.read(&forged, 1_700_000_000).err(), Some(CookieError::NoKey));
            assert_eq!(signer.write(&Session::default(), 1_700_000_000), "");
            assert!(signer.check().is_err_and(|fault| fault.contains("SECRET_KEY is empty")));
        }
        let fallback = CookieSigner::new("a key that is long enough").fallback("");
        assert_eq!(fallback.read(&forged, 1_700_000_000).err(), Some(CookieError::BadSignature));
        assert!(fallback.check().is_err());
        assert_eq!(super::super::login::remember_token(&remember("42", b""), ""), None);
    }

    /// Flask-Login's cookie, signed with any key.
    fn remember(user: &str, key: &[u8]) -> String {
        let hmac = Hmac::<sha2::Sha512>::new_from_slice(key).expect("any length");
        let signature = hmac.chain_update(user).finalize().into_bytes();
        let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{user}|{digits}")
    }

    #[test]
    fn a_short_key_is_named() {
        assert_eq!(CookieSigner::new("secret!").short_key(), Some(7));
        assert_eq!(CookieSigner::new("0123456789abcdef").short_key(), None);
        assert_eq!(CookieSigner::new("0123456789abcdef").fallback("short").short_key(), Some(5));
        assert_eq!(CookieSigner::new("x").check(), Ok(()));
    }
}
