//! What other processes ask this one, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::NodeTag;
use crate::bus::Channel;
use crate::bus::hub::words::{counted, reframe};
use crate::bus::hub::{Answering, Asker, Hub};
use crate::bus::own::{AskWord, Asked, NodeId, To, Word};
use crate::bus::questions::QUESTIONS_MAX;
use crate::mesh::ShardMessage;
use crate::message::address::Address;
use crate::message::inquiry::{AckError, Ask, Findings, Reply, Request};
use crate::message::target::{Reach, SocketCommand, Target};

/// The longest time for which another process' question is believed to wait: those that its clients do not answer are bounded in
/// number, and one that waits for ever would keep its place for ever.
pub(crate) const PEER_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

impl Hub {
    /// The shards have found out what another process asked.
    pub(crate) fn answer(&mut self, asker: Asker, found: Result<Findings, AckError>) {
        self.answers_owed = self.answers_owed.saturating_sub(1);
        let findings = found.unwrap_or_else(|_| Findings { shards_late: 1, ..Findings::default() });
        let is_whole = findings.shards_late == 0;
        match asker {
            Asker::Peer(asked) => self.post_report(asked, findings),
            Asker::Foreign { place, ticket } => self.foreign[place].answer(ticket, findings, &mut self.posts),
            // Sockets of a shard that is held up are still there: the last count is nearer to the truth than one without them.
            Asker::Census if is_whole => self.census = counted(findings),
            Asker::Census => {}
        }
    }

    pub(super) fn post_report(&mut self, asked: Asked, findings: Findings) {
        self.post(Channel::Node(NodeTag(asked.by)), Word::Report { question: asked.number, findings });
    }

    pub(super) fn hear_question(
        &mut self,
        (from, question): (NodeId, Asked),
        to: &To<'_>,
        ask: AskWord<'_>,
        timeout: Duration,
    ) {
        let ask = match ask {
            AskWord::Settled { change, sequence } => {
                let (namespace, target) = (to.address(), to.target());
                let command = SocketCommand { namespace, target, change: change.into() };
                return self.hear_settled((from, sequence), question, command, timeout);
            }
            AskWord::Answers { frame } => {
                let id = self.mesh.next_broadcast_ack_id();
                match reframe(frame.0, to.namespace, id) {
                    Ok(frame) => Ask::Answers { id, frame: Arc::new(frame) },
                    Err(fault) => return self.unreadable(&Channel::All, fault.reason()),
                }
            }
            AskWord::Sockets => Ask::Sockets,
            AskWord::Ids => Ask::Ids,
            AskWord::Count => Ask::Count,
            AskWord::Rooms => Ask::Rooms,
        };
        let asker = Asker::Peer(question);
        self.ask_shards((to.address(), to.target()), ask, Some(timeout.min(PEER_TIMEOUT_MAX)), asker);
    }

    /// Asks the shards of this process, for somebody else. False: too many questions wait for them.
    pub(super) fn ask_shards(
        &mut self,
        (namespace, mut target): (Address, Target),
        ask: Ask,
        timeout: Option<Duration>,
        asker: Asker,
    ) -> bool {
        let Some(reply) = self.owe_answer(asker) else { return false };
        target.reach = Reach::Process;
        let request = Request { namespace, target, ask, timeout, reply };
        self.send(self.mesh.asking_shard(), ShardMessage::Request(Box::new(request)));
        true
    }

    /// What takes the answer for somebody else. `None`: too many are owed already.
    pub(super) fn owe_answer(&mut self, to: Asker) -> Option<Reply> {
        if self.answers_owed >= QUESTIONS_MAX {
            self.stats.lost.add(1);
            return None;
        }
        self.answers_owed += 1;
        let (reply, receiver) = oneshot::async_channel();
        self.answering.push(Answering { to, receiver });
        Some(reply)
    }
}
