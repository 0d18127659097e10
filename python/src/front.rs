//! Runs jobs: calls what Python has for each kind, and puts what comes of it into the post.
//!
//! Python's side is a `Dispatcher` (`_dispatch.py`), whose methods are looked up once.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use shardcast::{Addressee, ConnectTicket, Handshake, OwnedArgs, Post, RawJson, Refused, Ticket};

use crate::client::{Client, Tables};
use crate::convert::{self, Encoded};
use crate::courier::lock;
use crate::exchange::Exchange;
use crate::job::{Ended, Job};

/// What a client is told whose connect handler could not be run.
const REFUSED: &str = "Connection rejected by server";

/// The methods of a `Dispatcher`, and what belongs to them.
pub(crate) struct Front {
    event: Py<PyAny>,
    connect: Py<PyAny>,
    disconnect: Py<PyAny>,
    answer: Py<PyAny>,
    request: Py<PyAny>,
    failed: Py<PyAny>,
    no_ack: Py<PyAny>,
    /// What reads and writes JSON in place of `convert`.
    codec: Option<Py<PyAny>>,
    /// What makes JSON of what `convert` does not know.
    default: Option<Py<PyAny>>,
    pub(crate) tables: Mutex<Tables>,
}

impl Front {
    pub(crate) fn new(
        dispatcher: &Bound<'_, PyAny>,
        codec: Option<Py<PyAny>>,
        default: Option<Py<PyAny>>,
    ) -> PyResult<Front> {
        Ok(Front {
            event: dispatcher.getattr("event")?.unbind(),
            connect: dispatcher.getattr("connect")?.unbind(),
            disconnect: dispatcher.getattr("disconnect")?.unbind(),
            answer: dispatcher.getattr("answer")?.unbind(),
            request: dispatcher.getattr("request")?.unbind(),
            failed: dispatcher.getattr("failed")?.unbind(),
            no_ack: dispatcher.getattr("NO_ACK")?.unbind(),
            codec,
            default,
            tables: Mutex::default(),
        })
    }

    /// Does one job.
    pub(crate) fn run(&self, py: Python<'_>, job: Job, post: &Mutex<Post>) {
        match job {
            Job::Event { ticket, name, args } => self.handle_event(py, ticket, (&name, &args), post),
            Job::Connect { ticket, auth, handshake } => {
                let decision = self.decide(py, &ticket, &auth, handshake);
                lock(post).decide(ticket, decision);
            }
            Job::Disconnect(ended) => self.end(py, ended),
            Job::Answer { callback, args } => {
                let args = self.read(py, args.args().raw(), args.args().attachments());
                let called = args.and_then(|args| self.answer.bind(py).call1((callback, args)));
                self.report(py, called.map(drop));
            }
            Job::Request { responder, head } => {
                let exchange = Py::new(py, Exchange::new(head, responder));
                let served = exchange.and_then(|exchange| self.request.bind(py).call1((exchange,)));
                self.report(py, served.map(drop));
            }
        }
    }

    fn handle_event(
        &self,
        py: Python<'_>,
        ticket: Ticket,
        (name, args): (&str, &OwnedArgs),
        post: &Mutex<Post>,
    ) {
        if ticket.is_gone() {
            return lock(post).finish(ticket);
        }
        let answer = self.call_handler(py, &ticket, name, args).and_then(|value| match value {
            Some(value) if ticket.wants_ack() && !value.is(&self.no_ack) => self.write(&value).map(Some),
            _ => Ok(None),
        });
        let mut post = lock(post);
        match answer {
            // What was written here is JSON, so it cannot be refused.
            Ok(Some(answer)) => drop(post.acknowledge(ticket, &answer)),
            Ok(None) => post.finish(ticket),
            Err(error) => {
                post.finish(ticket);
                drop(post);
                self.report(py, Err(error));
            }
        }
    }

    fn call_handler<'py>(
        &self,
        py: Python<'py>,
        ticket: &Ticket,
        name: &str,
        args: &OwnedArgs,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let args = args.args();
        let args = self.read(py, args.raw(), args.attachments())?;
        let client = lock(&self.tables).get(py, ticket.addressee());
        // A client that was refused, or whose disconnect handler has run, has no events.
        let Some(client) = client else { return Ok(None) };
        self.event.bind(py).call1((client, convert::name(py, name), args)).map(Some)
    }

    fn decide(
        &self,
        py: Python<'_>,
        ticket: &ConnectTicket,
        auth: &str,
        handshake: Arc<Handshake>,
    ) -> Result<(), Refused> {
        let refused = match self.ask(py, ticket.addressee(), auth, handshake) {
            Ok(None) => return Ok(()),
            Ok(Some(refused)) => refused,
            Err(error) => {
                self.report(py, Err(error));
                Refused::new(REFUSED)
            }
        };
        self.forget(ticket.addressee());
        Err(refused)
    }

    fn ask(
        &self,
        py: Python<'_>,
        socket: &Addressee,
        auth: &str,
        handshake: Arc<Handshake>,
    ) -> PyResult<Option<Refused>> {
        let client = lock(&self.tables).add(py, socket, handshake)?;
        let auth = if auth.is_empty() { py.None() } else { self.read(py, auth, &[])?.get_item(0)?.unbind() };
        let verdict = self.connect.bind(py).call1((client, auth))?;
        if verdict.is_none() {
            return Ok(None);
        }
        let (message, data): (String, Option<Bound<'_, PyAny>>) = verdict.extract()?;
        let mut refused = Refused::new(message);
        if let Some(data) = data.filter(|data| !data.is_none()) {
            let json = Encoded::one(&data, self.default.as_ref().map(|default| default.bind(py)))?;
            let json = RawJson::new(json.text).map_err(|error| PyValueError::new_err(error.to_string()))?;
            refused = refused.data(&json);
        }
        Ok(Some(refused))
    }

    fn end(&self, py: Python<'_>, ended: Ended) {
        let Ended { socket, reason, rooms } = ended;
        let client: Option<Py<Client>> = {
            let mut tables = lock(&self.tables);
            let client = tables.get(py, &socket);
            if client.is_some() {
                tables.end(&socket, rooms);
            }
            client
        };
        let Some(client) = client else { return };
        let called = self.disconnect.bind(py).call1((client, reason));
        self.report(py, called.map(drop));
        self.forget(&socket);
    }

    fn forget(&self, socket: &Addressee) {
        // Dropped after the lock is free: what is dropped may run Python code.
        let forgotten = lock(&self.tables).forget(socket);
        drop(forgotten);
    }

    /// Tells Python of an exception that nothing else has taken.
    fn report(&self, py: Python<'_>, result: PyResult<()>) {
        let Err(error) = result else { return };
        let told = self.failed.bind(py).call1((error.value(py),));
        if let Err(again) = told {
            tracing::error!(%error, %again, "a handler failed, and so did what logs it");
        }
    }

    /// The arguments of a packet as Python objects.
    pub(crate) fn read<'py>(
        &self,
        py: Python<'py>,
        raw: &str,
        attachments: &[Bytes],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let Some(codec) = &self.codec else { return convert::read_args(py, raw, attachments) };
        let attachments = attachments.iter().map(|bytes| PyBytes::new(py, bytes));
        let attachments = PyList::new(py, attachments.collect::<Vec<_>>())?;
        Ok(codec.bind(py).call_method1("read", (raw, attachments))?.cast_into::<PyTuple>()?)
    }

    /// Python objects as the arguments of a packet.
    pub(crate) fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<Encoded> {
        let py = data.py();
        write(
            data,
            self.codec.as_ref().map(|codec| codec.bind(py)),
            self.default.as_ref().map(|it| it.bind(py)),
        )
    }

    /// The socket of an id, if it is one of a client here.
    pub(crate) fn socket_of(&self, sid: &Bound<'_, PyAny>) -> Option<Addressee> {
        let sid = sid.cast::<PyString>().ok()?;
        lock(&self.tables).socket_of(sid.to_str().ok()?)
    }
}

/// Arguments as JSON, by what writes it: a codec, or this crate.
pub(crate) fn write(
    data: &Bound<'_, PyAny>,
    codec: Option<&Bound<'_, PyAny>>,
    default: Option<&Bound<'_, PyAny>>,
) -> PyResult<Encoded> {
    let Some(codec) = codec else { return Encoded::of(data, default) };
    let py = data.py();
    let args = match data.cast::<PyTuple>() {
        Ok(args) => args.clone(),
        Err(_) if data.is_none() => PyTuple::empty(py),
        Err(_) => PyTuple::new(py, [data])?,
    };
    let written = codec.call_method1("write", (args,))?;
    let (text, attachments): (String, Vec<Vec<u8>>) = written.extract()?;
    // A module of the application's may write what no JSON is: `NaN`, or an array that is cut off.
    if !text.is_empty() {
        RawJson::new(format!("[{text}]")).map_err(|error| {
            PyValueError::new_err(format!("json=..: what its dumps wrote is no JSON: {error}"))
        })?;
    }
    Ok(Encoded { text, attachments: attachments.into_iter().map(Bytes::from).collect() })
}
