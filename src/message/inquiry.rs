//! Questions to all shards: what is asked, and what each of them reports.
//!
//! A request is asked by one shard, its home, of every shard that may know, and of itself. Each finds out in its own time and
//! reports once; the home adds the reports up and replies once. No shard waits for another: the home has a deadline.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::buffer::SharedFrame;
use crate::base::ids::{ShardId, Sid};
use crate::base::slab::Key;
use crate::message::address::Address;
use crate::message::overview::{Look, Overview};
use crate::message::peer::Peer;
use crate::message::server_event::ServerEvent;
use crate::message::target::{Target, ToldChange};

/// Takes what was found out. Dropped when the server ends before it knows.
pub(crate) type Reply = oneshot::Sender<Result<Findings, AckError>>;

/// A question of another thread, or of user code on a shard, before it has a home.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) namespace: Address,
    pub(crate) target: Target,
    pub(crate) ask: Ask,
    /// `None`: the usual time for such a question.
    pub(crate) timeout: Option<Duration>,
    pub(crate) reply: Reply,
}

/// What is to be found out about the sockets of a target.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Send them this event, and collect what they answer to its id.
    Answers {
        id: u64,
        frame: SharedFrame,
    },
    /// Describe each.
    Sockets,
    Ids,
    Count,
    /// The rooms of the namespace, whatever the target.
    Rooms,
    /// Report once what was said before is done; in other processes this change, if it was told them.
    Settled(Option<Arc<ToldChange>>),
    /// How many sockets each namespace has, whatever the namespace and the target.
    Census,
    /// What each shard of this process shows operators, whatever the namespace and the target.
    Overview(Look),
    /// What the handlers of all other processes' servers answer to this event. No shard of this process is asked.
    Servers(Arc<ServerEvent>),
}

/// A question as the home asks it of shards.
#[derive(Debug)]
pub(crate) struct Inquiry {
    pub(crate) namespace: Address,
    pub(crate) target: Target,
    pub(crate) ask: Ask,
    pub(crate) timeout: Duration,
    pub(crate) home: ShardId,
    /// The inquiry's place at home.
    pub(crate) number: Key,
}

/// What one shard has found out, or all other processes together.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) number: Key,
    pub(crate) findings: Findings,
    pub(crate) is_of_processes: bool,
}

/// What is known so far. What was not asked for stays empty.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) answers: Vec<(Sid, AnswerText)>,
    pub(crate) missing: Vec<(Sid, AckError)>,
    pub(crate) sockets: Vec<SocketFacts>,
    pub(crate) ids: Vec<Sid>,
    pub(crate) count: u64,
    /// Members by room.
    pub(crate) rooms: BTreeMap<String, u64>,
    /// Sockets by endpoint and namespace.
    pub(crate) census: BTreeMap<(Option<String>, String), u64>,
    /// What handlers of servers have answered, by the names of their processes.
    pub(crate) servers: Vec<(String, AnswerText)>,
    /// What shards show operators: of this process only.
    #[serde(skip)]
    pub(crate) overviews: Vec<Overview>,
    /// What the findings weigh, about.
    pub(crate) bytes: usize,
    /// Something was left out, because it weighs too much.
    pub(crate) is_cut: bool,
    /// Shards that were not reached: a full inbox, or gone.
    pub(crate) shards_unreached: usize,
    /// Shards that did not report in time.
    pub(crate) shards_late: usize,
    /// Other processes that did not report, by name.
    pub(crate) processes_missing: Vec<String>,
}

/// Of those who are missing, so many are named where too much is to be told.
const MISSING_MAX: usize = 100_000;

impl Findings {
    /// Adds what another shard has found out.
    pub(crate) fn add(&mut self, other: Findings) {
        self.answers.extend(other.answers);
        self.missing.extend(other.missing);
        self.sockets.extend(other.sockets);
        self.ids.extend(other.ids);
        self.count = self.count.saturating_add(other.count);
        for (name, members) in other.rooms {
            let sum = self.rooms.entry(name).or_default();
            *sum = sum.saturating_add(members);
        }
        for (namespace, sockets) in other.census {
            let sum = self.census.entry(namespace).or_default();
            *sum = sum.saturating_add(sockets);
        }
        self.servers.extend(other.servers);
        self.overviews.extend(other.overviews);
        self.bytes += other.bytes;
        self.is_cut |= other.is_cut;
        self.shards_unreached += other.shards_unreached;
        self.shards_late += other.shards_late;
        self.processes_missing.extend(other.processes_missing);
    }

    /// Weighs what came from outside, whose word on that is not taken.
    #[cfg(feature = "bus")]
    pub(crate) fn weigh(&mut self) {
        self.bytes = self.answers.iter().map(|(_, text)| text.len_bytes()).sum::<usize>()
            + self.servers.iter().map(|(name, text)| name.len() + text.len_bytes()).sum::<usize>()
            + self.sockets.iter().map(SocketFacts::len_bytes).sum::<usize>()
            + size_of_val(self.ids.as_slice())
            + self.rooms.keys().map(|name| name.len() + size_of::<String>()).sum::<usize>()
            + size_of_val(self.missing.as_slice());
    }

    /// Leaves out what weighs something; whose answer it was is missing.
    pub(crate) fn cut(&mut self) {
        // A list of who is missing that is itself too long was made up by somebody: a process has not so many sockets.
        self.missing.truncate(MISSING_MAX);
        self.missing.extend(self.answers.drain(..).map(|(sid, _)| (sid, AckError::TooLarge)));
        self.processes_missing.extend(self.servers.drain(..).map(|(name, _)| name));
        self.sockets.clear();
        self.ids.clear();
        self.rooms.clear();
        self.bytes = 0;
        self.is_cut = true;
    }
}

/// What was answered, or what a server says to others: elements of a JSON array without its brackets, and attachments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerText {
    pub(crate) json: String,
    pub(crate) attachments: Vec<Bytes>,
}

impl AnswerText {
    /// What it keeps in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// A socket as another shard sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SocketFacts {
    pub(crate) sid: Sid,
    /// The id by which its client knows it, if that is another.
    pub(crate) client_id: Option<Box<str>>,
    /// Its own id first.
    pub(crate) rooms: Vec<String>,
    /// The handshake: the target on the first line, then `name: value` lines.
    pub(crate) request: Box<str>,
    pub(crate) peer: Peer,
    pub(crate) address: Option<IpAddr>,
    pub(crate) issued_unix_millis: u64,
    /// JSON that the socket's handlers have published.
    pub(crate) data: Option<Box<str>>,
}

impl SocketFacts {
    /// What it weighs, about.
    pub(crate) fn len_bytes(&self) -> usize {
        let rooms: usize = self.rooms.iter().map(|room| room.len() + size_of::<String>()).sum();
        let (data, client_id) = (self.data.as_deref(), self.client_id.as_deref());
        let texts: usize = [data, client_id].into_iter().flatten().map(str::len).sum();
        size_of::<SocketFacts>() + rooms + self.request.len() + texts
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AckError {
    /// None came in time.
    Timeout,
    /// The socket is gone.
    Disconnected,
    /// The question was not sent: its arguments could not be encoded, too many answers are owed already, or a
    /// shard's inbox was full. The log says which.
    NotSent,
    /// An answer came, and more is kept already than a shard keeps of answers: 64 MiB.
    TooLarge,
    /// The server does not run.
    Stopped,
}

impl std::fmt::Display for AckError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            AckError::Timeout => "no answer came in time",
            AckError::Disconnected => "the client is gone",
            AckError::NotSent => "the event was not sent",
            AckError::TooLarge => "the answers are too large to be kept: ask fewer sockets at a time",
            AckError::Stopped => "the server does not run",
        })
    }
}

impl std::error::Error for AckError {}
