//! A hand-over: the same program is started anew with the listeners, and once it serves, this process drains.
//!
//! The listeners stay the same, so that a connection in the kernel's queue is accepted by either process. A new process that dies, or
//! says nothing, changes nothing for this one.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use crate::driver::inherit::{HANDOVER_VARIABLE, READY_WORD, handover_text};
use crate::message::peer::Door;

/// How long a new process may take until it serves.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// What the kernel puts behind the path of a program whose file was replaced.
const DELETED: &[u8] = b" (deleted)";

/// What one process leaves to the next.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) listeners: Vec<(OwnedFd, Door)>,
    pub(crate) is_lent: bool,
}

impl Estate {
    /// Starts the program anew with the listeners, and waits until it serves. Gives its process id.
    ///
    /// # Errors
    /// It cannot be started, it ends, or it does not serve in time: it is ended then.
    pub(crate) fn bequeath(&self) -> Result<u32, String> {
        let (mut ours, theirs) = UnixStream::pair().map_err(|error| format!("a pair of sockets: {error}"))?;
        ours.set_read_timeout(Some(READY_PATIENCE)).map_err(|error| error.to_string())?;
        let mut child = self.start(OwnedFd::from(theirs))?;
        let mut word = [0; READY_WORD.len()];
        let heard = ours.read_exact(&mut word);
        match heard {
            Ok(()) if word == *READY_WORD => Ok(child.id()),
            heard => {
                let ended = child.try_wait().ok().flatten();
                let _ = child.kill();
                let _ = child.wait();
                Err(match (ended, heard) {
                    (Some(status), _) => {
                        format!("the new process ended before it served ({status}); its own log says why")
                    }
                    (None, Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        "the new process ended before it served; its own log says why".to_owned()
                    }
                    _ => format!("the new process did not serve within {READY_PATIENCE:?}, and was ended"),
                })
            }
        }
    }

    fn start(&self, report: OwnedFd) -> Result<Child, String> {
        let fault =
            |error: rustix::io::Errno| format!("a descriptor for the new process: {error}; raise ulimit -n");
        // Copies that stay open in the new process; they are closed here when it has them.
        let report = rustix::io::dup(&report).map_err(fault)?;
        let copies: Vec<(OwnedFd, Door)> = self
            .listeners
            .iter()
            // Those of a shard that has died are closed.
            .filter(|(listener, _)| rustix::net::sockopt::socket_acceptconn(listener).unwrap_or(true))
            .map(|(listener, door)| rustix::io::dup(listener).map(|copy| (copy, *door)))
            .collect::<Result<_, _>>()
            .map_err(fault)?;
        let numbers: Vec<(i32, Door)> = copies.iter().map(|(copy, door)| (copy.as_raw_fd(), *door)).collect();
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let program = program()?;
        let mut command = Command::new(&program);
        command.arg0(name).args(arguments);
        command.env(HANDOVER_VARIABLE, handover_text(self.is_lent, report.as_raw_fd(), &numbers));
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.spawn().map_err(|error| format!("cannot start {}: {error}", program.display()))
    }
}

/// The file of this program, or the one that has taken its place.
fn program() -> Result<std::path::PathBuf, String> {
    let path = std::env::current_exe().map_err(|error| format!("where this program's file is: {error}"))?;
    let bytes = path.as_os_str().as_bytes();
    let kept = bytes.strip_suffix(DELETED).unwrap_or(bytes);
    Ok(OsString::from_vec(kept.to_vec()).into())
}
