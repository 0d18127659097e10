//! A value that is never shown: whoever prints a configuration sees that it is set, and no more.

use std::fmt;

use serde::Deserialize;

/// A token or a password of the configuration. Its `Debug` and `Display` hide it.
///
/// ```
/// use shardcast::{Config, Secret};
///
/// let config = Config { admin_token: Secret::from("a-long-random-token"), ..Config::default() };
/// assert!(!format!("{config:?}").contains("a-long"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Whether it is not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it says, for whoever must compare it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_empty() { "" } else { "***" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}
