//! WebSocket frames (RFC 6455 §5.2), whole ones only: a fragmented message is not understood.

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Unmasks the first frame in place: its opcode, where its payload is, and where the next frame starts.
pub fn decode(input: &mut [u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let &[first, second, ..] = &*input else { return None };
    let (len, at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*input.get(2..)?.first_chunk()?), 10),
        len => (u64::from(len), 2),
    };
    let mask: [u8; 4] = *input.get(at..)?.first_chunk()?;
    let start = at + 4;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    unmask(input.get_mut(start..end)?, mask);
    Some((first & 0x0f, start..end))
}

/// Appends a frame whose payload is these parts.
pub fn encode(opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x80 | opcode);
    match len {
        0..126 => out.push(len as u8),
        126..65_536 => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(mask)) * 0x1_0000_0001;
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}
