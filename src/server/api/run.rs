//! What a request does: on the shard that it came to, with the verbs that handlers have. Says truthfully what became of it.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::ids::Sid;
use crate::message::inquiry::AckError;
use crate::message::target::Receipt;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::server::api::access::Holder;
use crate::server::api::fields::Fault;
use crate::server::api::requests::{Command, Page, Whom};
use crate::server::api::table::Code;
use crate::server::handle::Handle;
use crate::shard::user::changing::{Changed, Changing};
use crate::shard::user::gathering::{Answers, RemoteSocket};
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::recipients::Recipients;
use crate::shard::user::socket::Emitted;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How soon a request that a full queue has refused may be tried again, in seconds.
const RETRY_SECONDS: u64 = 1;

/// The fields of an answer, each its JSON.
#[derive(Debug, Default)]
pub(super) struct Done(Vec<(&'static str, Box<RawValue>)>);

impl Done {
    fn with(mut self, name: &'static str, value: &(impl Serialize + ?Sized)) -> Done {
        // Numbers, texts and lists of these always have a JSON.
        if let Ok(value) = serde_json::value::to_raw_value(value) {
            self.0.push((name, value));
        }
        self
    }

    /// The same, unless there is nothing to say.
    fn with_some<T: Serialize + PartialEq + Default>(self, name: &'static str, value: &T) -> Done {
        if *value == T::default() { self } else { self.with(name, value) }
    }

    fn missing(self, changed: &Changed) -> Done {
        self.with_some("shards_missing", &changed.shards_missing)
            .with_some("nodes_missing", &changed.processes_missing)
    }
}

impl Serialize for Done {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Who asks, and where.
pub(super) struct Asker<'a> {
    pub(super) request: &'a OwnedRequest,
    pub(super) holder: &'a Holder,
    pub(super) handle: &'a Handle,
}

/// One request of a batch, answered.
#[derive(Serialize)]
struct Result1<'a> {
    status: u16,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Done(&'a Done),
    Failed { error: Shown<'a> },
}

/// An error as clients read it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Fault {
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown { code: self.code.word(), message: &self.message, field: self.field.as_deref() }
    }
}

impl Asker<'_> {
    /// Does what is asked.
    pub(super) async fn run(&self, command: Command) -> Result<Done, Fault> {
        let Command::Batch(requests) = command else { return self.run_one(command).await };
        let mut results: Vec<Box<RawValue>> = Vec::with_capacity(requests.len());
        for request in requests {
            let outcome = match request {
                Ok(command) => self.run_one(command).await,
                Err(fault) => Err(fault),
            };
            let result = match &outcome {
                Ok(done) => Result1 { status: 200, body: Body::Done(done) },
                Err(fault) => {
                    Result1 { status: fault.code.status(), body: Body::Failed { error: fault.shown() } }
                }
            };
            let text = serde_json::to_string(&result).ok().and_then(|text| RawValue::from_string(text).ok());
            results.extend(text);
        }
        Ok(Done::default().with("results", &results))
    }

    async fn run_one(&self, command: Command) -> Result<Done, Fault> {
        self.holder.check_scope(command.verb().entry().scope)?;
        let (endpoint, namespace) = command.place();
        self.holder.check_place(self.further(endpoint), namespace)?;
        match command {
            Command::Emit { whom, event, args, is_volatile } => {
                self.emit(&whom, &event, &args, is_volatile).await
            }
            Command::Ask { whom, event, args, timeout } => {
                let asked = self.recipients(&whom)?.emit_with_ack(&event, args.args()).timeout(timeout);
                asked.await.map(|answers| answered(&answers)).map_err(not_known)
            }
            Command::Join { whom, rooms } => self.change(&whom, &rooms, |to, room| to.join(room)).await,
            Command::Leave { whom, rooms } => self.change(&whom, &rooms, |to, room| to.leave(room)).await,
            Command::Disconnect { whom, closes, reason } => {
                let done = self
                    .change(
                        &whom,
                        &[String::new()],
                        |to, _| if closes { to.close() } else { to.disconnect() },
                    )
                    .await?;
                tracing::info!(namespace = %crate::base::shown::Shown(&whom.namespace), reason = ?crate::base::shown::Shown(&reason), "sockets were disconnected by the HTTP API");
                Ok(done)
            }
            Command::Count(whom) => {
                let count = self.recipients(&whom)?.count().await.map_err(not_known)?;
                let done = Done::default().with("sockets", &*count);
                Ok(done.with_some("nodes_missing", &count.processes_missing().to_vec()))
            }
            Command::Sockets { whom, page } => self.sockets(&whom, &page).await,
            Command::Rooms { whom, page } => self.rooms(&whom, &page).await,
            Command::Info { endpoint } => self.info(endpoint).await,
            Command::OpenApi | Command::Batch(_) => {
                Err(Fault::new(Code::BadValue, "a batch has no batches in it"))
            }
        }
    }

    /// The endpoint that is named, unless it is the configuration's own.
    fn further<'p>(&self, endpoint: Option<&'p str>) -> Option<&'p str> {
        endpoint.filter(|path| *path != self.handle.main_path())
    }

    fn check_endpoint(&self, endpoint: Option<&str>) -> Result<(), Fault> {
        let paths = self.request.endpoint_paths();
        match endpoint.filter(|path| !paths.iter().any(|known| known == path)) {
            None => Ok(()),
            Some(path) => {
                let known = paths.join(", ");
                let message = format!(
                    "this server has no endpoint at {:?}; known are {known}",
                    crate::base::shown::Shown(path)
                );
                Err(Fault::at(Code::UnknownEndpoint, "endpoint", message))
            }
        }
    }

    fn recipients(&self, whom: &Whom) -> Result<Recipients<'_>, Fault> {
        let endpoint = self.further(whom.endpoint.as_deref());
        self.check_endpoint(endpoint)?;
        let unknown = || {
            let message =
                format!("this server has no namespace {:?}", crate::base::shown::Shown(&whom.namespace));
            Fault::at(Code::UnknownNamespace, "namespace", message)
        };
        let mut to = match &whom.to {
            None => self.request.everybody_of(endpoint, &whom.namespace).ok_or_else(unknown)?,
            Some(names) => {
                let first = names.first().map_or("", String::as_str);
                let to = self.request.members_of(endpoint, &whom.namespace, first).ok_or_else(unknown)?;
                to.to_all(names.iter().skip(1))
            }
        };
        for room in &whom.except {
            to = to.except(room);
        }
        Ok(if whom.is_local { to.local() } else { to })
    }

    async fn emit(
        &self,
        whom: &Whom,
        event: &str,
        args: &OwnedArgs,
        is_volatile: bool,
    ) -> Result<Done, Fault> {
        let (receipt, to) = (Receipt::counting(), self.recipients(whom)?);
        let queue = to.has_queue();
        let to = if is_volatile { to.volatile() } else { to };
        let emitted = to.counted_by(&receipt).emit(event, args.args());
        // Asked in the same breath: the shards answer once they have done what they were told before.
        let mut settled = self.recipients(whom)?.done_here();
        settled.start();
        let settled = settled.await.map_err(not_known)?;
        let full = |code, message: String| Err(Fault::new(code, message));
        let receivers = receipt.count();
        match emitted {
            Emitted::Here(_) | Emitted::Nobody => {}
            Emitted::Refused(error) => return full(Code::BadValue, error.to_string()),
            Emitted::ShardBusy => {
                let message = format!(
                    "a shard's inbox is full: {receivers} sockets of this process have got it, others have not"
                );
                return full(Code::ShardBusy, message).map_err(|fault| fault.retry_after(RETRY_SECONDS));
            }
            Emitted::QueueFull => {
                let message = format!(
                    "the message queue takes no more (queue_bytes_max): {receivers} sockets of this process have got it, other processes have not; to repeat it for these alone is not possible"
                );
                return full(Code::BusFull, message).map_err(|fault| fault.retry_after(RETRY_SECONDS));
            }
            Emitted::TooLarge { bytes, bytes_max } => {
                let message = format!(
                    "with {bytes} bytes it is larger than what the message queue takes, {bytes_max} (queue_message_bytes_max): {receivers} sockets of this process have got it, other processes have not"
                );
                return full(Code::BusTooLarge, message);
            }
        }
        let mut done = Done::default().with("id", &self.request.random_id()).with("receivers", &receivers);
        if let Some(is_up) = queue {
            done = done.with("bus", if is_up { "sent" } else { "queued" });
        }
        Ok(done.with_some("shards_missing", &settled.shards_missing))
    }

    async fn change(
        &self,
        whom: &Whom,
        rooms: &[String],
        make: impl Fn(Recipients<'_>, &str) -> Changing,
    ) -> Result<Done, Fault> {
        let mut sockets = 0;
        let mut all = Changed::default();
        for room in rooms {
            let receipt = Receipt::counting();
            let changed = make(self.recipients(whom)?.counted_by(&receipt), room).await.map_err(not_known)?;
            sockets = sockets.max(receipt.count());
            all.shards_missing = all.shards_missing.max(changed.shards_missing);
            let is_new = |name: &String| !all.processes_missing.contains(name);
            let new: Vec<String> = changed.processes_missing.into_iter().filter(is_new).collect();
            all.processes_missing.extend(new);
        }
        Ok(Done::default().with("sockets", &sockets).missing(&all))
    }

    async fn sockets(&self, whom: &Whom, page: &Page) -> Result<Done, Fault> {
        let found = self.recipients(whom)?.ids().await.map_err(not_known)?;
        let missing = found.processes_missing().to_vec();
        let mut ids = found.into_inner();
        ids.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        let (ids, next) = cut(ids, page, Sid::as_str);
        let mut described: Vec<RemoteSocket> = Vec::new();
        if !ids.is_empty() {
            let namespace = Whom {
                to: Some(ids.iter().map(Sid::to_string).collect()),
                except: Vec::new(),
                ..whom.clone()
            };
            described = self.recipients(&namespace)?.fetch().await.map_err(not_known)?.into_inner();
        }
        described.sort_unstable_by(|one, other| one.id().as_str().cmp(other.id().as_str()));
        let has_node = self.request.node().is_some();
        let sockets: Vec<SocketShown<'_>> =
            described.iter().map(|socket| SocketShown::of(socket, &whom.namespace, has_node)).collect();
        let done = Done::default().with("sockets", &sockets).with("next", &next);
        Ok(done.with_some("nodes_missing", &missing))
    }

    async fn rooms(&self, whom: &Whom, page: &Page) -> Result<Done, Fault> {
        let found = self.recipients(whom)?.rooms_by_size().await.map_err(not_known)?;
        let missing = found.processes_missing().to_vec();
        let rooms: Vec<(String, u64)> = found.into_inner().into_iter().collect();
        let (rooms, next) = cut(rooms, page, |(room, _)| room);
        let rooms: Vec<RoomShown> =
            rooms.into_iter().map(|(room, sockets)| RoomShown { room, sockets }).collect();
        let done = Done::default().with("rooms", &rooms).with("next", &next);
        Ok(done.with_some("nodes_missing", &missing))
    }

    async fn info(&self, endpoint: Option<String>) -> Result<Done, Fault> {
        let asked = self.further(endpoint.as_deref());
        self.check_endpoint(asked)?;
        let whom =
            Whom { endpoint: None, namespace: "/".to_owned(), to: None, except: Vec::new(), is_local: true };
        let census = match self.recipients(&whom) {
            Ok(to) => to.census().await.map_err(not_known)?,
            Err(_) => Default::default(),
        };
        let namespaces: std::collections::BTreeMap<&str, u64> = census
            .iter()
            .filter(|((endpoint, name), _)| endpoint.as_deref() == asked && self.holder.may_see(name))
            .map(|((_, name), sockets)| (name.as_str(), *sockets))
            .collect();
        let stats = self.handle.stats();
        let nodes = self.handle.queue_stats().iter().map(|queue| queue.processes).max().unwrap_or(0);
        Ok(Done::default()
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("node", &self.request.node())
            .with("shards", &stats.len())
            .with("uptime_seconds", &(self.request.now().0 / 1000))
            .with("sessions", &stats.iter().map(|shard| shard.sessions).sum::<u64>())
            .with("namespaces", &namespaces)
            .with("nodes", &nodes)
            .with("draining", &self.request.is_draining()))
    }
}

/// What comes after a name, at most so many, and the last of them if there are more.
fn cut<T>(mut all: Vec<T>, page: &Page, name: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
    if let Some(after) = &page.after {
        all.retain(|item| name(item) > after.as_str());
    }
    let has_more = all.len() > page.limit;
    all.truncate(page.limit);
    let next = all.last().filter(|_| has_more).map(|item| name(item).to_owned());
    (all, next)
}

#[derive(Serialize)]
struct SocketShown<'a> {
    id: String,
    rooms: &'a [String],
    namespace: &'a str,
    node: Option<String>,
}

impl<'a> SocketShown<'a> {
    fn of(socket: &'a RemoteSocket, namespace: &'a str, has_node: bool) -> SocketShown<'a> {
        let node = has_node.then(|| socket.id().node().0.iter().map(|byte| format!("{byte:02x}")).collect());
        SocketShown { id: socket.id().to_string(), rooms: socket.rooms(), namespace, node }
    }
}

#[derive(Serialize)]
struct RoomShown {
    room: String,
    sockets: u64,
}

/// Of each client its id and its arguments, then its attachments in base64 if it has sent any.
fn answered(answers: &Answers) -> Done {
    let texts: Vec<Vec<Box<RawValue>>> = answers
        .received
        .iter()
        .filter_map(|(sid, answer)| {
            let args = answer.args();
            let mut parts = vec![serde_json::value::to_raw_value(sid.as_str()).ok()?];
            parts.push(RawValue::from_string(format!("[{}]", args.raw())).ok()?);
            if !args.attachments().is_empty() {
                let binary: Vec<String> =
                    args.attachments().iter().map(|bytes| STANDARD.encode(bytes)).collect();
                parts.push(serde_json::value::to_raw_value(&binary).ok()?);
            }
            Some(parts)
        })
        .collect();
    let unreadable = answers.received.len() - texts.len();
    Done::default()
        .with("answers", &texts)
        .with("missing", &(answers.missing.len() + unreadable))
        .with_some("shards_missing", &answers.shards_missing)
        .with_some("nodes_missing", &answers.processes_missing)
}

fn not_known(error: AckError) -> Fault {
    let code = match error {
        AckError::Timeout | AckError::TooLarge => Code::Late,
        AckError::Stopped => Code::Draining,
        AckError::NotSent | AckError::Disconnected => Code::NotAsked,
    };
    let message = match error {
        AckError::Timeout => "a shard did not report in time",
        AckError::TooLarge => "there is more to tell than is kept: ask for fewer sockets",
        AckError::Stopped => "the server stops",
        AckError::NotSent | AckError::Disconnected => {
            "not asked: too many questions wait, or a shard's inbox is full; the log says which"
        }
    };
    Fault::new(code, message).retry_after(RETRY_SECONDS)
}
