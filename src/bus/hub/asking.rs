//! What this process asks the others, and what becomes of the answers.

use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::base::time::Time;
use crate::bus::fleet::Fleet;
use crate::bus::hub::{ANSWER_GRACE, Hub};
use crate::bus::ids::{one_id, one_process};
use crate::bus::own::{AskWord, Asked, ChangeWord, Raw, ServerWord, To, Word};
use crate::bus::questions::{Awaited, Question};
use crate::bus::{Channel, Foreign};
use crate::mesh::ShardMessage;
use crate::message::inquiry::{Ask, Findings, Inquiry, Report};

impl Hub {
    /// Asks the others. `None`: nobody is to be waited for.
    pub(super) fn ask(&mut self, inquiry: &Inquiry, now: Time) -> Option<u64> {
        let mut findings = Findings::default();
        let (namespace, target) = (&inquiry.namespace, &inquiry.target);
        // How many there are, the hellos have said. Foreign servers say no hello, so they are asked all the same.
        let is_all = target.is_everyone && target.except.iter().next().is_none();
        let is_counted = matches!(inquiry.ask, Ask::Count) && is_all;
        if is_counted {
            findings.count = self.fleet.sockets(namespace.endpoint(), namespace.name());
        }
        if self.questions.is_full() {
            findings
                .processes_missing
                .push("more questions wait for other processes than are kept".to_owned());
            self.report(inquiry.home, inquiry.number, findings);
            return None;
        }
        let number = self.questions.next_number();
        let for_clients = matches!(inquiry.ask, Ask::Answers { .. });
        // Facts are told in time for the home, which waits no longer than it says.
        let (timeout, patience) = if for_clients {
            (inquiry.timeout, inquiry.timeout.saturating_add(ANSWER_GRACE))
        } else {
            (inquiry.timeout / 10 * 8, inquiry.timeout / 10 * 9)
        };
        let mut awaited: SmallVec<[Awaited; 4]> = SmallVec::new();
        let channel = match one_process(target) {
            _ if is_counted => Channel::All,
            Some(tag) if self.is_known(tag) => {
                awaited.extend(self.fleet.with_tag(tag).map(Awaited::Peer));
                Channel::Node(tag)
            }
            _ => {
                awaited.extend(self.fleet.ids().map(Awaited::Peer));
                Channel::All
            }
        };
        if !awaited.is_empty() {
            let timeout_millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            let asked = Asked { number, by: self.me.tag.0 };
            match question_word(inquiry, asked, timeout_millis) {
                Some(word) => self.post(channel, word),
                None => awaited.clear(),
            }
        }
        let (home, number_at_home, due) = (inquiry.home, inquiry.number, now + patience);
        let is_for_one = !target.is_everyone && one_id(target);
        let question = Question { home, number_at_home, awaited, findings, due, is_for_one };
        self.questions.open(number, question);
        Some(number)
    }

    /// Something was found out about a question of ours.
    pub(super) fn add_findings(&mut self, number: u64, by: Awaited, mut findings: Findings, is_last: bool) {
        let name = name_of(by, &self.fleet, &self.foreign);
        for (process, _) in &mut findings.servers {
            if process.is_empty() || matches!(by, Awaited::Peer(_)) {
                process.clone_from(&name);
            }
        }
        if self.questions.add(number, (by, &name), findings) && is_last {
            self.questions.has_answered(number, by);
        }
        self.finish_if_answered(number);
    }

    pub(super) fn finish_if_answered(&mut self, number: u64) {
        if let Some(question) = self.questions.take_if_answered(number) {
            self.foreign.iter_mut().for_each(|format| format.forget(number));
            self.report(question.home, question.number_at_home, question.findings);
        }
    }

    pub(super) fn report(&mut self, home: ShardId, number: Key, findings: Findings) {
        let report = Report { number, findings, is_of_processes: true };
        self.send(home, ShardMessage::Report(Box::new(report)));
    }

    /// Ends questions that are due by then, with what is known.
    pub(super) fn give_up(&mut self, due: Time) {
        let (fleet, foreign) = (&self.fleet, &self.foreign);
        for number in self.questions.give_up(due, |awaited| name_of(awaited, fleet, foreign)) {
            self.finish_if_answered(number);
        }
    }
}

/// How whoever is to answer is called, for people.
fn name_of(awaited: Awaited, fleet: &Fleet, foreign: &[Box<dyn Foreign>]) -> String {
    match awaited {
        Awaited::Peer(id) => fleet.name(id),
        Awaited::Foreign(place) => foreign[place].name().to_owned(),
    }
}

/// What a question is on its way to other processes. `None`: there is nothing to ask them.
fn question_word<'a>(inquiry: &'a Inquiry, question: Asked, timeout_millis: u64) -> Option<Word<'a>> {
    let ask = match &inquiry.ask {
        Ask::Servers(event) => return Some(Word::Server(ServerWord::new(event, Some(question)))),
        Ask::Answers { frame, .. } => AskWord::Answers { frame: Raw(frame) },
        Ask::Sockets => AskWord::Sockets,
        Ask::Ids => AskWord::Ids,
        Ask::Count | Ask::Census => AskWord::Count,
        Ask::Rooms => AskWord::Rooms,
        // A shard of this process is meant.
        Ask::Overview(_) | Ask::Settled(None) => return None,
        Ask::Settled(Some(told)) => {
            // What was refused by the link was told nobody.
            let sequence = Some(told.sequence.load(Relaxed)).filter(|sequence| *sequence > 0)?;
            AskWord::Settled { change: ChangeWord::from(&told.command.change), sequence }
        }
    };
    Some(Word::Ask { question, to: To::new(&inquiry.namespace, &inquiry.target), ask, timeout_millis })
}
