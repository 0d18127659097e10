//! What each process tells the pages every two seconds: how many clients and sockets it has, and what has happened in each second.
//!
//! The figures are those that shards count anyway. Bytes are those of the wire, frames and HTTP included, and packets are events from
//! and messages to clients; Node counts the bytes of Engine.IO packets.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;

use crate::server::admin_ui::{Desk, WATCH};
use crate::server::handle::Handle;
use crate::shard::user::sleep::interval;
use crate::shard::user::watching::Watcher;

/// From one look at the counters to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Looks from one telling to the next.
const LOOKS_A_TELLING: u64 = 2;

/// Tellings after which other processes are asked once more to tell.
const TELLINGS_A_WATCH: u64 = 5;

/// Namespaces that are named; the sockets of further ones are summed up in one entry.
pub(crate) const NAMESPACES_SHOWN_MAX: usize = 500;

/// What further namespaces are called together. No namespace has such a name.
const OTHERS: &str = "(others)";

/// What has been counted, since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    opened: u64,
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
    closed: Vec<(&'static str, u64)>,
}

/// What has happened in one second.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Aggregated {
    timestamp: u64,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_type: Option<&'static str>,
    count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceCount<'a> {
    name: &'a str,
    sockets_count: u64,
}

/// The fields and their order are the protocol's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerStats<'a> {
    server_id: &'a str,
    hostname: &'a str,
    pid: u32,
    uptime: f64,
    clients_count: u64,
    polling_clients_count: u64,
    aggregated_events: &'a [Aggregated],
    namespaces: Vec<NamespaceCount<'a>>,
}

/// Tells for as long as the server runs.
pub(super) async fn tell(desk: Arc<Desk>, handle: Handle, mut names: Vec<String>) {
    let mut looks = interval(LOOK);
    let mut before = counted(&handle);
    let mut events: Vec<Aggregated> = Vec::new();
    loop {
        let number = looks.tick().await;
        let elsewhere = desk.elsewhere.load(Relaxed);
        desk.elsewhere.store(elsewhere.saturating_sub(1), Relaxed);
        let Some(second) = Watcher::here().map(|shard| shard.unix_millis() / 1000) else { return };
        let now = counted(&handle);
        if !desk.is_watched.load(Relaxed) {
            (before, events) = (now, Vec::new());
            continue;
        }
        now.append_since(&before, second, &mut events);
        before = now;
        let is_new = desk.is_new.swap(false, Relaxed);
        if !is_new && number % LOOKS_A_TELLING != 1 {
            continue;
        }
        let is_here = tell_once(&desk, &handle, &mut names, &std::mem::take(&mut events)).await;
        if is_here && (number / LOOKS_A_TELLING).is_multiple_of(TELLINGS_A_WATCH) {
            handle.emit_to_servers(&desk.namespace, WATCH, None::<&str>);
        }
        if !is_here && desk.elsewhere.load(Relaxed) == 0 && !desk.is_new.load(Relaxed) {
            desk.is_watched.store(false, Relaxed);
        }
    }
}

/// Tells the pages of all processes; whether this one has any.
async fn tell_once(desk: &Desk, handle: &Handle, names: &mut Vec<String>, events: &[Aggregated]) -> bool {
    let census = match handle.namespace(&desk.namespace).census().await {
        Ok(census) => census,
        Err(error) => {
            tracing::warn!(%error, "Socket.IO's admin page is not told the figures: a shard did not say its own");
            return true;
        }
    };
    let counts: Vec<(&str, u64)> = census
        .iter()
        .filter(|((endpoint, _), _)| endpoint.is_none())
        .map(|((_, name), sockets)| (name.as_str(), *sockets))
        .collect();
    let is_here = counts.iter().any(|(name, sockets)| *name == desk.namespace && *sockets > 0);
    let Some(shard) = Watcher::here() else { return is_here };
    let stats = handle.endpoint_stats();
    let told = ServerStats {
        server_id: &desk.server_id,
        hostname: &desk.host,
        pid: std::process::id(),
        uptime: shard.now().0 as f64 / 1000.0,
        clients_count: stats.iter().map(|shard| shard.sessions).sum(),
        polling_clients_count: stats.iter().map(|shard| shard.sessions_polling).sum(),
        aggregated_events: events,
        namespaces: counts_in_order(names, &counts),
    };
    shard.everyone(&desk.namespace).emit("server_stats", &told);
    is_here
}

/// The sockets of each namespace. A page takes the entries by their places, so they keep the order in which they came first, and one
/// that is gone stays as an empty one.
fn counts_in_order<'a>(names: &'a mut Vec<String>, counts: &[(&str, u64)]) -> Vec<NamespaceCount<'a>> {
    for (name, _) in counts {
        if names.len() < NAMESPACES_SHOWN_MAX && !names.iter().any(|known| known == name) {
            names.push((*name).to_owned());
        }
    }
    let sockets_of =
        |name: &str| counts.iter().find(|(other, _)| *other == name).map_or(0, |(_, sockets)| *sockets);
    let mut shown: Vec<NamespaceCount<'a>> =
        names.iter().map(|name| NamespaceCount { name, sockets_count: sockets_of(name) }).collect();
    let all: u64 = counts.iter().map(|(_, sockets)| sockets).sum();
    let others = all - shown.iter().map(|one| one.sockets_count).sum::<u64>();
    if others > 0 || names.len() >= NAMESPACES_SHOWN_MAX {
        shown.push(NamespaceCount { name: OTHERS, sockets_count: others });
    }
    shown
}

fn counted(handle: &Handle) -> Counted {
    let mut sum = Counted::default();
    let shards = handle.stats();
    sum.bytes_in = shards.iter().map(|shard| shard.bytes_received).sum();
    sum.bytes_out = shards.iter().map(|shard| shard.bytes_sent).sum();
    let Some(shared) = handle.shared() else { return sum };
    let mains = shared.counters.iter().filter_map(|counters| {
        counters.endpoints.get()?.iter().find(|endpoint| *endpoint.path == *handle.main_path())
    });
    for main in mains {
        let stats = main.snapshot();
        sum.opened += stats.sessions_opened;
        sum.packets_in += stats.events_received;
        sum.packets_out += stats.messages_sent;
        for (place, (reason, count)) in main.sessions_closed.each().enumerate() {
            match sum.closed.get_mut(place) {
                Some((_, sum)) => *sum += count,
                None => sum.closed.push((reason, count)),
            }
        }
    }
    sum
}

impl Counted {
    /// Appends what has happened since `before`, in this second.
    fn append_since(&self, before: &Counted, second: u64, events: &mut Vec<Aggregated>) {
        let timestamp = second * 1000;
        let mut add = |r#type, sub_type, now: u64, before: u64| {
            let count = now.saturating_sub(before);
            if count > 0 {
                events.push(Aggregated { timestamp, r#type, sub_type, count });
            }
        };
        add("rawConnection", None, self.opened, before.opened);
        add("packetsIn", None, self.packets_in, before.packets_in);
        add("bytesIn", None, self.bytes_in, before.bytes_in);
        add("packetsOut", None, self.packets_out, before.packets_out);
        add("bytesOut", None, self.bytes_out, before.bytes_out);
        for (place, (reason, count)) in self.closed.iter().enumerate() {
            let counted = before.closed.get(place).map_or(0, |(_, count)| *count);
            add("rawDisconnection", Some(reason), *count, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_the_page_reads_them() {
        let before = Counted { opened: 1, closed: vec![("forced close", 3)], ..Counted::default() };
        let now = Counted {
            opened: 2,
            packets_in: 2,
            bytes_in: 47,
            packets_out: 0,
            bytes_out: 267,
            closed: vec![("forced close", 4)],
        };
        let mut events = Vec::new();
        now.append_since(&before, 1_795_865_787, &mut events);
        let mut names = vec!["/".to_owned(), "/chat".to_owned(), "/admin".to_owned()];
        let stats = ServerStats {
            server_id: "vm",
            hostname: "vm",
            pid: 7514,
            uptime: 53.539,
            clients_count: 2,
            polling_clients_count: 0,
            aggregated_events: &events,
            namespaces: counts_in_order(&mut names, &[("/", 1), ("/admin", 1)]),
        };
        // The fields and their order are those of tests/vectors/socketio/admin-ui.json.
        let expected = concat!(
            r#"{"serverId":"vm","hostname":"vm","pid":7514,"uptime":53.539,"clientsCount":2,"pollingClientsCount":0,"#,
            r#""aggregatedEvents":[{"timestamp":1795865787000,"type":"rawConnection","count":1},"#,
            r#"{"timestamp":1795865787000,"type":"packetsIn","count":2},{"timestamp":1795865787000,"type":"bytesIn","count":47},"#,
            r#"{"timestamp":1795865787000,"type":"bytesOut","count":267},"#,
            r#"{"timestamp":1795865787000,"type":"rawDisconnection","subType":"forced close","count":1}],"#,
            r#""namespaces":[{"name":"/","socketsCount":1},{"name":"/chat","socketsCount":0},{"name":"/admin","socketsCount":1}]}"#,
        );
        assert_eq!(serde_json::to_string(&stats).unwrap(), expected);
    }

    #[test]
    fn namespaces_keep_their_places_and_are_bounded() {
        let mut names = vec!["/".to_owned()];
        let shown = |names: &mut Vec<String>, counts: &[(&str, u64)]| {
            let shown = counts_in_order(names, counts);
            shown.iter().map(|one| format!("{}={}", one.name, one.sockets_count)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&mut names, &[("/a", 1), ("/b", 2)]), ["/=0", "/a=1", "/b=2"]);
        assert_eq!(shown(&mut names, &[("/", 3), ("/0", 7), ("/b", 2)]), ["/=3", "/a=0", "/b=2", "/0=7"]);
        let many: Vec<String> = (0..1000).map(|number| format!("/{number}")).collect();
        let counts: Vec<(&str, u64)> = many.iter().map(|name| (name.as_str(), 1)).collect();
        let all = shown(&mut names, &counts);
        assert_eq!((all.len(), names.len()), (NAMESPACES_SHOWN_MAX + 1, NAMESPACES_SHOWN_MAX));
        assert_eq!(all.last().unwrap(), &format!("{OTHERS}={}", 1000 - (NAMESPACES_SHOWN_MAX - 3)));
        let none = shown(&mut names, &[]);
        assert_eq!(none.last().unwrap(), "(others)=0", "the place of the others stays");
    }
}
