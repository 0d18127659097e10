//! What a service manager is told (sd_notify(3)): that the server serves, ends, has handed over, and that its shards are alive.
//!
//! Without `NOTIFY_SOCKET` nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::driver::clock;
use crate::mesh::Mesh;
use crate::mesh::life::Phase;

/// From one look at the server's phase to the next.
const LOOK: Duration = Duration::from_millis(200);

/// Says something, such as `READY=1`.
pub(crate) fn notify(words: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(path.as_encoded_bytes(), words) {
        tracing::warn!(%error, words, "the service manager at NOTIFY_SOCKET does not hear this");
    }
}

/// Says that settings are read again, for a unit of `Type=notify-reload`; `READY=1` ends it.
pub(crate) fn notify_reloading() {
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()));
}

fn send(path: &[u8], words: &str) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(words.as_bytes(), &address).map(drop)
}

/// How often the service manager wants to hear that this process is alive: twice in its time.
fn watchdog(read: impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let is_ours = read("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    let micros: u64 = read("WATCHDOG_USEC").filter(|_| is_ours)?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros / 2))
}

/// Tells the service manager that the server ends, and, if it asks for it, that all shards come round to their inboxes: a shard that is
/// stuck for longer than the unit's `WatchdogSec` has the process restarted.
pub(crate) fn watch(mesh: &Arc<Mesh>) -> Result<(), String> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let period = watchdog(|name| std::env::var(name).ok(), std::process::id());
    let mesh = Arc::clone(mesh);
    let thread =
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch_life(&mesh, period));
    thread.map(drop).map_err(|error| format!("cannot start the thread of the watchdog: {error}"))
}

#[allow(clippy::disallowed_methods)] // The thread is its own.
fn watch_life(mesh: &Mesh, period: Option<Duration>) {
    let (mut waited, mut is_said) = (Duration::ZERO, false);
    let mut pulse = mesh.send_pulse();
    while mesh.life.phase() != Phase::Stopped {
        let step = period.map_or(LOOK, |period| period.min(LOOK));
        std::thread::sleep(step);
        waited += step;
        if mesh.life.phase() == Phase::Draining && !mesh.life.is_handed_over() && !is_said {
            is_said = true;
            notify("STOPPING=1");
        }
        let is_missed = |shard: &_| !(mesh.is_stopping() && mesh.is_gone(*shard));
        if period.is_some_and(|period| waited >= period) && pulse.silent().filter(is_missed).count() == 0 {
            notify("WATCHDOG=1");
            waited = Duration::ZERO;
            pulse = mesh.send_pulse();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables = &'static [(&'static str, &'static str)];

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_if_it_is_ours() {
        let rows: [(Variables, Option<u64>); 6] = [
            (&[], None),
            (&[("WATCHDOG_USEC", "10000000")], Some(5_000)),
            (&[("WATCHDOG_USEC", "10000000"), ("WATCHDOG_PID", "7")], Some(5_000)),
            (&[("WATCHDOG_USEC", "10000000"), ("WATCHDOG_PID", "8")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
        ];
        for (variables, millis) in rows {
            let read = |name: &str| {
                variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(watchdog(read, 7), millis.map(Duration::from_millis), "{variables:?}");
        }
    }

    #[test]
    fn words_reach_a_socket_with_a_path_and_one_without() {
        let path = std::env::temp_dir().join(format!("shardcast-notify-{}", std::process::id()));
        let name = format!("shardcast-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).expect("a socket");
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&abstract_address).expect("a socket");
        let rows = [(path.to_string_lossy().into_owned(), by_path), (format!("@{name}"), by_name)];
        for (address, socket) in rows {
            send(address.as_bytes(), "READY=1\nMAINPID=7").expect("it is sent");
            let mut words = [0; 64];
            let len = socket.recv(&mut words).expect("it has come");
            assert_eq!(&words[..len], b"READY=1\nMAINPID=7", "{address}");
        }
        std::fs::remove_file(path).expect("it was there");
        assert!(send(b"/nowhere/at/all", "READY=1").is_err());
    }
}
