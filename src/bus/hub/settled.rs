//! Changes of other processes that somebody there waits for: reported once the shards have made them.
//!
//! The change comes by the slots of its rooms, in its place among what else is said there; the question comes by another channel, and
//! names the number of that message. Where a broker keeps no order between channels the question may be first: then it waits a little.
//! If the change does not come it is made all the same, once, whichever of both was heard.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Time;
use crate::bus::fleet::Heard;
use crate::bus::hub::{Asker, Hub};
use crate::bus::own::{Asked, NodeId};
use crate::bus::questions::QUESTIONS_MAX;
use crate::mesh::interest::Audience;
use crate::message::inquiry::{Ask, Findings};
use crate::message::target::SocketCommand;

/// How long a question waits for the change that it is about.
const HOLD: Duration = Duration::from_millis(300);

/// Questions that wait for their change, in the order in which they came: that in which their time is over.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<HeldQuestion>);

#[derive(Debug)]
struct HeldQuestion {
    /// The message of the change.
    message: (NodeId, u64),
    question: Asked,
    command: SocketCommand,
    timeout: Duration,
    until: Time,
}

impl Held {
    pub(super) fn next_timeout(&self) -> Time {
        self.0.front().map_or(Time::NEVER, |held| held.until)
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Hub {
    /// Another process asks whether a change of its is made here.
    pub(super) fn hear_settled(
        &mut self,
        message: (NodeId, u64),
        question: Asked,
        command: SocketCommand,
        timeout: Duration,
    ) {
        let (from, sequence) = message;
        let late = || Findings { shards_late: 1, ..Findings::default() };
        let is_anybody_meant =
            self.mesh.interest.next(&mut Audience::default(), &command.namespace, &command.target).is_some();
        match self.fleet.has_heard(from, sequence) {
            Heard::Yes => self.settle(question, command, timeout),
            _ if !is_anybody_meant => self.post_report(question, Findings::default()),
            Heard::Unsure => self.post_report(question, late()),
            Heard::No if self.held.0.len() >= QUESTIONS_MAX => self.post_report(question, late()),
            Heard::No => {
                let until = self.now + HOLD;
                self.held.0.push_back(HeldQuestion { message, question, command, timeout, until });
            }
        }
    }

    /// The change of a message is made: who has asked for it is answered.
    pub(super) fn settle_held(&mut self, from: NodeId, sequence: u64) {
        let place = self.held.0.iter().position(|held| held.message == (from, sequence));
        if let Some(held) = place.and_then(|place| self.held.0.remove(place)) {
            self.settle(held.question, held.command, held.timeout);
        }
    }

    /// Makes changes that have not come in time.
    pub(super) fn settle_due(&mut self, now: Time) {
        while self.held.next_timeout() <= now {
            let Some(HeldQuestion { message: (from, sequence), question, command, timeout, .. }) =
                self.held.0.pop_front()
            else {
                return;
            };
            if self.fleet.is_first(from, sequence, now) {
                self.apply(command.clone());
            }
            self.settle(question, command, timeout);
        }
    }

    /// Asks the shards, behind the change.
    fn settle(&mut self, question: Asked, command: SocketCommand, timeout: Duration) {
        let asker = Asker::Peer(question);
        self.ask_shards((command.namespace, command.target), Ask::Settled(None), Some(timeout), asker);
    }
}
