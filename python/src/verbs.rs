//! What handlers and threads ask of the server: emits, rooms, questions.
//!
//! On a thread that runs handlers everything goes into its post, in order, and leaves when the post does. Other threads send at once.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::{PyKeyError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use shardcast::{Addressee, Gathering, Handle, Post, Recipients, Socket};

use crate::convert::Encoded;
use crate::core::Core;
use crate::courier::{Courier, lock};
use crate::job::Job;
use crate::{kit, pool};

/// How long a shard may take to say what it knows.
const SHARD_PATIENCE: Duration = Duration::from_secs(5);

/// Receivers of an emit.
pub(crate) struct Whom<'a> {
    pub(crate) namespace: &'a str,
    /// Nothing is everybody.
    pub(crate) to: Option<Vec<String>>,
    /// Whose members do not get it.
    pub(crate) skip: Vec<String>,
    /// The clients of this process only.
    pub(crate) is_local: bool,
    /// The client whose event is handled.
    pub(crate) from: Option<Addressee>,
}

impl Whom<'_> {
    /// As the client's own shard publishes for it. Nothing: an empty list of rooms is nobody.
    fn of_post<'a>(&'a self, post: &'a mut Post, from: &Addressee) -> Option<Recipients<'a>> {
        let recipients = match self.to.as_deref() {
            None => post.broadcast_in(from, self.namespace),
            Some([]) => return None,
            Some([first, others @ ..]) => post.to_in(from, self.namespace, first).to_all(others),
        };
        Some(self.less(recipients))
    }

    /// As other threads publish.
    fn of_handle<'a>(&'a self, handle: &'a Handle) -> Option<Recipients<'a>> {
        let recipients = match self.to.as_deref() {
            None => handle.namespace(self.namespace),
            Some([]) => return None,
            Some([first, others @ ..]) => handle.to(self.namespace, first).to_all(others),
        };
        Some(self.less(recipients))
    }

    fn less<'a>(&'a self, mut recipients: Recipients<'a>) -> Recipients<'a> {
        for room in &self.skip {
            recipients = recipients.except(room);
        }
        if self.is_local { recipients.local() } else { recipients }
    }
}

impl Core {
    pub(crate) fn emit_to_socket(
        &self,
        py: Python<'_>,
        socket: &Addressee,
        event: &str,
        data: &Bound<'_, PyAny>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        if callback.is_none() && self.has_shared_names.load(Ordering::Relaxed) {
            let to = Some(vec![socket.id().to_string()]);
            let whom = Whom {
                namespace: socket.namespace(),
                to,
                skip: Vec::new(),
                is_local: false,
                from: Some(socket.clone()),
            };
            return self.emit_to_rooms(event, data, whom, None);
        }
        let encoded = self.front.write(data)?;
        let Some(callback) = callback else {
            return self.with_post(py, |post| {
                post.emit(socket, event, &encoded).map_err(|error| PyValueError::new_err(error.to_string()))
            });
        };
        let (event, courier) = (event.to_owned(), Arc::clone(&self.courier));
        self.with_post(py, |post| {
            post.run(socket, move |socket| ask(socket, &event, &encoded, callback, courier));
            Ok(())
        })
    }

    pub(crate) fn emit_to_rooms(
        &self,
        event: &str,
        data: &Bound<'_, PyAny>,
        whom: Whom<'_>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = data.py();
        if let Some(callback) = callback {
            return self.emit_with_callback(event, data, &whom, &callback);
        }
        let encoded = self.front.write(data)?;
        // In a handler the client's own shard publishes, in order with what the handler did before: a join counts.
        if let (Some(from), Some(post)) = (&whom.from, pool::own_post()) {
            if let Some(recipients) = whom.of_post(&mut lock(&post), from) {
                let _ = recipients.emit(event, &encoded);
            }
            if pool::is_overtaken() {
                pool::send(py, &post);
            }
            return Ok(());
        }
        flush(py);
        // A few hundred nanoseconds: not worth giving the GIL away for.
        if let Some(recipients) = whom.of_handle(self.need_handle()?) {
            let _ = recipients.emit(event, &encoded);
        }
        Ok(())
    }

    /// Asks each receiver, and calls back once for each answer.
    fn emit_with_callback(
        &self,
        event: &str,
        data: &Bound<'_, PyAny>,
        whom: &Whom<'_>,
        callback: &Py<PyAny>,
    ) -> PyResult<()> {
        let py = data.py();
        let skipped = |sid: &String| whom.skip.contains(sid);
        let to = whom.to.as_deref();
        let single = match to {
            Some([room]) => self.front.socket_of(PyString::new(py, room).as_any()),
            _ => None,
        };
        let sockets = match single {
            Some(socket) => vec![socket],
            None => {
                let mut sids = Vec::new();
                match to {
                    None => sids = self.members(py, whom.namespace, None)?,
                    Some(rooms) => {
                        for room in rooms {
                            sids.extend(self.members(py, whom.namespace, Some(room))?);
                        }
                    }
                }
                sids.sort_unstable();
                sids.dedup();
                sids.retain(|sid| !skipped(sid));
                let tables = lock(&self.front.tables);
                sids.iter().filter_map(|sid| tables.socket_of(sid)).collect()
            }
        };
        let encoded = self.front.write(data)?;
        self.with_post(py, |post| {
            for socket in &sockets {
                let (event, courier) = (event.to_owned(), Arc::clone(&self.courier));
                let (encoded, callback) = (encoded.clone(), callback.clone_ref(py));
                post.run(socket, move |socket| ask(socket, &event, &encoded, callback, courier));
            }
            Ok(())
        })
    }

    pub(crate) fn ask_client(
        &self,
        py: Python<'_>,
        event: &str,
        data: &Bound<'_, PyAny>,
        (namespace, to): (&str, &str),
        timeout: f64,
    ) -> PyResult<Option<Py<PyTuple>>> {
        let encoded = self.front.write(data)?;
        let timeout =
            Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.wait_begins(py);
        let asked = self.need_handle()?.to(namespace, to).call(event, &encoded).timeout(timeout);
        let Ok(answer) = self.gather(py, asked, Some(timeout)) else { return Ok(None) };
        let args = answer.args();
        Ok(Some(self.front.read(py, args.raw(), args.attachments())?.unbind()))
    }

    pub(crate) fn join(&self, sid: &Bound<'_, PyAny>, room: &str, namespace: &str) -> PyResult<()> {
        let py = sid.py();
        if lock(&self.front.tables).socket_of(room).is_some() {
            self.has_shared_names.store(true, Ordering::Relaxed);
        }
        match self.front.socket_of(sid) {
            Some(socket) => self.with_post(py, |post| {
                post.join(&socket, room);
                Ok(())
            }),
            None => self.elsewhere(sid, namespace, |them| drop(them.join(room))),
        }
    }

    pub(crate) fn leave(&self, sid: &Bound<'_, PyAny>, room: &str, namespace: &str) -> PyResult<()> {
        match self.front.socket_of(sid) {
            Some(socket) => self.with_post(sid.py(), |post| {
                post.leave(&socket, room);
                Ok(())
            }),
            None => self.elsewhere(sid, namespace, |them| drop(them.leave(room))),
        }
    }

    pub(crate) fn end_socket(&self, sid: &Bound<'_, PyAny>, namespace: &str) -> PyResult<()> {
        match self.front.socket_of(sid) {
            Some(socket) => self.with_post(sid.py(), |post| {
                post.disconnect(&socket);
                Ok(())
            }),
            None => self.elsewhere(sid, namespace, |them| drop(them.disconnect())),
        }
    }

    pub(crate) fn clear_room(
        &self,
        py: Python<'_>,
        room: &str,
        namespace: &str,
        from: Option<&Addressee>,
    ) -> PyResult<()> {
        if let (Some(from), Some(post)) = (from, pool::own_post()) {
            drop(lock(&post).to_in(from, namespace, room).leave(room));
            if pool::is_overtaken() {
                pool::send(py, &post);
            }
            return Ok(());
        }
        flush(py);
        drop(self.need_handle()?.to(namespace, room).leave(room));
        Ok(())
    }

    pub(crate) fn rooms_of(&self, sid: &Bound<'_, PyAny>, namespace: &str) -> PyResult<Vec<String>> {
        let py = sid.py();
        if let Some(socket) = self.front.socket_of(sid) {
            let ended = lock(&self.front.tables).rooms_of_ended(&socket);
            return match ended {
                Some(rooms) => Ok(rooms),
                None => Ok(self.ask_socket(py, &socket, Socket::rooms)?.unwrap_or_default()),
            };
        }
        // Of another process, perhaps.
        let sid = sid.cast::<PyString>()?.to_str()?;
        self.wait_begins(py);
        let found = self.gather(py, self.need_handle()?.to(namespace, sid).fetch(), None)?;
        let own = found.iter().find(|socket| socket.id().as_str() == sid);
        Ok(own.map(|socket| socket.rooms().to_vec()).unwrap_or_default())
    }

    pub(crate) fn transport_of(&self, sid: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
        let Some(socket) = self.front.socket_of(sid) else {
            return Err(PyKeyError::new_err(sid.to_string()));
        };
        Ok(self.ask_socket(sid.py(), &socket, Socket::transport)?.flatten())
    }

    pub(crate) fn members(
        &self,
        py: Python<'_>,
        namespace: &str,
        room: Option<&str>,
    ) -> PyResult<Vec<String>> {
        self.wait_begins(py);
        let handle = self.need_handle()?;
        let whom = match room {
            Some(room) => handle.to(namespace, room),
            None => handle.namespace(namespace),
        };
        let ids = self.gather(py, whom.ids(), None)?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn counts<'py>(&self, py: Python<'py>, namespace: &str) -> PyResult<Bound<'py, PyDict>> {
        self.wait_begins(py);
        let counts = self.gather(py, self.need_handle()?.rooms(namespace), None)?;
        let dict = PyDict::new(py);
        for (room, count) in counts.iter() {
            dict.set_item(room, count)?;
        }
        Ok(dict)
    }

    /// Changes a socket that is none of this process's, if it is one at all.
    fn elsewhere(
        &self,
        sid: &Bound<'_, PyAny>,
        namespace: &str,
        change: impl FnOnce(Recipients<'_>),
    ) -> PyResult<()> {
        flush(sid.py());
        let sid = sid.cast::<PyString>()?.to_str()?;
        change(self.need_handle()?.to(namespace, sid));
        Ok(())
    }

    /// Adds to this thread's post, or sends at once from a thread that runs no handlers.
    fn with_post(&self, py: Python<'_>, add: impl FnOnce(&mut Post) -> PyResult<()>) -> PyResult<()> {
        if let Some(post) = pool::own_post() {
            add(&mut lock(&post))?;
            if pool::is_overtaken() {
                pool::send(py, &post);
            }
            return Ok(());
        }
        let mut post = self.need_handle()?.post();
        add(&mut post)?;
        pool::send(py, &Mutex::new(post));
        Ok(())
    }

    /// What a socket says of itself, on its shard. Nothing when it is gone.
    fn ask_socket<T: Send + 'static>(
        &self,
        py: Python<'_>,
        socket: &Addressee,
        look: impl FnOnce(&Socket) -> T + Send + 'static,
    ) -> PyResult<Option<T>> {
        let (tell, told) = channel();
        self.with_post(py, |post| {
            post.run(socket, move |socket| drop(tell.send(look(socket))));
            Ok(())
        })?;
        self.wait_begins(py);
        if let Some(kit) = kit::of(&self.courier) {
            kit.settle();
            return Ok(told.try_recv().ok());
        }
        Ok(receive(py, told))
    }

    /// This thread is about to wait for a shard: what it has gathered goes first, and another one may lead.
    fn wait_begins(&self, py: Python<'_>) {
        flush(py);
        if let Some(pool) = self.pool.get() {
            pool.about_to_block();
        }
    }

    /// Waits for what was asked. In a test the shards are on this thread, and wait with it.
    fn gather<T: Send>(
        &self,
        py: Python<'_>,
        asked: Gathering<T>,
        patience: Option<Duration>,
    ) -> PyResult<T> {
        let answer = match kit::of(&self.courier) {
            None => py.detach(|| asked.wait()),
            Some(kit) => std::thread::scope(|scope| {
                let waiting = scope.spawn(|| asked.wait());
                kit.settle_until(patience, || waiting.is_finished());
                waiting.join().unwrap_or(Err(shardcast::AckError::Stopped))
            }),
        };
        answer.map_err(|error| PyTimeoutError::new_err(error.to_string()))
    }
}

/// Sends what this thread has gathered, before something that goes another way.
fn flush(py: Python<'_>) {
    if let Some(post) = pool::own_post() {
        pool::send(py, &post);
    }
}

fn receive<T: Send>(py: Python<'_>, told: Receiver<T>) -> Option<T> {
    py.detach(move || told.recv_timeout(SHARD_PATIENCE).ok())
}

/// On the socket's shard: emits, and gives the answer to Python.
fn ask(socket: &Socket, event: &str, encoded: &Encoded, callback: Py<PyAny>, courier: Arc<Courier>) {
    socket.emit_with_callback(event, encoded, move |answer| {
        // One that does not come is no call, as in Flask-SocketIO.
        let Ok(answer) = answer else { return };
        courier.push(Job::Answer { callback, args: answer.args().into_owned() });
        courier.turn_over();
    });
}
