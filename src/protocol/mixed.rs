//! Payloads for tests of what compresses: part text that shrinks, part noise that does not. Tests only.

use proptest::prelude::*;

/// A payload by its length, its noise in percent, and a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixed {
    pub(crate) len: usize,
    pub(crate) noise: u8,
    pub(crate) seed: u32,
}

impl Mixed {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut state = self.seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let is_noise = |choice: u32| choice % 100 < u32::from(self.noise);
        // In stretches, so that a compressor sees each kind for a while. Noise of all bytes grows at zlib's fastest level, which
        // gives the upper half of them nine bits: such a message is abandoned in its middle.
        let mut bytes = Vec::with_capacity(self.len + 600);
        while bytes.len() < self.len {
            let stretch = 1 + next() as usize % 600;
            match is_noise(next()) {
                true => bytes.extend(std::iter::repeat_with(|| (next() >> 8) as u8).take(stretch)),
                false => bytes.extend(b"{\"room\":\"lobby\",\"n\":17}".iter().cycle().take(stretch)),
            }
        }
        bytes.truncate(self.len);
        bytes
    }
}

/// Short ones, and those that are longer than what a compressor holds back.
pub(crate) fn mixed() -> impl Strategy<Value = Mixed> {
    let len = prop_oneof![4 => 0..3_000_usize, 1 => 60_000..70_000_usize, 3 => 100_000..200_000_usize];
    let noise = prop_oneof![Just(0), Just(100), 0..=100_u8];
    (len, noise, any::<u32>()).prop_map(|(len, noise, seed)| Mixed { len, noise, seed })
}
