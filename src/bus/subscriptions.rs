//! Which slots of rooms this process hears: those that have members, and for a while those that had.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Time;
use crate::bus::Channel;
use crate::mesh::link::ROOM_SLOTS;

/// How long a slot is heard after its last member has gone: who leaves a room and comes back costs the broker nothing.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// The slots of one link, folded to those that its broker has.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    /// Slots of the broker: a power of two.
    slots: usize,
    /// Whether each slot of the link is held.
    is_held: Box<[bool]>,
    /// How many of the link's slots each of the broker's stands for that are held.
    held: Box<[u32]>,
    /// What each of the broker's is.
    states: Box<[State]>,
    /// Slots that are not held any more, by when they are given up.
    lingering: VecDeque<(Time, u16)>,
    /// What the broker has not been told yet.
    changed: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// It is to be heard.
    is_wanted: bool,
    /// The broker was told so.
    is_told: bool,
    /// It is among the changed.
    is_listed: bool,
    /// When it is given up, if it is not held by then.
    given_up: Time,
    /// It has its entry among the lingering: one, however often it comes and goes.
    is_lingering: bool,
}

impl Subscriptions {
    pub(crate) fn new(slots: u32) -> Subscriptions {
        let slots = (slots as usize).clamp(1, ROOM_SLOTS);
        debug_assert!(slots.is_power_of_two());
        Subscriptions {
            slots,
            is_held: vec![false; ROOM_SLOTS].into(),
            held: vec![0; slots].into(),
            states: vec![State::default(); slots].into(),
            lingering: VecDeque::new(),
            changed: Vec::new(),
        }
    }

    /// How many the broker has.
    pub(crate) fn slots(&self) -> u32 {
        self.slots as u32
    }

    /// The broker's slot of one of the link's.
    pub(crate) fn slot(&self, slot: u16) -> u16 {
        (usize::from(slot) & (self.slots - 1)) as u16
    }

    /// A slot of the link has come or gone.
    pub(crate) fn note(&mut self, slot: u16, is_held: bool, now: Time) {
        if std::mem::replace(&mut self.is_held[usize::from(slot)], is_held) == is_held {
            return;
        }
        let own = self.slot(slot);
        let count = &mut self.held[usize::from(own)];
        *count = if is_held { *count + 1 } else { *count - 1 };
        match (*count, is_held) {
            (1, true) => self.want(own, true),
            (0, _) => {
                let state = &mut self.states[usize::from(own)];
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
            let (is_held, state) = (self.held[usize::from(slot)] > 0, &mut self.states[usize::from(slot)]);
            state.is_lingering = false;
            // It may have come back since, and gone again: then it lingers from there on. The entry goes to the end, so it may be
            // looked at late, by no more than LINGER.
            if !is_held && state.given_up > due {
                (state.is_lingering, state.given_up) = (true, state.given_up.max(now));
                self.lingering.push_back((state.given_up, slot));
            } else if !is_held {
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
            let state = &mut self.states[usize::from(slot)];
            state.is_listed = false;
            if state.is_wanted != state.is_told {
                state.is_told = state.is_wanted;
                if state.is_wanted { &mut add } else { &mut remove }.push(Channel::Slot(slot));
            }
        }
        (add, remove)
    }

    /// Everything that is to be heard, for a new connection.
    pub(crate) fn take_all(&mut self) -> Vec<Channel> {
        self.changed.clear();
        let slots = self.states.iter_mut().enumerate();
        slots
            .filter_map(|(slot, state)| {
                *state = State { is_told: state.is_wanted, is_listed: false, ..*state };
                state.is_wanted.then_some(Channel::Slot(slot as u16))
            })
            .collect()
    }

    /// Slots that are heard now.
    #[cfg(test)]
    pub(crate) fn heard(&self) -> usize {
        self.states.iter().filter(|state| state.is_wanted).count()
    }

    fn want(&mut self, slot: u16, is_wanted: bool) {
        let state = &mut self.states[usize::from(slot)];
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
}
