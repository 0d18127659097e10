//! One suite for every broker: what the rest of the bus relies on, each rule as a function over a [`Venue`].
//!
//! A test of an adapter starts a real broker (`process`), and runs every rule on it: with `contract!` each as a test with a broker of
//! its own, or with [`whole`] one after the other on one broker that takes long to start. Each rule has channels of its own.
//! What one broker alone has, as Node's streams on Redis, is tested beside its client.

#![allow(clippy::disallowed_methods, reason = "a test with real brokers waits in real time")]

#[allow(dead_code, reason = "brokers with TLS are what tests of whole programs start")]
#[path = "../../tests/process/broker.rs"]
pub(crate) mod process;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{Body, Broker, Channel, Delivery, Fault, Post, Receiver, Sender};
use crate::base::ids::NodeTag;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that is lost, and one that cannot be made, are known within this.
const FAULT_PATIENCE: Duration = Duration::from_secs(15);

/// A broker that the suite runs against.
pub(crate) trait Venue {
    type Client: Broker;

    /// A client as another process would have it, whose own channels are named after `channel`.
    fn client(&self, channel: &str) -> Self::Client;

    /// One of an address where nobody listens. None where there are no addresses.
    fn client_of_nobody(&self) -> Option<Self::Client>;

    /// One with this password, which is wrong. None where there are no passwords.
    fn client_with(&self, password: &str) -> Option<Self::Client>;

    /// Ends the broker without a warning.
    fn kill(&mut self);

    /// Starts it again, where it was.
    fn restart(&mut self);

    /// Channels for bytes: three at least, and one of each kind that the broker has.
    fn channels(&self) -> Vec<Channel> {
        vec![
            Channel::All,
            Channel::Node(NodeTag([1, 2, 3])),
            Channel::Slot(0),
            Channel::Slot(255),
            Channel::Python,
        ]
    }

    /// Whether one sender's messages keep their order across these channels, and not in each of them only.
    fn is_ordered_across(&self) -> bool {
        true
    }
}

/// Runs one rule to its end, as the companion thread would: with one thread for everything.
pub(crate) fn run(rule: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(PATIENCE * 4, rule).await.expect("the rule does not hang") });
}

/// Makes a test of each rule, with a broker of its own each: `contract!(RedisVenue::start())`.
#[allow(unused_macros, reason = "without brokers there are no tests of them")]
macro_rules! contract {
    ($start:expr) => {
        $crate::bus::contract::contract! { @ $start;
            what_is_said_on_a_channel_is_heard_there_and_nowhere_else
            a_channel_that_is_left_is_quiet_and_one_that_is_joined_is_heard
            messages_of_one_sender_keep_their_order
            thousands_of_subscriptions_come_and_go
            any_bytes_arrive_as_they_were_up_to_a_megabyte
            everyone_who_listens_hears_a_message_once
            a_wait_may_be_given_up_and_begun_again
            a_broken_connection_is_a_fault_on_both_halves
            a_broker_that_is_away_is_a_fault_in_time
            a_wrong_password_is_a_lasting_fault_that_does_not_show_it
            a_new_connection_has_no_subscriptions
            what_was_said_meanwhile_is_heard_where_messages_are_kept
        }
    };
    (@ $start:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                let mut venue = $start;
                $crate::bus::contract::run($crate::bus::contract::$rule(&mut venue));
            }
        )*
        #[test]
        fn no_rule_is_left_out() {
            assert_eq!([$(stringify!($rule)),*].len(), $crate::bus::contract::RULES);
        }
    };
}
#[allow(unused_imports, reason = "without brokers there are no tests of them")]
pub(crate) use contract;

/// How many rules there are; `contract!` and [`whole`] have all of them.
pub(crate) const RULES: usize = 12;

/// Every rule, one after the other.
pub(crate) fn whole(venue: &mut impl Venue) {
    run(what_is_said_on_a_channel_is_heard_there_and_nowhere_else(venue));
    run(a_channel_that_is_left_is_quiet_and_one_that_is_joined_is_heard(venue));
    run(messages_of_one_sender_keep_their_order(venue));
    run(thousands_of_subscriptions_come_and_go(venue));
    run(any_bytes_arrive_as_they_were_up_to_a_megabyte(venue));
    run(everyone_who_listens_hears_a_message_once(venue));
    run(a_wait_may_be_given_up_and_begun_again(venue));
    run(a_broken_connection_is_a_fault_on_both_halves(venue));
    run(a_broker_that_is_away_is_a_fault_in_time(venue));
    run(a_wrong_password_is_a_lasting_fault_that_does_not_show_it(venue));
    run(a_new_connection_has_no_subscriptions(venue));
    run(what_was_said_meanwhile_is_heard_where_messages_are_kept(venue));
}

// ---------------------------------------------------------------- What the rules are written with

/// A message for a channel.
pub(crate) fn post(channel: &Channel, body: impl Into<Vec<u8>>) -> Post {
    let body = Body::Bytes(Bytes::from(body.into()));
    Post { channel: channel.clone(), body, may_repeat: false }
}

/// Bounds a wait that may hang, and says for what.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let Ok(done) = timeout(PATIENCE, wait).await else { panic!("{what}: not within {PATIENCE:?}") };
    done
}

/// A client's connection.
pub(crate) struct Ends<B: Broker> {
    pub(crate) sender: B::Sender,
    pub(crate) receiver: B::Receiver,
}

impl<B: Broker> Ends<B> {
    pub(crate) async fn of(client: &mut B) -> Ends<B> {
        // As the companion does: a broker that has just started, on a busy machine, may say that it is not there yet.
        let connect = async {
            loop {
                match client.connect().await {
                    Ok(ends) => return ends,
                    Err(fault) if fault.is_lasting => panic!("connect: {}", fault.text),
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let (sender, receiver) = within("connect", connect).await;
        Ends { sender, receiver }
    }

    pub(crate) async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) {
        let done = within("subscribe", self.sender.subscribe(add, remove)).await;
        done.unwrap_or_else(|fault| panic!("subscribe: {}", fault.text));
    }

    pub(crate) async fn publish(&mut self, posts: &[Post]) {
        let done = within("publish", self.sender.publish(posts)).await;
        done.unwrap_or_else(|fault| panic!("publish: {}", fault.text));
    }

    async fn send_ahead(&mut self, posts: &[Post]) {
        let done = within("send ahead", self.sender.send_ahead(posts)).await;
        done.unwrap_or_else(|fault| panic!("send ahead: {}", fault.text));
    }

    pub(crate) async fn say(&mut self, channel: &Channel, text: &str) {
        self.publish(&[post(channel, text)]).await;
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        let next = within("a message", self.receiver.next()).await;
        next.unwrap_or_else(|fault| panic!("a message: {}", fault.text))
    }

    /// What comes next must be this, from here.
    pub(crate) async fn hears(&mut self, channel: &Channel, text: &str) {
        let delivery = self.next().await;
        assert_eq!((&delivery.channel, shown(&delivery)), (channel, text.to_owned()));
    }

    /// What comes next must be these, in any order.
    async fn hears_all(&mut self, expected: &[(Channel, String)]) {
        let mut missing = expected.to_vec();
        while !missing.is_empty() {
            let delivery = self.next().await;
            let heard = (delivery.channel.clone(), shown(&delivery));
            let Some(at) = missing.iter().position(|entry| *entry == heard) else {
                panic!("{heard:?} was not expected; missing are {missing:?}")
            };
            missing.swap_remove(at);
        }
    }

    /// Waits until the connection is known to be lost.
    pub(crate) async fn faults(&mut self) {
        let receiver = timeout(FAULT_PATIENCE, async {
            // What had come before is still delivered.
            loop {
                if let Err(fault) = self.receiver.next().await {
                    return fault;
                }
            }
        });
        let fault = receiver.await.expect("the receiver learns that the connection is lost");
        assert!(!fault.text.is_empty() && !fault.is_lasting, "{fault:?}");
        let sender = timeout(FAULT_PATIENCE, async {
            loop {
                if let Err(fault) = self.sender.publish(&[post(&Channel::All, "anyone?")]).await {
                    return fault;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let fault = sender.await.expect("the sender learns that the connection is lost");
        assert!(!fault.text.is_empty() && !fault.is_lasting, "{fault:?}");
        let ahead = timeout(FAULT_PATIENCE, self.sender.send_ahead(&[post(&Channel::All, "anyone?")])).await;
        assert!(ahead.is_ok_and(|sent| sent.is_err()), "nor is anything sent ahead");
    }
}

fn shown(delivery: &Delivery) -> String {
    match &delivery.body {
        Body::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Body::Fields(fields) => format!("{fields:?}"),
    }
}

/// The fault with which a client cannot connect.
async fn refusal<B: Broker>(client: &mut B) -> Fault {
    let refused = timeout(FAULT_PATIENCE, client.connect()).await.expect("the client gives up in time");
    let Err(fault) = refused else { panic!("it connects") };
    assert!(!fault.text.is_empty());
    fault
}

// ---------------------------------------------------------------- Rules

/// Each channel reaches who subscribed to it, says so, and is not heard by somebody with the others, nor on another configured channel.
pub(crate) async fn what_is_said_on_a_channel_is_heard_there_and_nowhere_else<V: Venue>(venue: &mut V) {
    let channels = venue.channels();
    let (one, other) = channels.split_first().expect("there are channels");
    let mut first = Ends::of(&mut venue.client("apart")).await;
    let mut rest = Ends::of(&mut venue.client("apart")).await;
    let mut elsewhere = Ends::of(&mut venue.client("elsewhere")).await;
    first.subscribe(std::slice::from_ref(one), &[]).await;
    rest.subscribe(other, &[]).await;
    elsewhere.subscribe(&ours(&channels), &[]).await;
    let mut speaker = Ends::of(&mut venue.client("apart")).await;
    let said = |channel: &Channel| (channel.clone(), format!("for {channel:?}"));
    let posts: Vec<Post> = channels.iter().map(|channel| post(channel, said(channel).1)).collect();
    speaker.publish(&posts).await;
    first.hears_all(&[said(one)]).await;
    rest.hears_all(&other.iter().map(said).collect::<Vec<_>>()).await;
    // Whatever was wrongly on its way comes before what is said now.
    speaker.say(one, "the end").await;
    first.hears(one, "the end").await;
    for channel in other {
        speaker.say(channel, "the end").await;
        rest.hears(channel, "the end").await;
    }
    for channel in ours(&channels) {
        elsewhere.say(&channel, "the end").await;
        elsewhere.hears(&channel, "the end").await;
    }
}

/// Those whose names are made of the configured channel.
fn ours(channels: &[Channel]) -> Vec<Channel> {
    let is_ours = |channel: &&Channel| {
        matches!(channel, Channel::All | Channel::Node(_) | Channel::Slot(_) | Channel::Python)
    };
    channels.iter().filter(is_ours).cloned().collect()
}

pub(crate) async fn a_channel_that_is_left_is_quiet_and_one_that_is_joined_is_heard<V: Venue>(venue: &mut V) {
    let channels = venue.channels();
    let mut listener = Ends::of(&mut venue.client("left")).await;
    let mut speaker = Ends::of(&mut venue.client("left")).await;
    listener.subscribe(&channels[..1], &[]).await;
    for pair in channels.windows(2) {
        let [old, new] = pair else { unreachable!("a window of two") };
        speaker.say(old, "to who is still there").await;
        listener.hears(old, "to who is still there").await;
        listener.subscribe(std::slice::from_ref(new), std::slice::from_ref(old)).await;
        speaker.say(old, "to who has left").await;
        speaker.say(new, "to who has come").await;
        listener.hears(new, "to who has come").await;
    }
    // To leave what was never joined, and to join what is joined, changes nothing.
    let last = channels.last().expect("there are channels");
    listener.subscribe(std::slice::from_ref(last), &channels[..1]).await;
    speaker.say(last, "once").await;
    listener.hears(last, "once").await;
    speaker.say(last, "twice").await;
    listener.hears(last, "twice").await;
}

/// In batches and one by one, on one channel and across several.
pub(crate) async fn messages_of_one_sender_keep_their_order<V: Venue>(venue: &mut V) {
    for is_ahead in [false, true] {
        one_senders_messages_keep_their_order(venue, is_ahead).await;
    }
}

async fn one_senders_messages_keep_their_order<V: Venue>(venue: &mut V, is_ahead: bool) {
    const MESSAGES: usize = 600;
    let channels = venue.channels();
    let mut listener = Ends::of(&mut venue.client("order")).await;
    let mut speaker = Ends::of(&mut venue.client("order")).await;
    listener.subscribe(&channels, &[]).await;
    let posts: Vec<Post> =
        (0..MESSAGES).map(|index| post(&channels[index % channels.len()], index.to_string())).collect();
    let (batched, single) = posts.split_at(MESSAGES - 20);
    for batch in batched.chunks(64).chain(single.chunks(1)) {
        match is_ahead {
            true => speaker.send_ahead(batch).await,
            false => speaker.publish(batch).await,
        }
    }
    let mut heard: Vec<(Channel, usize)> = Vec::new();
    while heard.len() < MESSAGES {
        let delivery = listener.next().await;
        heard.push((delivery.channel.clone(), shown(&delivery).parse().expect("a number")));
    }
    for channel in &channels {
        let numbers: Vec<usize> =
            heard.iter().filter(|(at, _)| at == channel).map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted(), "{channel:?}: {numbers:?}");
    }
    if venue.is_ordered_across() {
        assert!(heard.iter().map(|(_, number)| number).is_sorted(), "across channels: {heard:?}");
    }
    let confirmed = async {
        while speaker.sender.unconfirmed().expect("the connection is there") > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    within("the broker's word on all", confirmed).await;
}

pub(crate) async fn thousands_of_subscriptions_come_and_go<V: Venue>(venue: &mut V) {
    let mut client = venue.client("many");
    let slots = client.slots();
    let step = (slots / 3_000).max(1) as usize;
    let all: Vec<Channel> = (0..slots).step_by(step).map(Channel::Slot).collect();
    let (left, kept) = all.split_at(all.len() - 5);
    let mut listener = Ends::of(&mut client).await;
    let mut speaker = Ends::of(&mut venue.client("many")).await;
    listener.subscribe(&all, &[]).await;
    for channel in [&left[0], &left[left.len() / 2], &kept[0], &kept[4]] {
        speaker.say(channel, "heard").await;
        listener.hears(channel, "heard").await;
    }
    listener.subscribe(&[], left).await;
    speaker.say(&left[0], "not heard").await;
    speaker.say(&left[left.len() - 1], "not heard").await;
    for channel in kept {
        speaker.say(channel, "kept").await;
        listener.hears(channel, "kept").await;
    }
}

pub(crate) async fn any_bytes_arrive_as_they_were_up_to_a_megabyte<V: Venue>(venue: &mut V) {
    let channels = venue.channels();
    let mut ends = Ends::of(&mut venue.client("bytes")).await;
    ends.subscribe(&channels, &[]).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    // Nothing at all is left out: no format of ours has it. A little less than a mebibyte is what some brokers take at most.
    let megabyte: Vec<u8> = every_byte.iter().copied().cycle().take(1_000_000).collect();
    for body in [b"\r\n".to_vec(), vec![0], every_byte, megabyte] {
        for channel in &channels {
            ends.publish(&[post(channel, body.clone())]).await;
            let delivery = ends.next().await;
            assert_eq!(delivery.channel, *channel);
            // Not by assert_eq, which would write a megabyte.
            assert!(
                delivery.body == Body::Bytes(Bytes::from(body.clone())),
                "{} bytes on {channel:?}",
                body.len()
            );
        }
    }
    ends.publish(&[]).await;
}

/// The sender among them, and each of several senders.
pub(crate) async fn everyone_who_listens_hears_a_message_once<V: Venue>(venue: &mut V) {
    let channels = venue.channels();
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut ends = Ends::of(&mut venue.client("everyone")).await;
        ends.subscribe(&channels, &[]).await;
        all.push(ends);
    }
    for speaker in 0..all.len() {
        for channel in &channels {
            let text = format!("of {speaker}");
            all[speaker].say(channel, &text).await;
            for ends in &mut all {
                ends.hears(channel, &text).await;
            }
        }
    }
}

/// The companion thread waits for a message and for other things at once, and drops the wait when something else comes.
pub(crate) async fn a_wait_may_be_given_up_and_begun_again<V: Venue>(venue: &mut V) {
    const MESSAGES: usize = 300;
    let mut listener = Ends::of(&mut venue.client("waits")).await;
    let mut speaker = Ends::of(&mut venue.client("waits")).await;
    listener.subscribe(&[Channel::All], &[]).await;
    let mut heard = Vec::new();
    let (mut given_up, mut said) = (0, 0);
    while heard.len() < MESSAGES {
        let next = tokio::select! {
            biased;
            next = listener.receiver.next() => Some(next),
            () = std::future::ready(()) => None,
        };
        if let Some(delivery) = next {
            heard.push(shown(&delivery.expect("the connection holds")));
            continue;
        }
        given_up += 1;
        assert!(given_up < 30_000, "{} of {MESSAGES} messages came", heard.len());
        if said <= heard.len() {
            let posts: Vec<Post> =
                (said..said + 3).map(|index| post(&Channel::All, index.to_string())).collect();
            speaker.publish(&posts).await;
            said += 3;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let expected: Vec<String> = (0..MESSAGES).map(|index| index.to_string()).collect();
    assert_eq!(heard, expected);
    assert!(given_up > 0, "no wait was given up");
}

/// And the broker's return is found by connecting anew.
pub(crate) async fn a_broken_connection_is_a_fault_on_both_halves<V: Venue>(venue: &mut V) {
    let mut client = venue.client("broken");
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&[Channel::All], &[]).await;
    ends.say(&Channel::All, "before").await;
    ends.hears(&Channel::All, "before").await;
    venue.kill();
    ends.faults().await;
    let fault = refusal(&mut client).await;
    assert!(!fault.is_lasting, "{fault:?}");
    venue.restart();
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&[Channel::All], &[]).await;
    ends.say(&Channel::All, "after").await;
    ends.hears(&Channel::All, "after").await;
}

pub(crate) async fn a_broker_that_is_away_is_a_fault_in_time<V: Venue>(venue: &mut V) {
    let Some(mut client) = venue.client_of_nobody() else { return };
    let fault = refusal(&mut client).await;
    assert!(!fault.is_lasting, "{fault:?}");
}

pub(crate) async fn a_wrong_password_is_a_lasting_fault_that_does_not_show_it<V: Venue>(venue: &mut V) {
    let Some(mut client) = venue.client_with("s3cret-and-wrong") else { return };
    let fault = refusal(&mut client).await;
    assert!(fault.is_lasting, "{fault:?}");
    assert!(!format!("{fault:?}").contains("s3cret"), "{fault:?}");
}

pub(crate) async fn a_new_connection_has_no_subscriptions<V: Venue>(venue: &mut V) {
    let mut client = venue.client("anew");
    let mut speaker = Ends::of(&mut venue.client("anew")).await;
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&[Channel::All, Channel::Slot(1)], &[]).await;
    drop(ends);
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&[Channel::Slot(2)], &[]).await;
    speaker
        .publish(&[post(&Channel::All, "a"), post(&Channel::Slot(1), "b"), post(&Channel::Slot(2), "c")])
        .await;
    ends.hears(&Channel::Slot(2), "c").await;
}

/// Nothing is lost and nothing comes twice, from the first connection on, and over a restart of the broker. Where nothing is kept,
/// what is said after the return is heard, and nothing else.
pub(crate) async fn what_was_said_meanwhile_is_heard_where_messages_are_kept<V: Venue>(venue: &mut V) {
    let channels = [Channel::All, Channel::Slot(7)];
    let mut client = venue.client("kept");
    let mut speaker = Ends::of(&mut venue.client("kept")).await;
    speaker.say(&Channel::All, "before anyone came").await;
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&channels, &[]).await;
    speaker.say(&Channel::All, "one").await;
    ends.hears(&Channel::All, "one").await;
    drop(ends);
    speaker.say(&Channel::All, "two").await;
    speaker.say(&Channel::Slot(7), "three").await;
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&channels, &[]).await;
    if client.keeps_messages() {
        let missed = [(Channel::All, "two".to_owned()), (Channel::Slot(7), "three".to_owned())];
        ends.hears_all(&missed).await;
    }
    speaker.say(&Channel::All, "four").await;
    ends.hears(&Channel::All, "four").await;
    // A connection that fails before it has read anything does not move on either.
    drop(ends);
    speaker.say(&Channel::All, "five").await;
    drop(Ends::of(&mut client).await);
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&channels, &[]).await;
    if client.keeps_messages() {
        ends.hears(&Channel::All, "five").await;
    }
    venue.kill();
    ends.faults().await;
    venue.restart();
    let mut speaker = Ends::of(&mut venue.client("kept")).await;
    let mut ends = Ends::of(&mut client).await;
    ends.subscribe(&channels, &[]).await;
    speaker.say(&Channel::Slot(7), "six").await;
    ends.hears(&Channel::Slot(7), "six").await;
    speaker.say(&Channel::All, "seven").await;
    ends.hears(&Channel::All, "seven").await;
}
