//! The broker between the processes of a simulation: the exchange in memory, which keeps nothing; or beside it a log of what is said to
//! all and to rooms, which each process reads on from where it was, as it does a stream of Redis or a topic of Kafka.

use rustc_hash::FxHashSet;

use crate::bus::memory::{Exchange, Link};
use crate::bus::{Body, Channel, Delivery, Fault, Post};

#[derive(Default)]
pub(super) struct Broker {
    exchange: Exchange,
    /// Everything that was said to all and to rooms, if it is kept.
    log: Option<Vec<(Channel, Body)>>,
}

/// How far a process has read the log, and what of it it wants.
#[derive(Debug, Default)]
pub(super) struct Reading {
    next: usize,
    wanted: FxHashSet<Channel>,
}

impl Reading {
    /// A new connection begins without subscriptions.
    pub(super) fn wants_nothing(&mut self) {
        self.wanted.clear();
    }
}

impl Broker {
    /// One that keeps what it was given, also while it is away.
    pub(super) fn keeping() -> Broker {
        Broker { log: Some(Vec::new()), ..Broker::default() }
    }

    pub(super) fn keeps(&self) -> bool {
        self.log.is_some()
    }

    /// Where a process begins to read that has just started.
    pub(super) fn at_the_end(&self) -> Reading {
        Reading { next: self.log.as_ref().map_or(0, Vec::len), ..Reading::default() }
    }

    pub(super) fn connect(&mut self) -> Result<Link, Fault> {
        self.exchange.connect()
    }

    pub(super) fn disconnect(&mut self, link: Link) {
        self.exchange.disconnect(link);
    }

    pub(super) fn cut(&mut self, link: Link) {
        self.exchange.cut(link, "the simulation breaks it");
    }

    pub(super) fn stop(&mut self) {
        self.exchange.stop();
    }

    pub(super) fn start(&mut self) {
        self.exchange.start();
    }

    pub(super) fn subscribe(
        &mut self,
        link: Link,
        reading: &mut Reading,
        (add, remove): (&[Channel], &[Channel]),
    ) -> Result<(), Fault> {
        let (kept, others): (Vec<&Channel>, Vec<&Channel>) =
            add.iter().partition(|channel| self.is_kept(channel));
        reading.wanted.extend(kept.into_iter().cloned());
        remove.iter().for_each(|channel| {
            reading.wanted.remove(channel);
        });
        let others: Vec<Channel> = others.into_iter().cloned().collect();
        self.exchange.subscribe(link, &others, remove)
    }

    pub(super) fn publish(&mut self, link: Link, posts: &[Post]) -> Result<(), Fault> {
        for post in posts {
            if !self.is_kept(&post.channel) {
                self.exchange.publish(link, std::slice::from_ref(post))?;
                continue;
            }
            // A connection that is over takes nothing.
            self.exchange.publish(link, &[])?;
            self.log.get_or_insert_default().push((post.channel.clone(), post.body.clone()));
        }
        Ok(())
    }

    /// The next message for a process.
    pub(super) fn take(&mut self, link: Link, reading: &mut Reading) -> Result<Option<Delivery>, Fault> {
        if let Some(delivery) = self.exchange.take(link)? {
            return Ok(Some(delivery));
        }
        let log = self.log.as_deref().unwrap_or_default();
        while let Some((channel, body)) = log.get(reading.next) {
            reading.next += 1;
            if reading.wanted.contains(channel) {
                let offset = Some(reading.next.to_string().into());
                return Ok(Some(Delivery { channel: channel.clone(), body: body.clone(), offset }));
            }
        }
        Ok(None)
    }

    fn is_kept(&self, channel: &Channel) -> bool {
        self.keeps() && matches!(channel, Channel::All | Channel::Slot(_))
    }
}
