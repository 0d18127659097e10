//! The loop of the companion thread: one link, one broker, one connection after another.
//!
//! What waits is sent in batches; what comes is given to the hub at once. When the connection breaks, a new one is tried soon and again,
//! everything is subscribed to before anything is sent, and what may be repeated is.

use std::cell::RefCell;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::base::time::Time;
use crate::bus::hub::{Asker, Hub, LeftWork};
use crate::bus::make::OnBroker;
use crate::bus::{Body, Broker, Delivery, Fault, Post, Receiver, Sender};
use crate::mesh::link::{LinkReceiver, LinkStats};
use crate::mesh::{Bell, Mesh};
use crate::message::inquiry::{AckError, Findings};

/// Messages that are sent at once.
const BATCH_MAX: usize = 256;

/// Messages that are sent while the broker has confirmed none of them, and their bytes, about: then its word is waited for.
const AHEAD_MAX: usize = 1024;
const AHEAD_BYTES_MAX: usize = 1024 * 1024;

/// How long the broker's word on what was sent ahead is not asked for, unless much was. Asking wakes this thread.
const AHEAD_PATIENCE: Duration = Duration::from_millis(20);

/// Between two questions where its word is waited for.
const CONFIRM_EVERY: Duration = Duration::from_millis(1);

/// Messages of a stream that are read again at once.
const READ_BACK_MAX: usize = 512;

/// How often a message is tried that breaks each connection. Only connections count by which the broker gave something before: a broker
/// that comes and goes is not the message's fault.
const ATTEMPTS_MAX: u32 = 3;

/// How long what may have broken a connection waits for the broker to give something by the next one: this process hears its own hello.
const SUSPECT_PATIENCE: Duration = Duration::from_secs(1);

/// How often the subscribers are counted whose answers a foreign format awaits.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Between two tries to connect: so long at first, twice as long each time, up to the longest; a random part of it is left out.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// The same where trying again hardly helps, as with a wrong password.
const BACKOFF_LASTING: Duration = Duration::from_secs(5);

/// A try to connect takes no longer; nor does it take longer to subscribe to so many channels then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CHANNELS_IN_TIME: usize = 100_000;

/// What is sent, or subscribed to, is taken within so long: else the connection is one that hangs, and a new one is made.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that lasted so long was a good one: when it breaks, the next is tried at once.
const STEADY: Duration = Duration::from_secs(2);

/// Messages that are taken, or batches that are sent, before the others on this thread have their turn.
const TURN_MAX: u32 = 16;

/// Messages that wait to be sent while what comes is still taken: some of what comes is answered.
const POSTS_MAX: usize = 16 * BATCH_MAX;

/// How long what comes waits for shards that have no room. What has not found any by then is lost and counted.
const FULL_PATIENCE: Duration = Duration::from_millis(250);

/// How long the end of a server waits for what is still to be sent.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The same where the sockets of this process are to be left with the broker.
const SOCKETS_TIMEOUT: Duration = Duration::from_secs(5);

/// Rings the companion, and tells it to stop.
#[derive(Clone, Debug)]
pub(crate) struct CompanionBell {
    notify: Arc<Notify>,
    stopping: watch::Sender<bool>,
}

impl CompanionBell {
    pub(crate) fn new() -> CompanionBell {
        CompanionBell { notify: Arc::default(), stopping: watch::Sender::new(false) }
    }

    /// The server has stopped: send what is left, say goodbye, end.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
        self.notify.notify_one();
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    async fn stopped(&self) {
        // The sender is here as well, so that it cannot be gone.
        let _ = self.stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }
}

impl Bell for CompanionBell {
    fn ring(&self) {
        self.notify.notify_one();
    }
}

/// The companion's clock: that of the shards.
pub(crate) type Clock = dyn Fn() -> Time + Send;

/// One link as the companion has it.
pub(crate) struct Line {
    pub(crate) hub: Hub,
    pub(crate) link: LinkReceiver,
    pub(crate) bell: CompanionBell,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) stats: Arc<LinkStats>,
    /// The largest message, as it is configured; the broker may say less.
    pub(crate) message_bytes_max: usize,
    /// Where the broker is, for the log: without a password.
    pub(crate) place: String,
    pub(crate) now: Box<Clock>,
}

/// What was taken from the hub and is not known to be with the broker.
#[derive(Default)]
struct Batch {
    posts: Vec<Post>,
    /// So many of them, the first, have been tried on this connection.
    tried: usize,
    /// So many of them, the first, were on their way when a connection broke. They wait until the broker gives something by the next
    /// one, and if they break that as well, they are sent one by one.
    suspects: usize,
    /// Connections by which the broker had given something, and that broke when the first had been tried.
    attempts: u32,
    /// The broker has given something by this connection.
    is_heard: bool,
    /// Until when suspects wait for that.
    suspects_at: Time,
    body_bytes_max: usize,
    /// When the broker is asked next whether it has what was tried.
    confirm_at: Time,
    /// Since when it has confirmed none.
    silent_since: Time,
    /// When everything was confirmed that had been said.
    answered_at: Time,
}

impl OnBroker for Line {
    /// Serves the link until the server has stopped, and for a moment longer: what is left is sent, if the broker takes it.
    async fn run(self, broker: impl Broker) {
        let bell = self.bell.clone();
        let patience = if self.hub.keeps_sockets() { SOCKETS_TIMEOUT } else { GOODBYE_TIMEOUT };
        let overdue = async {
            bell.stopped().await;
            sleep(patience).await;
        };
        tokio::select! {
            () = self.serve(broker) => {}
            () = overdue => {}
        }
    }
}

impl Line {
    async fn serve(self, mut broker: impl Broker) {
        let Line { hub, link, bell, mesh, stats, message_bytes_max, place, now } = self;
        let now = &*now;
        let hub = RefCell::new(hub);
        let mut batch = Batch { body_bytes_max: message_bytes_max, ..Batch::default() };
        let (mut outage, mut is_away) = (Outage::default(), false);
        let keeps_sockets = hub.borrow().keeps_sockets();
        if keeps_sockets {
            broker.keep_sockets();
        }
        while !(bell.is_stopping() && link.is_empty()) {
            let fault = match open(&mut broker, &hub, now).await {
                Ok((mut sender, mut receiver)) => {
                    let since = Instant::now();
                    outage.is_over(&place, link.waiting_bytes());
                    is_away = false;
                    stats.is_up.store(true, Relaxed);
                    stats.connects.add(1);
                    batch.connected(now());
                    let out = send_on(&hub, &link, &mut sender, (&bell, &stats, now), &mut batch);
                    let ended = tokio::select! {
                        ended = out => ended,
                        fault = receive_on(&hub, &mut receiver, (&bell, &mesh, now)) => Err(fault),
                    };
                    stats.is_up.store(false, Relaxed);
                    hub.borrow_mut().disconnected();
                    hub.borrow_mut().ring_bells();
                    if since.elapsed() >= STEADY {
                        outage.tries = 0;
                    }
                    match ended {
                        Ok(()) => return,
                        Err(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            batch.disconnected(&stats);
            if !std::mem::replace(&mut is_away, true) {
                stats.outages.add(1);
            }
            outage.goes_on(&place, &fault);
            sleep(outage.pause(&fault)).await;
        }
    }
}

/// Connects, and subscribes to everything.
async fn open<B: Broker>(
    broker: &mut B,
    hub: &RefCell<Hub>,
    now: &Clock,
) -> Result<(B::Sender, B::Receiver), Fault> {
    let (mut sender, receiver) = within(CONNECT_TIMEOUT, broker.connect()).await?;
    if !broker.keeps_messages() {
        hub.borrow_mut().has_missed_some();
    }
    let channels = hub.borrow_mut().connected(now());
    within(time_to_subscribe(channels.len()), sender.subscribe(&channels, &[])).await?;
    Ok((sender, receiver))
}

/// How long a broker may take with so many channels: Redis needs a fifth of a second for 100,000 when it has nothing else to do.
fn time_to_subscribe(channels: usize) -> Duration {
    let parts = channels.div_ceil(CHANNELS_IN_TIME).max(1);
    CONNECT_TIMEOUT.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX))
}

/// Sends what is said until the connection breaks, or the server has stopped and all is sent.
async fn send_on(
    hub: &RefCell<Hub>,
    link: &LinkReceiver,
    sender: &mut impl Sender,
    (bell, stats, now): (&CompanionBell, &LinkStats, &Clock),
    batch: &mut Batch,
) -> Result<(), Fault> {
    let mut answering: JoinSet<(Asker, Result<Findings, AckError>)> = JoinSet::new();
    let mut has_said_goodbye = false;
    let mut turn = 0;
    let (mut count_at, received) = (now(), stats.received.get());
    loop {
        say_hello(hub, sender, batch, (stats, now())).await?;
        batch.confirm_if_due(sender, stats, now())?;
        batch.is_heard |= stats.received.get() > received;
        if batch.may_send(now()) && !hub.borrow().is_holding() {
            send_batch(sender, batch, stats, now).await?;
            take_turns(&mut turn).await;
        }
        while let Some(Ok((asker, found))) = answering.try_join_next() {
            hub.borrow_mut().answer(asker, found);
        }
        let has_more = serve_left(hub, sender, now, batch.posts.len()).await?;
        let (add, remove) = {
            let mut hub = hub.borrow_mut();
            take_said(&mut hub, link, batch, now());
            for waiting in hub.take_answering() {
                let (asker, receiver) = waiting.into_parts();
                answering.spawn(async move { (asker, receiver.await.unwrap_or(Err(AckError::Stopped))) });
            }
            stats.processes.store(hub.fleet.len() as u64, Relaxed);
            hub.ring_bells();
            hub.take_subscriptions(now())
        };
        if !add.is_empty() || !remove.is_empty() {
            in_time(sender.subscribe(&add, &remove)).await?;
        }
        let is_holding = hub.borrow().is_holding();
        if hub.borrow().has_hello() || batch.may_send(now()) && !is_holding {
            continue;
        }
        let counted = if count_at <= now() { hub.borrow().counted() } else { Vec::new() };
        if !counted.is_empty() {
            count_at = now() + COUNT_EVERY;
            let counts = sender.subscribers(&counted).await?;
            hub.borrow_mut().count(&counts);
        }
        if bell.is_stopping() {
            batch.suspects_at = Time::default();
            if is_holding {
                hub.borrow_mut().end_hold();
                continue;
            }
            if std::mem::replace(&mut has_said_goodbye, true) {
                return confirm_to(0, sender, batch, stats, now).await;
            }
            hub.borrow_mut().say_goodbye();
            continue;
        }
        if has_more {
            tokio::task::yield_now().await;
        } else if link.fall_asleep(!is_holding && batch.suspects == 0) {
            let due = hub.borrow().next_timeout().min(batch.next_timeout());
            tokio::select! {
                () = bell.notify.notified() => {}
                () = sleep(due.since(now())) => {}
                Some(Ok((asker, found))) = answering.join_next() => hub.borrow_mut().answer(asker, found),
            }
            link.wake_up();
        }
    }
}

/// Says that this process is there, before all that waits. Once a second, so that no server takes the connection for one that is not
/// used, and no word of it is left unread.
async fn say_hello(
    hub: &RefCell<Hub>,
    sender: &mut impl Sender,
    batch: &mut Batch,
    (stats, now): (&LinkStats, Time),
) -> Result<(), Fault> {
    let hello = hub.borrow_mut().take_hello();
    if let Some(hello) = hello
        && batch.has_room_for(&hello, sender, stats)
    {
        let unconfirmed = sender.unconfirmed()?;
        batch.is_answered(unconfirmed, now)?;
        in_time(sender.send_ahead(&[hello])).await?;
        stats.published.add(1);
    }
    Ok(())
}

/// Takes out of the link what shards have said, and puts what becomes of it into the batch.
fn take_said(hub: &mut Hub, link: &LinkReceiver, batch: &mut Batch, now: Time) {
    hub.handle_timeout(now);
    if batch.suspects > 0 {
        return;
    }
    while !hub.is_holding()
        && hub.posts().len() < BATCH_MAX
        && let Some(said) = link.next()
    {
        hub.say(&said, now);
    }
    if !hub.is_holding() {
        batch.posts.extend(hub.take_posts(BATCH_MAX));
    }
}

/// Does what the hub wants of the broker for clients of processes that are gone, a part of it at a time. True: there is more.
async fn serve_left(
    hub: &RefCell<Hub>,
    sender: &mut impl Sender,
    now: &Clock,
    unsent: usize,
) -> Result<bool, Fault> {
    for _ in 0..TURN_MAX {
        let work = hub.borrow_mut().left_work(now(), unsent);
        match work {
            None => return Ok(false),
            Some(LeftWork::Again) => {}
            Some(LeftWork::Take(names)) => {
                let records = in_time(sender.take_records(&names)).await?;
                hub.borrow_mut().took_left(records, now());
            }
            Some(LeftWork::Read(from)) => {
                let read = in_time(sender.read_back(from, READ_BACK_MAX)).await?;
                hub.borrow_mut().has_read_left(&read);
            }
        }
    }
    Ok(true)
}

/// What the broker is to take soon.
async fn in_time<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    within(SEND_TIMEOUT, work).await
}

async fn within<T>(time: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(time, work).await.unwrap_or_else(|_| Err(Fault::late(time)))
}

/// Sends one batch. What is too large for the broker is left out.
async fn send_batch(
    sender: &mut impl Sender,
    batch: &mut Batch,
    stats: &LinkStats,
    now: &Clock,
) -> Result<(), Fault> {
    let mut untried = batch.posts.split_off(batch.tried);
    untried.retain(|post| batch.has_room_for(post, sender, stats));
    batch.posts.append(&mut untried);
    // What was not sent at all has broken nothing.
    sender.unconfirmed()?;
    if batch.suspects > 0 && batch.attempts > 0 {
        return send_suspect(sender, batch, stats).await;
    }
    batch.suspects = 0;
    if batch.tried == 0 {
        batch.confirm_at = now() + AHEAD_PATIENCE;
        batch.silent_since = now();
    }
    let first = std::mem::replace(&mut batch.tried, batch.posts.len());
    in_time(sender.send_ahead(&batch.posts[first..])).await?;
    if batch.is_far_ahead() {
        confirm_to(AHEAD_MAX / 2, sender, batch, stats, now).await?;
    }
    Ok(())
}

/// Sends one message that may have broken a connection, and waits until the broker has it.
async fn send_suspect(sender: &mut impl Sender, batch: &mut Batch, stats: &LinkStats) -> Result<(), Fault> {
    batch.suspects = batch.suspects.min(batch.posts.len());
    let Some(first) = batch.posts.first() else { return Ok(()) };
    batch.tried = 1;
    in_time(sender.publish(std::slice::from_ref(first))).await?;
    stats.published.add(1);
    batch.posts.remove(0);
    batch.tried = 0;
    batch.suspects -= 1;
    batch.attempts = u32::from(batch.suspects > 0);
    Ok(())
}

/// Waits until the broker has all that was sent but so many.
async fn confirm_to(
    left: usize,
    sender: &mut impl Sender,
    batch: &mut Batch,
    stats: &LinkStats,
    now: &Clock,
) -> Result<(), Fault> {
    loop {
        batch.confirm(sender, stats, now())?;
        if batch.tried <= left && !batch.is_far_ahead() {
            return Ok(());
        }
        sleep(CONFIRM_EVERY).await;
    }
}

/// Gives the hub what comes, until the connection breaks. Shards are woken once for all that is there at the moment: a shard that
/// is woken for each message takes the processor from this thread each time.
async fn receive_on(
    hub: &RefCell<Hub>,
    receiver: &mut impl Receiver,
    (bell, mesh, now): (&CompanionBell, &Mesh, &Clock),
) -> Fault {
    let (mut turn, mut is_patient, mut is_first) = (0_u32, true, true);
    loop {
        let next = match at_once(receiver.next()).await {
            Some(next) => next,
            None => {
                hub.borrow_mut().ring_bells();
                receiver.next().await
            }
        };
        let delivery = match next {
            Ok(delivery) => delivery,
            Err(fault) => return fault,
        };
        if mesh.is_outside_full() || hub.borrow_mut().posts().len() >= POSTS_MAX {
            hub.borrow_mut().ring_bells();
        }
        wait_for_room(mesh, &mut is_patient).await;
        while hub.borrow_mut().posts().len() >= POSTS_MAX {
            // The sender hangs. It is given up in time.
            sleep(Duration::from_millis(10)).await;
        }
        // What is suspected to break connections may wait for the first.
        if hear(&mut hub.borrow_mut(), &delivery, now()) | std::mem::take(&mut is_first) {
            bell.ring();
        }
        if (turn + 1).is_multiple_of(TURN_MAX) {
            hub.borrow_mut().ring_bells();
        }
        take_turns(&mut turn).await;
    }
}

/// What a future gives if it need not be waited for. One that is dropped in vain must have lost nothing.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Gives the hub what has come. True: it wants something done sooner than before.
fn hear(hub: &mut Hub, delivery: &Delivery, now: Time) -> bool {
    let (due, was_holding) = (hub.next_timeout(), hub.is_holding());
    hub.receive(delivery, now);
    was_holding && !hub.is_holding()
        || !hub.posts().is_empty()
        || hub.is_answering()
        || hub.next_timeout() < due
        || hub.has_left_work()
}

/// Lets the others on this thread have their turn now and then: a client that is always ready never waits by itself.
async fn take_turns(turn: &mut u32) {
    *turn += 1;
    if turn.is_multiple_of(TURN_MAX) {
        tokio::task::yield_now().await;
    }
}

/// Waits, but not for long, while a shard has no room: then the broker keeps what comes.
/// Patience that is used up comes back only once there has been room: one shard that is stuck does not make the process deaf.
async fn wait_for_room(mesh: &Mesh, is_patient: &mut bool) {
    if !mesh.is_outside_full() {
        *is_patient = true;
        return;
    }
    let until = Instant::now() + FULL_PATIENCE;
    while *is_patient && mesh.is_outside_full() {
        *is_patient = Instant::now() < until;
        sleep(Duration::from_millis(1)).await;
    }
}

impl Batch {
    /// Whether the broker takes a message of this size.
    fn has_room_for(&self, post: &Post, sender: &impl Sender, stats: &LinkStats) -> bool {
        let bytes_max = sender.body_bytes_max().min(self.body_bytes_max);
        let bytes = post.body.len_bytes();
        if bytes > bytes_max {
            stats.lost.add(1);
            tracing::error!(
                bytes,
                bytes_max,
                "a message is too large for the message queue: other processes do not get it"
            );
        }
        bytes <= bytes_max
    }

    /// Whether there is something to be sent now.
    fn may_send(&self, now: Time) -> bool {
        let may_try = self.suspects == 0 || self.is_heard || self.suspects_at <= now;
        self.posts.len() > self.tried && may_try
    }

    /// When there will be.
    fn suspects_due(&self) -> Time {
        if self.suspects > 0 && !self.is_heard { self.suspects_at } else { Time::NEVER }
    }

    /// Whether the broker's word is to be waited for before more is sent.
    fn is_far_ahead(&self) -> bool {
        let bytes: usize = self.posts[..self.tried].iter().map(|post| post.body.len_bytes()).sum();
        self.tried >= AHEAD_MAX || bytes >= AHEAD_BYTES_MAX
    }

    fn next_timeout(&self) -> Time {
        let confirm_at = if self.tried > 0 { self.confirm_at } else { Time::NEVER };
        confirm_at.min(self.suspects_due())
    }

    fn confirm_if_due(
        &mut self,
        sender: &mut impl Sender,
        stats: &LinkStats,
        now: Time,
    ) -> Result<(), Fault> {
        if self.tried > 0 && self.confirm_at <= now { self.confirm(sender, stats, now) } else { Ok(()) }
    }

    /// Forgets what the broker has. A fault: it has not said a word for too long.
    fn confirm(&mut self, sender: &mut impl Sender, stats: &LinkStats, now: Time) -> Result<(), Fault> {
        let confirmed = self.tried.saturating_sub(sender.unconfirmed()?);
        self.confirm_at = now + AHEAD_PATIENCE;
        if confirmed > 0 {
            self.posts.drain(..confirmed);
            self.tried -= confirmed;
            stats.published.add(confirmed as u64);
            self.silent_since = now;
            (self.attempts, self.is_heard) = (0, true);
        }
        if self.tried > 0 && now.since(self.silent_since) >= SEND_TIMEOUT {
            return Err(Fault::late(SEND_TIMEOUT));
        }
        Ok(())
    }

    /// Looks whether hellos are confirmed where nothing else is said: a broker that hangs does not end its connections, and what goes
    /// ahead is not waited for. A fault: so many are not confirmed, and it has not said a word for too long.
    fn is_answered(&mut self, unconfirmed: usize, now: Time) -> Result<(), Fault> {
        if unconfirmed == 0 || self.tried > 0 {
            self.answered_at = now;
        }
        match now.since(self.answered_at) >= SEND_TIMEOUT {
            true => Err(Fault::late(SEND_TIMEOUT)),
            false => Ok(()),
        }
    }

    /// A new connection is there, by which the broker has given nothing yet.
    fn connected(&mut self, now: Time) {
        (self.is_heard, self.suspects_at) = (false, now + SUSPECT_PATIENCE);
        self.answered_at = now;
    }

    /// The connection broke: what of that which was tried the broker has got is not known.
    fn disconnected(&mut self, stats: &LinkStats) {
        let before = self.posts.len();
        let tried = std::mem::take(&mut self.tried);
        if tried > 0 && self.is_heard {
            self.attempts += 1;
        }
        let is_hopeless = tried > 0 && self.attempts >= ATTEMPTS_MAX;
        let untried = self.posts.split_off(tried);
        self.posts.retain(|post| post.may_repeat && !is_hopeless);
        let others = self.suspects.saturating_sub(tried);
        self.suspects = self.posts.len() + others;
        self.posts.extend(untried);
        stats.lost.add((before - self.posts.len()) as u64);
        if is_hopeless {
            self.attempts = 0;
            tracing::error!(
                messages = tried,
                "the connection to the message queue broke each time this was sent: it is lost"
            );
        }
    }
}

/// A time without a connection.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
    tries: u32,
    was_up: bool,
}

impl Outage {
    fn goes_on(&mut self, place: &str, fault: &Fault) {
        self.tries += 1;
        let fault = &fault.text;
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let before = if self.was_up { "is gone" } else { "is not there" };
            tracing::warn!(
                place,
                "the message queue {before}: {fault}; this process serves its own clients meanwhile"
            );
        } else {
            tracing::debug!(place, tries = self.tries, "the message queue is still away: {fault}");
        }
    }

    fn is_over(&mut self, place: &str, waiting_bytes: usize) {
        match self.since.take() {
            Some(since) => {
                let away = since.elapsed();
                tracing::info!(place, ?away, waiting_bytes, "the message queue is there again");
            }
            None => tracing::info!(place, "the message queue is connected"),
        }
        self.was_up = true;
    }

    /// How long to wait before the next try.
    fn pause(&self, fault: &Fault) -> Duration {
        let (least, most) = BACKOFF;
        let longest = if fault.is_lasting {
            BACKOFF_LASTING
        } else {
            least.saturating_mul(1 << self.tries.saturating_sub(1).min(8)).min(most)
        };
        // Between a half and the whole, so that processes do not come back all at once.
        let random = RandomState::new().build_hasher().finish() % 1024;
        longest.mul_f64(0.5 + random as f64 / 2048.0)
    }
}

impl Fault {
    fn late(time: Duration) -> Fault {
        Fault { text: format!("no answer within {time:?}"), is_lasting: false }
    }
}

impl Body {
    /// What the broker is to carry.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Body::Bytes(bytes) => bytes.len(),
            Body::Fields(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        }
    }
}

#[cfg(test)]
mod tests;
