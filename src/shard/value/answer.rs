//! An acknowledgement, kept for whoever asked.

use serde::de::DeserializeOwned;

use crate::base::slab::Key;
use crate::base::time::Time;
use crate::message::inquiry::{AckError, AnswerText};
use crate::protocol::socketio::event::{Args, ArgsError};

/// What a client answered to an emit.
#[derive(Clone, Debug)]
pub struct Answer {
    text: AnswerText,
}

impl Answer {
    pub(crate) fn new(text: AnswerText) -> Answer {
        Answer { text }
    }

    /// Keeps what was lent.
    pub(crate) fn of(args: Args<'_>) -> Answer {
        let (json, attachments) = (args.raw().to_owned(), args.attachments().to_vec());
        Answer { text: AnswerText { json, attachments } }
    }

    /// The arguments of the answer.
    pub fn args(&self) -> Args<'_> {
        Args::of_elements(&self.text.json, &self.text.attachments)
    }

    /// The first argument, which is all of most answers.
    ///
    /// # Errors
    /// When the client sent something else, or nothing.
    pub fn first<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        self.args().read(0)
    }
}

impl std::fmt::Debug for PendingAck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PendingAck").field("socket", &self.socket).field("id", &self.id).finish()
    }
}

/// Called once, with the answer or the reason why there is none.
pub(crate) type AckCallback = Box<dyn FnOnce(Result<Answer, AckError>)>;

/// One answer that is awaited.
pub(crate) struct PendingAck {
    pub(crate) socket: Key,
    pub(crate) id: u64,
    /// When it is given up; `NEVER` while its question is on its way out.
    pub(crate) due: Time,
    pub(crate) callback: AckCallback,
}
