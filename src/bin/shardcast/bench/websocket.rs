//! WebSocket frames from the client's side (RFC 6455 §5): masked out, unmasked in.
//!
//! A frame may be masked with the key 0: RFC 6455 §5.3 asks for an unpredictable key because of
//! intermediaries that a browser's page could fool, and there is none of either here. It saves the generator
//! a pass over its payloads; the server still unmasks. No extensions, so no compression.

use super::error::Fault;
use super::limits::MESSAGE_BYTES_MAX;

/// What a frame holds (§5.2). Whether a fragmented message is text or binary is known from its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// One frame of the server's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What it holds.
    pub(crate) opcode: Opcode,
    /// The last of its message.
    pub(crate) is_final: bool,
    /// Its payload.
    pub(crate) payload: &'a [u8],
}

/// Where mask keys come from.
pub(crate) enum Mask {
    /// Every key is 0.
    Zero,
    /// A xorshift generator: unpredictable enough to make both sides work, not to hide anything.
    Random(u64),
}

const FINAL_BIT: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const MASK_BIT: u8 = 0x80;
/// The payload of a control frame (§5.5).
const CONTROL_BYTES_MAX: usize = 125;

impl Mask {
    fn next_key(&mut self) -> [u8; 4] {
        let Self::Random(state) = self else { return [0; 4] };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state as u32).to_ne_bytes()
    }
}

/// Appends one whole masked message.
pub(crate) fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: &mut Mask) {
    let code = match opcode {
        Opcode::Continuation => 0x0,
        Opcode::Text => 0x1,
        Opcode::Binary => 0x2,
        Opcode::Close => 0x8,
        Opcode::Ping => 0x9,
        Opcode::Pong => 0xA,
    };
    out.push(FINAL_BIT | code);
    match payload.len() {
        len @ 0..=125 => out.push(MASK_BIT | len as u8),
        len @ 126..=0xFFFF => {
            out.push(MASK_BIT | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(MASK_BIT | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let key = mask.next_key();
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    if key != [0; 4] {
        apply_mask(&mut out[start..], key);
    }
}

/// Reads one frame; `None` while it is incomplete, else it and how many bytes it took.
pub(crate) fn decode_frame(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Fault> {
    let &[first, second, ref rest @ ..] = input else { return Ok(None) };
    if first & RESERVED_BITS != 0 {
        return Err(Fault::Frame("reserved bits"));
    }
    if second & MASK_BIT != 0 {
        return Err(Fault::Frame("masked by the server"));
    }
    let opcode = decode_opcode(first & 0x0F)?;
    let (len, rest) = match second {
        126 => match rest.split_first_chunk::<2>() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((len, rest)) => (u64::from_be_bytes(*len), rest),
            None => return Ok(None),
        },
        len => (u64::from(len), rest),
    };
    let is_final = first & FINAL_BIT != 0;
    let len = usize::try_from(len).ok().filter(|&len| len <= MESSAGE_BYTES_MAX);
    let len = len.ok_or(Fault::Frame("longer than any message of this run"))?;
    let is_control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    if is_control && (len > CONTROL_BYTES_MAX || !is_final) {
        return Err(Fault::Frame("a long or fragmented control frame"));
    }
    let Some(payload) = rest.get(..len) else { return Ok(None) };
    let used = input.len() - rest.len() + len;
    Ok(Some((Frame { opcode, is_final, payload }, used)))
}

/// The code in a Close frame (§5.5.1).
pub(crate) fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))
}

fn decode_opcode(code: u8) -> Result<Opcode, Fault> {
    Ok(match code {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        _ => return Err(Fault::Frame("an unknown opcode")),
    })
}

/// §5.3, eight bytes at a time.
fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let half = u64::from(u32::from_ne_bytes(key));
    let wide = half << 32 | half;
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s5_2_every_length_form_is_read_whole_at_every_cut() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let mut bytes = Vec::new();
            encode_frame(&mut bytes, Opcode::Text, &vec![b'x'; len], &mut Mask::Zero);
            // Turned into a server's frame: the mask bit and the four zero bytes of the key go.
            bytes[1] &= !MASK_BIT;
            let key_at = bytes.len() - len - 4;
            bytes.drain(key_at..key_at + 4);
            for cut in (0..bytes.len()).take(16).chain([bytes.len() - 1]) {
                assert_eq!(decode_frame(&bytes[..cut]), Ok(None), "{len} cut at {cut}");
            }
            let (frame, used) = decode_frame(&bytes).unwrap().unwrap();
            assert_eq!((frame.payload.len(), used, frame.is_final), (len, bytes.len(), true));
        }
    }

    #[test]
    fn s5_3_the_mask_is_undone_by_its_key() {
        for len in [0, 1, 7, 8, 9, 64, 67] {
            let payload: Vec<u8> = (0..len).collect();
            let mut bytes = Vec::new();
            encode_frame(&mut bytes, Opcode::Binary, &payload, &mut Mask::Random(42));
            let (key, masked) = bytes[2..].split_first_chunk::<4>().unwrap();
            let plain: Vec<u8> =
                masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            assert_eq!(plain, payload);
            assert_ne!(*key, [0; 4]);
        }
    }

    #[test]
    fn s5_broken_frames_are_faults() {
        let rows: [&[u8]; 5] =
            [&[0xC1, 0], &[0x81, 0x80, 0, 0, 0, 0], &[0x83, 0], &[0x09, 0], &[0x89, 126, 0, 126]];
        for row in rows {
            assert!(matches!(decode_frame(row), Err(Fault::Frame(_))), "{row:?}");
        }
        assert!(decode_frame(&[0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn s5_5_1_a_close_has_a_code_or_none() {
        assert_eq!(close_code(&[0x03, 0xE8, b'x']), Some(1000));
        assert_eq!(close_code(&[]), None);
    }
}
