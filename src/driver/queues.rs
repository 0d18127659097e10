//! The queue of an inbox with real threads: what each says comes in its order, and so does what answers another.

#![allow(clippy::disallowed_methods)] // The threads of a test stand for shards'.

use std::thread;

use crate::mesh::queue::{QueueReceiver, Waiting, queue};

fn take<T>(receiver: &QueueReceiver<T>) -> Option<T> {
    receiver.next(&mut Waiting::default())
}

#[test]
fn each_sender_is_heard_in_its_order_by_threads_too() {
    const SENDERS: usize = 3;
    const EACH: usize = 20_000;
    let (sender, receiver) = queue(EACH * SENDERS, 4);
    thread::scope(|scope| {
        for from in 0..SENDERS {
            let sender = &sender;
            scope.spawn(move || (0..EACH).for_each(|number| assert_eq!(sender.send((from, number)), Ok(()))));
        }
        let mut next = [0; SENDERS];
        while next != [EACH; SENDERS] {
            let Some((from, number)) = take(&receiver) else {
                thread::yield_now();
                continue;
            };
            assert_eq!(number, next[from], "sender {from}");
            next[from] += 1;
        }
    });
    assert!(receiver.is_empty() && sender.len() == 0);
}

#[test]
fn what_answers_another_message_comes_after_it() {
    const ROUNDS: usize = 20_000;
    let (sender, receiver) = queue(usize::MAX, 2);
    let (said, heard) = crossbeam_channel::bounded(1);
    thread::scope(|scope| {
        let sender = &sender;
        scope.spawn(move || {
            for round in 0..ROUNDS {
                assert_eq!(sender.send(2 * round), Ok(()));
                said.send(round).expect("the other thread listens");
            }
        });
        scope.spawn(move || {
            for round in heard {
                assert_eq!(sender.send(2 * round + 1), Ok(()));
            }
        });
        let mut came = vec![false; 2 * ROUNDS];
        let mut left = came.len();
        while left > 0 {
            let Some(number) = take(&receiver) else {
                thread::yield_now();
                continue;
            };
            assert!(number % 2 == 0 || came[number - 1], "{number} came before what it answers");
            came[number] = true;
            left -= 1;
        }
    });
}
