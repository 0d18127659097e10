//! What a message keeps in memory while it waits in an inbox, beside itself.

use crate::mesh::ShardMessage;
use crate::message::files::FileOutcome;
use crate::message::inquiry::Ask;
use crate::message::recovery::{Kept, RecoveryMessage};
use crate::message::state::{StateChange, StateMessage};
use crate::message::target::Broadcast;

impl ShardMessage {
    /// Bytes of what peers and handlers can make as long as they like. The same when it is taken as when it was sent, because
    /// nothing of a message changes on the way.
    pub(super) fn len_bytes(&self) -> usize {
        match self {
            ShardMessage::Broadcast(broadcast) | ShardMessage::Relay(broadcast) => broadcast.len_bytes(),
            ShardMessage::State(message) => message.len_bytes(),
            ShardMessage::Recovery(message) => message.len_bytes(),
            ShardMessage::Far(word) => word.len_bytes(),
            ShardMessage::Handoff(handoff) => handoff.owed.len() + handoff.unread.len(),
            ShardMessage::Ack(answer) => answer.len_bytes(),
            ShardMessage::Errands(errands) => errands.len_bytes(),
            ShardMessage::File(answer) => answer.outcome.len_bytes(),
            ShardMessage::Server(call) => call.event.len_bytes() + call.from.len(),
            ShardMessage::Report(report) => report.findings.bytes,
            ShardMessage::Inquiry(inquiry) => inquiry.ask.len_bytes() + inquiry.target.len_bytes(),
            ShardMessage::Request(request) => request.ask.len_bytes() + request.target.len_bytes(),
            ShardMessage::RelayCommand(told) => told.command.target.len_bytes(),
            ShardMessage::Command(command, _) => command.target.len_bytes(),
            ShardMessage::StateNews(news) => news.len_bytes(),
            ShardMessage::TellStates
            | ShardMessage::Passed(_)
            | ShardMessage::Trace { .. }
            | ShardMessage::Pulse(_)
            | ShardMessage::Settings(_)
            | ShardMessage::Add(..)
            | ShardMessage::Shutdown
            | ShardMessage::StopInTurn(_) => 0,
        }
    }
}

impl Broadcast {
    pub(crate) fn len_bytes(&self) -> usize {
        self.frame.len() + self.target.len_bytes()
    }
}

impl StateMessage {
    fn len_bytes(&self) -> usize {
        match &self.change {
            StateChange::Set { key, value } => key.len() + value.len(),
            StateChange::Remove { key } => key.len(),
            StateChange::Replace(entries) => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
        }
    }
}

impl RecoveryMessage {
    fn len_bytes(&self) -> usize {
        match self {
            RecoveryMessage::Missed { missed, .. } => {
                let len = |kept: &Kept| kept.frame.len();
                missed.as_ref().map_or(0, |missed| missed.iter().map(len).sum())
            }
            RecoveryMessage::Found { lost, .. } => lost.rooms.iter().map(String::len).sum(),
            _ => 0,
        }
    }
}

impl FileOutcome {
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            FileOutcome::Found(content) => content.start.len(),
            FileOutcome::Piece(piece) => piece.len(),
            FileOutcome::Encoded(coded) => coded.as_ref().map_or(0, |coded| coded.len()),
            FileOutcome::Unchanged { .. } | FileOutcome::NotInFile { .. } | FileOutcome::Failed(_) => 0,
        }
    }
}

impl Ask {
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Ask::Answers { frame, .. } => frame.len(),
            Ask::Servers(event) => event.len_bytes(),
            Ask::Sockets
            | Ask::Ids
            | Ask::Count
            | Ask::Rooms
            | Ask::Census
            | Ask::Overview(_)
            | Ask::Settled(_) => 0,
        }
    }
}
