//! Finds what JSON escapes in a text, eight bytes at a time.

/// Bytes of one step.
const STEP: usize = size_of::<u64>();

/// A one in each byte, and the highest bit of each.
const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// The place of the first byte from `from` on that is a quote, a backslash or a control character.
pub(super) fn next_special(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(step) = bytes.get(at..).and_then(<[u8]>::first_chunk::<STEP>) {
        let word = u64::from_le_bytes(*step);
        let found = zeros(word ^ each(b'"')) | zeros(word ^ each(b'\\')) | below_space(word);
        if found != 0 {
            // What is marked above the first of them may be none, by a borrow.
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += STEP;
    }
    let rest = bytes.get(at..)?;
    rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|place| at + place)
}

/// This byte eight times.
const fn each(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Marks the first byte that is zero.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Marks the first byte that is a control character.
fn below_space(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}
