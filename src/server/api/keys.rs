//! What was answered to requests with an `Idempotency-Key`, so that one that is sent again is not done again. A value: it is told the time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Time;

/// How long an answer is kept.
pub(super) const KEY_LIFETIME: Duration = Duration::from_secs(300);

/// Keys that one process keeps.
pub(super) const API_KEYS_MAX: usize = 100_000;

/// Bytes of the keys and of their answers. Beyond it the oldest are forgotten.
pub(crate) const API_KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The largest answer that is kept, in bytes; the key of a larger one is forgotten at once.
pub(super) const API_KEPT_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The longest key, in characters.
pub(super) const API_KEY_CHARS_MAX: usize = 128;

/// What an entry costs beside its text.
const ENTRY_BYTES: usize = 256;

/// Of a request: path and body.
pub(super) type Digest = [u8; 32];

/// A key is one token's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) token: u32,
    pub(super) key: Arc<str>,
}

/// An answer, to be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) status: u16,
    pub(super) body: Arc<str>,
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    since: Time,
    answer: Option<Kept>,
}

/// What a request with a key is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The first: it is to be done, and [`Keys::finish`] told.
    Fresh,
    /// It was answered.
    Again(Kept),
    /// The key is of another request.
    Mismatch,
    /// The first is not answered yet.
    InProgress,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    entries: HashMap<Name, Entry>,
    /// In the order of their beginnings; one that is gone from `entries`, or there with another time, is void.
    order: VecDeque<(Time, Name)>,
    bytes: usize,
}

impl Keys {
    pub(super) fn begin(&mut self, name: &Name, digest: Digest, now: Time) -> Begun {
        self.forget_old(now);
        if let Some(entry) = self.entries.get(name) {
            return match &entry.answer {
                _ if entry.digest != digest => Begun::Mismatch,
                Some(answer) => Begun::Again(answer.clone()),
                None => Begun::InProgress,
            };
        }
        self.bytes += cost(name, None);
        self.entries.insert(name.clone(), Entry { digest, since: now, answer: None });
        self.order.push_back((now, name.clone()));
        self.make_room();
        Begun::Fresh
    }

    /// The answer to what began; `None`: it may be tried again.
    pub(super) fn finish(&mut self, name: &Name, answer: Option<Kept>) {
        match answer.filter(|answer| answer.body.len() <= API_KEPT_ANSWER_BYTES_MAX) {
            None => self.forget(name),
            Some(answer) => {
                if let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.answer.is_none()) {
                    self.bytes += answer.body.len();
                    entry.answer = Some(answer);
                    self.make_room();
                }
            }
        }
    }

    fn forget_old(&mut self, now: Time) {
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= KEY_LIFETIME) {
            self.forget_first();
        }
    }

    fn make_room(&mut self) {
        while self.order.len() > API_KEYS_MAX || self.bytes > API_KEYS_BYTES_MAX {
            if self.order.is_empty() {
                return;
            }
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((since, name)) = self.order.pop_front()
            && self.entries.get(&name).is_some_and(|entry| entry.since == since)
        {
            self.forget(&name);
        }
    }

    fn forget(&mut self, name: &Name) {
        if let Some(entry) = self.entries.remove(name) {
            self.bytes -= cost(name, entry.answer.as_ref());
        }
    }
}

fn cost(name: &Name, answer: Option<&Kept>) -> usize {
    ENTRY_BYTES + name.key.len() + answer.map_or(0, |answer| answer.body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(token: u32, key: &str) -> Name {
        Name { token, key: key.into() }
    }

    fn kept(body: &str) -> Kept {
        Kept { status: 200, body: body.into() }
    }

    #[test]
    fn a_key_is_of_one_request_for_five_minutes() {
        let (mut keys, one, two) = (Keys::default(), [1; 32], [2; 32]);
        let key = name(0, "k");
        assert_eq!(keys.begin(&key, one, Time(0)), Begun::Fresh);
        assert_eq!(keys.begin(&key, one, Time(1)), Begun::InProgress);
        assert_eq!(keys.begin(&key, two, Time(1)), Begun::Mismatch);
        assert_eq!(keys.begin(&name(1, "k"), two, Time(1)), Begun::Fresh, "another token's");
        keys.finish(&key, Some(kept("done")));
        assert_eq!(keys.begin(&key, one, Time(299_999)), Begun::Again(kept("done")));
        assert_eq!(keys.begin(&key, two, Time(299_999)), Begun::Mismatch);
        assert_eq!(keys.begin(&key, two, Time(300_000)), Begun::Fresh, "its time is over");
        keys.finish(&key, None);
        assert_eq!(keys.begin(&key, one, Time(300_001)), Begun::Fresh, "it may be tried again");
        // What began later under the same name does not go with what is void.
        keys.finish(&key, Some(kept("x")));
        assert_eq!(keys.begin(&key, one, Time(600_000)), Begun::Again(kept("x")));
        keys.forget_old(Time(2_000_000));
        assert_eq!((keys.bytes, keys.entries.len(), keys.order.len()), (0, 0, 0));
    }

    #[test]
    fn keys_are_bounded_in_number_and_in_bytes() {
        let mut keys = Keys::default();
        for number in 0..API_KEYS_MAX + 10 {
            assert_eq!(keys.begin(&name(0, &number.to_string()), [0; 32], Time(0)), Begun::Fresh);
        }
        assert_eq!((keys.entries.len(), keys.order.len()), (API_KEYS_MAX, API_KEYS_MAX));
        assert_eq!(keys.begin(&name(0, "0"), [0; 32], Time(0)), Begun::Fresh, "the oldest are forgotten");
        let mut keys = Keys::default();
        let body = "x".repeat(API_KEPT_ANSWER_BYTES_MAX);
        for number in 0..400 {
            let name = name(0, &number.to_string());
            keys.begin(&name, [0; 32], Time(0));
            keys.finish(&name, Some(kept(&body)));
            assert!(keys.bytes <= API_KEYS_BYTES_MAX);
        }
        assert!(keys.entries.len() > 200, "{}", keys.entries.len());
        let large = name(0, "large");
        keys.begin(&large, [0; 32], Time(0));
        keys.finish(&large, Some(kept(&format!("{body}x"))));
        assert_eq!(keys.begin(&large, [0; 32], Time(0)), Begun::Fresh, "too large to be kept");
    }
}
