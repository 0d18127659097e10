//! Ticks: a game's heartbeat on each shard, at fixed times and not at fixed distances.
//!
//! A tick that comes late does not move those after it. A shard that was held up runs a few of the ticks it has
//! missed, and counts the rest. Beside the timer wheel, not in it: the wheel is too coarse for a game.

use std::rc::Rc;
use std::time::Duration;

use crate::shard::core::SharedCore;
use crate::shard::table::namespaces::NamespaceRef;
use crate::shard::user::recipients::Recipients;
use crate::shard::user::state::State;

/// The shortest period: a shard's clock counts milliseconds.
pub(crate) const PERIOD_MIN: Duration = Duration::from_millis(1);

pub(crate) type TickHandler = Box<dyn Fn(&Tick<'_>)>;

/// A registered tick.
pub(crate) struct Ticker {
    pub(crate) period: Duration,
    pub(crate) handler: TickHandler,
}

/// One tick, as its handler sees it.
///
/// ```
/// use std::cell::Cell;
/// use std::time::Duration;
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server, Tick};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("enter", |cx: &mut Context, game: String| cx.join(game));
///     io.every(Duration::from_millis(50), |tick: &Tick| {
///         for game in tick.rooms() {
///             tick.to(&game).emit("state", tick.number());
///         }
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let player = server.connect("/").unwrap();
/// player.emit("enter", "chess");
/// server.advance(Duration::from_millis(100));
/// let states: Vec<u64> = player.received().iter().map(|state| state.first().unwrap()).collect();
/// assert_eq!(states, [0, 1]);
/// ```
pub struct Tick<'a> {
    pub(crate) core: &'a SharedCore,
    pub(crate) namespace: &'a Rc<NamespaceRef>,
    pub(crate) number: u64,
    pub(crate) period: Duration,
    pub(crate) lateness: Duration,
    pub(crate) skipped: u64,
}

impl std::fmt::Debug for Tick<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tick")
            .field("number", &self.number)
            .field("lateness", &self.lateness)
            .field("skipped", &self.skipped)
            .finish()
    }
}

impl Tick<'_> {
    /// How many ticks of this kind came before, skipped ones included: `number` times `period` is the time since the
    /// shard began.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// From one tick to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How much later than its time it runs.
    pub fn lateness(&self) -> Duration {
        self.lateness
    }

    /// Ticks before this one that were left out, because the shard was held up for too long.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The namespace. Where a pattern was registered, each tick runs once for every namespace of it that is on this shard.
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// A state room of the namespace: see [`StateRoom`](crate::StateRoom).
    pub fn state<'b>(&'b self, room: &'b str) -> State<'b> {
        let number = self.core.borrow().tables.namespaces.resolve(self.namespace).unwrap_or(u16::MAX);
        State::here(self.core, number, room)
    }

    /// Everybody in the namespace, on every shard. A tick runs on every shard as well: what each has to say to its own sockets
    /// goes by [`this_shard`](Recipients::this_shard).
    pub fn broadcast(&self) -> Recipients<'_> {
        Recipients::everyone(self.core, Rc::clone(self.namespace), None)
    }

    /// The members of a room.
    pub fn to(&self, room: impl AsRef<str>) -> Recipients<'_> {
        Recipients::rooms(self.core, Rc::clone(self.namespace), None).to(room)
    }

    /// The rooms that have members on this shard. With `shard_key` all members of one room are on one shard.
    pub fn rooms(&self) -> Vec<String> {
        let core = self.core.borrow();
        let Some(number) = core.tables.namespaces.resolve(self.namespace) else { return Vec::new() };
        core.tables.listed_rooms(number).map(str::to_owned).collect()
    }
}
