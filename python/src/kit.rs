//! The test kit for Python: the shards of a real server on the test's own thread, and handlers that run there too.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use shardcast::testing::{TestClient, TestServer};
use shardcast::{Post, RawJson, Server};

use crate::convert::{self, Encoded};
use crate::courier::Courier;
use crate::front::Front;
use crate::pool;

/// How long a test's thread lets others go on before it looks again.
const LOOK_EVERY: Duration = Duration::from_micros(200);

thread_local! {
    /// The servers whose shards are on this thread.
    static SERVERS: RefCell<Vec<(Arc<Courier>, Rc<TestServer>)>> = const { RefCell::new(Vec::new()) };
}

/// The test server that a courier belongs to, on its own thread.
pub(crate) fn of(courier: &Arc<Courier>) -> Option<Shards> {
    SERVERS.with_borrow(|servers| {
        let found = servers.iter().find(|(own, _)| Arc::ptr_eq(own, courier));
        found.map(|(_, server)| Shards(Rc::clone(server)))
    })
}

/// The shards of a test.
pub(crate) struct Shards(Rc<TestServer>);

impl Shards {
    pub(crate) fn settle(&self) {
        self.0.settle();
    }

    /// Lets the shards work until something holds. Time passes for them only when there is a limit to it and nothing else helps.
    pub(crate) fn settle_until(&self, patience: Option<Duration>, holds: impl Fn() -> bool) {
        let mut looks: u32 = 0;
        while !holds() {
            self.0.settle();
            std::thread::sleep(LOOK_EVERY);
            looks += 1;
            if let Some(patience) = patience
                && looks == 50
            {
                self.0.advance(patience + Duration::from_millis(100));
            }
        }
    }
}

/// A server without a port.
#[pyclass(unsendable, module = "flask_shardcast._native")]
pub(crate) struct Kit {
    server: Rc<TestServer>,
    courier: Arc<Courier>,
    front: Arc<Front>,
    post: Arc<Mutex<Post>>,
}

/// A client in one namespace.
#[pyclass(unsendable, module = "flask_shardcast._native")]
pub(crate) struct KitClient {
    client: TestClient,
    kit: Py<Kit>,
}

impl Kit {
    pub(crate) fn new(server: Server, courier: Arc<Courier>, front: Arc<Front>) -> PyResult<Kit> {
        let server = TestServer::new(server).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let server = Rc::new(server);
        SERVERS.with_borrow_mut(|servers| servers.push((Arc::clone(&courier), Rc::clone(&server))));
        let post = Arc::new(Mutex::new(server.handle().post()));
        Ok(Kit { server, courier, front, post })
    }

    /// Lets everything happen that can: on the shards, and in handlers, in turns.
    fn run(&self, py: Python<'_>) {
        // A handler may use the test client of another server, or of this one.
        let is_outermost = pool::own_post().is_none();
        pool::sit(&self.post);
        loop {
            self.server.settle();
            let mut has_run = false;
            while let Some(job) = self.courier.take() {
                self.front.run(py, job, &self.post);
                pool::send(py, &self.post);
                has_run = true;
            }
            if !has_run {
                break;
            }
        }
        if is_outermost {
            pool::rise();
        }
    }
}

fn auth_of(auth: &Bound<'_, PyAny>) -> PyResult<RawJson> {
    let text = if auth.is_none() { "{}".to_owned() } else { Encoded::one(auth, None)?.text };
    RawJson::new(text).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

#[pymethods]
impl Kit {
    /// A client in a namespace, or nothing if it is refused.
    fn connect(
        slf: &Bound<'_, Kit>,
        namespace: &str,
        auth: &Bound<'_, PyAny>,
    ) -> PyResult<Option<KitClient>> {
        let kit = slf.borrow();
        let client = kit.server.client().auth(&auth_of(auth)?).connect(namespace);
        kit.run(slf.py());
        Ok(client
            .ok()
            .filter(TestClient::is_connected)
            .map(|client| KitClient { client, kit: slf.clone().unbind() }))
    }

    /// Does what other threads have asked of the server meanwhile.
    fn settle(&self, py: Python<'_>) {
        self.run(py);
    }

    /// Lets time pass for the server.
    fn advance(&self, py: Python<'_>, seconds: f64) {
        self.server.advance(Duration::from_secs_f64(seconds.max(0.0)));
        self.run(py);
    }
}

#[pymethods]
impl KitClient {
    #[getter]
    fn sid(&self) -> String {
        self.client.id()
    }

    fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    fn emit(&self, py: Python<'_>, event: &str, data: &Bound<'_, PyTuple>) -> PyResult<()> {
        let encoded = Encoded::of(data, None)?;
        self.client.emit(event, &encoded);
        self.kit.bind(py).borrow().run(py);
        Ok(())
    }

    /// The arguments of the answer, if one came.
    fn call(&self, py: Python<'_>, event: &str, data: &Bound<'_, PyTuple>) -> PyResult<Option<Py<PyTuple>>> {
        let encoded = Encoded::of(data, None)?;
        let asked = self.client.emit_with_ack(event, &encoded);
        self.kit.bind(py).borrow().run(py);
        let Some(answer) = self.client.answer(asked) else { return Ok(None) };
        let args = answer.args();
        Ok(Some(convert::read_args(py, args.raw(), args.attachments())?.unbind()))
    }

    /// Name and arguments of what has come since the last call.
    fn received(&self, py: Python<'_>) -> PyResult<Vec<(String, Py<PyTuple>)>> {
        let mut received = Vec::new();
        for event in self.client.received() {
            let args = event.args();
            let args = convert::read_args(py, args.raw(), args.attachments())?;
            received.push((event.name().to_owned(), args.unbind()));
        }
        Ok(received)
    }

    /// The same connection in another namespace, or nothing if it is refused.
    fn join(&self, py: Python<'_>, namespace: &str, auth: &Bound<'_, PyAny>) -> PyResult<Option<KitClient>> {
        let client = self.client.join_namespace(namespace, &auth_of(auth)?);
        self.kit.bind(py).borrow().run(py);
        let client = client.ok().filter(TestClient::is_connected);
        Ok(client.map(|client| KitClient { client, kit: self.kit.clone_ref(py) }))
    }

    fn disconnect(&self, py: Python<'_>) {
        self.client.disconnect();
        self.kit.bind(py).borrow().run(py);
    }
}

/// A post that nobody sends any more would keep what was gathered for a server that has gone.
impl Drop for Kit {
    fn drop(&mut self) {
        let courier = &self.courier;
        SERVERS.with_borrow_mut(|servers| servers.retain(|(own, _)| !Arc::ptr_eq(own, courier)));
        pool::push_out(&self.post);
    }
}
