//! The client of the broker behind a Unix socket: one connection at a time, which a task reads, so that the broker is never kept waiting.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::{Ask, SLOTS, Told, UNIX_WAITING_BYTES_MAX, VERSION, push, take};
use crate::bus::body::bytes_within;
use crate::bus::{Body, Broker, Channel, Delivery, Fault, Post, Receiver, Sender};

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of a message's body: a little less than those of a frame.
const UNIX_BODY_BYTES_MAX: usize = super::UNIX_FRAME_BYTES_MAX - 1024;

/// What a message that waits weighs beside its bytes.
const DELIVERY_BYTES: usize = 64;

pub(crate) struct UnixBroker {
    path: PathBuf,
    channel: Box<str>,
}

impl UnixBroker {
    pub(crate) fn new(path: &str, channel: &str) -> UnixBroker {
        UnixBroker { path: path.into(), channel: channel.into() }
    }
}

/// How far the broker is, as the reading task knows it.
#[derive(Debug, Default)]
struct Known {
    done: u64,
    fault: Option<Fault>,
}

impl Broker for UnixBroker {
    type Sender = UnixSender;
    type Receiver = UnixReceiver;

    async fn connect(&mut self) -> Result<(UnixSender, UnixReceiver), Fault> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|error| {
            Fault::passing(format!("cannot connect to unix:{}: {error}", self.path.display()))
        })?;
        let (from, to) = stream.into_split();
        let (tell, known) = watch::channel(Known::default());
        let (deliver, deliveries) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        tokio::spawn(read_all(from, tell, deliver, Arc::clone(&waiting)));
        let mut sender =
            UnixSender { to, known: known.clone(), out: Vec::new(), asked: 0, ahead: Vec::new() };
        push(&mut sender.out, &Ask::Hello { version: VERSION, channel: self.channel.clone() }, &[]);
        sender.sync().await?;
        Ok((sender, UnixReceiver { deliveries, known, waiting }))
    }

    fn slots(&self) -> u32 {
        SLOTS
    }

    fn keeps_messages(&self) -> bool {
        false
    }
}

pub(crate) struct UnixSender {
    to: OwnedWriteHalf,
    known: watch::Receiver<Known>,
    /// Frames that are to be written.
    out: Vec<u8>,
    /// How often the broker was asked to say that it is done.
    asked: u64,
    /// What was sent ahead: by which answer it is done, and how many messages.
    ahead: Vec<(u64, usize)>,
}

impl UnixSender {
    /// Writes the frames, and asks for the broker's word.
    async fn write(&mut self) -> Result<u64, Fault> {
        self.check()?;
        push(&mut self.out, &Ask::Sync, &[]);
        let written = self.to.write_all(&self.out).await;
        self.out.clear();
        written.map_err(|error| Fault::passing(format!("the connection broke: {error}")))?;
        self.asked += 1;
        Ok(self.asked)
    }

    /// Writes the frames, and waits until the broker has done what they ask.
    async fn sync(&mut self) -> Result<(), Fault> {
        let number = self.write().await?;
        // The reading task says why it ends before it does.
        let _ = self.known.wait_for(|known| known.done >= number || known.fault.is_some()).await;
        self.check()
    }

    fn check(&self) -> Result<(), Fault> {
        self.known.borrow().fault.clone().map_or(Ok(()), Err)
    }

    /// So many of the messages are small enough.
    fn push_all(&mut self, posts: &[Post]) -> Result<(), Fault> {
        for post in posts {
            if let Some(body) = bytes_within(post, UNIX_BODY_BYTES_MAX)? {
                push(&mut self.out, &Ask::Publish(post.channel.clone()), body);
            }
        }
        Ok(())
    }
}

impl Sender for UnixSender {
    fn body_bytes_max(&self) -> usize {
        UNIX_BODY_BYTES_MAX
    }

    async fn subscribe(&mut self, add: &[Channel], remove: &[Channel]) -> Result<(), Fault> {
        push(&mut self.out, &Ask::Subscribe { add: add.to_vec(), remove: remove.to_vec() }, &[]);
        self.sync().await
    }

    async fn publish(&mut self, posts: &[Post]) -> Result<(), Fault> {
        self.push_all(posts)?;
        self.sync().await
    }

    async fn send_ahead(&mut self, posts: &[Post]) -> Result<(), Fault> {
        self.push_all(posts)?;
        let number = self.write().await?;
        self.ahead.push((number, posts.len()));
        Ok(())
    }

    fn unconfirmed(&mut self) -> Result<usize, Fault> {
        self.check()?;
        let done = self.known.borrow().done;
        self.ahead.retain(|(number, _)| *number > done);
        Ok(self.ahead.iter().map(|(_, count)| count).sum())
    }
}

pub(crate) struct UnixReceiver {
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    known: watch::Receiver<Known>,
    waiting: Arc<AtomicUsize>,
}

impl Receiver for UnixReceiver {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        match self.deliveries.recv().await {
            Some(delivery) => {
                self.waiting.fetch_sub(weight(&delivery), Relaxed);
                Ok(delivery)
            }
            None => {
                let fault = self.known.borrow().fault.clone();
                Err(fault.unwrap_or_else(|| Fault::passing("the connection is over")))
            }
        }
    }
}

fn weight(delivery: &Delivery) -> usize {
    let Body::Bytes(bytes) = &delivery.body else { return DELIVERY_BYTES };
    bytes.len() + DELIVERY_BYTES
}

/// Takes what the broker says until the connection ends.
async fn read_all(
    from: OwnedReadHalf,
    tell: watch::Sender<Known>,
    deliver: mpsc::UnboundedSender<Delivery>,
    waiting: Arc<AtomicUsize>,
) {
    let Err(fault) = read_on(from, &tell, &deliver, &waiting).await;
    tell.send_modify(|known| known.fault = Some(fault));
}

async fn read_on(
    mut from: OwnedReadHalf,
    tell: &watch::Sender<Known>,
    deliver: &mpsc::UnboundedSender<Delivery>,
    waiting: &AtomicUsize,
) -> Result<std::convert::Infallible, Fault> {
    let mut received = BytesMut::new();
    loop {
        received.reserve(READ_BYTES);
        let read = from.read_buf(&mut received).await;
        let count = read.map_err(|error| Fault::passing(format!("the connection broke: {error}")))?;
        if count == 0 {
            return Err(Fault::passing("the process that serves the queue has closed the connection"));
        }
        while let Some((word, body)) =
            take::<Told>(&mut received).map_err(|fault| Fault::passing(fault.to_string()))?
        {
            match word {
                Told::Done => tell.send_modify(|known| known.done += 1),
                Told::Refused(why) => return Err(Fault::lasting(why)),
                Told::Delivery(channel) => {
                    let delivery = Delivery { channel, body: Body::Bytes(body), offset: None };
                    let weight = weight(&delivery);
                    if waiting.fetch_add(weight, Relaxed) + weight > UNIX_WAITING_BYTES_MAX {
                        return Err(Fault::passing(
                            "more bytes wait than UNIX_WAITING_BYTES_MAX: this process takes its messages too slowly",
                        ));
                    }
                    // Without a receiver the sender alone is in use.
                    let _ = deliver.send(delivery);
                }
            }
        }
    }
}
