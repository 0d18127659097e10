//! What each shard tells the pages, ten times a second: what it has noted, and its sockets to a page that is new.
//!
//! A page empties its lists when it gets `all_sockets`, so only the shard that has the page sends that, and before anything else. The
//! others describe their sockets as `socket_connected`, with the time at which they connected. Each shard begins to note before it
//! describes, so what happens meanwhile is not missed; the page takes what it hears twice once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::protocol::http::described::iso_text;
use crate::protocol::socketio::event::Args;
use crate::server::admin_ui::{Desk, Newcomer, ROOT, Shown};
use crate::shard::user::sleep::interval;
use crate::shard::user::watching::Watcher;
use crate::shard::value::sighting::{EVENTS_PER_SECOND_MAX, LeftOut};

/// From one look to the next.
const BEAT: Duration = Duration::from_millis(100);

/// Sockets that one shard describes to one page at a time: some 50 KB.
const DESCRIBED_AT_ONCE: usize = 50;

/// Sockets of one shard that are described to one page. A browser that is shown more of them stands still.
pub(crate) const SOCKETS_DESCRIBED_MAX: usize = 2000;

/// A page of another process is shown sockets of this one after so many beats: its own has begun by then.
const ELSEWHERE_BEATS: u8 = 10;

/// A page that is being shown a shard's sockets.
struct Walk {
    page: Sid,
    /// The page is on this shard, and has been sent nothing yet.
    is_first: bool,
    /// Beats until it begins.
    waits: u8,
    sockets: VecDeque<Key>,
}

pub(super) async fn run(desk: Arc<Desk>) {
    let mut beats = interval(BEAT);
    let mut walks: VecDeque<Walk> = VecDeque::new();
    loop {
        beats.tick().await;
        let Some(shard) = Watcher::here() else { return };
        let is_watched = desk.is_watched.load(Relaxed);
        shard.switch(&desk.namespace, is_watched);
        if is_watched {
            tell_sighted(&shard, &desk);
        } else {
            walks.clear();
        }
        let asked = desk.asked.get().and_then(|asked| asked.get(shard.shard()));
        while let Some(Newcomer { page, shown }) = asked.and_then(|(_, asked)| asked.try_recv().ok()) {
            // The page's own socket is described too, if it is here. Other shards wait until its shard has begun.
            let is_first = shard.has(&page);
            match shown {
                Shown::Nowhere if !is_first => {}
                Shown::Nowhere | Shown::Here => {
                    walks.push_back(Walk { page, is_first, waits: 0, sockets: shard.sockets() });
                }
                Shown::Elsewhere => {
                    walks.push_back(Walk {
                        page,
                        is_first,
                        waits: ELSEWHERE_BEATS,
                        sockets: VecDeque::new(),
                    });
                }
            }
        }
        walks.retain_mut(|walk| {
            if walk.waits > 0 {
                walk.waits -= 1;
                walk.sockets = if walk.waits == 0 { shard.sockets() } else { VecDeque::new() };
                return true;
            }
            describe(&shard, &desk, walk)
        });
    }
}

fn tell_sighted(shard: &Watcher, desk: &Desk) {
    shard.tell_sighted();
    let left_out = shard.take_left_out();
    if left_out != LeftOut::default() {
        let LeftOut { events, changes } = left_out;
        let words = match changes {
            0 => format!("({events} events were not shown here: more than {EVENTS_PER_SECOND_MAX} a second)"),
            _ => format!("({events} events and {changes} changes were not shown here: reload the page)"),
        };
        tell_words(shard, desk, None, &words);
    }
}

/// Shows a sentence among the events of `/`, to one page or to all.
fn tell_words(shard: &Watcher, desk: &Desk, page: Option<Sid>, words: &str) {
    let pages = match page {
        Some(page) => shard.socket(&desk.namespace, page),
        None => shard.everyone(&desk.namespace),
    };
    let sender = format!("shard {}", shard.shard());
    pages.emit("event_sent", ("/", sender, (words,), iso_text(shard.unix_millis())));
}

/// Whether a described socket is in `/`. What a user chose comes behind the namespace.
fn is_in_root(socket: &str) -> bool {
    socket.split_once(",\"data\":").is_some_and(|(begin, _)| begin.ends_with(&format!("\"nsp\":\"{ROOT}\"")))
}

/// Describes some more. False: that was all.
fn describe(shard: &Watcher, desk: &Desk, walk: &mut Walk) -> bool {
    let left = walk.sockets.len().saturating_sub(SOCKETS_DESCRIBED_MAX);
    if left > 0 {
        walk.sockets.truncate(SOCKETS_DESCRIBED_MAX);
        let words =
            format!("({left} sockets are not shown: more than {SOCKETS_DESCRIBED_MAX} on this shard)");
        tell_words(shard, desk, Some(walk.page), &words);
    }
    let count = walk.sockets.len().min(DESCRIBED_AT_ONCE);
    let described = shard.describe(walk.sockets.drain(..count));
    let page = || shard.socket(&desk.namespace, walk.page);
    if walk.is_first {
        if desk.has_root && !described.iter().any(|(socket, _)| is_in_root(socket)) {
            // A page shows the namespace `/` first only if it knows of it before the sockets, and those here are of others.
            let known = format!("{{\"id\":\"\",\"nsp\":\"{ROOT}\"}}");
            page().emit("socket_updated", Args::of_elements(&known, &[]));
        }
        let all: Vec<&str> = described.iter().map(|(socket, _)| socket.as_str()).collect();
        let args = format!("[{}]", all.join(","));
        page().emit("all_sockets", Args::of_elements(&args, &[]));
        let others = desk.asked.get().into_iter().flatten().enumerate();
        for (_, (asked, _)) in others.filter(|(other, _)| *other != shard.shard()) {
            if asked.try_send(Newcomer { page: walk.page, shown: Shown::Here }).is_err() {
                tell_words(
                    shard,
                    desk,
                    Some(walk.page),
                    "(a shard's sockets are not shown: reload the page)",
                );
            }
        }
    } else {
        for (socket, issued) in &described {
            let args = format!("{socket},\"{}\"", iso_text(*issued));
            page().emit("socket_connected", Args::of_elements(&args, &[]));
        }
    }
    walk.is_first = false;
    !walk.sockets.is_empty()
}
