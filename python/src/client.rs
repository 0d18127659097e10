//! Clients as Python knows them: a `Client` for each socket, a `Connection` for each session, and the tables that hold them.
//!
//! They are made when a client connects and forgotten when its disconnect handler has run.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use shardcast::{Addressee, ConnectionId, Handshake, Peer, Sid};

use crate::environ::{Environ, environ};

/// One connection of a client, which its namespaces share.
#[pyclass(frozen, module = "flask_shardcast._native")]
pub(crate) struct Connection {
    handshake: Arc<Handshake>,
    environ: PyOnceLock<Py<PyDict>>,
}

#[pymethods]
impl Connection {
    /// The WSGI environment of the handshake, as far as the request says it; made when somebody first looks.
    #[getter]
    fn environ<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.environ.get_or_try_init(py, || {
            let handshake = &self.handshake;
            let url = handshake.url();
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            let peer = match handshake.peer() {
                Peer::Tcp(address) => Some(address),
                Peer::Unix => None,
            };
            let request = Environ {
                method: "GET",
                path,
                query,
                version: "HTTP/1.1",
                peer,
                address: handshake.address(),
                is_secure: handshake.is_secure(),
            };
            Ok::<_, PyErr>(environ(py, &request, handshake.headers())?.unbind())
        })?;
        Ok(environ.bind(py).clone())
    }
}

/// One socket: a client in a namespace.
#[pyclass(frozen, module = "flask_shardcast._native")]
pub(crate) struct Client {
    pub(crate) socket: Addressee,
    #[pyo3(get)]
    pub(crate) sid: Py<PyString>,
    #[pyo3(get)]
    pub(crate) namespace: Py<PyString>,
    #[pyo3(get)]
    pub(crate) connection: Py<Connection>,
    session: PyOnceLock<Py<PyDict>>,
}

#[pymethods]
impl Client {
    /// python-socketio's session: a dict of the application's.
    #[getter]
    fn session<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        self.session.get_or_init(py, || PyDict::new(py).unbind()).bind(py).clone()
    }
}

/// The clients of a server.
#[derive(Default)]
pub(crate) struct Tables {
    clients: HashMap<Addressee, Py<Client>>,
    /// A socket that was recovered has the id of one whose disconnect handler may still run: the later one counts.
    by_sid: HashMap<Sid, Addressee>,
    /// With how many sockets each has.
    connections: HashMap<ConnectionId, (Py<Connection>, u32)>,
    namespaces: HashMap<String, Py<PyString>>,
    /// The rooms of those whose disconnect handlers have not ended.
    ended: HashMap<Addressee, Vec<String>>,
}

impl Tables {
    /// Adds a client that asks to be let in.
    pub(crate) fn add(
        &mut self,
        py: Python<'_>,
        socket: &Addressee,
        handshake: Arc<Handshake>,
    ) -> PyResult<Py<Client>> {
        let id = socket.connection();
        let connection = match self.connections.get_mut(&id) {
            Some((connection, sockets)) => {
                *sockets += 1;
                connection.clone_ref(py)
            }
            None => {
                let connection = Py::new(py, Connection { handshake, environ: PyOnceLock::new() })?;
                self.connections.insert(id, (connection.clone_ref(py), 1));
                connection
            }
        };
        let name = socket.namespace();
        let namespace = match self.namespaces.get(name) {
            Some(known) => known.clone_ref(py),
            None => {
                let made = PyString::new(py, name).unbind();
                // Names that clients choose are kept with the client alone.
                if self.namespaces.len() < NAMESPACES_KEPT_MAX {
                    self.namespaces.insert(name.to_owned(), made.clone_ref(py));
                }
                made
            }
        };
        let sid = socket.id();
        let client = Client {
            socket: socket.clone(),
            sid: PyString::new(py, sid.as_str()).unbind(),
            namespace,
            connection,
            session: PyOnceLock::new(),
        };
        let client = Py::new(py, client)?;
        self.by_sid.insert(sid, socket.clone());
        self.clients.insert(socket.clone(), client.clone_ref(py));
        Ok(client)
    }

    pub(crate) fn get(&self, py: Python<'_>, socket: &Addressee) -> Option<Py<Client>> {
        self.clients.get(socket).map(|client| client.clone_ref(py))
    }

    pub(crate) fn socket_of(&self, sid: &str) -> Option<Addressee> {
        self.by_sid.get(&Sid::parse(sid)?).cloned()
    }

    pub(crate) fn sids(&self) -> Vec<String> {
        self.by_sid.keys().map(Sid::to_string).collect()
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Keeps the rooms of a socket until its disconnect handler has ended.
    pub(crate) fn end(&mut self, socket: &Addressee, rooms: Vec<String>) {
        self.ended.insert(socket.clone(), rooms);
    }

    /// The rooms of one that has ended, if its handler runs.
    pub(crate) fn rooms_of_ended(&self, socket: &Addressee) -> Option<Vec<String>> {
        self.ended.get(socket).cloned()
    }

    /// Forgets a client, and returns what is to be dropped after the tables' lock: dropping may run Python code.
    pub(crate) fn forget(&mut self, socket: &Addressee) -> Option<Forgotten> {
        self.ended.remove(socket);
        let client = self.clients.remove(socket)?;
        let (sid, id) = (socket.id(), socket.connection());
        if self.by_sid.get(&sid) == Some(socket) {
            self.by_sid.remove(&sid);
        }
        let mut connection = None;
        if let Some((_, sockets)) = self.connections.get_mut(&id) {
            *sockets -= 1;
            if *sockets == 0 {
                connection = self.connections.remove(&id).map(|(connection, _)| connection);
            }
        }
        Some(Forgotten { _client: client, _connection: connection })
    }
}

/// Names of namespaces that are kept as Python strings.
const NAMESPACES_KEPT_MAX: usize = 1024;

/// What a forgotten client has left.
pub(crate) struct Forgotten {
    _client: Py<Client>,
    _connection: Option<Py<Connection>>,
}
