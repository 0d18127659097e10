//! Who may use the HTTP API: tokens, what each may do, and where the API is served.
//!
//! Reads and checks; whoever asks is compared in `server/api`. A token is shown nowhere, also when its entry is wrong.

use std::fmt;

use serde::Deserialize;

use crate::config::check::{list, nearest};

/// The shortest token, in characters: 128 random bits as hexadecimal digits.
pub(crate) const API_TOKEN_CHARS_MIN: usize = 32;

/// Tokens of one server: more than a rotation and a few programs need.
pub(crate) const API_TOKENS_MAX: usize = 64;

/// A word that is longer may be a token at the wrong place, and is not shown.
const WORD_SHOWN_CHARS: usize = 16;

/// Where the HTTP API is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ApiBind {
    /// On the operators' listener, `admin_bind`.
    #[default]
    Admin,
    /// Where clients connect, at `/api/v1/`.
    Public,
}

/// The tokens of the HTTP API, each with what it may do. Shown, it is how many there are.
///
/// An entry is a token, then the scopes that it has (`emit`, `rooms`, `disconnect`, `read`), then the namespaces that it is for. An entry without a
/// scope has all four, and one without a namespace is for all.
///
/// ```
/// use shardcast::{ApiTokens, Config};
///
/// let token = "5f2b8c6d9e0a41738b6c5d4e3f2a1b0c";
/// let api_tokens = ApiTokens::new([format!("{token} emit read /chat")]);
/// let config = Config { api_tokens, ..Config::default() };
/// assert!(!format!("{config:?}").contains(token));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ApiTokens(Vec<String>);

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Emit,
    Rooms,
    Disconnect,
    Read,
}

impl Scope {
    pub(crate) const ALL: &'static [Scope] = &[Scope::Emit, Scope::Rooms, Scope::Disconnect, Scope::Read];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Scope::Emit => "emit",
            Scope::Rooms => "rooms",
            Scope::Disconnect => "disconnect",
            Scope::Read => "read",
        }
    }
}

/// One entry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiToken {
    pub(crate) token: String,
    pub(crate) scopes: Vec<Scope>,
    /// Empty: all.
    pub(crate) namespaces: Vec<String>,
}

impl ApiTokens {
    /// Tokens by their entries.
    pub fn new<T: Into<String>>(entries: impl IntoIterator<Item = T>) -> ApiTokens {
        ApiTokens(entries.into_iter().map(Into::into).collect())
    }

    /// Whether there is none: the API is off then.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, read.
    ///
    /// # Errors
    /// Which entry is wrong and what to change, without the token.
    pub(crate) fn parse(&self) -> Result<Vec<ApiToken>, String> {
        if self.0.len() > API_TOKENS_MAX {
            return Err(format!("api_tokens: {} entries; the most is {API_TOKENS_MAX}", self.0.len()));
        }
        let mut tokens: Vec<ApiToken> = Vec::new();
        for (index, entry) in self.0.iter().enumerate() {
            let token = ApiToken::parse(entry)
                .map_err(|fault| format!("api_tokens: entry {}: {fault}", index + 1))?;
            if tokens.iter().any(|other| other.token == token.token) {
                return Err(format!(
                    "api_tokens: entry {}: its token is there twice; write all that it may into one entry",
                    index + 1
                ));
            }
            tokens.push(token);
        }
        Ok(tokens)
    }
}

impl ApiToken {
    fn parse(entry: &str) -> Result<ApiToken, String> {
        let mut words = entry.split_whitespace();
        let token = words.next().unwrap_or_default().to_owned();
        let chars = token.chars().count();
        if chars < API_TOKEN_CHARS_MIN {
            return Err(format!(
                "its first word is the token, and has {chars} characters; the least is {API_TOKEN_CHARS_MIN}: `openssl rand -hex 24` makes one"
            ));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token goes in a header, so it is letters, digits and signs of ASCII".to_owned());
        }
        let (mut scopes, mut namespaces) = (Vec::new(), Vec::new());
        for word in words {
            match Scope::ALL.iter().find(|scope| scope.word() == word) {
                Some(scope) => scopes.push(*scope),
                None if word.starts_with('/') => namespaces.push(word.to_owned()),
                None => return Err(unknown_word(word)),
            }
        }
        if scopes.is_empty() {
            scopes.extend(Scope::ALL);
        }
        Ok(ApiToken { token, scopes, namespaces })
    }
}

fn unknown_word(word: &str) -> String {
    if word.chars().count() > WORD_SHOWN_CHARS {
        return "a long word follows the token; entries are separated by semicolons, or elements of a list"
            .to_owned();
    }
    let near = nearest(Scope::ALL.iter().map(|scope| scope.word()), word);
    let advice = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!(
        "{word:?} is no scope (emit, rooms, disconnect, read), and a namespace begins with a slash{advice}"
    )
}

impl fmt::Debug for ApiTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} hidden", self.0.len())
    }
}

impl<'de> Deserialize<'de> for ApiTokens {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ApiTokens, D::Error> {
        list(deserializer, ';').map(ApiTokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "5f2b8c6d9e0a41738b6c5d4e3f2a1b0c";

    #[test]
    fn an_entry_is_a_token_its_scopes_and_its_namespaces() {
        let rows: &[(&str, &[Scope], &[&str])] = &[
            ("T", Scope::ALL, &[]),
            ("T emit", &[Scope::Emit], &[]),
            (" T  read  emit /chat /news ", &[Scope::Read, Scope::Emit], &["/chat", "/news"]),
            ("T /", Scope::ALL, &["/"]),
        ];
        for (entry, scopes, namespaces) in rows {
            let parsed = ApiTokens::new([entry.replace('T', TOKEN)]).parse().unwrap().remove(0);
            assert_eq!((&*parsed.token, &*parsed.scopes), (TOKEN, *scopes), "{entry}");
            assert_eq!(parsed.namespaces, *namespaces, "{entry}");
        }
    }

    #[test]
    fn a_wrong_entry_is_named_and_its_token_is_not_shown() {
        let other = TOKEN.replace('5', "6");
        let rows = [
            (vec!["short".to_owned()], "entry 1: its first word is the token, and has 5 characters"),
            (vec![String::new()], "has 0 characters"),
            (
                vec![TOKEN.to_owned(), format!("{other} emitt")],
                "entry 2: \"emitt\" is no scope (emit, rooms, disconnect, read), and a namespace begins with a slash; did you mean emit?",
            ),
            (vec![format!("{TOKEN} {other}")], "entry 1: a long word follows the token"),
            (vec![TOKEN.to_owned(), format!("{TOKEN} emit")], "entry 2: its token is there twice"),
            (vec![TOKEN.replace('5', "é")], "letters, digits and signs of ASCII"),
            (vec![TOKEN.to_owned(); API_TOKENS_MAX + 1], "65 entries; the most is 64"),
        ];
        for (entries, expected) in rows {
            let fault = ApiTokens::new(entries).parse().err().expect(expected);
            assert!(fault.contains(expected), "{fault}");
            assert!(!fault.contains(&TOKEN[1..]) && !fault.contains("é"), "{fault}");
        }
    }

    #[test]
    fn entries_of_a_variable_are_separated_by_semicolons() {
        let read = |json: serde_json::Value| serde_json::from_value::<ApiTokens>(json).unwrap();
        let expected = ApiTokens::new(["a b", "c"]);
        assert_eq!(read("a b; c;".into()), expected);
        assert_eq!(read(serde_json::json!(["a b", "c"])), expected);
        assert_eq!(format!("{expected:?}"), "2 hidden");
        assert!(read("".into()).is_empty());
    }
}
