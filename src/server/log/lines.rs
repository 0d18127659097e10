//! Lines on their way to standard error: a bounded queue, and the thread that writes what is in it.
//!
//! Whoever says a line never waits for the one who reads it. What finds no room is counted and dropped, what cannot be written
//! too, and the first line that can be written again says how many are missing.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::rate::KindRates;

/// Lines that wait to be written: a second of a busy log.
const LINES_WAITING_MAX: usize = 4096;

/// Bytes that they may have together.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// What is shown of one line. A log is for people.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What the lines that wait have, with their places in the queue.
pub(super) const LINES_BYTES: usize = WAITING_BYTES_MAX + LINES_WAITING_MAX * 2 * size_of::<Entry>();

/// What one write takes, unless one line is longer: the kernel mixes no other process's text into so much (`PIPE_BUF`).
const WRITE_BYTES_MAX: usize = 4096;

/// From one word on what was left out to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// For a standard error that somebody else made non-blocking: how long one look at it waits.
const POLL_PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

enum Entry {
    Line(Box<str>),
    /// Something was left out: look at the clock from now on.
    LeftOut,
    /// Answer when everything before this is written.
    Flush(Sender<()>),
}

#[derive(Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
}

/// Where lines are put.
#[derive(Clone)]
pub(super) struct Lines {
    queue: Sender<Entry>,
    counts: Arc<Counts>,
    /// Whether the escape codes of colours may pass.
    is_coloured: bool,
}

impl Lines {
    /// Starts the thread that writes.
    pub(super) fn start(rates: Arc<KindRates>, is_coloured: bool) -> std::io::Result<Lines> {
        let (queue, entries) = bounded(LINES_WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let scribe = Scribe { entries, counts: Arc::clone(&counts), rates, text: Vec::new() };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || scribe.run())?;
        Ok(Lines { queue, counts, is_coloured })
    }

    /// Queues one line, or counts it as lost.
    pub(super) fn push(&self, line: &str) {
        let line = one_line(line, self.is_coloured);
        let len = line.len();
        let waiting = self.counts.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        let has_room = waiting + len <= WAITING_BYTES_MAX;
        if !has_room || self.queue.try_send(Entry::Line(line)).is_err() {
            self.counts.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the thread say, soon, what was left out. A queue that is full has it awake anyway.
    pub(super) fn note_left_out(&self) {
        let _ = self.queue.try_send(Entry::LeftOut);
    }

    /// Waits until what was pushed is written, but no longer than `patience`.
    #[allow(clippy::disallowed_methods)] // Whoever ends a process waits in real time.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (done, is_done) = bounded(1);
        if self.queue.send_timeout(Entry::Flush(done), patience).is_ok() {
            let _ = is_done.recv_deadline(deadline);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

/// The subscriber writes each event at once.
impl std::io::Write for &Lines {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        self.push(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One line of an event, whatever a peer has put into it: no line breaks, nothing that moves a terminal's cursor.
fn one_line(event: &str, is_coloured: bool) -> Box<str> {
    let event = event.strip_suffix('\n').unwrap_or(event);
    let mut line = String::with_capacity(event.len() + 1);
    for char in event.chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push_str(" ..");
            break;
        }
        let is_colour = is_coloured && char == '\u{1b}';
        if (char.is_control() && char != '\t' && !is_colour) || matches!(char, '\u{2028}' | '\u{2029}') {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line.push('\n');
    line.into_boxed_str()
}

/// The thread that writes.
struct Scribe {
    entries: Receiver<Entry>,
    counts: Arc<Counts>,
    rates: Arc<KindRates>,
    text: Vec<u8>,
}

impl Scribe {
    #[allow(clippy::disallowed_methods)] // A thread of its own, with the clock of those who read.
    fn run(mut self) {
        let mut reported = Instant::now();
        loop {
            let entry = if self.rates.has_left_out() {
                self.entries.recv_deadline(reported + REPORT_INTERVAL)
            } else {
                self.entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match entry {
                Ok(Entry::Line(line)) => self.write_with_those_behind(&line),
                Ok(Entry::LeftOut) => reported = Instant::now(),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Entry::Flush(done)) => {
                    self.report();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if reported.elapsed() >= REPORT_INTERVAL {
                self.report();
                reported = Instant::now();
            }
        }
    }

    /// Writes a line, and what waits behind it as far as one write takes it.
    fn write_with_those_behind(&mut self, first: &str) {
        let mut count = 1;
        self.text.clear();
        self.text.extend_from_slice(first.as_bytes());
        let mut next = None;
        while self.text.len() < WRITE_BYTES_MAX {
            match self.entries.try_recv() {
                Ok(Entry::Line(line)) if self.text.len() + line.len() <= WRITE_BYTES_MAX => {
                    self.text.extend_from_slice(line.as_bytes());
                    count += 1;
                }
                Ok(entry) => {
                    next = Some(entry);
                    break;
                }
                Err(_) => break,
            }
        }
        self.say_lost();
        self.write_text(count);
        match next {
            Some(Entry::Line(line)) => {
                self.text.clear();
                self.text.extend_from_slice(line.as_bytes());
                self.write_text(1);
            }
            Some(Entry::Flush(done)) => {
                self.report();
                let _ = done.send(());
            }
            // It is said a second after the last report, or at once.
            Some(Entry::LeftOut) | None => {}
        }
    }

    /// Writes so many lines, or counts them as lost.
    fn write_text(&mut self, lines: u64) {
        if write(&self.text).is_err() {
            self.counts.lost.fetch_add(lines, Ordering::Relaxed);
        }
        self.counts.waiting_bytes.fetch_sub(self.text.len(), Ordering::Relaxed);
    }

    /// Says what is missing of the log.
    fn report(&mut self) {
        let rates = Arc::clone(&self.rates);
        rates.take_left_out(|kind, count| {
            let rate = rates.lines_a_second();
            let line =
                format!("{count} more lines of this kind were left out (log_rate = {rate} a second): {kind}");
            if write(notice(&line).as_bytes()).is_err() {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        });
        self.say_lost();
    }

    fn say_lost(&self) {
        let lost = self.counts.lost.load(Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let line = format!("{lost} lines of the log were lost: what reads it was too slow, full or gone");
        if write(notice(&line).as_bytes()).is_ok() {
            self.counts.lost.fetch_sub(lost, Ordering::Relaxed);
        }
    }
}

/// A line of the log about itself. It does not go through the queue, which may be full.
fn notice(text: &str) -> String {
    let mut line = String::new();
    if SystemTime.format_time(&mut Writer::new(&mut line)).is_err() {
        line.clear();
    }
    line.push_str("  WARN shardcast::log: ");
    line.push_str(&one_line(text, false));
    line
}

/// Writes all of it to standard error, past the lock that other threads may hold while they wait for it.
fn write(mut text: &[u8]) -> Result<(), Errno> {
    let error = std::io::stderr();
    while !text.is_empty() {
        match rustix::io::write(error.as_fd(), text) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut ready = [PollFd::new(&error, PollFlags::OUT)];
                let _ = rustix::event::poll(&mut ready, Some(&POLL_PATIENCE));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
impl Lines {
    /// Lines whose reader never comes.
    pub(super) fn unread() -> (Lines, Waiting) {
        let (queue, entries) = bounded(LINES_WAITING_MAX);
        (Lines { queue, counts: Arc::default(), is_coloured: false }, Waiting(entries))
    }
}

/// What waits and is not written.
#[cfg(test)]
pub(super) struct Waiting(Receiver<Entry>);

#[cfg(test)]
impl Waiting {
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |entry| if let Entry::Line(line) = entry { Some(line.into_string()) } else { None };
        self.0.try_iter().filter_map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let rows = [
            ("a b\n", "a b\n"),
            ("a\r\nERROR forged\n", "a\\r\\nERROR forged\n"),
            ("\u{1b}[31mred\u{9b}\u{2028}\tend", "\\u{1b}[31mred\\u{9b}\\u{2028}\tend\n"),
        ];
        for (event, expected) in rows {
            assert_eq!(&*one_line(event, false), expected);
        }
        assert_eq!(&*one_line("\u{1b}[31mred", true), "\u{1b}[31mred\n");
        let long = one_line(&"\u{e9}".repeat(LINE_BYTES_MAX), false);
        assert!(long.len() <= LINE_BYTES_MAX + 5 && long.ends_with(" ..\n"), "{}", long.len());
    }

    #[test]
    fn lines_and_bytes_that_wait_are_bounded_and_the_rest_is_counted() {
        let (lines, waiting) = Lines::unread();
        for _ in 0..LINES_WAITING_MAX + 10 {
            lines.push("a");
        }
        assert_eq!((waiting.0.len(), lines.counts.lost.load(Ordering::Relaxed)), (LINES_WAITING_MAX, 10));

        let (lines, waiting) = Lines::unread();
        let long = "x".repeat(LINE_BYTES_MAX - 1);
        for _ in 0..WAITING_BYTES_MAX / LINE_BYTES_MAX + 3 {
            lines.push(&long);
        }
        assert_eq!(waiting.0.len(), WAITING_BYTES_MAX / LINE_BYTES_MAX);
        assert_eq!(lines.counts.lost.load(Ordering::Relaxed), 3);
        assert_eq!(lines.counts.waiting_bytes.load(Ordering::Relaxed), WAITING_BYTES_MAX);
    }

    #[test]
    fn a_flush_does_not_wait_for_a_reader_that_does_not_read() {
        let (lines, waiting) = Lines::unread();
        lines.flush(Duration::from_millis(1));
        for _ in 0..LINES_WAITING_MAX {
            lines.push("a");
        }
        lines.flush(Duration::from_millis(1));
        assert_eq!(waiting.0.len(), LINES_WAITING_MAX);
    }
}
