//! Masking of client payloads (RFC 6455 §5.3): every byte xor the key's byte at its place modulo four.
//!
//! Works in place, and undoes itself. Does not know where a frame starts: the slice begins with the
//! payload's first byte. The only file of this folder with unsafe code.
#![allow(unsafe_code)]

/// Payloads from this length use the widest registers that the processor has. Shorter ones cost less than
/// asking which those are.
#[cfg(target_arch = "x86_64")]
const WIDE_BYTES_MIN: usize = 64;

/// Unmasks, or masks, a whole payload in place.
#[inline]
pub(crate) fn unmask(bytes: &mut [u8], key: [u8; 4]) {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= WIDE_BYTES_MIN && std::is_x86_feature_detected!("avx2") {
        // SAFETY: `unmask_avx2` needs a processor with AVX2, and the line above has just found that.
        return unsafe { unmask_avx2(bytes, key) };
    }
    unmask_words(bytes, key);
}

/// Eight bytes at a time on every processor. On x86-64 the compiler makes SSE2 of it, which all of them have.
#[inline]
fn unmask_words(bytes: &mut [u8], key: [u8; 4]) {
    let half = u32::from_ne_bytes(key);
    let whole = u64::from(half) << 32 | u64::from(half);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ whole).to_ne_bytes();
    }
    unmask_tail(rest, key, half);
}

/// What is left after the words: at most seven bytes, and they start at the key's first byte.
#[inline]
fn unmask_tail(bytes: &mut [u8], key: [u8; 4], half: u32) {
    let (halves, rest) = bytes.as_chunks_mut::<4>();
    for bytes in halves {
        *bytes = (u32::from_ne_bytes(*bytes) ^ half).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// 32 bytes at a time, four of those in flight. Safe twin: [`unmask_words`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn unmask_avx2(bytes: &mut [u8], key: [u8; 4]) {
    use std::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256,
    };

    let wide = _mm256_set1_epi32(i32::from_ne_bytes(key));
    let xor = |chunk: &mut [u8; 32]| {
        let at: *mut __m256i = chunk.as_mut_ptr().cast();
        // SAFETY: `at` comes from an exclusive borrow of exactly 32 bytes, so they may be read and written;
        // the `u` of both instructions means that any alignment will do.
        unsafe { _mm256_storeu_si256(at, _mm256_xor_si256(_mm256_loadu_si256(at), wide)) }
    };
    let (blocks, rest) = bytes.as_chunks_mut::<128>();
    for block in blocks {
        block.as_chunks_mut::<32>().0.iter_mut().for_each(xor);
    }
    let (chunks, rest) = rest.as_chunks_mut::<32>();
    chunks.iter_mut().for_each(xor);
    unmask_words(rest, key);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word for word (RFC 6455 §5.3).
    fn unmask_naive(bytes: &mut [u8], key: [u8; 4]) {
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[place % 4];
        }
    }

    fn check(name: &str, unmask: impl Fn(&mut [u8], [u8; 4])) {
        const ROOM: usize = 64;
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let source: Vec<u8> = (0..300 + 2 * ROOM).map(|place| ((place * 167) >> 3) as u8).collect();
        for len in 0..=300 {
            for offset in 0..ROOM {
                let (mut actual, mut expected) = (source.clone(), source.clone());
                unmask(&mut actual[offset..offset + len], key);
                unmask_naive(&mut expected[offset..offset + len], key);
                assert!(actual == expected, "{name}: {len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn s5_3_every_version_agrees_with_the_definition() {
        check("chosen", unmask);
        check("words", unmask_words);
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the line above has just found AVX2.
            check("avx2", |bytes, key| unsafe { unmask_avx2(bytes, key) });
        }
    }

    #[test]
    fn s5_3_masking_twice_gives_the_payload_back() {
        proptest::proptest!(|(payload: Vec<u8>, key: [u8; 4])| {
            let mut bytes = payload.clone();
            unmask(&mut bytes, key);
            unmask(&mut bytes, key);
            assert_eq!(bytes, payload);
        });
    }
}
