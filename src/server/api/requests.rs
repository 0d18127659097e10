//! A request to the HTTP API, read: from a body or a query to a value. No IO.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::base::limits::ATTACHMENTS_MAX;
use crate::protocol::socketio::encode::is_reserved_event;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::server::api::fields::{Fault, Fields, check_names};
use crate::server::api::table::{Code, ENTRIES, Verb};
use crate::shard::value::room::ROOM_NAME_BYTES_MAX;

/// Names in `to`, `except` or `rooms` of one request.
pub(crate) const API_NAMES_MAX: usize = 1000;

/// Requests in one batch.
pub(crate) const API_BATCH_MAX: usize = 1000;

/// Sockets or rooms in one answer.
pub(crate) const API_PAGE_MAX: usize = 1000;

/// How long clients may take to answer an `ask`.
pub(crate) const API_ASK_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Characters of a `reason`, which goes to the log.
const API_REASON_CHARS_MAX: usize = 128;

/// How long they may take unless it is said.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A request, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Emit {
        whom: Whom,
        event: String,
        args: OwnedArgs,
        is_volatile: bool,
    },
    Ask {
        whom: Whom,
        event: String,
        args: OwnedArgs,
        timeout: Duration,
    },
    Join {
        whom: Whom,
        rooms: Vec<String>,
    },
    Leave {
        whom: Whom,
        rooms: Vec<String>,
    },
    Disconnect {
        whom: Whom,
        closes: bool,
        reason: String,
    },
    Count(Whom),
    Sockets {
        whom: Whom,
        page: Page,
    },
    Rooms {
        whom: Whom,
        page: Page,
    },
    Info {
        endpoint: Option<String>,
    },
    OpenApi,
    /// In order; what cannot be read fails at its place.
    Batch(Vec<Result<Command, Fault>>),
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whom {
    /// Path of a further endpoint; none is the configuration's own.
    pub(crate) endpoint: Option<String>,
    pub(crate) namespace: String,
    /// None: everybody.
    pub(crate) to: Option<Vec<String>>,
    pub(crate) except: Vec<String>,
    pub(crate) is_local: bool,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) after: Option<String>,
}

impl Command {
    /// What it needs the scope of.
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Command::Emit { .. } => Verb::Emit,
            Command::Ask { .. } => Verb::Ask,
            Command::Join { .. } => Verb::Join,
            Command::Leave { .. } => Verb::Leave,
            Command::Disconnect { .. } => Verb::Disconnect,
            Command::Count(_) => Verb::Count,
            Command::Sockets { .. } => Verb::Sockets,
            Command::Rooms { .. } => Verb::Rooms,
            Command::Info { .. } => Verb::Info,
            Command::OpenApi => Verb::OpenApi,
            Command::Batch(_) => Verb::Batch,
        }
    }

    /// The endpoint that it names, and the namespace.
    pub(crate) fn place(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Command::Emit { whom, .. }
            | Command::Ask { whom, .. }
            | Command::Join { whom, .. }
            | Command::Leave { whom, .. }
            | Command::Disconnect { whom, .. }
            | Command::Count(whom)
            | Command::Sockets { whom, .. }
            | Command::Rooms { whom, .. } => (whom.endpoint.as_deref(), Some(&whom.namespace)),
            Command::Info { endpoint } => (endpoint.as_deref(), None),
            Command::OpenApi | Command::Batch(_) => (None, None),
        }
    }

    /// For how many requests it counts.
    pub(crate) fn cost(&self) -> u64 {
        if let Command::Batch(requests) = self { requests.len() as u64 } else { 1 }
    }
}

/// Reads the body of a POST.
pub(crate) fn read_body(verb: Verb, body: &[u8]) -> Result<Command, Fault> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Fault::new(Code::BadJson, "the body is not UTF-8, and so no JSON"))?;
    read_text(verb, text)
}

/// Reads the query of a GET: each parameter is a field, and one that may be a list may be repeated.
pub(crate) fn read_query<'q>(
    verb: Verb,
    pairs: impl Iterator<Item = (std::borrow::Cow<'q, str>, std::borrow::Cow<'q, str>)>,
) -> Result<Command, Fault> {
    let mut fields: Vec<(String, Value)> = Vec::new();
    for (name, value) in pairs {
        check_names(std::iter::once(&*name), verb.entry().fields)?;
        let is_list = matches!(&*name, "to" | "except");
        match fields.iter_mut().find(|(other, _)| *other == name) {
            Some((_, Value::Array(list))) => list.push(value.into()),
            Some(_) => return Err(Fault::at(Code::BadValue, &name, format!("{name} is there twice"))),
            None if is_list => fields.push((name.into_owned(), vec![value.into_owned()].into())),
            None => {
                let value = written(&name, &value);
                fields.push((name.into_owned(), value));
            }
        }
    }
    let object = Value::Object(fields.into_iter().collect());
    read_text(verb, &object.to_string())
}

/// What a parameter's text would be in JSON.
fn written(name: &str, text: &str) -> Value {
    match (name, text) {
        ("local", "true") => true.into(),
        ("local", "false") => false.into(),
        ("limit", text) => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

fn read_text(verb: Verb, text: &str) -> Result<Command, Fault> {
    let mut fields = Fields::read(text, verb.entry().fields)?;
    match verb {
        Verb::Emit => {
            let (whom, event, args) =
                (read_whom(&mut fields)?, read_event(&mut fields)?, read_args(&mut fields)?);
            Ok(Command::Emit { whom, event, args, is_volatile: read_flag(&mut fields, "volatile")? })
        }
        Verb::Ask => {
            let (whom, event, args) =
                (read_whom(&mut fields)?, read_event(&mut fields)?, read_args(&mut fields)?);
            Ok(Command::Ask { whom, event, args, timeout: read_timeout(&mut fields)? })
        }
        Verb::Join => {
            let (whom, rooms) = read_rooms(&mut fields)?;
            Ok(Command::Join { whom, rooms })
        }
        Verb::Leave => {
            let (whom, rooms) = read_rooms(&mut fields)?;
            Ok(Command::Leave { whom, rooms })
        }
        Verb::Disconnect => {
            let whom = read_explicit_whom(&mut fields)?;
            let closes = read_flag(&mut fields, "close")?;
            let reason: String = fields.take("reason", "a text")?.unwrap_or_default();
            if reason.chars().count() > API_REASON_CHARS_MAX {
                let message = format!("reason has more than {API_REASON_CHARS_MAX} characters");
                return Err(Fault::at(Code::BadValue, "reason", message));
            }
            Ok(Command::Disconnect { whom, closes, reason })
        }
        Verb::Count => Ok(Command::Count(read_whom(&mut fields)?)),
        Verb::Sockets => {
            Ok(Command::Sockets { whom: read_whom(&mut fields)?, page: read_page(&mut fields)? })
        }
        Verb::Rooms => Ok(Command::Rooms { whom: read_whom(&mut fields)?, page: read_page(&mut fields)? }),
        Verb::Info => Ok(Command::Info { endpoint: read_endpoint(&mut fields)? }),
        Verb::OpenApi => Ok(Command::OpenApi),
        Verb::Batch => read_batch(&mut fields),
    }
}

fn read_flag(fields: &mut Fields<'_>, name: &str) -> Result<bool, Fault> {
    fields.take(name, "true or false").map(Option::unwrap_or_default)
}

fn read_endpoint(fields: &mut Fields<'_>) -> Result<Option<String>, Fault> {
    let endpoint: Option<String> = fields.take("endpoint", "a text")?;
    if endpoint.as_ref().is_some_and(|path| !path.starts_with('/')) {
        let message = "an endpoint is named by its path, which begins with a slash: \"/socket.io/\"";
        return Err(Fault::at(Code::BadValue, "endpoint", message));
    }
    Ok(endpoint)
}

fn read_whom(fields: &mut Fields<'_>) -> Result<Whom, Fault> {
    let endpoint = read_endpoint(fields)?;
    let namespace: String = fields.take("namespace", "a text")?.unwrap_or_else(|| "/".to_owned());
    if !namespace.starts_with('/') {
        return Err(Fault::at(
            Code::BadValue,
            "namespace",
            "a namespace begins with a slash: \"/\", \"/chat\"",
        ));
    }
    Ok(Whom {
        endpoint,
        namespace,
        to: fields.texts("to", API_NAMES_MAX)?,
        except: fields.texts("except", API_NAMES_MAX)?.unwrap_or_default(),
        is_local: read_flag(fields, "local")?,
    })
}

/// Everybody must be said, lest a forgotten field end everybody's connection.
fn read_explicit_whom(fields: &mut Fields<'_>) -> Result<Whom, Fault> {
    let is_everyone = read_flag(fields, "everyone")?;
    let whom = read_whom(fields)?;
    match (&whom.to, is_everyone) {
        (None, false) => Err(Fault::at(
            Code::MissingField,
            "to",
            "say who is meant: \"to\", a room or a socket's id or a list of these, or \"everyone\": true",
        )),
        (Some(_), true) => {
            Err(Fault::at(Code::BadValue, "everyone", "\"to\" and \"everyone\" exclude each other"))
        }
        _ => Ok(whom),
    }
}

fn read_rooms(fields: &mut Fields<'_>) -> Result<(Whom, Vec<String>), Fault> {
    let whom = read_explicit_whom(fields)?;
    let rooms = fields.texts("rooms", API_NAMES_MAX)?;
    let rooms = rooms.ok_or_else(|| {
        Fault::at(Code::MissingField, "rooms", "rooms is missing: a text or a list of texts")
    })?;
    if let Some(long) = rooms.iter().find(|room| room.len() > ROOM_NAME_BYTES_MAX) {
        let message = format!("a room's name has {} bytes; the most is {ROOM_NAME_BYTES_MAX}", long.len());
        return Err(Fault::at(Code::BadValue, "rooms", message));
    }
    Ok((whom, rooms))
}

fn read_page(fields: &mut Fields<'_>) -> Result<Page, Fault> {
    let limit: Option<usize> = fields.take("limit", "a whole number")?;
    let limit = limit.unwrap_or(API_PAGE_MAX);
    if limit == 0 || limit > API_PAGE_MAX {
        return Err(Fault::at(Code::BadValue, "limit", format!("limit is 1 to {API_PAGE_MAX}")));
    }
    Ok(Page { limit, after: fields.take("after", "a text")? })
}

fn read_timeout(fields: &mut Fields<'_>) -> Result<Duration, Fault> {
    let millis: Option<u64> = fields.take("timeout_ms", "a whole number of milliseconds")?;
    let timeout = millis.map_or(ASK_TIMEOUT, Duration::from_millis);
    if timeout.is_zero() || timeout > API_ASK_TIMEOUT_MAX {
        let most = API_ASK_TIMEOUT_MAX.as_millis();
        return Err(Fault::at(Code::BadValue, "timeout_ms", format!("timeout_ms is 1 to {most}")));
    }
    Ok(timeout)
}

fn read_event(fields: &mut Fields<'_>) -> Result<String, Fault> {
    let event: Option<String> = fields.take("event", "a text")?;
    let event =
        event.ok_or_else(|| Fault::at(Code::MissingField, "event", "event is missing: the event's name"))?;
    if is_reserved_event(&event) {
        let message = format!("{event:?} is an event of Socket.IO itself, and cannot be emitted");
        return Err(Fault::at(Code::ReservedEvent, "event", message));
    }
    Ok(event)
}

/// The arguments stay the JSON that they are.
fn read_args(fields: &mut Fields<'_>) -> Result<OwnedArgs, Fault> {
    let binary: Vec<String> = fields.take("binary", "a list of texts in base64")?.unwrap_or_default();
    if binary.len() > ATTACHMENTS_MAX {
        let message = format!("binary has {} entries; the most is {ATTACHMENTS_MAX}", binary.len());
        return Err(Fault::at(Code::BadValue, "binary", message));
    }
    let mut attachments = Vec::new();
    for (index, text) in binary.iter().enumerate() {
        let bytes = STANDARD.decode(text).map_err(|_| {
            Fault::at(
                Code::BadValue,
                "binary",
                format!("entry {index} is not base64 (RFC 4648, with padding)"),
            )
        })?;
        attachments.push(Bytes::from(bytes));
    }
    let args = fields.raw("args").map_or("[]", RawValue::get);
    let elements: Vec<&RawValue> = serde_json::from_str(args).map_err(|_| {
        Fault::at(Code::BadValue, "args", "args is a list, of which each element is one argument")
    })?;
    check_placeholders(args, attachments.len())?;
    let mut raw = String::with_capacity(args.len());
    for (index, element) in elements.iter().enumerate() {
        raw.push_str(if index == 0 { "" } else { "," });
        raw.push_str(element.get());
    }
    Ok(OwnedArgs::of(raw, attachments))
}

/// Receivers take every placeholder for an attachment: each leads to one, and each attachment has one.
fn check_placeholders(args: &str, attachments: usize) -> Result<(), Fault> {
    // A name that is written with escapes may be one, too.
    if attachments == 0 && !args.contains("_placeholder") && !args.contains("\\u") {
        return Ok(());
    }
    let value: Value = serde_json::from_str(args)
        .map_err(|error| Fault::at(Code::BadValue, "args", format!("args cannot be read: {error}")))?;
    let mut is_used = vec![false; attachments];
    mark_placeholders(&value, &mut is_used)?;
    match is_used.iter().position(|is_used| !is_used) {
        Some(index) => Err(Fault::at(
            Code::BadValue,
            "binary",
            format!(
                "entry {index} is nowhere in args: put {{\"_placeholder\":true,\"num\":{index}}} where it belongs"
            ),
        )),
        None => Ok(()),
    }
}

fn mark_placeholders(value: &Value, is_used: &mut [bool]) -> Result<(), Fault> {
    match value {
        Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number =
                object.get("num").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
            match number.and_then(|number| is_used.get_mut(number)) {
                Some(is_used) => *is_used = true,
                None => {
                    return Err(Fault::at(
                        Code::BadValue,
                        "args",
                        "a placeholder has a num that is no place in binary; count from 0",
                    ));
                }
            }
            Ok(())
        }
        Value::Object(object) => object.values().try_for_each(|value| mark_placeholders(value, is_used)),
        Value::Array(list) => list.iter().try_for_each(|value| mark_placeholders(value, is_used)),
        _ => Ok(()),
    }
}

/// Words of what may be in a batch: what waits for clients, or lists, may not.
fn is_batched(verb: Verb) -> bool {
    matches!(verb, Verb::Emit | Verb::Join | Verb::Leave | Verb::Disconnect | Verb::Count)
}

fn read_batch(fields: &mut Fields<'_>) -> Result<Command, Fault> {
    let Some(raw) = fields.raw("requests") else {
        return Err(Fault::at(Code::MissingField, "requests", "requests is missing: a list of requests"));
    };
    let requests: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| {
        Fault::at(Code::BadValue, "requests", "requests is a list of requests, as in [{\"emit\":{..}}]")
    })?;
    if requests.is_empty() {
        return Err(Fault::at(Code::EmptyList, "requests", "requests is an empty list"));
    }
    if requests.len() > API_BATCH_MAX {
        let message = format!("requests has {} entries; the most is {API_BATCH_MAX}", requests.len());
        return Err(Fault::at(Code::BadValue, "requests", message));
    }
    Ok(Command::Batch(requests.into_iter().map(|request| read_batched(request.get())).collect()))
}

fn read_batched(text: &str) -> Result<Command, Fault> {
    let words: Vec<&str> =
        ENTRIES.iter().filter(|entry| is_batched(entry.verb)).map(|entry| entry.path).collect();
    let mut fields = Fields::read(text, &words)?;
    let mut found = words.iter().filter_map(|word| Some((*word, fields.raw(word)?)));
    let one = (found.next(), found.next());
    let (Some((word, raw)), None) = one else {
        let message = format!("a request of a batch is an object with one of {}", words.join(", "));
        return Err(Fault::new(Code::MissingField, message));
    };
    let entry = ENTRIES.iter().find(|entry| entry.path == word).expect("the word is of the table");
    read_text(entry.verb, raw.get())
}
