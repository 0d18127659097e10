//! What is spoken on a message queue besides our own format: `queue_formats`.

use std::fmt;

use serde::Deserialize;

use crate::base::shown::Shown;
use crate::config::check::{nearest, one_or_many};
use crate::config::queue::address::QueueAddress;

/// How other people's processes write their messages on a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueFormat {
    /// python-socketio and Flask-SocketIO, of all versions: `python`.
    Python,
    /// Node's `@socket.io/redis-adapter` and `@socket.io/redis-emitter`: `node`.
    Node,
    /// `createShardedAdapter` of `@socket.io/redis-adapter`: `node-sharded`. It needs Redis 7.
    NodeSharded,
    /// Node's `@socket.io/redis-streams-adapter`: `node-streams`.
    NodeStreams,
}

/// Each with its name, in the order in which they are shown.
const NAMES: [(QueueFormat, &str); 4] = [
    (QueueFormat::Python, "python"),
    (QueueFormat::Node, "node"),
    (QueueFormat::NodeSharded, "node-sharded"),
    (QueueFormat::NodeStreams, "node-streams"),
];

impl QueueFormat {
    /// How it is written.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which formats of others are spoken on a message queue. Ours always is.
///
/// ```
/// use shardcast::{EngineOptions, QueueFormat};
///
/// let options = EngineOptions {
///     message_queue: "redis://localhost:6379/0".into(),
///     queue_formats: [QueueFormat::Python, QueueFormat::Node].into(),
///     ..EngineOptions::default()
/// };
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum QueueFormats {
    /// `python`, or none on a broker that python-socketio does not have, which is NATS and `unix:`: the default, `"auto"`.
    #[default]
    Auto,
    /// These; an empty list is `"none"`.
    Only(Vec<QueueFormat>),
}

impl<const N: usize> From<[QueueFormat; N]> for QueueFormats {
    fn from(formats: [QueueFormat; N]) -> QueueFormats {
        QueueFormats::Only(formats.into())
    }
}

impl From<Vec<QueueFormat>> for QueueFormats {
    fn from(formats: Vec<QueueFormat>) -> QueueFormats {
        QueueFormats::Only(formats)
    }
}

impl QueueFormats {
    /// Reads `auto`, `none`, or names separated by commas.
    ///
    /// # Errors
    /// The name that is none, and the nearest one.
    pub fn parse(text: &str) -> Result<QueueFormats, String> {
        QueueFormats::read(text.split(',').map(str::trim).filter(|name| !name.is_empty()))
    }

    fn read<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<QueueFormats, String> {
        let mut several = names.clone().skip(1).peekable();
        match names.clone().next() {
            None => return Ok(QueueFormats::Only(Vec::new())),
            Some("auto") if several.peek().is_none() => return Ok(QueueFormats::Auto),
            Some("none") if several.peek().is_none() => return Ok(QueueFormats::Only(Vec::new())),
            Some(_) => {}
        }
        names.map(read_name).collect::<Result<_, _>>().map(QueueFormats::Only)
    }

    /// What that means with this broker.
    pub(crate) fn of_broker(&self, address: &QueueAddress) -> FormatSet {
        match self {
            QueueFormats::Auto if matches!(address, QueueAddress::Nats(_) | QueueAddress::Unix(_)) => {
                FormatSet::default()
            }
            QueueFormats::Auto => [QueueFormat::Python].into_iter().collect(),
            QueueFormats::Only(formats) => formats.iter().copied().collect(),
        }
    }
}

fn read_name(name: &str) -> Result<QueueFormat, String> {
    if let Some((format, _)) = NAMES.iter().find(|(_, known)| *known == name) {
        return Ok(*format);
    }
    if ["auto", "none"].contains(&name) {
        return Err(format!("{name} stands alone"));
    }
    let names = NAMES.iter().map(|(_, name)| *name);
    Err(match nearest(names.chain(["auto", "none"]), name) {
        Some(near) => format!("{:?} is no format; did you mean {near}?", Shown(name)),
        None => format!(
            "{:?} is no format: write python, node, node-sharded or node-streams, several with commas, or none",
            Shown(name)
        ),
    })
}

impl<'de> Deserialize<'de> for QueueFormats {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<QueueFormats, D::Error> {
        let names = one_or_many(deserializer)?;
        QueueFormats::read(names.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}

/// Formats of others, each there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FormatSet(u8);

impl FormatSet {
    pub(crate) const fn contains(self, format: QueueFormat) -> bool {
        self.0 & format.bit() != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = QueueFormat> {
        NAMES.iter().map(|(format, _)| *format).filter(move |format| self.contains(*format))
    }

    pub(crate) const fn is_any_of_node(self) -> bool {
        self.contains(QueueFormat::Node)
            || self.contains(QueueFormat::NodeSharded)
            || self.contains(QueueFormat::NodeStreams)
    }
}

impl FromIterator<QueueFormat> for FormatSet {
    fn from_iter<I: IntoIterator<Item = QueueFormat>>(formats: I) -> FormatSet {
        FormatSet(formats.into_iter().fold(0, |bits, format| bits | format.bit()))
    }
}

/// As it is written in a configuration.
impl fmt::Display for FormatSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(QueueFormat::name).collect();
        match names.is_empty() {
            true => formatter.write_str("none"),
            false => formatter.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_shown() {
        use QueueFormat::{Node, NodeSharded, NodeStreams, Python};
        let rows = [
            ("auto", QueueFormats::Auto),
            ("none", QueueFormats::from([])),
            ("", QueueFormats::from([])),
            ("python", QueueFormats::from([Python])),
            (" node , python,", QueueFormats::from([Node, Python])),
            ("node-sharded,node-streams", QueueFormats::from([NodeSharded, NodeStreams])),
        ];
        for (text, expected) in rows {
            assert_eq!(QueueFormats::parse(text), Ok(expected), "{text:?}");
        }
        for (text, expected) in [
            ("pyhton", "did you mean python?"),
            ("node_streams", "did you mean node-streams?"),
            ("python,nodejs", "did you mean node?"),
            ("php", "write python, node"),
            ("none,python", "none stands alone"),
        ] {
            let fault = QueueFormats::parse(text).expect_err(text);
            assert!(fault.contains(expected), "{text}: {fault}");
        }
    }

    #[test]
    fn a_set_has_each_format_once() {
        let set: FormatSet =
            [QueueFormat::NodeStreams, QueueFormat::Python, QueueFormat::Python].into_iter().collect();
        assert_eq!(
            (set.to_string().as_str(), FormatSet::default().to_string().as_str()),
            ("python,node-streams", "none")
        );
        assert_eq!(set.iter().count(), 2);
        assert!(set.is_any_of_node() && !set.contains(QueueFormat::Node));
        for (format, name) in NAMES {
            let alone: FormatSet = [format].into_iter().collect();
            assert_eq!((alone.to_string().as_str(), alone.iter().collect::<Vec<_>>()), (name, vec![format]));
            assert_eq!(alone.is_any_of_node(), format != QueueFormat::Python);
        }
    }

    #[test]
    fn by_default_it_is_what_the_broker_has_in_common_with_python() {
        for (url, expected) in [
            ("redis://", "python"),
            ("memory:", "python"),
            ("kafka://", "python"),
            ("nats://", "none"),
            ("unix:/q", "none"),
        ] {
            let address = QueueAddress::parse(url).expect(url);
            assert_eq!(QueueFormats::default().of_broker(&address).to_string(), expected, "{url}");
        }
    }
}
