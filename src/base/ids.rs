//! Identifiers: which shard, which session, which socket.

use std::fmt;

/// One core's world, numbered from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's place in a table of shards.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What the session ids of one process have in common where several processes are one server: three of their random bytes. So an
/// id says which process it is of.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct NodeTag(pub(crate) [u8; 3]);

impl NodeTag {
    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    pub(crate) fn parse(text: &str) -> Option<NodeTag> {
        let number = u32::from_str_radix(text, 16).ok()?;
        let [_, one, two, three] = number.to_be_bytes();
        let tag = NodeTag([one, two, three]);
        (tag.to_string() == text).then_some(tag)
    }
}

/// Six hexadecimal digits.
impl fmt::Display for NodeTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three] = self.0;
        write!(formatter, "{one:02x}{two:02x}{three:02x}")
    }
}

/// How many characters every session id has. Other software tests this length (Node's sticky balancer
/// and its sharded Redis adapter among it).
pub(crate) const SID_CHARS: usize = 20;

/// Random bytes in a [`Sid`]: 104 bits that nobody can guess.
pub(crate) const SID_RANDOM_BYTES: usize = 13;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A session id: 20 characters of base64url that hold 13 random bytes and, masked by two of them, the
/// number of the shard that owns the session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid([u8; SID_CHARS]);

impl Sid {
    /// Makes the id of a session on `shard` from bytes that must come from a cryptographic source.
    pub fn new(shard: ShardId, random: [u8; SID_RANDOM_BYTES]) -> Sid {
        let mut raw = [0; 15];
        raw[..SID_RANDOM_BYTES].copy_from_slice(&random);
        let mask = u16::from_be_bytes([random[0], random[1]]);
        raw[SID_RANDOM_BYTES..].copy_from_slice(&(shard.0 ^ mask).to_be_bytes());
        let mut chars = [0; SID_CHARS];
        for (group, out) in raw.chunks_exact(3).zip(chars.chunks_exact_mut(4)) {
            let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            for (place, char) in out.iter_mut().enumerate() {
                *char = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            }
        }
        Sid(chars)
    }

    /// Reads an id from outside; `None` unless it has the length and alphabet of one.
    pub fn parse(text: &str) -> Option<Sid> {
        let chars: [u8; SID_CHARS] = text.as_bytes().try_into().ok()?;
        chars.iter().all(|&char| digit(char).is_some()).then_some(Sid(chars))
    }

    /// The shard that the id names. A forged id may name one that does not exist.
    pub fn shard(&self) -> ShardId {
        let first = self.group(0);
        let last = self.group(4);
        let mask = u16::from_be_bytes([first[0], first[1]]);
        ShardId(u16::from_be_bytes([last[1], last[2]]) ^ mask)
    }

    /// The tag of the process that the id is of, if it has one.
    pub(crate) fn node(&self) -> NodeTag {
        NodeTag(self.group(0))
    }

    /// The id as its 20 characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a sid is made of base64url characters only")
    }

    /// What the log shows of the id: enough to tell clients apart, and not what opens a session.
    pub(crate) fn brief(&self) -> impl fmt::Display + use<> {
        let [a, b, c, d, e, f, ..] = self.0.map(char::from);
        format!("{a}{b}{c}{d}{e}{f}..")
    }

    fn group(&self, index: usize) -> [u8; 3] {
        let bits = self.0[index * 4..index * 4 + 4]
            .iter()
            .fold(0_u32, |bits, &char| bits << 6 | digit(char).map_or(0, u32::from));
        let [_, first, second, third] = bits.to_be_bytes();
        [first, second, third]
    }
}

fn digit(char: u8) -> Option<u8> {
    Some(match char {
        b'A'..=b'Z' => char - b'A',
        b'a'..=b'z' => char - b'a' + 26,
        b'0'..=b'9' => char - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

impl fmt::Display for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl AsRef<str> for Sid {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl serde::Serialize for Sid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Sid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Sid, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Sid::parse(&text).ok_or_else(|| serde::de::Error::custom("not a session id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_names_its_shard_and_survives_the_wire() {
        for shard in [0, 1, 15, 255, 256, u16::MAX] {
            for fill in [0, 0x5a, 0xff] {
                let sid = Sid::new(ShardId(shard), [fill; SID_RANDOM_BYTES]);
                assert_eq!(sid.shard(), ShardId(shard));
                assert_eq!(Sid::parse(sid.as_str()), Some(sid));
            }
        }
    }

    #[test]
    fn the_log_shows_a_third_of_an_id() {
        let sid = Sid::new(ShardId(1), [7; SID_RANDOM_BYTES]);
        assert_eq!(sid.brief().to_string(), format!("{}..", &sid.as_str()[..6]));
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        for text in
            ["", "short", "AAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAA+AAAAAAAAA", "__proto__"]
        {
            assert_eq!(Sid::parse(text), None, "{text}");
        }
    }
}
