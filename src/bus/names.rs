//! What our own channels are called on a broker, behind a prefix: `all`, `node.<6 hex>`, `slot.<hex>`.

use super::Channel;
use crate::base::ids::NodeTag;
use crate::mesh::slots::ROOM_SLOTS;

/// What all our names begin with; the configured channel and a dot follow.
pub(crate) const PREFIX: &str = "shardcast.";

/// The name of one of our channels; none for a channel in the format of others.
pub(crate) fn name_of(channel: &Channel) -> Option<String> {
    match channel {
        Channel::All => Some("all".to_owned()),
        Channel::Node(tag) => Some(format!("node.{tag}")),
        Channel::Slot(slot) => Some(format!("slot.{slot:x}")),
        Channel::Python
        | Channel::Plain(_)
        | Channel::Pattern(_)
        | Channel::Sharded(_)
        | Channel::Stream(_)
        | Channel::Record { .. } => None,
    }
}

/// The channel of a name, if it is exactly one that [`name_of`] gives.
pub(crate) fn channel_of(name: &[u8]) -> Option<Channel> {
    if name == b"all" {
        return Some(Channel::All);
    }
    if let Some(slot) = name.strip_prefix(b"slot.") {
        let is_plain = !slot.starts_with(b"0") || slot == b"0";
        let slot = number(slot, 6).filter(|slot| is_plain && *slot < ROOM_SLOTS);
        return slot.map(Channel::Slot);
    }
    let tag = name.strip_prefix(b"node.").filter(|tag| tag.len() == 6)?;
    let [_, one, two, three] = number(tag, 6)?.to_be_bytes();
    Some(Channel::Node(NodeTag([one, two, three])))
}

/// A number in small hexadecimal digits, at most so many.
fn number(digits: &[u8], len_max: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > len_max {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_channels() {
        let cases = [
            (Channel::All, "all"),
            (Channel::Node(NodeTag([0, 0xab, 0xf])), "node.00ab0f"),
            (Channel::Node(NodeTag([0xff; 3])), "node.ffffff"),
            (Channel::Slot(0), "slot.0"),
            (Channel::Slot(0x1f), "slot.1f"),
            (Channel::Slot(ROOM_SLOTS - 1), "slot.3fffff"),
        ];
        for (channel, name) in cases {
            assert_eq!(name_of(&channel).as_deref(), Some(name));
            assert_eq!(channel_of(name.as_bytes()), Some(channel));
        }
        for others in [Channel::Python, Channel::Plain("all".into()), Channel::Stream("all".into())] {
            assert_eq!(name_of(&others), None);
        }
    }

    #[test]
    fn what_is_no_name_leads_nowhere() {
        let names = [
            "",
            "All",
            "all ",
            "slot.",
            "slot.01",
            "slot.00",
            "slot.1F",
            "slot.400000",
            "slot.0000001",
            "slot.100000000",
            "slot.g",
            "node.abc",
            "node.ABCDEF",
            "node.0000000",
            "node.",
            "node.00000g",
            "slot.-1",
            "slot.é",
        ];
        for name in names {
            assert_eq!(channel_of(name.as_bytes()), None, "{name}");
        }
    }
}
