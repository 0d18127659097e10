//! The broker behind a Unix socket: a thread that serves it to the processes of one machine. What it does with messages is the exchange
//! of `bus/memory`; here are its connections.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::bus::memory::{Exchange, Link};
use crate::bus::unix::{Ask, Told, VERSION, push, take};
use crate::bus::{Body, Post};

/// Who may connect: the owner's processes.
const SOCKET_MODE: u32 = 0o600;

/// Bytes that are read at a time, and about as many are written.
const PIECE_BYTES: usize = 64 * 1024;

/// The thread, until it is dropped.
#[derive(Debug)]
pub(crate) struct LocalBroker {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalBroker {
    /// Listens at a path. A socket that nobody serves any more gives way.
    pub(crate) fn start(path: &Path) -> Result<LocalBroker, String> {
        let fault = |error: io::Error| format!("unix:{}: {error}", path.display());
        let listener = bind(path).map_err(fault)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("the local queue's thread: {error}"))?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("local-queue".to_owned()).spawn(work);
        let thread = thread.map_err(|error| format!("cannot start the local queue's thread: {error}"))?;
        Ok(LocalBroker { path: path.to_owned(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for LocalBroker {
    fn drop(&mut self) {
        // Ends the wait, whether it is sent or dropped.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the local queue's thread has died");
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::{UnixListener, UnixStream};
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What all connections share: an exchange for each configured channel, and who is rung when something is to be taken.
#[derive(Default)]
struct Place {
    exchanges: BTreeMap<Box<str>, Exchange>,
    bells: BTreeMap<(Box<str>, Link), Rc<Notify>>,
}

impl Place {
    /// Works with the exchange of a channel, and rings those who have got something by it.
    fn work<T>(&mut self, channel: &str, work: impl FnOnce(&mut Exchange) -> T) -> T {
        if !self.exchanges.contains_key(channel) {
            self.exchanges.insert(channel.into(), Exchange::default());
        }
        let exchange = self.exchanges.get_mut(channel).expect("it was just put there");
        let result = work(exchange);
        for link in exchange.take_woken() {
            if let Some(bell) = self.bells.get(&(channel.into(), link)) {
                bell.notify_one();
            }
        }
        result
    }
}

async fn accept(listener: std::os::unix::net::UnixListener) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the local queue cannot listen"),
    };
    let place = Rc::<RefCell<Place>>::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn_local(serve(stream, Rc::clone(&place)))),
            Err(error) => {
                tracing::warn!(%error, "the local queue could not take a connection");
                // Of descriptors there are too few: those that are in use must end first.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection, from its first word on.
struct Connection {
    place: Rc<RefCell<Place>>,
    channel: Box<str>,
    link: Link,
    bell: Rc<Notify>,
    /// Answers that are to be written, before what was published.
    answers: RefCell<VecDeque<Told>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut place = self.place.borrow_mut();
        place.work(&self.channel, |exchange| exchange.disconnect(self.link));
        place.bells.remove(&(self.channel.clone(), self.link));
    }
}

async fn serve(stream: UnixStream, place: Rc<RefCell<Place>>) {
    let (mut from, mut to) = stream.into_split();
    let mut received = BytesMut::new();
    let ended = match greet(&mut from, &mut received, place).await {
        Ok(Some(connection)) => {
            tokio::select! {
                ended = hear(&connection, &mut from, &mut received) => ended,
                ended = tell(&connection, &mut to) => ended,
            }
        }
        Ok(None) => Ok(()),
        Err(why) => Err(why),
    };
    if let Err(why) = ended {
        let mut out = Vec::new();
        push(&mut out, &Told::Refused(why.into()), &[]);
        let _ = to.write_all(&out).await;
    }
}

/// The first word; nothing if the connection ended before it came.
async fn greet(
    from: &mut OwnedReadHalf,
    received: &mut BytesMut,
    place: Rc<RefCell<Place>>,
) -> Result<Option<Connection>, String> {
    let Some((ask, _)) = next(from, received).await? else { return Ok(None) };
    let Ask::Hello { version: VERSION, channel } = ask else {
        return Err(
            "this process has another release of shardcast than the one that serves the queue".to_owned()
        );
    };
    let link = place.borrow_mut().work(&channel, Exchange::connect).map_err(|fault| fault.text)?;
    let bell = Rc::<Notify>::default();
    place.borrow_mut().bells.insert((channel.clone(), link), Rc::clone(&bell));
    Ok(Some(Connection { place, channel, link, bell, answers: RefCell::default() }))
}

/// The next frame; nothing at the end.
async fn next(from: &mut OwnedReadHalf, received: &mut BytesMut) -> Result<Option<(Ask, Bytes)>, String> {
    loop {
        if let Some(frame) = take(received).map_err(|fault| fault.to_string())? {
            return Ok(Some(frame));
        }
        received.reserve(PIECE_BYTES);
        match from.read_buf(received).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// Does what a process asks for, until it has closed its connection.
async fn hear(
    connection: &Connection,
    from: &mut OwnedReadHalf,
    received: &mut BytesMut,
) -> Result<(), String> {
    let work = |ask, body| {
        let mut place = connection.place.borrow_mut();
        place.work(&connection.channel, |exchange| match ask {
            Ask::Subscribe { add, remove } => exchange.subscribe(connection.link, &add, &remove),
            Ask::Publish(channel) => {
                let post = Post { channel, body: Body::Bytes(body), may_repeat: false };
                exchange.publish(connection.link, &[post])
            }
            Ask::Sync | Ask::Hello { .. } => {
                connection.answers.borrow_mut().push_back(Told::Done);
                connection.bell.notify_one();
                Ok(())
            }
        })
    };
    while let Some((ask, body)) = next(from, received).await? {
        work(ask, body).map_err(|fault| fault.text)?;
    }
    Ok(())
}

/// Writes answers and what was published.
async fn tell(connection: &Connection, to: &mut OwnedWriteHalf) -> Result<(), String> {
    let mut out = Vec::new();
    loop {
        for answer in connection.answers.borrow_mut().drain(..) {
            push(&mut out, &answer, &[]);
        }
        while out.len() < PIECE_BYTES {
            let taken = connection
                .place
                .borrow_mut()
                .work(&connection.channel, |exchange| exchange.take(connection.link))
                .map_err(|fault| fault.text)?;
            let Some(delivery) = taken else { break };
            if let Body::Bytes(body) = &delivery.body {
                push(&mut out, &Told::Delivery(delivery.channel), body);
            }
        }
        if out.is_empty() {
            connection.bell.notified().await;
            continue;
        }
        if to.write_all(&out).await.is_err() {
            return Ok(());
        }
        out.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::contract::{Venue, contract};
    use crate::bus::unix::client::UnixBroker;

    /// A queue that the test's own process serves, in a folder of its own.
    struct UnixVenue {
        folder: PathBuf,
        broker: Option<LocalBroker>,
    }

    impl UnixVenue {
        fn start() -> UnixVenue {
            let thread = format!("{:?}", std::thread::current().id());
            let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
            let folder = std::env::temp_dir().join(format!("shardcast-{}-{digits}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            let mut venue = UnixVenue { folder, broker: None };
            venue.restart();
            venue
        }

        fn path(&self) -> String {
            self.folder.join("queue").display().to_string()
        }
    }

    impl Drop for UnixVenue {
        fn drop(&mut self) {
            drop(self.broker.take());
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    impl Venue for UnixVenue {
        type Client = UnixBroker;

        fn client(&self, channel: &str) -> UnixBroker {
            UnixBroker::new(&self.path(), channel)
        }

        fn client_of_nobody(&self) -> Option<UnixBroker> {
            Some(UnixBroker::new("/nonexistent/queue", "nobody"))
        }

        fn client_with(&self, _password: &str) -> Option<UnixBroker> {
            None
        }

        fn kill(&mut self) {
            drop(self.broker.take());
        }

        fn restart(&mut self) {
            self.broker = Some(LocalBroker::start(Path::new(&self.path())).expect("it listens"));
        }
    }

    mod rules {
        use super::*;
        contract!(UnixVenue::start());
    }

    #[test]
    fn a_path_that_is_served_is_taken_and_one_that_was_is_not() {
        let mut venue = UnixVenue::start();
        let path = venue.path();
        let taken = LocalBroker::start(Path::new(&path)).expect_err("another serves it");
        assert!(taken.contains("another process serves it"), "{taken}");
        venue.kill();
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that is left behind"));
        assert!(LocalBroker::start(Path::new(&path)).is_ok());
    }
}
