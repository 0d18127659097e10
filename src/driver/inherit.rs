//! Listeners that another process has opened: a service manager (sd_listen_fds(3)), or the process that this one takes over from.
//!
//! Both say so in the environment, and with whom they mean, as children inherit it too.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::socket_acceptconn;

use crate::driver::ring::submission::adopt_descriptor;
use crate::message::peer::Door;

/// The first descriptor of a service manager.
const FIRST: i32 = 3;

/// More descriptors than any unit names.
const DESCRIPTORS_MAX: usize = 1024;

/// The name of the operators' socket in a unit: `FileDescriptorName=admin`.
const ADMIN_NAME: &str = "admin";

/// Says what the process before this one hands over: its id, whether the listeners are lent to it, the descriptor that awaits word,
/// and the listeners.
pub(crate) const HANDOVER_VARIABLE: &str = "LISTEN_HANDOVER";

/// What the process that hands over awaits on its descriptor.
pub(crate) const READY_WORD: &[u8] = b"READY";

/// What is adopted is adopted once, though a process may start several servers.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// What another process has opened for this one.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) listeners: Vec<(OwnedFd, Door)>,
    /// The other process keeps them open.
    pub(crate) is_lent: bool,
    /// Where the process that hands over awaits that this one serves.
    report: Option<OwnedFd>,
}

/// What the environment says, by number of descriptor.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    listeners: Vec<(i32, Door)>,
    is_lent: bool,
    report: Option<i32>,
}

impl Inherited {
    /// What was opened for this process, if anything was.
    pub(crate) fn take() -> Result<Option<Inherited>, String> {
        let read = |name: &str| std::env::var(name).ok();
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_pid() as u32);
        let Some(told) = told(read, std::process::id(), parent)? else { return Ok(None) };
        if IS_TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let adopt = |(number, door)| adopt_listener(number).map(|descriptor| (descriptor, door));
        let listeners = told.listeners.into_iter().map(adopt).collect::<Result<_, _>>()?;
        let report = told.report.map(adopt_socket).transpose()?;
        Ok(Some(Inherited { listeners, is_lent: told.is_lent, report }))
    }

    /// What the program has opened itself, and keeps open.
    pub(crate) fn lent(listeners: Vec<(OwnedFd, Door)>) -> Inherited {
        Inherited { listeners, is_lent: true, report: None }
    }

    /// This process serves.
    pub(crate) fn report_ready(report: OwnedFd) {
        if let Err(error) = UnixStream::from(report).write_all(READY_WORD) {
            tracing::warn!(%error, "the process before this one does not hear that this one serves");
        }
    }

    pub(crate) fn take_report(&mut self) -> Option<OwnedFd> {
        self.report.take()
    }
}

fn told(
    read: impl Fn(&str) -> Option<String>,
    own: u32,
    parent: Option<u32>,
) -> Result<Option<Told>, String> {
    if let Some(text) = read(HANDOVER_VARIABLE) {
        let fault = || format!("{HANDOVER_VARIABLE} = {text:?} is not what a server hands over: unset it");
        let handed_over = told_by_server(&text).ok_or_else(fault)?;
        // Otherwise it was meant for a process whose child this one is.
        if Some(handed_over.0) == parent {
            return Ok(Some(handed_over.1));
        }
    }
    let number = |name: &str| {
        let Some(text) = read(name) else { return Ok(None) };
        text.parse::<u32>()
            .map(Some)
            .map_err(|_| format!("{name} = {text:?}: it is a number, set by a service manager"))
    };
    if number("LISTEN_PID")? != Some(own) {
        return Ok(None);
    }
    let count = number("LISTEN_FDS")?.unwrap_or(0) as usize;
    if count > DESCRIPTORS_MAX {
        return Err(format!("LISTEN_FDS = {count}: the most is {DESCRIPTORS_MAX}"));
    }
    let names = read("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let listeners = (FIRST..).take(count).map(|number| {
        let door = if names.next() == Some(ADMIN_NAME) { Door::Admin } else { Door::Public };
        (number, door)
    });
    let listeners: Vec<_> = listeners.collect();
    Ok((!listeners.is_empty()).then_some(Told { listeners, is_lent: true, report: None }))
}

/// Who hands over, and what.
fn told_by_server(text: &str) -> Option<(u32, Told)> {
    let mut words = text.split(' ');
    let parent = words.next()?.parse().ok()?;
    let is_lent = words.next()? == "lent";
    let report = words.next()?.parse().ok()?;
    let listeners: Option<Vec<_>> = words
        .map(|word| {
            let (door, number) = word.split_once(':')?;
            let door = match door {
                "public" => Door::Public,
                "admin" => Door::Admin,
                _ => return None,
            };
            Some((number.parse().ok().filter(|number| *number >= FIRST)?, door))
        })
        .collect();
    let listeners =
        listeners.filter(|listeners| !listeners.is_empty() && listeners.len() <= DESCRIPTORS_MAX)?;
    Some((parent, Told { listeners, is_lent, report: Some(report) }))
}

/// What [`HANDOVER_VARIABLE`] is for the next process.
pub(crate) fn handover_text(is_lent: bool, report: i32, listeners: &[(i32, Door)]) -> String {
    let lent = if is_lent { "lent" } else { "own" };
    let mut text = format!("{} {lent} {report}", std::process::id());
    for (number, door) in listeners {
        let door = if *door == Door::Admin { "admin" } else { "public" };
        text.push_str(&format!(" {door}:{number}"));
    }
    text
}

fn adopt_socket(number: i32) -> Result<OwnedFd, String> {
    // Before it is owned: what is not open cannot be closed.
    let kind = fs::metadata(format!("/proc/self/fd/{number}")).map_err(|error| {
        format!("descriptor {number}, which another process opened for this one: {error}")
    })?;
    if !kind.file_type().is_socket() {
        return Err(format!("descriptor {number}, which another process opened for this one, is no socket"));
    }
    let socket = adopt_descriptor(number);
    fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(|error| format!("descriptor {number}: {error}"))?;
    Ok(socket)
}

fn adopt_listener(number: i32) -> Result<OwnedFd, String> {
    let socket = adopt_socket(number)?;
    prepare_listener(&socket, || "the unit has to say ListenStream= and Accept=no")
        .map_err(|fault| format!("descriptor {number}{fault}"))?;
    Ok(socket)
}

/// Makes sure that a socket listens, and that to accept from it never waits. An error begins behind the socket's name, and has the
/// `advice` for one that does not listen.
pub(crate) fn prepare_listener(socket: &OwnedFd, advice: impl Fn() -> &'static str) -> Result<(), String> {
    let fault = |error| format!(": {error}");
    if !socket_acceptconn(socket).map_err(fault)? {
        return Err(format!(" does not listen: {}", advice()));
    }
    fcntl_setfd(socket, FdFlags::CLOEXEC).map_err(fault)?;
    let flags = fcntl_getfl(socket).map_err(fault)?;
    fcntl_setfl(socket, flags | OFlags::NONBLOCK).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Told>, String> {
        let find = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        told(find, 7, Some(6))
    }

    #[test]
    fn what_a_service_manager_opens_is_for_the_process_that_it_names() {
        let three = [("LISTEN_PID", "7"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web:admin:web")];
        let expected = vec![(3, Door::Public), (4, Door::Admin), (5, Door::Public)];
        assert_eq!(read(&three), Ok(Some(Told { listeners: expected, is_lent: true, report: None })));
        for nothing in [
            &[][..],
            &[("LISTEN_PID", "8"), ("LISTEN_FDS", "3")],
            &[("LISTEN_FDS", "3")],
            &[("LISTEN_PID", "7")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")],
        ] {
            assert_eq!(read(nothing), Ok(None), "{nothing:?}");
        }
        for (wrong, part) in [
            (&[("LISTEN_PID", "me")][..], "LISTEN_PID = \"me\""),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")], "LISTEN_FDS"),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "99999")], "the most is 1024"),
        ] {
            assert!(read(wrong).is_err_and(|fault| fault.contains(part)), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_server_hands_over_is_for_its_child() {
        let listeners = vec![(9, Door::Public), (10, Door::Admin)];
        let own = std::process::id();
        for is_lent in [false, true] {
            let text = handover_text(is_lent, 8, &listeners);
            let told = told_by_server(&text).expect("it was just written");
            assert_eq!(told, (own, Told { listeners: listeners.clone(), is_lent, report: Some(8) }));
        }
        assert!(read(&[(HANDOVER_VARIABLE, "6 own 8 public:9")]).is_ok_and(|told| told.is_some()));
        assert_eq!(read(&[(HANDOVER_VARIABLE, "5 own 8 public:9")]), Ok(None), "it was another's child");
        for text in [
            "",
            "6",
            "6 own",
            "6 own 8",
            "6 own x public:9",
            "6 own 8 public",
            "6 own 8 public:-1",
            "6 own 8 other:9",
        ] {
            assert!(
                read(&[(HANDOVER_VARIABLE, text)]).is_err_and(|fault| fault.contains("unset it")),
                "{text:?}"
            );
        }
    }
}
