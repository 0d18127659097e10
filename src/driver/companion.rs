//! The companion thread: the message queues of a process, away from its shards, with tokio.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::thread::JoinHandle;

use crate::base::ids::NodeTag;
use crate::bus::hub::{Hub, HubParts, Identity};
use crate::bus::left::LeftLimits;
use crate::bus::make;
use crate::bus::run::{CompanionBell, Line};
use crate::config::queue::shared::Queue;
use crate::config::{Config, Survives};
use crate::driver::clock::Clock;
use crate::driver::machine;
use crate::mesh::Mesh;
use crate::mesh::link::{Link, LinkBounds, LinkReceiver, LinkStats, Links};

/// How many servers and emitters of this process have been somebody to others.
static IDENTITIES: AtomicU32 = AtomicU32::new(0);

/// What is made before there is a mesh, which has the other end of each link.
pub(crate) struct Prepared {
    me: Identity,
    /// As it is set: 0 is what each broker takes.
    message_bytes_max: usize,
    lines: Vec<PreparedLine>,
}

/// One link before it runs.
struct PreparedLine {
    queue: Queue,
    link: LinkReceiver,
    bell: CompanionBell,
    stats: Arc<LinkStats>,
    limits: Option<LeftLimits>,
}

/// The thread, while it runs.
pub(crate) struct Companion {
    bells: Vec<CompanionBell>,
    thread: JoinHandle<()>,
}

/// Makes the links of a process; none if there are no queues.
pub(crate) fn prepare(queues: &[Queue], config: &Config, unix_millis: u64) -> (Links, Option<Prepared>) {
    if queues.is_empty() {
        return (Links::default(), None);
    }
    let me = identity(unix_millis);
    let tag = me.tag;
    let process = me.id.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (mut links, mut lines) = (Vec::new(), Vec::new());
    for queue in queues {
        let bell = CompanionBell::new();
        let names_rooms = make::names_rooms(&queue.queue);
        let message_bytes_max = queue.queue.message_bytes_max(config.queue_message_bytes_max);
        let bounds = LinkBounds { bytes_max: config.queue_bytes_max, message_bytes_max };
        let (mut link, receiver) = Link::new(tag, bounds, names_rooms, Box::new(bell.clone()));
        let limits = left_limits(queue, config);
        if limits.is_some() {
            link = link.keeping_sockets();
        }
        let link = Arc::new(link);
        let stats = Arc::clone(&link.stats);
        lines.push(PreparedLine { queue: queue.clone(), link: receiver, bell, stats, limits });
        links.extend(queue.endpoints.iter().map(|path| (path.clone(), Arc::clone(&link))));
    }
    (
        Links::new(tag, process, links),
        Some(Prepared { me, message_bytes_max: config.queue_message_bytes_max, lines }),
    )
}

/// What the broker of a queue keeps of sockets, if it is to keep any: as much as the endpoint there says that says most.
fn left_limits(queue: &Queue, config: &Config) -> Option<LeftLimits> {
    let is_wanted = config.recovery_survives != Survives::Nothing;
    let recovering = || queue.settings.iter().filter(|settings| settings.has_recovery());
    (is_wanted && queue.queue.can_keep_sockets()).then_some(LeftLimits {
        keep: recovering().map(|settings| settings.recovery_max_disconnection).max()?,
        events_max: recovering().map(|settings| settings.recovery_events_max).max()?,
        bytes_max: recovering().map(|settings| settings.recovery_bytes_max).max()?,
        rooms_max: config.rooms_per_socket_max,
    })
}

/// Who this process is to others from now on.
pub(crate) fn identity(unix_millis: u64) -> Identity {
    let [seed, tag] = [machine::random_seed(), machine::random_seed()];
    let (Some(id), Some(tag)) = (seed.first_chunk(), tag.first_chunk()) else {
        unreachable!("a seed is longer than an id")
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // Several of one process are told apart by a number.
    let name = match IDENTITIES.fetch_add(1, Relaxed) {
        0 => format!("{host}:{}", std::process::id()),
        before => format!("{host}:{}#{}", std::process::id(), before + 1),
    };
    Identity { id: *id, tag: NodeTag(*tag), name, started: unix_millis }
}

impl Prepared {
    /// Starts the thread. It connects by itself, now and whenever a connection breaks.
    pub(crate) fn start(self, mesh: &Arc<Mesh>, clock: Clock) -> Result<Companion, String> {
        let bells = self.lines.iter().map(|line| line.bell.clone()).collect();
        let mesh = Arc::clone(mesh);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("the message queue's thread: {error}"))?;
        let work = move || {
            let mut lines: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
            for PreparedLine { queue, link, bell, stats, limits } in self.lines {
                let Queue { queue, endpoints, namespaces, .. } = queue;
                let message_bytes_max = queue.message_bytes_max(self.message_bytes_max);
                let parts = HubParts {
                    me: self.me.clone(),
                    mesh: Arc::clone(&mesh),
                    endpoints,
                    interests: Arc::clone(&link.interests),
                    stats: Arc::clone(&stats),
                    slots: make::slots(&queue),
                    foreign: make::foreign_formats(&queue, &self.me, (&namespaces, message_bytes_max)),
                };
                let mut hub = Hub::new(parts);
                if let Some(limits) = limits {
                    hub.keep_sockets(limits);
                }
                let line = Line {
                    hub,
                    link,
                    bell,
                    mesh: Arc::clone(&mesh),
                    stats,
                    message_bytes_max,
                    place: queue.url.to_string(),
                    now: Box::new(move || clock.now()),
                };
                lines.push(Box::pin(make::serve(queue, line)));
            }
            runtime.block_on(all(lines));
        };
        let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("cannot start the message queue's thread: {error}"))?;
        Ok(Companion { bells, thread })
    }
}

/// Runs all to their ends, as one task: a set of tasks costs the thread a look at its sockets each time one task wakes another.
async fn all(mut futures: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Companion {
    /// Ends the thread: what is left to say is said, for a second at most.
    pub(crate) fn stop(self) {
        self.bells.iter().for_each(CompanionBell::stop);
        if self.thread.join().is_err() {
            tracing::error!("the message queue's thread has died");
        }
    }
}
