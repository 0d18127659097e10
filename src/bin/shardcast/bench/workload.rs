//! What the scenarios have in common: the [`Workload`] that decides what is sent, and the commands it gives.
//!
//! A workload never touches a socket: it hears of messages, enters them in its ledger, and pushes commands,
//! which the generator carries out. So each is tested by calling it.

use super::client::Incoming;
use super::clock::Moment;
use super::error::Fault;
use super::ledger::Findings;
use super::limits::SENDS_PER_TURN_MAX;
use super::measure::Measure;
use super::packet::EventKind;
use super::payload::Payloads;
use super::schedule::Drive;

/// What the generator is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Emit one event whose payload carries `sequence` and `due`.
    Emit {
        /// The sender.
        client: u32,
        /// Which event.
        kind: EventKind,
        /// The payload's sequence number, also the acknowledgement's where there is one.
        sequence: u64,
        /// When it was meant to be sent.
        due: Moment,
    },
    /// Begin a session that was due then.
    Open {
        /// The place for it.
        client: u32,
        /// When it was meant to begin.
        due: Moment,
    },
    /// Drop a session.
    Close {
        /// Whose.
        client: u32,
    },
    /// Lose a session's connections, of which the server is told nothing.
    Lose {
        /// Whose.
        client: u32,
    },
    /// Stop or resume to read and write.
    Mute {
        /// Whose wires.
        client: u32,
        /// Stop.
        is_muted: bool,
    },
}

/// What a workload is given with each call.
pub(super) struct Cx<'a> {
    /// The present.
    pub(super) now: Moment,
    /// False while the last messages are waited for: closed loops send no more.
    pub(super) is_sending: bool,
    /// Checks payloads.
    pub(super) payloads: &'a Payloads,
    /// Takes latencies.
    pub(super) measure: &'a mut Measure,
    /// Takes commands.
    pub(super) commands: &'a mut Vec<Command>,
}

/// What the end of a session means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The run cannot go on.
    Fatal,
    /// A fault that is counted.
    Counted,
    /// The server's right: this client did not read.
    Tolerated,
}

/// What a workload adds to the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What was wrong.
    pub(super) findings: Findings,
    /// Clients that stopped reading.
    pub(super) slow_clients: u32,
    /// Of these: closed by the server.
    pub(super) slow_closed: u32,
    /// Messages that these were not given.
    pub(super) slow_missing: u64,
    /// What only this scenario has.
    pub(super) special: Special,
}

/// What only some scenarios have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Special {
    /// Nothing of its own.
    #[default]
    None,
    /// `storm`.
    Storm(StormCounts),
    /// `ticks`.
    Ticks(TickCounts),
    /// `dashboard`.
    Dashboard(DashboardCounts),
}

/// Returns of everybody at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct StormCounts {
    /// How often all sessions were lost at once.
    pub(super) storms: u32,
    /// Sessions that were lost, and are back.
    pub(super) back: u64,
    /// Of these: as who they had been.
    #[serde(default)]
    pub(super) recovered: u64,
    /// Sessions that were not back at the end.
    pub(super) away: u64,
    /// Attempts to come back.
    pub(super) attempts: u64,
    /// Attempts that the server put off, with 429 or 503.
    pub(super) put_off: u64,
    /// Attempts that failed in another way.
    pub(super) failed: u64,
}

/// Ticks of a game.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct TickCounts {
    /// Rooms.
    pub(super) rooms: u32,
    /// Ticks whose number no client saw in its place: the server left them out.
    pub(super) missed: u64,
}

/// Values of a dashboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct DashboardCounts {
    /// Clients that look on.
    pub(super) viewers: u32,
    /// Keys that change.
    pub(super) keys: u32,
    /// Events that viewers received in the whole run, each with some values.
    pub(super) events: u64,
    /// Values in these.
    pub(super) values: u64,
}

/// What sends whenever its [`Drive`] says so.
pub(super) trait Driven {
    /// Which clients send, and when.
    fn drive(&mut self) -> &mut Drive;

    /// Sends the next message of a client, which was due then.
    fn send(&mut self, client: u32, due: Moment, cx: &mut Cx<'_>);

    /// Traffic begins: a closed loop sends its first messages.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.drive().begin(cx.now, cx.measure.until);
        if self.drive().is_closed() {
            while let Some((client, due)) = self.drive().take(cx.now) {
                self.send(client, due, cx);
            }
        }
    }

    /// Sends what is due, and returns when the next is.
    fn send_due(&mut self, cx: &mut Cx<'_>) -> Moment {
        for _ in 0..SENDS_PER_TURN_MAX {
            let Some((client, due)) = self.drive().take(cx.now) else { break };
            self.send(client, due, cx);
        }
        self.drive().next_due()
    }
}

/// A scenario's behaviour.
pub(super) trait Workload {
    /// A client heard something.
    fn handle_incoming(&mut self, client: u32, incoming: &Incoming<'_>, cx: &mut Cx<'_>);

    /// Traffic begins: all is connected and the window is set.
    fn handle_start(&mut self, cx: &mut Cx<'_>);

    /// Time passed. Returns when it wants to be called again.
    fn handle_tick(&mut self, cx: &mut Cx<'_>) -> Moment;

    /// A session ended without being asked to.
    fn handle_fault(&mut self, client: u32, fault: &Fault, cx: &mut Cx<'_>) -> Verdict;

    /// How many sessions the generator opens before traffic begins.
    fn clients_held(&self) -> u32;

    /// True when the preparations, such as joining rooms, are done.
    fn is_ready(&self) -> bool {
        true
    }

    /// The event whose acknowledgement [`Workload::is_ready`] waits for.
    fn prepared_by(&self) -> &'static str {
        "join"
    }

    /// True when there is nothing more to do, so that the window ends before its time.
    fn is_over(&self) -> bool {
        false
    }

    /// Messages that have not arrived.
    fn outstanding(&self) -> u64;

    /// Closes the books. In a run that was cut short, what did not arrive is not lost.
    fn finish(&mut self, is_whole: bool) -> Outcome;
}
