//! Listening sockets: one for each address and shard, sharing the port by SO_REUSEPORT.
//!
//! The port is shared within the process only. The first socket of an address binds without SO_REUSEPORT, and so fails where
//! any other socket listens, and is given it once it listens itself: another process that does the same later, or at the
//! same moment, fails. With `bind_shared` it joins whatever process is there, for a hand-over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
};

use crate::config::{Config, Tls};
use crate::driver::handover::Estate;
use crate::driver::inherit::{Inherited, prepare_listener};
use crate::message::peer::Door;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How long a server waits for another one that is just binding in the same folder.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);

/// Who may connect to the operators' Unix socket: the owner and the group.
const ADMIN_SOCKET_MODE: u32 = 0o660;

/// From one look at a folder's lock to the next.
const FOLDER_PAUSE: Duration = Duration::from_millis(10);

/// Every listener of a process, by shard.
#[derive(Debug)]
pub(crate) struct Listeners {
    by_shard: Vec<Vec<Listener>>,
    /// Unix sockets and the operators' listener, which all shards share.
    shared: Vec<OwnedFd>,
    addresses: Vec<String>,
    admin_address: Option<String>,
    estate: Vec<(OwnedFd, Door)>,
    is_lent: bool,
}

/// One shard's part of what the process listens on.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) descriptor: OwnedFd,
    pub(crate) door: Door,
    /// Other shards serve it, too: none of them may close it.
    pub(crate) is_shared: bool,
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
        let mut listeners = Listeners::none(shards);
        let (places, admin) = places_with_admin(config)?;
        for place in places {
            match place {
                Place::Unix(path) => {
                    listeners.bind_unix((path, Door::Public), config)?;
                    listeners.addresses.push(format!("unix:{path}"));
                }
                Place::Tcp { text, address, is_dual } => {
                    listeners.bind_tcp(text, (address, is_dual), config)?;
                }
            }
        }
        listeners.bind_operators(admin, config)?;
        Ok(listeners)
    }

    fn bind_operators(&mut self, admin: Option<Place<'_>>, config: &Config) -> Result<(), String> {
        match admin {
            Some(Place::Unix(path)) => {
                self.bind_unix((path, Door::Admin), config)?;
                self.admin_address = Some(format!("unix:{path}"));
            }
            Some(Place::Tcp { text, address, is_dual }) => {
                self.bind_admin(text, (address, is_dual), config)?;
            }
            None => {}
        }
        Ok(())
    }

    fn none(shards: usize) -> Listeners {
        Listeners {
            by_shard: (0..shards).map(|_| Vec::new()).collect(),
            shared: Vec::new(),
            addresses: Vec::new(),
            admin_address: None,
            estate: Vec::new(),
            is_lent: false,
        }
    }

    /// Spreads listeners that another process has opened over the shards. The kernel gives each descriptor of an address its part of
    /// the connections, so each is served; where there are fewer than shards, some serve one together.
    pub(crate) fn adopt(inherited: Inherited, config: &Config, shards: usize) -> Result<Listeners, String> {
        let fault =
            |error: &dyn std::fmt::Display| format!("a listener that another process has opened: {error}");
        let mut listeners = Listeners { is_lent: inherited.is_lent, ..Listeners::none(shards) };
        let mut by_address: Vec<(String, Door, Vec<OwnedFd>)> = Vec::new();
        for (descriptor, door) in inherited.listeners {
            let address = shown_address(&descriptor, scheme(config, door)).map_err(|error| fault(&error))?;
            match by_address.iter_mut().find(|(other, of, _)| *other == address && *of == door) {
                Some((_, _, descriptors)) => descriptors.push(descriptor),
                None => by_address.push((address, door, vec![descriptor])),
            }
        }
        for (address, door, descriptors) in by_address {
            match door {
                Door::Public => listeners.addresses.push(address),
                Door::Admin => {
                    check_operators(&address, config)?;
                    listeners.admin_address = Some(address);
                }
            }
            // One that several shards serve is closed for all of them at once.
            let is_shared = descriptors.len() < shards;
            for place in 0..descriptors.len().max(shards) {
                let descriptor =
                    descriptors[place % descriptors.len()].try_clone().map_err(|error| fault(&error))?;
                listeners.by_shard[place % shards].push(Listener { descriptor, door, is_shared });
            }
            if is_shared {
                for descriptor in &descriptors {
                    listeners.shared.push(descriptor.try_clone().map_err(|error| fault(&error))?);
                }
            }
            listeners.estate.extend(descriptors.into_iter().map(|descriptor| (descriptor, door)));
        }
        Ok(listeners)
    }

    /// Serves listeners that the program has opened itself, and `admin_bind` as the configuration says.
    pub(crate) fn serve_given(
        given: Vec<OwnedFd>,
        config: &Config,
        shards: usize,
    ) -> Result<Listeners, String> {
        for (index, listener) in given.iter().enumerate() {
            prepare_listener(listener, || "it needs listen(2), or TcpListener::bind, before")
                .map_err(|fault| format!("listen_on: socket {index}{fault}"))?;
        }
        let listeners = given.into_iter().map(|listener| (listener, Door::Public)).collect();
        let mut listeners = Listeners::adopt(Inherited::lent(listeners), config, shards)?;
        let (_, admin) = places_with_admin(config)?;
        listeners.bind_operators(admin, config)?;
        Ok(listeners)
    }

    /// What the next process would be given.
    pub(crate) fn take_estate(&mut self) -> Estate {
        Estate { listeners: std::mem::take(&mut self.estate), is_lent: self.is_lent }
    }

    /// Where operators are served, if that was asked for.
    pub(crate) fn admin_address(&self) -> Option<String> {
        self.admin_address.clone()
    }

    /// Where the process listens.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// The listeners of one shard.
    pub(crate) fn take(&mut self, shard: usize) -> Vec<Listener> {
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
            let socket = open_tcp((address, is_dual), is_shared, config.backlog).map_err(fault)?;
            is_shared = true;
            if address.port() == 0 {
                // The kernel chose a port; the other shards share it.
                address = bound_address(&socket).map_err(fault)?;
            }
            self.estate.push((socket.try_clone().map_err(|error| format!("{text}: {error}"))?, Door::Public));
            shard.push(Listener { descriptor: socket, door: Door::Public, is_shared: false });
        }
        self.addresses.push(format!("{}://{address}", scheme(config, Door::Public)));
        Ok(())
    }

    /// Operators have one queue, which the shards share: while one of them is stuck, another answers.
    fn bind_admin(
        &mut self,
        text: &str,
        (address, is_dual): (SocketAddr, bool),
        config: &Config,
    ) -> Result<(), String> {
        check_operators(&format!("http://{address}"), config)?;
        let fault = |error: Errno| format!("admin_bind: {}", describe(text, error));
        let socket = open_tcp((address, is_dual), config.bind_shared, config.backlog).map_err(fault)?;
        let address = bound_address(&socket).map_err(fault)?;
        self.share(socket, Door::Admin, text)?;
        self.admin_address = Some(format!("{}://{address}", scheme(config, Door::Admin)));
        Ok(())
    }

    /// Gives every shard the same queue.
    fn share(&mut self, socket: OwnedFd, door: Door, name: &str) -> Result<(), String> {
        for shard in &mut self.by_shard {
            let descriptor = socket.try_clone().map_err(|error| format!("{name}: {error}"))?;
            shard.push(Listener { descriptor, door, is_shared: true });
        }
        self.estate.push((socket.try_clone().map_err(|error| format!("{name}: {error}"))?, door));
        self.shared.push(socket);
        Ok(())
    }

    /// A Unix socket has one queue, which the shards share.
    fn bind_unix(&mut self, (path, door): (&str, Door), config: &Config) -> Result<(), String> {
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
        if door == Door::Admin {
            // Who may write to the file may ask: its owner and its group. Before it listens, so that it was never open to all.
            std::fs::set_permissions(name, std::fs::Permissions::from_mode(ADMIN_SOCKET_MODE))
                .map_err(|error| format!("unix:{path}: cannot set who may use it: {error}"))?;
        }
        listen(&socket, config.backlog).map_err(fault)?;
        if is_taken {
            std::fs::rename(name, path).map_err(|error| format!("unix:{path}: {error}"))?;
        }
        self.share(socket, door, path)
    }
}

/// Operators whom others than this machine can reach have to say who they are.
fn check_operators(address: &str, config: &Config) -> Result<(), String> {
    if !is_reachable(address) || config.has_admin_credentials() {
        return Ok(());
    }
    Err(format!(
        "admin_bind: operators are served at {address}, which others than this machine can reach, so it needs credentials: set \
         admin_token, or admin_user and admin_password, or listen at 127.0.0.1 or unix:PATH"
    ))
}

/// Whether others than this machine can reach where a server listens, as it is shown.
pub(crate) fn is_reachable(address: &str) -> bool {
    let place = address.split_once("://").map_or(address, |(_, place)| place);
    place.parse().is_ok_and(|address: SocketAddr| !address.ip().to_canonical().is_loopback())
}

/// What an address begins with.
fn scheme(config: &Config, door: Door) -> &'static str {
    let is_tls = match door {
        Door::Public => !config.tls_cert.is_empty() && config.tls == Tls::Only,
        Door::Admin => config.admin_tls,
    };
    if is_tls { "https" } else { "http" }
}

/// A socket that listens. Where no other one may be bound yet, others may join once it listens, for the address is ours then: the
/// other shards, and a hand-over.
fn open_tcp((address, is_dual): (SocketAddr, bool), is_shared: bool, backlog: i32) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    // What a server before this one left behind (TIME_WAIT) is not in the way; one that listens is.
    set_socket_reuseaddr(&socket, true)?;
    set_socket_reuseport(&socket, is_shared)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, !is_dual)?;
    }
    // Accepted connections inherit it: small messages must not wait for a peer's delayed acknowledgement.
    set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    set_socket_reuseport(&socket, true)?;
    Ok(socket)
}

/// An address as the log shows it.
fn shown_address(socket: &OwnedFd, scheme: &str) -> Result<String, Errno> {
    let address = getsockname(socket)?;
    if let Ok(path) = SocketAddrUnix::try_from(address.clone()) {
        let path = path.path_bytes().map(|path| String::from_utf8_lossy(path).into_owned());
        return Ok(format!("unix:{}", path.unwrap_or_default()));
    }
    let _ = set_tcp_nodelay(socket, true);
    Ok(format!("{scheme}://{}", SocketAddr::try_from(address)?))
}

fn bound_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(getsockname(socket)?)
}

/// What `bind` names, and what `admin_bind` does.
fn places_with_admin(config: &Config) -> Result<(Vec<Place<'_>>, Option<Place<'_>>), String> {
    let public = places(&config.bind)?;
    if config.admin_bind.is_empty() {
        return Ok((public, None));
    }
    let admin =
        places(std::slice::from_ref(&config.admin_bind)).map_err(|fault| format!("admin_{fault}"))?.pop();
    if let Some(admin) = admin
        && public.iter().any(|place| overlap(place, &admin))
    {
        return Err(format!(
            "admin_bind = {:?} is an address of bind: clients and operators need addresses of their own",
            config.admin_bind
        ));
    }
    Ok((public, admin))
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
    fn operators_are_served_without_credentials_on_this_machine_only() {
        let (open, closed) =
            (Config::default(), Config { admin_token: "a-token-of-operators".into(), ..Config::default() });
        let rows = [
            ("http://127.0.0.1:9090", false),
            ("https://[::1]:9090", false),
            ("http://[::ffff:127.0.0.1]:9090", false),
            ("unix:/run/shardcast/admin", false),
            ("http://0.0.0.0:9090", true),
            ("https://192.0.2.1:9090", true),
            ("http://[::]:9090", true),
            ("http://[fe80::1%3]:9090", true),
        ];
        for (address, needs) in rows {
            assert_eq!(check_operators(address, &open).is_err(), needs, "{address}");
            assert_eq!(check_operators(address, &closed), Ok(()), "{address}");
        }
    }

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
