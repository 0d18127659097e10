//! `Core`: a server with its pool, as `_socketio.py` and `_run.py` use it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use shardcast::{Handle, RunningServer, Server};

use crate::client::Client;
use crate::courier::{Courier, lock};
use crate::front::Front;
use crate::kit::Kit;
use crate::pool::{Pool, Shape};
use crate::verbs::Whom;
use crate::{log, settings, shards};

/// How long a stopping server waits for handlers of what has come.
const LAST_WORK_MAX: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A server, from when it is made until it has stopped.
#[pyclass(frozen, module = "flask_shardcast._native")]
pub(crate) struct Core {
    pub(crate) courier: Arc<Courier>,
    pub(crate) front: Arc<Front>,
    pub(crate) handle: OnceLock<Handle>,
    pub(crate) pool: OnceLock<Arc<Pool>>,
    running: Mutex<Option<RunningServer>>,
    shape: Shape,
    /// A socket is in a room that has the name of another socket, so that name alone does not mean one socket.
    pub(crate) has_shared_names: std::sync::atomic::AtomicBool,
}

#[pymethods]
impl Core {
    /// `dispatcher` runs the handlers, on up to `threads` threads. With `is_ordered` a socket's events never overtake each other.
    /// `codec` reads and writes JSON in place of this module; `default` makes JSON of what it does not know.
    #[new]
    #[pyo3(signature = (dispatcher, threads, is_ordered, codec = None, default = None))]
    fn new(
        dispatcher: &Bound<'_, PyAny>,
        threads: usize,
        is_ordered: bool,
        codec: Option<Py<PyAny>>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Core> {
        let leaders_min = leaders_min(dispatcher.py())?;
        let threads_max = threads.max(2).max(leaders_min);
        Ok(Core {
            courier: Arc::default(),
            front: Arc::new(Front::new(dispatcher, codec, default)?),
            handle: OnceLock::new(),
            pool: OnceLock::new(),
            running: Mutex::new(None),
            shape: Shape { threads_max, leaders_min, is_ordered },
            has_shared_names: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Starts serving, and returns the addresses.
    fn start(
        &self,
        py: Python<'_>,
        variables: HashMap<String, String>,
        arguments: Vec<String>,
        namespaces: Vec<String>,
        folders: Vec<(String, String)>,
    ) -> PyResult<Vec<String>> {
        let config = settings::config(variables, arguments)?;
        log::init(&config.log_filter());
        let mut server = self.server(Server::new(config), &namespaces);
        for (path, folder) in folders {
            server = server.static_folder(&path, folder);
        }
        server = shards::pages(server, &self.courier);
        let courier = Arc::clone(&self.courier);
        server = server.on_turn_end(move |_| courier.turn_over());
        let handle = server.handle();
        let running = py.detach(|| server.start()).map_err(|error| PyOSError::new_err(error.to_string()))?;
        let addresses = running.addresses();
        let pool = Pool::new(Arc::clone(&self.courier), Arc::clone(&self.front), handle.clone(), self.shape);
        let _ = self.handle.set(handle);
        *lock(&self.running) = Some(running);
        pool.start()?;
        let _ = self.pool.set(pool);
        Ok(addresses)
    }

    /// A server without a port, on this thread, for tests.
    fn test(
        slf: &Bound<'_, Core>,
        variables: HashMap<String, String>,
        namespaces: Vec<String>,
    ) -> PyResult<Kit> {
        let core = slf.get();
        let config = settings::config(variables, Vec::new())?;
        let server = core.server(Server::new(config), &namespaces);
        let _ = core.handle.set(server.handle());
        Kit::new(server, Arc::clone(&core.courier), Arc::clone(&core.front))
    }

    /// Ends the server: its clients are told, their disconnect handlers run, then the threads end.
    fn stop(&self, py: Python<'_>) {
        if let Some(running) = lock(&self.running).take() {
            py.detach(|| running.stop());
        }
        py.detach(|| {
            for _ in 0..LAST_WORK_MAX.as_millis() / LOOK_EVERY.as_millis() {
                if !self.courier.has_work() {
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        self.courier.stop();
    }

    /// Emits to the client whose event is handled.
    #[pyo3(signature = (client, event, data, callback = None))]
    fn emit_to_client(
        &self,
        client: &Bound<'_, Client>,
        event: &str,
        data: &Bound<'_, PyAny>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        self.emit_to_socket(data.py(), &client.get().socket, event, data, callback)
    }

    /// Emits to everybody, or to some rooms, less the members of others.
    /// `client` is the one whose event is handled.
    #[pyo3(signature = (event, data, namespace, to = None, skip = None, callback = None, ignore_queue = false, client = None))]
    #[expect(clippy::too_many_arguments, reason = "what Flask-SocketIO's emit has")]
    fn emit(
        &self,
        event: &str,
        data: &Bound<'_, PyAny>,
        namespace: &str,
        to: Option<Vec<String>>,
        skip: Option<Vec<String>>,
        callback: Option<Py<PyAny>>,
        ignore_queue: bool,
        client: Option<&Bound<'_, Client>>,
    ) -> PyResult<()> {
        let from = client.map(|client| client.get().socket.clone());
        let whom = Whom { namespace, to, skip: skip.unwrap_or_default(), is_local: ignore_queue, from };
        self.emit_to_rooms(event, data, whom, callback)
    }

    /// Emits to one socket and waits for its answer; nothing if none came.
    fn call(
        &self,
        py: Python<'_>,
        event: &str,
        data: &Bound<'_, PyAny>,
        namespace: &str,
        to: &str,
        timeout: f64,
    ) -> PyResult<Option<Py<PyTuple>>> {
        self.ask_client(py, event, data, (namespace, to), timeout)
    }

    fn enter_room(&self, sid: &Bound<'_, PyAny>, room: &str, namespace: &str) -> PyResult<()> {
        self.join(sid, room, namespace)
    }

    fn leave_room(&self, sid: &Bound<'_, PyAny>, room: &str, namespace: &str) -> PyResult<()> {
        self.leave(sid, room, namespace)
    }

    #[pyo3(signature = (room, namespace, client = None))]
    fn close_room(
        &self,
        py: Python<'_>,
        room: &str,
        namespace: &str,
        client: Option<&Bound<'_, Client>>,
    ) -> PyResult<()> {
        self.clear_room(py, room, namespace, client.map(|client| &client.get().socket))
    }

    fn disconnect(&self, sid: &Bound<'_, PyAny>, namespace: &str) -> PyResult<()> {
        self.end_socket(sid, namespace)
    }

    /// The rooms of one socket.
    fn rooms(&self, sid: &Bound<'_, PyAny>, namespace: &str) -> PyResult<Vec<String>> {
        self.rooms_of(sid, namespace)
    }

    /// How a socket's client is connected.
    fn transport(&self, sid: &Bound<'_, PyAny>, namespace: &str) -> PyResult<Option<&'static str>> {
        let _ = namespace;
        self.transport_of(sid)
    }

    /// The ids in a room, or in the namespace.
    #[pyo3(signature = (namespace, room = None))]
    fn participants(&self, py: Python<'_>, namespace: &str, room: Option<&str>) -> PyResult<Vec<String>> {
        self.members(py, namespace, room)
    }

    /// The rooms of a namespace, with how many are in each.
    fn room_counts<'py>(&self, py: Python<'py>, namespace: &str) -> PyResult<Bound<'py, PyDict>> {
        self.counts(py, namespace)
    }

    /// The client of an id.
    fn client(&self, py: Python<'_>, sid: &Bound<'_, PyAny>) -> Option<Py<Client>> {
        let socket = self.front.socket_of(sid)?;
        lock(&self.front.tables).get(py, &socket)
    }

    /// The ids of all clients.
    fn clients(&self) -> Vec<String> {
        lock(&self.front.tables).sids()
    }

    /// How many connections have clients.
    fn connections(&self) -> usize {
        lock(&self.front.tables).connections()
    }

    /// The calling handler is about to wait: those of others may run.
    fn about_to_block(&self) {
        if let Some(pool) = self.pool.get() {
            pool.about_to_block();
        }
    }

    /// Whether this thread runs a handler.
    fn is_in_handler(&self) -> bool {
        crate::pool::own_post().is_some()
    }

    /// How many jobs wait for a thread.
    fn waiting(&self) -> usize {
        self.courier.len()
    }
}

impl Core {
    fn server(&self, server: Server, namespaces: &[String]) -> Server {
        namespaces.iter().fold(server, |server, name| shards::namespace(server, name, &self.courier))
    }

    /// The handle of a server that runs.
    pub(crate) fn need_handle(&self) -> PyResult<&Handle> {
        self.handle.get().ok_or_else(|| PyRuntimeError::new_err("the server does not run"))
    }
}

/// How many threads may run Python at a time: one with a GIL, one for each core without.
fn leaders_min(py: Python<'_>) -> PyResult<usize> {
    let sys = py.import("sys")?;
    let has_gil = match sys.getattr_opt("_is_gil_enabled")? {
        Some(asked) => asked.call0()?.is_truthy()?,
        None => true,
    };
    Ok(if has_gil { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) })
}
