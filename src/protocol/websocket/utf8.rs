//! Text that comes in parts (RFC 6455 §5.6, §8.1): is what has come so far UTF-8?
//!
//! Each byte is looked at once, however the text is cut. Does not keep the text.

/// What is known of a text so far: it is UTF-8, but for the beginning of one more character.
// Invariant: the first `len` bytes begin a character and are no whole one, so there are three at most.
#[derive(Debug, Default)]
pub(crate) struct TextCheck {
    beginning: [u8; 4],
    len: u8,
}

impl TextCheck {
    /// Looks at the next part. False if no further part can mend the text.
    pub(crate) fn push(&mut self, part: &[u8]) -> bool {
        let mut rest = part;
        while self.len > 0 {
            let Some((&byte, after)) = rest.split_first() else { return true };
            let place = usize::from(self.len);
            let Some(free) = self.beginning.get_mut(place) else { return false };
            *free = byte;
            rest = after;
            match std::str::from_utf8(self.beginning.get(..=place).unwrap_or_default()) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => self.len += 1,
                Err(_) => return false,
            }
        }
        let Err(error) = simdutf8::compat::from_utf8(rest) else { return true };
        if error.error_len().is_some() {
            return false;
        }
        let begun = rest.get(error.valid_up_to()..).unwrap_or_default();
        for (place, byte) in self.beginning.iter_mut().zip(begun) {
            *place = *byte;
            self.len += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The same from the whole text at once.
    fn is_beginning_of_text(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).err().is_none_or(|error| error.error_len().is_none())
    }

    #[test]
    fn s8_1_text_is_refused_with_the_byte_that_cannot_be_mended() {
        for (bytes, bad_at) in [
            (&b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80a"[..], Some(6)),
            (b"a\xed\xa0\x80", Some(2)),
            (b"\xc0\x80", Some(0)),
            (b"\xf0\x9f\x98\x80", None),
            (b"\xf0\x9f\x98a", Some(3)),
            (b"\xff", Some(0)),
        ] {
            let mut check = TextCheck::default();
            let refused = bytes.iter().position(|byte| !check.push(&[*byte]));
            assert_eq!(refused, bad_at, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn s8_1_parts_are_text_if_the_whole_is(
            text in "\\PC{0,12}",
            flaw in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut bytes = text.into_bytes();
            if let Some((place, value)) = flaw.filter(|_| !bytes.is_empty()) {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let mut check = TextCheck::default();
            for part in places.windows(2) {
                let is_text = check.push(&bytes[part[0]..part[1]]);
                prop_assert_eq!(is_text, is_beginning_of_text(&bytes[..part[1]]));
                if !is_text { break }
            }
        }
    }
}
