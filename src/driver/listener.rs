//! Listening sockets: one for each address and shard, sharing the port by SO_REUSEPORT.
//!
//! The port is shared within the process only. The first socket of an address binds without SO_REUSEPORT, and so fails where
//! any other socket listens, and is given it once it listens itself: another process that does the same later, or at the
//! same moment, fails. With `bind_shared` it joins whatever process is there, for a hand-over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
};

use crate::config::Config;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How long a server waits for another one that is just binding in the same folder.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// From one look at a folder's lock to the next.
const FOLDER_PAUSE: Duration = Duration::from_millis(10);

/// Every listener of a process, by shard.
#[derive(Debug)]
pub(crate) struct Listeners {
    by_shard: Vec<Vec<OwnedFd>>,
    /// Unix sockets, which all shards share.
    shared: Vec<OwnedFd>,
    addresses: Vec<String>,
}

/// One element of `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Tcp {
        text: &'a str,
        address: SocketAddr,
        /// `[::]`, when it serves IPv4 as well.
        is_dual: bool,
    },
    Unix(&'a str),
}

impl Listeners {
    /// Binds every configured address once for each shard.
    pub(crate) fn bind(config: &Config, shards: usize) -> Result<Listeners, String> {
        let by_shard = (0..shards).map(|_| Vec::new()).collect();
        let mut listeners = Listeners { by_shard, shared: Vec::new(), addresses: Vec::new() };
        for place in places(&config.bind)? {
            match place {
                Place::Unix(path) => listeners.bind_unix(path, config)?,
                Place::Tcp { text, address, is_dual } => {
                    listeners.bind_tcp(text, (address, is_dual), config)?;
                }
            }
        }
        Ok(listeners)
    }

    /// Where the process listens.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// The listeners of one shard.
    pub(crate) fn take(&mut self, shard: usize) -> Vec<OwnedFd> {
        std::mem::take(&mut self.by_shard[shard])
    }

    /// The listeners that no shard may close alone.
    pub(crate) fn take_shared(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.shared)
    }

    fn bind_tcp(
        &mut self,
        text: &str,
        (mut address, is_dual): (SocketAddr, bool),
        config: &Config,
    ) -> Result<(), String> {
        let fault = |error: Errno| describe(text, error);
        let mut is_shared = config.bind_shared;
        for shard in &mut self.by_shard {
            let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
            let socket = socket_with(family, SocketType::STREAM, FLAGS, None).map_err(fault)?;
            // What a server before this one left behind (TIME_WAIT) is not in the way; one that listens is.
            set_socket_reuseaddr(&socket, true).map_err(fault)?;
            set_socket_reuseport(&socket, is_shared).map_err(fault)?;
            if address.is_ipv6() {
                set_ipv6_v6only(&socket, !is_dual).map_err(fault)?;
            }
            // Accepted connections inherit it: small messages must not wait for a peer's delayed acknowledgement.
            set_tcp_nodelay(&socket, true).map_err(fault)?;
            bind(&socket, &address).map_err(fault)?;
            listen(&socket, config.backlog).map_err(fault)?;
            if !is_shared {
                // It listens, so the address is ours: from here on the other shards may join, and a hand-over.
                set_socket_reuseport(&socket, true).map_err(fault)?;
                is_shared = true;
            }
            if address.port() == 0 {
                // The kernel chose a port; the other shards share it.
                let bound = getsockname(&socket).map_err(fault)?;
                address = SocketAddr::try_from(bound).map_err(fault)?;
            }
            shard.push(socket);
        }
        self.addresses.push(format!("http://{address}"));
        Ok(())
    }

    /// A Unix socket has one queue, which the shards share.
    fn bind_unix(&mut self, path: &str, config: &Config) -> Result<(), String> {
        let fault = |error: Errno| describe(&format!("unix:{path}"), error);
        // Two servers that start at once must not each take the other's new socket for an old one.
        let _lock = lock_folder(path)?;
        let is_taken = is_taken(path)?;
        if is_taken && !config.bind_shared {
            return Err(format!("unix:{path}: {TAKEN}"));
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(fault)?;
        // A new name that takes the old one's place: clients can connect at any time.
        let new = format!("{path}.{}", std::process::id());
        let name = if is_taken { &new } else { path };
        if Path::new(name).symlink_metadata().is_ok() {
            std::fs::remove_file(name)
                .map_err(|error| format!("unix:{path}: cannot remove the old socket: {error}"))?;
        }
        bind(&socket, &SocketAddrUnix::new(name).map_err(fault)?).map_err(fault)?;
        listen(&socket, config.backlog).map_err(fault)?;
        if is_taken {
            std::fs::rename(name, path).map_err(|error| format!("unix:{path}: {error}"))?;
        }
        for shard in &mut self.by_shard {
            let shared = socket.try_clone().map_err(|error| format!("{path}: {error}"))?;
            shard.push(shared);
        }
        self.shared.push(socket);
        self.addresses.push(format!("unix:{path}"));
        Ok(())
    }
}

/// What `bind` names. Two elements for one address are a mistake: each would get a part of its clients.
fn places(bind: &[String]) -> Result<Vec<Place<'_>>, String> {
    let mut places = Vec::new();
    for text in bind {
        let place = match text.strip_prefix("unix:") {
            Some(path) => Place::Unix(path),
            None => Place::Tcp { text, address: resolve(text)?, is_dual: false },
        };
        places.push(place);
    }
    let has_any_v4 = |port| {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        places.iter().any(|place| matches!(place, Place::Tcp { address, .. } if *address == any))
    };
    let dual: Vec<bool> = places
        .iter()
        .map(|place| match place {
            Place::Tcp { address, .. } => {
                address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has_any_v4(address.port())
            }
            Place::Unix(_) => false,
        })
        .collect();
    for (place, serves_v4) in places.iter_mut().zip(dual) {
        if let Place::Tcp { is_dual, .. } = place {
            *is_dual = serves_v4;
        }
    }
    for (index, place) in places.iter().enumerate() {
        if let Some(other) = places[..index].iter().find(|other| overlap(other, place)) {
            return Err(said_twice(*other, *place));
        }
    }
    Ok(places)
}

fn said_twice(first: Place<'_>, second: Place<'_>) -> String {
    match (first, second) {
        (Place::Tcp { text: first, is_dual: a, .. }, Place::Tcp { text: second, is_dual: b, .. }) => {
            let advice = if a || b {
                "[::] serves IPv4 as well, unless 0.0.0.0 with its port is there too; "
            } else {
                ""
            };
            format!("bind has {first} and {second}, which are one address: {advice}leave one of them out")
        }
        (_, Place::Unix(path)) | (Place::Unix(path), _) => {
            format!("bind has unix:{path} twice: leave one of them out")
        }
    }
}

fn overlap(one: &Place<'_>, other: &Place<'_>) -> bool {
    match (one, other) {
        (Place::Unix(one), Place::Unix(other)) => one == other,
        (Place::Tcp { address: one, is_dual: a, .. }, Place::Tcp { address: other, is_dual: b, .. }) => {
            let is_one_port = one.port() == other.port() && one.port() != 0;
            is_one_port && (covers((one.ip(), *a), other.ip()) || covers((other.ip(), *b), one.ip()))
        }
        _ => false,
    }
}

/// Whether a listener on one address gets the connections to another one.
fn covers((listening, is_dual): (IpAddr, bool), ip: IpAddr) -> bool {
    let is_family = listening.is_ipv6() == ip.is_ipv6() || is_dual;
    listening == ip || (listening.is_unspecified() && is_family)
}

/// Keeps other servers that bind a socket in the same folder out meanwhile.
#[allow(clippy::disallowed_methods)] // Nothing runs yet.
fn lock_folder(path: &str) -> Result<Option<OwnedFd>, String> {
    let folder = match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let shown = folder.display();
    let opened =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let lock =
        opened.map_err(|error| format!("unix:{path}: the folder {shown} cannot be opened: {error}"))?;
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(lock)),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if waited < FOLDER_PATIENCE => {
                std::thread::sleep(FOLDER_PAUSE);
                waited += FOLDER_PAUSE;
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(format!("unix:{path}: another process keeps the folder {shown} locked (flock)"));
            }
            // A file system that has no locks.
            Err(_) => return Ok(None),
        }
    }
}

/// Whether a process listens on a socket file. A file without a listener may be removed; anything else stays.
fn is_taken(path: &str) -> Result<bool, String> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(false) };
    if !metadata.file_type().is_socket() {
        return Err(format!(
            "unix:{path}: there is a file of that name that is no socket; choose another path"
        ));
    }
    let fault = |error: Errno| format!("unix:{path}: {error}");
    let address = SocketAddrUnix::new(path).map_err(fault)?;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(fault)?;
    match connect(&probe, &address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        // EAGAIN: its queue is full. Somebody has it.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(error) => Err(format!(
            "unix:{path}: there is a socket of another program ({error}); choose another path, or remove it"
        )),
    }
}

/// Reads an address, or looks a name up. An IPv4 address in IPv6's clothes is the IPv4 address.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text
        .to_socket_addrs()
        .map_err(|error| format!("bind = {text:?}: {error}; write ADDR:PORT, such as 127.0.0.1:5000"))?;
    let first =
        found.into_iter().next().ok_or_else(|| format!("bind = {text:?}: the name has no address"))?;
    let ip = first.ip().to_canonical();
    Ok(if ip == first.ip() { first } else { SocketAddr::new(ip, first.port()) })
}

const TAKEN: &str = "another program listens there; stop it or choose another address. For a hand-over between two \
                     processes the new one sets bind_shared = true";

fn describe(address: &str, error: Errno) -> String {
    let advice = match error {
        Errno::ADDRINUSE => TAKEN,
        Errno::ACCESS => "ports below 1024 need CAP_NET_BIND_SERVICE",
        Errno::ADDRNOTAVAIL => "this machine has no such address",
        Errno::AFNOSUPPORT => "this machine has no IPv6: write 0.0.0.0 in place of [::]",
        _ => "the kernel refused it",
    };
    format!("cannot listen on {address}: {error} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_there_twice_is_named() {
        let rows: [(&[&str], Option<&str>); 16] = [
            (&["127.0.0.1:5000", "127.0.0.1:5001"], None),
            (&["127.0.0.1:5000", "[::1]:5000"], None),
            (&["127.0.0.1:0", "127.0.0.1:0"], None),
            (&["[::]:5000", "0.0.0.0:5000"], None),
            (&["[::]:5000", "0.0.0.0:5001"], None),
            (&["unix:a", "unix:b"], None),
            (&["127.0.0.1:5000", "127.0.0.2:5000"], None),
            (&["127.0.0.1:5000", "127.0.0.1:5000"], Some("bind has 127.0.0.1:5000 and 127.0.0.1:5000")),
            (&["127.0.0.1:5000", "0.0.0.0:5000"], Some("bind has 127.0.0.1:5000 and 0.0.0.0:5000")),
            (&["0.0.0.0:5000", "[::]:5000", "127.0.0.1:5000"], Some("0.0.0.0:5000 and 127.0.0.1:5000")),
            (&["[::]:5000", "[::1]:5000"], Some("leave one of them out")),
            (&["[::]:5000", "127.0.0.1:5000"], Some("[::] serves IPv4 as well")),
            (&["127.0.0.1:5000", "[::]:5000"], Some("[::] serves IPv4 as well")),
            (&["[::ffff:127.0.0.1]:5000", "127.0.0.1:5000"], Some("leave one of them out")),
            (&["unix:a", "127.0.0.1:5000", "unix:a"], Some("unix:a twice")),
            (&["127.0.0.1"], Some("write ADDR:PORT")),
        ];
        for (bind, expected) in rows {
            let bind: Vec<String> = bind.iter().map(|&text| text.to_owned()).collect();
            match (places(&bind), expected) {
                (Ok(_), None) => {}
                (Err(fault), Some(part)) => assert!(fault.contains(part), "{bind:?}: {fault}"),
                (result, expected) => panic!("{bind:?}: {result:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn any_address_of_ipv6_serves_ipv4_unless_that_is_bound_too() {
        let dual = |bind: &[&str]| -> Vec<bool> {
            let bind: Vec<String> = bind.iter().map(|&text| text.to_owned()).collect();
            let places = places(&bind).expect("these are addresses");
            places.iter().map(|place| matches!(place, Place::Tcp { is_dual: true, .. })).collect()
        };
        assert_eq!(dual(&["[::]:5000"]), [true]);
        assert_eq!(dual(&["[::]:5000", "0.0.0.0:5001"]), [true, false]);
        assert_eq!(dual(&["[::]:5000", "0.0.0.0:5000"]), [false, false]);
        assert_eq!(dual(&["[::1]:5000", "127.0.0.1:5000"]), [false, false]);
    }
}
