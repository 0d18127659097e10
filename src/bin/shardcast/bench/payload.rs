//! The payload: who sent it, its place in the order, when it was meant to be sent, and bytes that can be
//! checked.
//!
//! 28 characters in base 64 (RFC 4648 §5's alphabet, which JSON and HTTP leave alone), then filler:
//!
//! ```text
//! run 4 · sender 4 · sequence 8 · moment 10 · check 2 · filler
//! ```
//!
//! The two check digits find any single altered digit, and where the filler starts in its pattern depends on
//! the stamp, so a payload cannot carry another's filler unnoticed. Order is not checked here: see
//! `ledger.rs`.

use super::clock::Moment;

/// The digits before the filler, so the smallest payload.
pub(super) const STAMP_BYTES: usize = 28;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const VALUES: [u8; 256] = digit_values();
/// Where each field starts, and the check digits at the end.
const SENDER_AT: usize = 4;
const SEQUENCE_AT: usize = 8;
const MOMENT_AT: usize = 16;
const CHECK_AT: usize = 26;
const _: () = assert!(CHECK_AT + 2 == STAMP_BYTES);
/// The filler may start at this many places of the pattern; prime, so that neighbours in any field differ.
const PATTERN_STARTS: usize = 251;

/// What the first characters of a payload say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells this run's messages from those of another generator on the same server.
    pub(super) run: u32,
    /// The client that sent it.
    pub(super) sender: u32,
    /// Its place among that client's messages.
    pub(super) sequence: u64,
    /// When it was meant to be sent.
    pub(super) moment: Moment,
}

/// Why a payload is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadError {
    /// The length, a digit or the filler is not what was sent.
    Altered,
    /// Whole, but of another run.
    Foreign,
}

/// Writes and checks payloads of one size.
pub(super) struct Payloads {
    run: u32,
    len: usize,
    pattern: Vec<u8>,
}

impl Payloads {
    /// Payloads of `len` bytes for one run. Only the low 24 bits of `run` count.
    pub(super) fn new(run: u32, len: usize, is_binary: bool) -> Self {
        debug_assert!(len >= STAMP_BYTES, "the options refuse a payload that cannot hold its stamp");
        // Text stays in the alphabet; binary uses every byte value, so a server that decodes it as text
        // shows.
        let fill = |at: usize| {
            let mixed = at.wrapping_mul(0x9E37_79B9).rotate_right(11) ^ at;
            if is_binary { mixed as u8 } else { DIGITS[mixed % DIGITS.len()] }
        };
        Self { run: run & 0xFF_FFFF, len, pattern: (0..len + PATTERN_STARTS).map(fill).collect() }
    }

    /// Appends one payload.
    pub(super) fn encode(&self, out: &mut Vec<u8>, sender: u32, sequence: u64, moment: Moment) {
        let mut stamp = [0; STAMP_BYTES];
        let fields = [
            (u64::from(self.run), 0, SENDER_AT),
            (u64::from(sender), SENDER_AT, SEQUENCE_AT),
            (sequence, SEQUENCE_AT, MOMENT_AT),
            (moment.0, MOMENT_AT, CHECK_AT),
        ];
        for (mut value, from, to) in fields {
            for at in (from..to).rev() {
                stamp[at] = (value & 63) as u8;
                value >>= 6;
            }
        }
        let (sum, weighted) = check_digits(&stamp);
        stamp[CHECK_AT] = sum;
        stamp[CHECK_AT + 1] = weighted;
        out.extend(stamp.iter().map(|&value| DIGITS[usize::from(value & 63)]));
        out.extend_from_slice(self.filler(sum, weighted, sequence));
    }

    /// The stamp of a payload whose every byte is as it was sent.
    pub(super) fn decode(&self, payload: &[u8]) -> Result<Stamp, PayloadError> {
        if payload.len() != self.len {
            return Err(PayloadError::Altered);
        }
        let Some((digits, filler)) = payload.split_first_chunk::<STAMP_BYTES>() else {
            return Err(PayloadError::Altered);
        };
        let values = digits.map(|digit| VALUES[usize::from(digit)]);
        let (sum, weighted) = check_digits(&values);
        let is_digits = values.iter().all(|&value| value < 64);
        if !is_digits || values[CHECK_AT] != sum || values[CHECK_AT + 1] != weighted {
            return Err(PayloadError::Altered);
        }
        let number = |from: usize, to: usize| {
            values[from..to].iter().fold(0, |number: u64, &value| number << 6 | u64::from(value))
        };
        let sequence = number(SEQUENCE_AT, MOMENT_AT);
        let run = number(0, SENDER_AT) as u32;
        if run != self.run {
            return Err(PayloadError::Foreign);
        }
        if filler != self.filler(sum, weighted, sequence) {
            return Err(PayloadError::Altered);
        }
        let sender = number(SENDER_AT, SEQUENCE_AT) as u32;
        Ok(Stamp { run, sender, sequence, moment: Moment(number(MOMENT_AT, CHECK_AT)) })
    }

    fn filler(&self, sum: u8, weighted: u8, sequence: u64) -> &[u8] {
        let start = (usize::from(sum) * 64 + usize::from(weighted) + sequence as usize) % PATTERN_STARTS;
        &self.pattern[start..start + self.len - STAMP_BYTES]
    }
}

/// A sum, which any single altered digit changes, and a weighted sum, which two exchanged digits change.
fn check_digits(values: &[u8; STAMP_BYTES]) -> (u8, u8) {
    let mut sum = 0_u32;
    let mut weighted = 0_u32;
    for (at, &value) in values[..CHECK_AT].iter().enumerate() {
        sum += u32::from(value);
        weighted += u32::from(value) * (2 * at as u32 + 1);
    }
    ((sum & 63) as u8, (weighted & 63) as u8)
}

/// The value of every digit; 255 for a byte that is none.
const fn digit_values() -> [u8; 256] {
    let mut values = [255; 256];
    let mut at = 0;
    while at < DIGITS.len() {
        values[DIGITS[at] as usize] = at as u8;
        at += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(payloads: &Payloads, sender: u32, sequence: u64, moment: u64) -> Vec<u8> {
        let mut out = Vec::new();
        payloads.encode(&mut out, sender, sequence, Moment(moment));
        out
    }

    #[test]
    fn every_field_comes_back() {
        for (len, is_binary) in [(STAMP_BYTES, false), (64, false), (1000, false), (1000, true)] {
            let payloads = Payloads::new(0xAB_CDEF, len, is_binary);
            let bytes = encoded(&payloads, 999_999, 1 << 40, 86_400_000_000_000);
            assert_eq!(bytes.len(), len);
            let stamp = payloads.decode(&bytes).unwrap();
            assert_eq!((stamp.run, stamp.sender, stamp.sequence), (0xAB_CDEF, 999_999, 1 << 40));
            assert_eq!(stamp.moment, Moment(86_400_000_000_000));
        }
    }

    #[test]
    fn any_altered_byte_is_found() {
        let payloads = Payloads::new(7, 96, false);
        let whole = encoded(&payloads, 12, 345, 678_910);
        for at in 0..whole.len() {
            for flip in 1..=255 {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                assert_eq!(payloads.decode(&bytes), Err(PayloadError::Altered), "byte {at} ^ {flip}");
            }
        }
    }

    #[test]
    fn a_cut_a_grown_and_a_swapped_payload_are_found() {
        let payloads = Payloads::new(7, 64, false);
        let (one, two) = (encoded(&payloads, 1, 1, 50), encoded(&payloads, 1, 2, 60));
        let crossed: Vec<u8> = one[..STAMP_BYTES].iter().chain(&two[STAMP_BYTES..]).copied().collect();
        let grown: Vec<u8> = one.iter().chain(b"x").copied().collect();
        for bytes in [&one[..63], &grown, &crossed, &[]] {
            assert_eq!(payloads.decode(bytes), Err(PayloadError::Altered));
        }
    }

    #[test]
    fn another_runs_payload_is_foreign() {
        let bytes = encoded(&Payloads::new(1, 64, false), 0, 0, 0);
        assert_eq!(Payloads::new(2, 64, false).decode(&bytes), Err(PayloadError::Foreign));
    }

    #[test]
    fn text_needs_no_escape_in_json() {
        let text = String::from_utf8(encoded(&Payloads::new(1, 400, false), 3, 4, 5)).unwrap();
        assert_eq!(serde_json::to_string(&text).unwrap().len(), text.len() + 2);
    }
}
