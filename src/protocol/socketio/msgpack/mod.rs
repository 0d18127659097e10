//! Packets as socket.io-msgpack-parser 3 and python-socketio's `serializer='msgpack'` write them.
//!
//! A packet is one binary message: a map of `type`, `nsp`, `data` and `id`, with binary values where they belong. In
//! ([`decode`]): the parts of a canonical packet, whose payload is JSON text with placeholders for attachments. Out
//! ([`encode`]): the map of a canonical packet. `read` and `write` know MessagePack, also that of Node's Redis adapters; this
//! file knows packets. Does not know sessions, and does not decide who speaks so.

pub(crate) mod read;
#[cfg(test)]
mod vectors;
pub(crate) mod write;

use bytes::Bytes;

use super::binary::holds_placeholders;
use super::json::JsonError;
use super::packet::{self, Packet, PacketError, PacketKind};

use read::Reader;

/// Binary values of one incoming packet. Each costs two bytes at least and is kept with forty, so their number is
/// bounded too; the reference parser knows no bound.
pub(crate) const BINARIES_MAX: usize = 1024;

/// A packet from a client, decoded and checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    kind: PacketKind,
    namespace: String,
    id: Option<u64>,
    payload: String,
    pub(crate) attachments: Vec<Bytes>,
}

/// How a peer broke the format. Each of them closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MsgpackError {
    /// The bytes end within a value, or go on behind it.
    Truncated,
    Trailing,
    /// A first byte that no value has.
    FormatUnknown,
    /// An extension that is neither a timestamp nor what notepack.io writes.
    ExtensionUnknown,
    StringNotUtf8,
    /// A map's key, or a packet's namespace, that is no string.
    NotString,
    /// A namespace that is missing, or that no canonical packet could name.
    NamespaceInvalid,
    /// The packet is no map, or its type or id is no integer that fits.
    NotPacket,
    TooDeep,
    /// More than [`BINARIES_MAX`].
    TooManyBinaries,
    /// A map that a canonical packet would have for a binary value, beside such values.
    PlaceholderInMap,
    /// What any parser's packet must keep to.
    Packet(PacketError),
}

impl MsgpackError {
    /// A sentence for logs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            MsgpackError::Truncated => "MessagePack that ends within a value",
            MsgpackError::Trailing => "bytes behind a MessagePack value",
            MsgpackError::FormatUnknown => "no MessagePack",
            MsgpackError::ExtensionUnknown => "unknown MessagePack extension",
            MsgpackError::StringNotUtf8 => "a MessagePack string that is not UTF-8",
            MsgpackError::NotString => "a map's key or a namespace that is no string",
            MsgpackError::NamespaceInvalid => "a namespace that does not begin with / or has a comma",
            MsgpackError::NotPacket => "MessagePack that is no packet",
            MsgpackError::TooDeep => "payload is nested too deeply",
            MsgpackError::TooManyBinaries => "too many binary values",
            MsgpackError::PlaceholderInMap => "a map whose _placeholder is true beside binary values",
            MsgpackError::Packet(error) => error.reason(),
        }
    }
}

impl From<PacketError> for MsgpackError {
    fn from(error: PacketError) -> MsgpackError {
        MsgpackError::Packet(error)
    }
}

impl Message {
    /// The packet as a canonical one: binary if it has attachments.
    pub(crate) fn packet(&self) -> Packet<'_> {
        Packet {
            kind: self.kind,
            namespace: &self.namespace,
            id: self.id,
            attachments: self.attachments.len(),
            payload: &self.payload,
        }
    }
}

/// Decodes and checks one packet from a client. Attachments share its memory.
///
/// # Errors
/// Whatever is wrong with it; the caller closes the connection.
pub(crate) fn decode(bytes: &Bytes) -> Result<Message, MsgpackError> {
    let mut reader = Reader::new(bytes);
    let (mut kind, mut namespace, mut id) = (None, None, None);
    for _ in 0..reader.map_len()?.ok_or(MsgpackError::NotPacket)? {
        match &*reader.string()? {
            "type" => kind = reader.integer()?,
            "nsp" => namespace = Some(reader.string()?.into_owned()),
            "id" => id = reader.integer()?,
            "data" => reader.payload()?,
            _ => reader.skip()?,
        }
    }
    let (payload, attachments) = reader.finish()?;
    let is_path = |namespace: &String| namespace.starts_with('/') && !namespace.contains(',');
    let namespace = namespace.filter(is_path).ok_or(MsgpackError::NamespaceInvalid)?;
    let kind = kind_of(kind, attachments.len())?;
    // `null` is what Python writes for nothing.
    let is_nothing = payload == "null" && matches!(kind, PacketKind::Connect | PacketKind::Disconnect);
    let payload = if is_nothing { String::new() } else { payload };
    if payload.is_empty() && !matches!(kind, PacketKind::Connect | PacketKind::Disconnect) {
        return Err(PacketError::PayloadMissing.into());
    }
    let message = Message { kind, namespace, id, payload, attachments };
    packet::check(&message.packet())?;
    let count = message.attachments.len();
    if count > 0 && !holds_placeholders(&message.payload, count) {
        return Err(MsgpackError::PlaceholderInMap);
    }
    Ok(message)
}

fn kind_of(number: Option<u64>, attachments: usize) -> Result<PacketKind, MsgpackError> {
    Ok(match (number, attachments) {
        (Some(0), 0) => PacketKind::Connect,
        (Some(1), 0) => PacketKind::Disconnect,
        (Some(2), 0) => PacketKind::Event,
        (Some(2), _) => PacketKind::BinaryEvent,
        (Some(3), 0) => PacketKind::Ack,
        (Some(3), _) => PacketKind::BinaryAck,
        (Some(4), _) => return Err(PacketError::ConnectErrorFromClient.into()),
        // A CONNECT has no place for binary: `auth` is JSON.
        (Some(0 | 1), _) => return Err(PacketError::PayloadUnexpected.into()),
        _ => return Err(MsgpackError::NotPacket),
    })
}

/// Appends the map of a canonical packet of ours, given as its text and the attachments behind it.
///
/// # Errors
/// The text is no such packet, which is our own fault. `out` is as before then.
pub(crate) fn encode(out: &mut Vec<u8>, text: &str, attachments: &[&[u8]]) -> Result<(), MsgpackError> {
    let packet = packet::split(text)?;
    let number = match packet.kind {
        PacketKind::Connect => 0,
        PacketKind::Disconnect => 1,
        PacketKind::Event | PacketKind::BinaryEvent => 2,
        PacketKind::Ack | PacketKind::BinaryAck => 3,
        PacketKind::ConnectError => 4,
    };
    let start = out.len();
    let entries = 2 + usize::from(!packet.payload.is_empty()) + usize::from(packet.id.is_some());
    write::map_len(out, entries);
    write::string(out, "type");
    write::integer(out, number);
    write::string(out, "nsp");
    write::string(out, packet.namespace);
    if let Some(id) = packet.id {
        write::string(out, "id");
        write::integer(out, id);
    }
    if !packet.payload.is_empty() {
        write::string(out, "data");
        if let Err(error) = write::json(out, packet.payload, attachments) {
            out.truncate(start);
            return Err(match error {
                JsonError::Invalid => PacketError::PayloadNotJson.into(),
                JsonError::TooDeep => PacketError::PayloadTooDeep.into(),
            });
        }
    }
    Ok(())
}
