//! JSON text as a value: kept as it is, sent as it is.
//!
//! Does not parse; `serde_json` does.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::binary;

/// One valid JSON value as text, sent verbatim.
///
/// Use it to pass on what arrived, or to send what is JSON already, without parsing it. As the type of an
/// argument it captures the argument's text. Attachments do not travel with it: their placeholders are objects like any other, and
/// because receivers would take them for attachments, such a text cannot be sent beside bytes of the server's own
/// ([`EncodeError::Placeholder`](crate::EncodeError::Placeholder)).
///
/// ```
/// # fn example(socket: shardcast::Socket) -> Result<(), serde_json::Error> {
/// let state = shardcast::RawJson::new(r#"{"score": 3}"#)?;
/// socket.emit("state", state);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// Takes a text that is one JSON value. White space around it is dropped.
    ///
    /// # Errors
    /// The text is not JSON.
    ///
    /// ```
    /// assert!(shardcast::RawJson::new("[1, 2]").is_ok());
    /// assert!(shardcast::RawJson::new("[1, 2").is_err());
    /// ```
    pub fn new(text: impl Into<String>) -> Result<RawJson, serde_json::Error> {
        RawValue::from_string(text.into()).map(RawJson)
    }

    /// Serializes a value. [`Binary`](super::binary::Binary) values become base64 strings.
    ///
    /// # Errors
    /// The value has no JSON, such as a map whose keys are not strings.
    ///
    /// ```
    /// assert_eq!(shardcast::RawJson::from_value(&vec![1, 2])?.as_str(), "[1,2]");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn from_value(value: &(impl Serialize + ?Sized)) -> Result<RawJson, serde_json::Error> {
        binary::without_collector(|| serde_json::value::to_raw_value(value)).map(RawJson)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawJson").field(&self.as_str()).finish()
    }
}

impl PartialEq for RawJson {
    /// Compares texts: `1.0` and `1` differ.
    fn eq(&self, other: &RawJson) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

#[cfg(test)]
mod tests {
    use super::super::binary::Binary;
    use super::*;

    #[test]
    fn text_stays_as_it_is() {
        let raw = RawJson::new(" {\"a\" : 1.0, \"a\" : [ ] }\n").unwrap();
        assert_eq!(raw.as_str(), "{\"a\" : 1.0, \"a\" : [ ] }");
        assert_eq!(serde_json::to_string(&(&raw, 1)).unwrap(), "[{\"a\" : 1.0, \"a\" : [ ] },1]");
        let back: Vec<RawJson> = serde_json::from_str("[ {\"b\": 2 } ,3]").unwrap();
        assert_eq!(back.iter().map(RawJson::as_str).collect::<Vec<_>>(), ["{\"b\": 2 }", "3"]);
    }

    #[test]
    fn junk_is_refused() {
        for text in ["", " ", "1,2", "[1", "\"a", "{a:1}", "1 2"] {
            assert!(RawJson::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_become_text_and_bytes_base64() {
        assert_eq!(RawJson::from_value("ä").unwrap().as_str(), "\"ä\"");
        assert_eq!(RawJson::from_value(&[Binary::from(vec![1, 2, 3])]).unwrap().as_str(), "[\"AQID\"]");
    }
}
