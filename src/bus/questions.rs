//! Questions of this process, until the others have answered.
//!
//! A value of its own: it knows who is still waited for and what was found out, and neither the mesh nor the formats.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::bus::own::NodeId;
use crate::mesh::link::{ANSWERS_BYTES_MAX, REPORT_BYTES_MAX};
use crate::message::inquiry::Findings;

/// Questions of this process that wait for others, and those of others that wait for this one.
pub(crate) const QUESTIONS_MAX: usize = 4096;

/// Who is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Peer(NodeId),
    /// One of the foreign formats, by its place.
    Foreign(usize),
}

/// One question.
#[derive(Debug)]
pub(crate) struct Question {
    /// The shard that asks.
    pub(crate) home: ShardId,
    /// The inquiry's place there.
    pub(crate) number_at_home: Key,
    pub(crate) awaited: SmallVec<[Awaited; 4]>,
    pub(crate) findings: Findings,
    pub(crate) due: Time,
    /// It is for one socket: who has it answers, and nobody else need be waited for.
    pub(crate) is_for_one: bool,
}

/// All questions of one link.
#[derive(Debug)]
pub(crate) struct Questions {
    open: FxHashMap<u64, Question>,
    /// What their findings weigh.
    bytes: usize,
    last: u64,
    /// No question is due before.
    due: Time,
}

impl Questions {
    /// Numbers begin where the process' id says, so that an answer to another process is none to this one.
    pub(crate) fn new(id: &NodeId) -> Questions {
        let [first, second, third, ..] = *id;
        let last = u64::from_be_bytes([0, 0, first, second, third, 0, 0, 0]);
        Questions { open: FxHashMap::default(), bytes: 0, last, due: Time::NEVER }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= QUESTIONS_MAX
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The number of the next question, which is to be [`opened`](Questions::open).
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn open(&mut self, number: u64, question: Question) {
        self.due = self.due.min(question.due);
        self.open.insert(number, question);
    }

    /// Somebody further is waited for.
    pub(crate) fn await_also(&mut self, number: u64, who: Awaited) {
        if let Some(question) = self.open.get_mut(&number) {
            question.awaited.push(who);
        }
    }

    /// Something was found out, by somebody with a name. False: it was not asked.
    pub(crate) fn add(&mut self, number: u64, (by, name): (Awaited, &str), mut findings: Findings) -> bool {
        let Some(question) = self.open.get_mut(&number).filter(|question| question.awaited.contains(&by))
        else {
            return false;
        };
        // What the other says of its weight is not believed, and a process of ours knows nothing of third ones.
        findings.weigh();
        if let Awaited::Peer(_) = by {
            findings.processes_missing.clear();
        }
        let together = question.findings.bytes.saturating_add(findings.bytes);
        if self.bytes.saturating_add(findings.bytes) > ANSWERS_BYTES_MAX || together > REPORT_BYTES_MAX {
            findings.cut();
        }
        self.bytes += findings.bytes;
        if findings.shards_late > 0 || findings.shards_unreached > 0 {
            findings.processes_missing.push(name.to_owned());
            (findings.shards_late, findings.shards_unreached) = (0, 0);
        }
        question.findings.add(findings);
        let is_found = !question.findings.answers.is_empty() || !question.findings.sockets.is_empty();
        if question.is_for_one && is_found {
            question.awaited.clear();
        }
        true
    }

    /// Somebody has said all that it will say.
    pub(crate) fn has_answered(&mut self, number: u64, by: Awaited) {
        if let Some(question) = self.open.get_mut(&number) {
            question.awaited.retain(|awaited| *awaited != by);
        }
    }

    /// Nobody waits any more for a question that all have answered: it is given back.
    pub(crate) fn take_if_answered(&mut self, number: u64) -> Option<Question> {
        if !self.open.get(&number)?.awaited.is_empty() {
            return None;
        }
        let question = self.open.remove(&number)?;
        self.bytes -= question.findings.bytes;
        if self.open.is_empty() {
            self.due = Time::NEVER;
        }
        Some(question)
    }

    /// Somebody is gone, and will answer nothing. The numbers of the questions for which it was waited.
    pub(crate) fn forget(&mut self, who: Awaited, name: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (number, question) in &mut self.open {
            if question.awaited.contains(&who) {
                question.awaited.retain(|awaited| *awaited != who);
                question.findings.processes_missing.push(name.to_owned());
                numbers.push(*number);
            }
        }
        numbers
    }

    /// Nobody is waited for any more in questions that are due by then. Their numbers.
    pub(crate) fn give_up(&mut self, due: Time, name: impl Fn(Awaited) -> String) -> Vec<u64> {
        if self.due > due {
            return Vec::new();
        }
        let mut numbers = Vec::new();
        self.due = Time::NEVER;
        for (number, question) in &mut self.open {
            if question.due > due {
                self.due = self.due.min(question.due);
                continue;
            }
            for awaited in std::mem::take(&mut question.awaited) {
                question.findings.processes_missing.push(name(awaited));
            }
            numbers.push(*number);
        }
        numbers
    }

    /// Not later than the next question is due.
    pub(crate) fn next_timeout(&self) -> Time {
        self.due
    }
}
