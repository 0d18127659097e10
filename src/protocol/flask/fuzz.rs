//! A body for fuzzing and for tests: no cookie makes the decoder panic, and what it accepts can be written again.

use super::session::Session;

/// The fuzzer's entry: the payload of a cookie whose signature was right.
pub(crate) fn payload(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Some(session) = Session::decode(text) else { return };
    let value = session.to_value();
    let again = Session::decode(&session.encode()).expect("what was accepted is accepted again");
    assert_eq!(again.to_value(), value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_payload_is_taken_or_refused(text in "\\.?[A-Za-z0-9_-]{0,40}") {
            super::payload(text.as_bytes());
        }
    }
}
