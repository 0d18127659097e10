//! A process that serves nobody, and sends through a message queue: `SocketIO(message_queue='redis://')` without an application.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use shardcast::{Config, Emitting, EngineOptions, QueueUrl};

use crate::front::write;

/// The way into a queue.
#[pyclass(frozen, module = "flask_shardcast._native")]
pub(crate) struct Emitter {
    emitter: shardcast::Emitter,
}

#[pymethods]
impl Emitter {
    #[new]
    fn new(py: Python<'_>, url: &str, channel: &str) -> PyResult<Emitter> {
        let message_queue = QueueUrl::from(url);
        let engine = EngineOptions { message_queue, channel: channel.to_owned(), ..EngineOptions::default() };
        let config = Config { engine, ..Config::default() };
        let emitter = py.detach(|| shardcast::Emitter::new(&config));
        Ok(Emitter { emitter: emitter.map_err(|error| PyOSError::new_err(error.to_string()))? })
    }

    /// Sends an event, and waits until the broker has it.
    #[pyo3(signature = (event, data, namespace, to = None, skip = None, codec = None, default = None))]
    #[expect(clippy::too_many_arguments, reason = "what Flask-SocketIO's emit has")]
    fn emit(
        &self,
        event: &str,
        data: &Bound<'_, PyAny>,
        namespace: &str,
        to: Option<Vec<String>>,
        skip: Option<Vec<String>>,
        codec: Option<&Bound<'_, PyAny>>,
        default: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let encoded = write(data, codec, default)?;
        let mut whom = match to.as_deref() {
            None => self.emitter.namespace(namespace),
            // An empty list of rooms is nobody.
            Some([]) => return Ok(()),
            Some([first, others @ ..]) => self.emitter.to(namespace, first).to_all(others),
        };
        for room in skip.unwrap_or_default() {
            whom = whom.except(room);
        }
        wait(data.py(), whom.emit(event, &encoded))
    }

    fn enter_room(&self, py: Python<'_>, sid: &str, room: &str, namespace: &str) -> PyResult<()> {
        wait(py, self.emitter.to(namespace, sid).join(room))
    }

    fn leave_room(&self, py: Python<'_>, sid: &str, room: &str, namespace: &str) -> PyResult<()> {
        wait(py, self.emitter.to(namespace, sid).leave(room))
    }

    fn close_room(&self, py: Python<'_>, room: &str, namespace: &str) -> PyResult<()> {
        wait(py, self.emitter.to(namespace, room).leave(room))
    }

    fn disconnect(&self, py: Python<'_>, sid: &str, namespace: &str) -> PyResult<()> {
        wait(py, self.emitter.to(namespace, sid).disconnect())
    }
}

fn wait(py: Python<'_>, emitting: Emitting) -> PyResult<()> {
    py.detach(|| emitting.wait()).map_err(|error| PyOSError::new_err(error.to_string()))
}
