//! Real threads at what shards share (`mesh/holders`, `mesh/interest`, `mesh/published`, `mesh/queue`, `mesh/slots`): what one did before another learns of it, the other
//! sees. Each test does a fixed number of rounds and waits for nothing but the other threads.

#![allow(clippy::disallowed_methods)] // The threads of a test stand for shards'.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crossbeam_channel::bounded;

use crate::base::ids::ShardId;
use crate::base::slab::Key;
use crate::mesh::Mesh;
use crate::mesh::holders::Holders;
use crate::mesh::interest::{Announcement, Audience, Holdings, Interest};
use crate::mesh::published::Published;
use crate::mesh::queue::{Refusal, Waiting, queue};
use crate::mesh::slots::{Interests, ROOM_SLOTS};
use crate::message::address::Address;
use crate::message::target::Target;
use crate::shard::value::outside::{Book, SessionAccount};

const SEED: [u64; 4] = [7, 7, 7, 7];

fn address() -> Address {
    Address::new(None, "/")
}

fn room(number: usize) -> Target {
    Target { rooms: [format!("room {number}").as_str()].into_iter().collect(), ..Target::default() }
}

fn reaches(interest: &Interest, target: &Target, shard: ShardId) -> bool {
    let (address, mut audience) = (address(), Audience::default());
    std::iter::from_fn(|| interest.next(&mut audience, &address, target)).any(|found| found == shard)
}

/// Shards join and leave rooms, most of which share their slots; whoever reads that a shard is in a room finds it by the table, unless
/// it has begun to leave meanwhile.
#[test]
fn a_join_that_others_can_know_of_is_found_by_all_of_them() {
    const SHARDS: usize = 3;
    const ROOMS: usize = 6;
    const ROUNDS: usize = 30_000;
    const ROUNDS_MAX: usize = 1_000 * ROUNDS;
    for slots in [1, 4, 1 << 16] {
        let interest = Interest::new(SHARDS, SEED, slots);
        // Odd while the shard is surely in the room.
        let versions: Vec<AtomicU64> = (0..SHARDS * ROOMS).map(|_| AtomicU64::new(0)).collect();
        let (working, found) = (AtomicUsize::new(SHARDS), AtomicUsize::new(0));
        thread::scope(|scope| {
            for shard in 0..SHARDS {
                let (interest, versions, working, found) = (&interest, &versions, &working, &found);
                scope.spawn(move || {
                    let mut holdings = Holdings::new(ShardId(shard as u16));
                    let mut random = shard as u64 + 1;
                    let mut round = 0;
                    // Until it was looked at, however unevenly the threads are given their time.
                    while round < ROUNDS
                        || (round < ROUNDS_MAX && found.load(Ordering::Relaxed) < ROUNDS / 10)
                    {
                        round += 1;
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let number = (random >> 33) as usize % ROOMS;
                        let slot = interest.slot(&address(), &format!("room {number}"));
                        let version = &versions[shard * ROOMS + number];
                        if version.load(Ordering::Relaxed) % 2 == 0 {
                            holdings.add(interest, slot);
                            version.fetch_add(1, Ordering::Release);
                        } else {
                            version.fetch_add(1, Ordering::Relaxed);
                            holdings.remove(interest, slot);
                        }
                    }
                    working.fetch_sub(1, Ordering::Release);
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    let targets: Vec<Target> = (0..ROOMS).map(room).collect();
                    while working.load(Ordering::Acquire) > 0 {
                        for (place, version) in versions.iter().enumerate() {
                            let before = version.load(Ordering::Acquire);
                            let shard = ShardId((place / ROOMS) as u16);
                            let is_found = reaches(&interest, &targets[place % ROOMS], shard);
                            let is_unchanged = version.load(Ordering::SeqCst) == before;
                            if before % 2 == 1 && is_unchanged {
                                assert!(is_found, "shard {} is in room {}", place / ROOMS, place % ROOMS);
                                found.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
    }
}

/// One shard moves members of another into a room and tells the room something at once, over and over.
#[test]
fn a_room_that_is_announced_reaches_its_shard_at_every_moment() {
    const ROUNDS: usize = 5_000;
    let interest = Interest::new(3, SEED, 1 << 10);
    let (commands, commanded) = bounded::<Arc<Announcement>>(4);
    let (answers, answered) = bounded::<bool>(4);
    let (leaves, leaving) = bounded::<()>(4);
    thread::scope(|scope| {
        // Here, so that the other thread ends if this one fails.
        let (commands, leaves) = (commands, leaves);
        let interest = &interest;
        scope.spawn(move || {
            let mut holdings = Holdings::new(ShardId(2));
            let slot = interest.slot(&address(), "room 0");
            for announcement in commanded {
                holdings.add(interest, slot);
                drop(announcement);
                if answers.send(true).is_err() || leaving.recv().is_err() {
                    return;
                }
                holdings.remove(interest, slot);
                if answers.send(false).is_err() {
                    return;
                }
            }
        });
        let target = room(0);
        for round in 0..ROUNDS {
            assert!(!reaches(interest, &target, ShardId(2)), "round {round}: it has no member");
            assert!(commands.send(interest.announce(&address(), "room 0")).is_ok());
            while answered.is_empty() {
                assert!(reaches(interest, &target, ShardId(2)), "round {round}: the command comes first");
            }
            assert_eq!(answered.recv(), Ok(true));
            assert!(reaches(interest, &target, ShardId(2)), "round {round}: it was carried out");
            assert!(leaves.send(()).is_ok());
            assert_eq!(answered.recv(), Ok(false));
        }
    });
}

/// One shard publishes numbered events; another joins their room and reads which numbers have begun: it is told of all later ones.
#[test]
fn whoever_joins_is_told_of_every_number_that_had_not_begun() {
    const NUMBERS: usize = 300_000;
    let interest = Interest::new(2, SEED, 1 << 10);
    let published = Published::new(2);
    let told: Vec<AtomicBool> = (0..=NUMBERS).map(|_| AtomicBool::new(false)).collect();
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let target = room(0);
            start.wait();
            for (number, told) in told.iter().enumerate().skip(1) {
                published.begin(ShardId(0), number as u64);
                if reaches(&interest, &target, ShardId(1)) {
                    told.store(true, Ordering::Relaxed);
                }
                published.finish(ShardId(0), number as u64);
            }
        });
        let mut holdings = Holdings::new(ShardId(1));
        let slot = interest.slot(&address(), "room 0");
        let mut done = 0;
        start.wait();
        while done < NUMBERS {
            holdings.add(&interest, slot);
            let begun = published.begun()[0] as usize;
            loop {
                done = published.done()[0] as usize;
                if done > begun + 2 || done == NUMBERS {
                    break;
                }
                thread::yield_now();
            }
            for (number, told) in told.iter().enumerate().take(done + 1).skip(begun + 1) {
                assert!(told.load(Ordering::Relaxed), "{number} began after {begun}");
            }
            holdings.remove(&interest, slot);
        }
    });
}

/// Senders fill a queue over and over, and now and then one goes on from what another has sent; the receiver takes all in order.
#[test]
fn a_queue_keeps_the_order_of_each_sender_and_of_who_has_heard_of_whom() {
    const SENDERS: usize = 3;
    const ROUNDS: usize = 60_000;
    for places in [1, 2, 64] {
        let (sender, receiver) = queue(256, places);
        // The last number of each sender that is in the queue for sure.
        let sent: Vec<AtomicUsize> = (0..SENDERS).map(|_| AtomicUsize::new(0)).collect();
        thread::scope(|scope| {
            for own in 0..SENDERS {
                let (sender, sent) = (&sender, &sent);
                scope.spawn(move || {
                    for number in 1..=ROUNDS {
                        let other = (own + 1) % SENDERS;
                        let mut message = (own, number, sent[other].load(Ordering::Acquire));
                        while let Err(refusal) = sender.send(message) {
                            let Refusal::Full(back) = refusal else { return };
                            message = back;
                            thread::yield_now();
                        }
                        sent[own].store(number, Ordering::Release);
                    }
                });
            }
            // Taken into here, so that the senders end if this fails.
            let receiver = receiver;
            let mut last = [0; SENDERS];
            while last != [ROUNDS; SENDERS] {
                let Some((own, number, heard_of)) = receiver.next(&mut Waiting::default()) else {
                    thread::yield_now();
                    continue;
                };
                assert_eq!(number, last[own] + 1, "sender {own}, {places} places");
                let other = (own + 1) % SENDERS;
                assert!(last[other] >= heard_of, "{own} has heard of {heard_of} of {other}, {places} places");
                last[own] = number;
            }
            assert!(receiver.is_empty() && sender.len() == 0);
        });
    }
}

/// A refusal is counted for a moment, so somebody beside it may be refused too early; nobody gets beyond the bound, and nothing is left.
#[test]
fn threads_that_ask_at_once_get_no_more_than_the_bound() {
    const MAX: usize = 500;
    let (holders, address) = (Holders::new(SEED), std::net::IpAddr::from([192, 0, 2, 1]));
    let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let got = (0..400).filter(|_| {
                        let is_in = holders.try_add(address, MAX);
                        if is_in {
                            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        }
                        is_in
                    });
                    for _ in 0..got.count() {
                        held.fetch_sub(1, Ordering::SeqCst);
                        holders.remove(address);
                    }
                }
            });
        }
    });
    assert!((400..=MAX).contains(&most.into_inner()));
    assert!(holders.is_empty());
}

/// The companion looks while shards write: at last it knows of each slot what it is.
#[test]
fn no_change_of_a_slot_is_missed_while_others_are_made() {
    const ROUNDS: u32 = 20_000;
    let interests = Interests::new();
    let mut known = vec![false; ROOM_SLOTS as usize];
    let mut look = || interests.take_changes(|slot, is_held| known[slot as usize] = is_held);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u32)
            .map(|writer| {
                let interests = &interests;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let slot = round.wrapping_mul(writer * 2 + 1) % 700 * 97;
                        interests.add(slot);
                        if round % 3 > 0 {
                            interests.remove(slot);
                        }
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            look();
        }
    });
    look();
    let wrong = (0..ROOM_SLOTS).filter(|slot| known[*slot as usize] != interests.is_held(*slot));
    assert_eq!(wrong.count(), 0);
    assert!(interests.held() > 100);
}

#[test]
fn whoever_waits_for_handlers_outside_is_told() {
    const SESSION: Key = Key { index: 3, generation: 1 };
    let (mesh, receivers) = Mesh::new(vec![Box::new(Silent)]);
    let book = Arc::new(Book::new(mesh, ShardId(0)));
    book.bound(10, 20);
    let account = &SessionAccount::new(&book, SESSION);
    let (give, take) = std::sync::mpsc::channel::<usize>();
    let is_told = || std::iter::from_fn(|| receivers[0].next_message()).count() > 0;
    thread::scope(|scope| {
        scope.spawn(move || take.into_iter().for_each(|bytes| account.take_back(bytes)));
        for round in 0..20_000 {
            let bytes = 1 + round % 7;
            let mut waits = account.lend(bytes);
            give.send(bytes).expect("the thread takes them");
            while waits {
                // As the shard: asleep until it is told, and then it looks.
                while !is_told() {
                    thread::yield_now();
                }
                waits = !account.may_go_on();
            }
        }
        drop(give);
    });
    assert_eq!(book.now(), (0, 0));
}

/// The bell of a shard that looks by itself.
struct Silent;

impl crate::mesh::Bell for Silent {
    fn ring(&self) {}
}
