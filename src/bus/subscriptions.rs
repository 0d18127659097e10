//! Which slots of rooms this process hears: those that have members, and for a while those that had.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::time::Time;
use crate::bus::Channel;
use crate::mesh::slots::{ROOM_SLOTS, SUBSCRIPTION_BYTES};

/// How long a slot is heard after its last member has gone: who leaves a room and comes back costs the broker nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// The slots of one link, folded to those that its broker has.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    /// Slots of the broker: a power of two.
    slots: u32,
    /// The slots of the link that are held.
    held: FxHashSet<u32>,
    /// What each of the broker's is that is heard, or is about to be.
    states: FxHashMap<u32, State>,
    /// Slots that are not held any more, by when they are given up.
    lingering: VecDeque<(Time, u32)>,
    /// What the broker has not been told yet.
    changed: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// How many of the link's slots that this one stands for are held.
    held: u32,
    /// It is to be heard.
    is_wanted: bool,
    /// The broker was told so.
    is_told: bool,
    /// It is among the changed.
    is_listed: bool,
    /// It has its entry among the lingering: one, however often it comes and goes.
    is_lingering: bool,
    /// When it is given up, if it is not held by then.
    given_up: Time,
}

const _: () = assert!(
    2 * (size_of::<(u32, State)>() + size_of::<u32>() + 2) + size_of::<(Time, u32)>() + size_of::<u32>()
        <= SUBSCRIPTION_BYTES
);

impl State {
    fn is_over(&self) -> bool {
        self.held == 0 && !(self.is_wanted || self.is_told || self.is_listed || self.is_lingering)
    }
}

impl Subscriptions {
    pub(crate) fn new(slots: u32) -> Subscriptions {
        let slots = slots.clamp(1, ROOM_SLOTS);
        debug_assert!(slots.is_power_of_two());
        Subscriptions {
            slots,
            held: FxHashSet::default(),
            states: FxHashMap::default(),
            lingering: VecDeque::new(),
            changed: Vec::new(),
        }
    }

    /// How many the broker has.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// The broker's slot of one of the link's.
    pub(crate) fn slot(&self, slot: u32) -> u32 {
        slot & (self.slots - 1)
    }

    /// A slot of the link has come or gone.
    pub(crate) fn note(&mut self, slot: u32, is_held: bool, now: Time) {
        let is_new = if is_held { self.held.insert(slot) } else { self.held.remove(&slot) };
        if !is_new {
            return;
        }
        let own = self.slot(slot);
        let state = self.states.entry(own).or_default();
        state.held = if is_held { state.held + 1 } else { state.held - 1 };
        match (state.held, is_held) {
            (1, true) => self.want(own, true),
            (0, _) => {
                state.given_up = now + LINGER;
                if !std::mem::replace(&mut state.is_lingering, true) {
                    self.lingering.push_back((now + LINGER, own));
                }
            }
            _ => {}
        }
    }

    /// Gives up what has lingered long enough.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        while let Some(&(due, slot)) = self.lingering.front().filter(|(due, _)| *due <= now) {
            self.lingering.pop_front();
            let Some(state) = self.states.get_mut(&slot) else { continue };
            state.is_lingering = false;
            // It may have come back since, and gone again: then it lingers from there on. The entry goes to the end, so it may be
            // looked at late, by no more than LINGER.
            if state.held == 0 && state.given_up > due {
                (state.is_lingering, state.given_up) = (true, state.given_up.max(now));
                self.lingering.push_back((state.given_up, slot));
            } else if state.held == 0 {
                self.want(slot, false);
            }
        }
    }

    pub(crate) fn next_timeout(&self) -> Time {
        self.lingering.front().map_or(Time::NEVER, |(due, _)| *due)
    }

    /// What the broker is to be told: what to hear, and what no longer.
    pub(crate) fn take_changes(&mut self) -> (Vec<Channel>, Vec<Channel>) {
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for slot in self.changed.drain(..) {
            let Entry::Occupied(mut entry) = self.states.entry(slot) else { continue };
            let state = entry.get_mut();
            state.is_listed = false;
            if state.is_wanted != state.is_told {
                state.is_told = state.is_wanted;
                if state.is_wanted { &mut add } else { &mut remove }.push(Channel::Slot(slot));
            }
            if state.is_over() {
                entry.remove();
            }
        }
        (add, remove)
    }

    /// Everything that is to be heard, for a new connection.
    pub(crate) fn take_all(&mut self) -> Vec<Channel> {
        self.changed.clear();
        self.states.retain(|_, state| {
            *state = State { is_told: state.is_wanted, is_listed: false, ..*state };
            !state.is_over()
        });
        let heard = self.states.iter().filter(|(_, state)| state.is_wanted);
        let mut slots: Vec<u32> = heard.map(|(slot, _)| *slot).collect();
        slots.sort_unstable();
        slots.into_iter().map(Channel::Slot).collect()
    }

    /// Slots that are heard now.
    #[cfg(test)]
    pub(crate) fn heard(&self) -> usize {
        self.states.values().filter(|state| state.is_wanted).count()
    }

    fn want(&mut self, slot: u32, is_wanted: bool) {
        let state = self.states.entry(slot).or_default();
        state.is_wanted = is_wanted;
        if !std::mem::replace(&mut state.is_listed, true) {
            self.changed.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_heard_from_its_first_member_until_a_while_after_its_last() {
        let mut subscriptions = Subscriptions::new(1024);
        let slot = Channel::Slot(5);
        let nothing = || (Vec::new(), Vec::new());
        subscriptions.note(5, true, Time(0));
        subscriptions.note(5 + 1024, true, Time(0));
        assert_eq!(subscriptions.take_changes(), (vec![slot.clone()], Vec::new()));
        subscriptions.note(5, false, Time(0));
        subscriptions.note(5, false, Time(0));
        assert_eq!(subscriptions.next_timeout(), Time::NEVER, "the other one is still held");
        subscriptions.note(5 + 1024, false, Time(1000));
        assert_eq!((subscriptions.next_timeout(), subscriptions.take_changes()), (Time(6000), nothing()));
        subscriptions.note(5, true, Time(2000));
        subscriptions.note(5, false, Time(3000));
        subscriptions.handle_timeout(Time(6000));
        assert_eq!(subscriptions.take_changes(), nothing(), "it came back meanwhile");
        subscriptions.handle_timeout(Time(8000));
        assert_eq!(subscriptions.take_changes(), (Vec::new(), vec![slot]));
        assert_eq!(subscriptions.next_timeout(), Time::NEVER);
    }

    #[test]
    fn a_new_connection_is_told_everything_once() {
        let mut subscriptions = Subscriptions::new(1024);
        subscriptions.note(1, true, Time(0));
        subscriptions.note(2, true, Time(0));
        subscriptions.note(2, false, Time(0));
        assert_eq!(subscriptions.take_all(), [Channel::Slot(1), Channel::Slot(2)]);
        assert_eq!(subscriptions.take_changes(), (Vec::new(), Vec::new()));
        subscriptions.handle_timeout(Time(5000));
        assert_eq!(subscriptions.take_all(), [Channel::Slot(1)]);
        assert_eq!(subscriptions.take_changes(), (Vec::new(), Vec::new()));
    }

    /// Nothing is left of a slot that has come and gone, whether the broker was told of it or not.
    #[test]
    fn what_is_not_heard_takes_no_memory() {
        for (name, is_told) in [("told", true), ("not told", false)] {
            let mut subscriptions = Subscriptions::new(ROOM_SLOTS);
            for round in 0..3_u64 {
                let now = Time(round * 20_000);
                (0..1000).for_each(|slot| subscriptions.note(slot * 4099, true, now));
                if is_told {
                    assert_eq!(subscriptions.take_changes().0.len(), 1000, "{name}");
                }
                (0..1000).for_each(|slot| subscriptions.note(slot * 4099, false, now));
                subscriptions.handle_timeout(now + LINGER);
                let told = subscriptions.take_changes();
                assert_eq!((told.0.len(), told.1.len()), (0, if is_told { 1000 } else { 0 }), "{name}");
                let left = (&subscriptions.states, &subscriptions.held, &subscriptions.lingering);
                assert!(left.0.is_empty() && left.1.is_empty() && left.2.is_empty(), "{name}: {left:?}");
            }
        }
    }
}
