//! The generator: one thread, one epoll instance, all clients.
//!
//! A run connects, lets traffic warm up, measures, waits for the last messages and closes the books. Each
//! wait has a deadline. What is sent when is the workload's decision; what bytes mean is the client's; here
//! is only who is asked next. After each socket's read everything that it caused is flushed, so that reading
//! a thousand others does not delay an answer.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use rustix::event::epoll;

use super::client::{Client, Io};
use super::clock::{Clock, Moment};
use super::error::{BenchError, Fault};
use super::interrupt::Interrupt;
use super::limits::{EVENTS_PER_TURN_MAX, INTERRUPTED_DRAIN, READ_BUFFER_BYTES, SURVEY_INTERVAL};
use super::measure::{Measure, Quantiles};
use super::options::Options;
use super::packet::EventKind;
use super::payload::Payloads;
use super::process::{Process, Usage, own_cpu};
use super::progress::Progress;
use super::report;
use super::schedule::{Pacer, Schedule};
use super::template::Template;
use super::wire::Token;
use super::workload::{Command, Cx, Outcome, Verdict, Workload};

/// A run under way.
pub(super) struct Generator {
    options: Options,
    clock: Clock,
    io: Io,
    clients: Vec<Client>,
    workload: Box<dyn Workload>,
    payloads: Payloads,
    event: Option<Template>,
    measure: Measure,
    commands: Vec<Command>,
    is_sending: bool,
    interrupt: Interrupt,
    /// Sessions by the time they were begun, for their time-out: the place, what it was due, when it began.
    begun: VecDeque<(u32, Moment, Moment)>,
    /// When clients of revision 3 ping next, and which session of theirs it is for, by when it was begun.
    pings: VecDeque<(Moment, u32, Moment)>,
    opening: u32,
    open: u32,
    broken: u64,
    /// The first fault of a session.
    first_fault: Option<String>,
    /// The run cannot go on.
    is_failed: bool,
    process: Option<Process>,
    samples: Samples,
    progress: Progress,
    survey_due: Moment,
    buffer: Vec<u8>,
    payload: Vec<u8>,
}

/// What messages carry.
pub(super) struct Content {
    /// Payloads that can be checked.
    pub(super) payloads: Payloads,
    /// The array of `--event`.
    pub(super) event: Option<Template>,
}

/// Looks at the server and at the generator, at the edges of the run's phases.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Samples {
    /// Before the first session.
    pub(super) before: Option<Usage>,
    /// With all sessions open.
    pub(super) connected: Option<Usage>,
    /// When the window opened, and what the generator had used.
    pub(super) from: Option<Usage>,
    /// When it closed.
    pub(super) until: Option<Usage>,
    /// The most memory seen.
    pub(super) rss_peak_bytes: u64,
    /// What the generator used in the window.
    pub(super) own_cpu: Duration,
    /// How long the window really was.
    pub(super) window: Duration,
    /// How long it took to open all sessions.
    pub(super) connecting: Duration,
    /// How many these were.
    pub(super) opened: u64,
    /// How long each took.
    pub(super) connect_us: Option<Quantiles>,
}

/// A run that is over.
pub(super) struct Run {
    /// Latencies and counts.
    pub(super) measure: Measure,
    /// What the workload found.
    pub(super) outcome: Outcome,
    /// CPU and memory.
    pub(super) samples: Samples,
    /// Seconds since 1970 at its beginning.
    pub(super) started_unix_seconds: u64,
    /// The run was not given up.
    pub(super) is_whole: bool,
    /// Somebody ended it before its time.
    pub(super) is_interrupted: bool,
    /// Sessions that were open when traffic began.
    pub(super) open: u32,
}

impl Generator {
    /// A run that has not begun.
    pub(super) fn new(
        options: Options,
        io: Io,
        workload: Box<dyn Workload>,
        content: Content,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            clock: Clock::start(),
            clients: (0..options.connections).map(Client::new).collect(),
            measure: Measure::new(),
            commands: Vec::new(),
            is_sending: true,
            interrupt,
            begun: VecDeque::new(),
            pings: VecDeque::new(),
            opening: 0,
            open: 0,
            broken: 0,
            first_fault: None,
            is_failed: false,
            process: options.pid.map(Process::new),
            samples: Samples::default(),
            progress: Progress::new(workload.clients_held()),
            survey_due: Moment::default(),
            buffer: vec![0; READ_BUFFER_BYTES],
            payload: Vec::new(),
            options,
            io,
            workload,
            payloads: content.payloads,
            event: content.event,
        }
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Result<Run, BenchError> {
        let started_unix_seconds = report::unix_seconds();
        self.samples.before = self.look();
        if self.process.is_some() && self.samples.before.is_none() {
            return Err(BenchError::Usage("--pid: there is no such process".to_owned()));
        }
        let result = self.connect().and_then(|()| self.transmit()).and_then(|()| self.drain());
        self.progress.clear();
        for client in &mut self.clients {
            client.close(&mut self.io);
        }
        result.map_err(|error| BenchError::Io("epoll", error))?;
        let is_interrupted = self.interrupt.is_asked();
        if self.measure.from == Moment::NEVER && !is_interrupted {
            return Err(BenchError::Connect(self.options.url, self.first_fault.unwrap_or_default()));
        }
        // What was still on its way when the run was cut short is not lost.
        let is_settled =
            !is_interrupted || (self.measure.from != Moment::NEVER && self.workload.outstanding() == 0);
        let mut outcome = self.workload.finish(!self.is_failed && is_settled);
        outcome.findings.broken = self.broken;
        // The broken session explains the messages that are lost with it.
        outcome.findings.first = self.first_fault.or(outcome.findings.first);
        let is_whole = !self.is_failed;
        let Self { measure, samples, open, .. } = self;
        Ok(Run { measure, outcome, samples, started_unix_seconds, is_whole, is_interrupted, open })
    }

    fn connect(&mut self) -> io::Result<()> {
        let held = self.workload.clients_held();
        let start = self.clock.now();
        let mut pacer =
            self.options.connect_rate.map(|rate| Pacer::new(Schedule::constant(rate), start, Moment::NEVER));
        let mut next = 0;
        let mut deadline = Moment::NEVER;
        while !self.is_failed && !self.interrupt.is_asked() {
            let now = self.clock.now();
            while next < held && self.opening < self.options.connect_window && !self.is_failed {
                let due = match &mut pacer {
                    Some(pacer) => pacer.take(now).map(|(_, due)| due),
                    None => Some(now),
                };
                let Some(due) = due else { break };
                self.commands.push(Command::Open { client: next, due });
                self.execute(now);
                next += 1;
            }
            if self.open == held && self.workload.is_ready() {
                break;
            }
            if self.open == held {
                deadline = deadline.min(now.after(self.options.connect_timeout));
            }
            if now > deadline {
                let event = self.workload.prepared_by();
                self.fail(format!(
                    "the server did not acknowledge `{event}` within --connect-timeout: does it have this event, and this --hz?"
                ));
            }
            let may_open = next < held && self.opening < self.options.connect_window;
            let due = pacer.as_ref().filter(|_| may_open).map_or(Moment::NEVER, Pacer::next_due);
            self.turn(due)?;
            self.progress.show_sessions(self.open, held);
        }
        self.samples.connecting = self.clock.now().since(start);
        self.samples.opened = self.measure.connect.len();
        self.samples.connect_us = Quantiles::of(&self.measure.connect);
        self.samples.connected = self.look();
        Ok(())
    }

    fn transmit(&mut self) -> io::Result<()> {
        if self.is_failed || self.interrupt.is_asked() {
            return Ok(());
        }
        let start = self.clock.now();
        let from = start.after(self.options.warmup());
        let stages: Vec<Duration> = self.options.stages.iter().map(|stage| stage.0).collect();
        self.measure.begin(from, self.options.window(), &stages);
        self.call(start, |workload, cx| workload.handle_start(cx));
        let mut edge = from;
        let mut own_before = own_cpu();
        let mut opened_at = start;
        while !self.is_failed {
            let now = self.clock.now();
            if now >= edge && edge == from {
                edge = self.measure.until;
                self.samples.from = self.look();
                own_before = own_cpu();
                opened_at = now;
            }
            if now >= self.measure.until {
                break;
            }
            if self.interrupt.is_asked() || self.workload.is_over() {
                // A window that had not begun is of no length.
                self.measure.from = self.measure.from.min(now);
                self.measure.end_early(now);
                break;
            }
            let due = self.tick(now);
            self.turn(due.min(edge))?;
        }
        self.measure.end_early(self.clock.now());
        self.samples.until = self.look();
        self.samples.own_cpu = own_cpu().saturating_sub(own_before);
        self.samples.window = self.clock.now().since(opened_at);
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        self.is_sending = false;
        let patience = if self.interrupt.is_asked() { INTERRUPTED_DRAIN } else { self.options.drain };
        let deadline = self.clock.now().after(patience.min(self.options.drain));
        while !self.is_failed && self.measure.from != Moment::NEVER {
            let now = self.clock.now();
            let due = self.tick(now);
            if now > deadline || (self.workload.outstanding() == 0 && due == Moment::NEVER) {
                break;
            }
            self.turn(due.min(deadline))?;
        }
        Ok(())
    }

    /// Waits until something happens, at most until `due`, and handles it.
    fn turn(&mut self, due: Moment) -> io::Result<()> {
        let now = self.clock.now();
        let mut events = Vec::with_capacity(EVENTS_PER_TURN_MAX);
        self.io.net.wait(&mut events, due.min(self.survey_due).since(now))?;
        for event in &events {
            self.handle_event(Token::unpack(event.data.u64()), event.flags);
        }
        let now = self.clock.now();
        if now >= self.survey_due {
            self.survey_due = now.after(SURVEY_INTERVAL);
            self.survey(now);
        }
        Ok(())
    }

    fn tick(&mut self, now: Moment) -> Moment {
        let mut due = Moment::NEVER;
        self.call(now, |workload, cx| due = workload.handle_tick(cx));
        due
    }

    fn call(&mut self, now: Moment, act: impl FnOnce(&mut dyn Workload, &mut Cx<'_>)) {
        let Self { workload, payloads, measure, commands, is_sending, .. } = self;
        act(workload.as_mut(), &mut Cx { now, is_sending: *is_sending, payloads, measure, commands });
        self.execute(now);
    }

    fn handle_event(&mut self, token: Token, flags: epoll::EventFlags) {
        let now = self.clock.now();
        let result = self.read(token, flags, now);
        self.execute(now);
        let Some(client) = self.clients.get_mut(token.client as usize) else { return };
        if let Err(fault) = result.and_then(|()| client.finish_turn(&mut self.io, now)) {
            self.handle_fault(token.client, &fault);
            self.execute(now);
        }
    }

    fn read(&mut self, token: Token, flags: epoll::EventFlags, now: Moment) -> Result<(), Fault> {
        let Self { clients, io, workload, payloads, measure, commands, is_sending, buffer, .. } = self;
        let Some(client) = clients.get_mut(token.client as usize) else { return Ok(()) };
        let Some(wire) = client.wire(token.kind) else { return Ok(()) };
        if wire.is_muted() {
            // Epoll reports the end of a connection unasked; anything else was on its way when the client
            // fell silent.
            let is_over = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            return if is_over { Err(Fault::Closed(None)) } else { Ok(()) };
        }
        let Some(len) = wire.read(buffer)? else { return Ok(()) };
        if len == 0 {
            return client.handle_end(token.kind);
        }
        let mut pending = std::mem::take(&mut wire.pending);
        let (was_open, is_sending) = (client.is_open(), *is_sending);
        let mut sink = |incoming: super::client::Incoming<'_>| {
            let mut cx = Cx { now, is_sending, payloads, measure, commands };
            workload.handle_incoming(token.client, &incoming, &mut cx);
        };
        let read = buffer.get(..len).unwrap_or_default();
        if pending.is_empty() {
            let used = client.receive(io, token.kind, read, &mut sink)?;
            pending.extend_from_slice(read.get(used..).unwrap_or_default());
        } else {
            pending.extend_from_slice(read);
            let used = client.receive(io, token.kind, &pending, &mut sink)?;
            pending.drain(..used);
        }
        if let Some(wire) = client.wire(token.kind) {
            wire.pending = pending;
        }
        if !was_open && client.is_open() {
            measure.note_connected(client.begun, now);
            if let Some(interval) = io.ping_interval {
                self.pings.push_back((now.after(interval), token.client, client.begun));
            }
            self.open += 1;
            self.opening -= 1;
        }
        Ok(())
    }

    /// Carries out what the workload asked for, and sends it.
    fn execute(&mut self, now: Moment) {
        while !self.commands.is_empty() {
            let mut commands = std::mem::take(&mut self.commands);
            let mut faults = Vec::new();
            for &command in &commands {
                if let Err(fault) = self.execute_one(command, now) {
                    faults.push((client_of(command), fault));
                }
            }
            for &command in &commands {
                let id = client_of(command);
                let Some(client) = self.clients.get_mut(id as usize) else { continue };
                if let Err(fault) = client.finish_turn(&mut self.io, now) {
                    faults.push((id, fault));
                }
            }
            // Faults are handled last, for they may give new commands; the buffer goes back for those.
            commands.clear();
            self.commands = commands;
            for (id, fault) in faults {
                self.handle_fault(id, &fault);
            }
        }
    }

    fn execute_one(&mut self, command: Command, now: Moment) -> Result<(), Fault> {
        let Some(client) = self.clients.get_mut(client_of(command) as usize) else { return Ok(()) };
        match command {
            Command::Emit { kind, sequence, due, client: id } => {
                if client.is_open() {
                    self.payload.clear();
                    match self.event.as_ref().filter(|_| matches!(kind, EventKind::Own | EventKind::Unasked))
                    {
                        Some(event) => event.render(&mut self.payload, id, sequence),
                        None => self.payloads.encode(&mut self.payload, id, sequence, due),
                    }
                    client.emit(&mut self.io, kind, sequence, &self.payload);
                    self.measure.note_sent(due, now);
                }
            }
            Command::Open { client: id, due } => {
                self.opening += 1;
                self.begun.push_back((id, due, now));
                client.open(&mut self.io, due)?;
            }
            Command::Close { .. } => {
                self.open -= u32::from(client.is_open());
                client.close(&mut self.io);
            }
            Command::Lose { .. } => {
                self.open -= u32::from(client.is_open());
                client.lose();
            }
            Command::Mute { is_muted, .. } => client.mute(&self.io, is_muted)?,
        }
        Ok(())
    }

    #[cold]
    fn handle_fault(&mut self, id: u32, fault: &Fault) {
        let Some(client) = self.clients.get_mut(id as usize) else { return };
        if client.is_opening() {
            self.opening -= 1;
        } else if client.is_open() {
            self.open -= 1;
        } else {
            return;
        }
        client.close(&mut self.io);
        let now = self.clock.now();
        self.measure.note_broken(now);
        let Self { workload, payloads, measure, commands, is_sending, .. } = self;
        let mut cx = Cx { now, is_sending: *is_sending, payloads, measure, commands };
        match workload.handle_fault(id, fault, &mut cx) {
            Verdict::Fatal => self.fail(format!("client {id}: {fault}")),
            Verdict::Counted => {
                self.broken += 1;
                self.first_fault.get_or_insert_with(|| format!("client {id}: {fault}"));
            }
            Verdict::Tolerated => {}
        }
    }

    fn fail(&mut self, text: String) {
        self.is_failed = true;
        self.broken += 1;
        self.first_fault.get_or_insert(text);
    }

    /// What needs no promptness: time-outs, the server's memory, the progress bar.
    fn survey(&mut self, now: Moment) {
        while let Some(&(id, due, begun)) = self.begun.front() {
            let client = self.clients.get(id as usize);
            let is_waiting = client.is_some_and(|client| client.is_opening() && client.begun == due);
            if is_waiting && now.since(begun) <= self.options.connect_timeout {
                break;
            }
            self.begun.pop_front();
            if is_waiting {
                self.handle_fault(id, &Fault::Timeout);
            }
        }
        self.execute(now);
        self.ping(now);
        self.look();
        if self.measure.from == Moment::NEVER {
            return;
        }
        let (phase, start, whole) = match now {
            _ if !self.is_sending => ("drain", self.measure.until, self.options.drain),
            now if now < self.measure.from => ("warm up", Moment::default(), self.options.warmup()),
            _ => ("measure", self.measure.from, self.options.window()),
        };
        let elapsed = now.since(start).min(whole);
        let count = (self.measure.received + self.measure.sessions) as f64;
        let rate = count / now.since(self.measure.from).as_secs_f64().max(1e-3);
        self.progress.show_traffic(phase, elapsed, whole, rate);
    }

    /// Sends the pings of revision 3 that are due. All have one interval, so they are in order.
    fn ping(&mut self, now: Moment) {
        let Some(interval) = self.io.ping_interval else { return };
        while let Some(&(_, id, begun)) = self.pings.front().filter(|ping| ping.0 <= now) {
            self.pings.pop_front();
            let Some(client) = self.clients.get_mut(id as usize) else { continue };
            if !client.is_open() || client.begun != begun {
                continue;
            }
            self.pings.push_back((now.after(interval), id, begun));
            if let Err(fault) = client.ping(&mut self.io, now) {
                self.handle_fault(id, &fault);
                self.execute(now);
            }
        }
    }

    fn look(&mut self) -> Option<Usage> {
        let usage = self.process.as_ref()?.look()?;
        self.samples.rss_peak_bytes = self.samples.rss_peak_bytes.max(usage.rss_bytes);
        Some(usage)
    }
}

fn client_of(command: Command) -> u32 {
    match command {
        Command::Emit { client, .. }
        | Command::Open { client, .. }
        | Command::Close { client }
        | Command::Lose { client }
        | Command::Mute { client, .. } => client,
    }
}
