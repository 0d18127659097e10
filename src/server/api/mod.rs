//! The HTTP API: what handlers can do, for programs without Socket.IO and without a broker, under `/api/v1/`.
//!
//! `table.rs` has its errors, paths and fields; `fields.rs` and `requests.rs` read requests to values; `access.rs` knows tokens and how often they
//! ask, `keys.rs` what was answered; `run.rs` does what is asked. Here it is joined, as one asynchronous route that takes its body itself:
//! a token is looked at before a byte of the body is. The state that all shards share is behind a lock, for requests of programs only.

mod access;
pub(crate) mod fields;
mod keys;
pub(crate) mod requests;
mod run;
pub(crate) mod table;

use std::sync::Arc;
// Programs ask some thousand times a second at most, and it is held while a table is looked at.
#[allow(clippy::disallowed_types)]
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::base::shown::Shown;
use crate::config::Config;
use crate::config::api::ApiBind;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::server::api::access::{Holders, Rate};
use crate::server::api::fields::Fault;
pub(crate) use crate::server::api::keys::API_KEYS_BYTES_MAX;
use crate::server::api::keys::{API_KEY_CHARS_MAX, Begun, Digest, Kept, Keys, Name};
use crate::server::api::requests::{Command, read_body, read_query};
use crate::server::api::run::Asker;
use crate::server::api::table::{Code, ENTRIES, Entry, Verb};
use crate::server::handle::Handle;
use crate::shard::user::current::spawn;
use crate::shard::user::owned_request::OwnedRequest;
use crate::shard::user::site::RouteHandler;
use crate::shard::user::streamed::Streamed;
use crate::shard::value::route::BodyError;

/// Where the paths begin.
pub(super) const PREFIX: &str = "/api/v1/";

/// Requests that are read or done at a time, in the whole process. Beyond it one is answered 503 with `Retry-After`.
pub(crate) const API_REQUESTS_MAX: usize = 256;

/// The description, as it is served.
pub(crate) const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Which are answered here: all but HEAD, which is answered as GET is, and OPTIONS, whose answer is that of every route.
const METHODS: [Method; 8] = [
    Method::Get,
    Method::Post,
    Method::Put,
    Method::Patch,
    Method::Delete,
    Method::Connect,
    Method::Trace,
    Method::Other,
];

/// What the requests of one server share.
struct Desk {
    handle: Handle,
    #[allow(clippy::disallowed_types)]
    shared: Mutex<Shared>,
}

struct Shared {
    rules: Arc<Rules>,
    keys: Keys,
    /// Of those who have asked, by their numbers.
    rates: Vec<(u32, Rate)>,
    running: usize,
}

/// What the settings say, as long as they are these.
struct Rules {
    config: Arc<Config>,
    holders: Holders,
}

/// A method, a path, and who answers.
pub(super) type ApiRoute = (Method, String, RouteHandler);

/// The routes of the API by where they are served. They are made once: all shards share what they keep.
#[derive(Clone, Default)]
pub(super) struct ApiRoutes {
    /// Where clients connect.
    pub(super) public: Vec<ApiRoute>,
    /// On the operators' listener.
    pub(super) admin: Vec<ApiRoute>,
}

impl ApiRoutes {
    /// Those that the configuration asks for; none without tokens.
    ///
    /// # Errors
    /// What of the settings does not go together.
    pub(super) fn new(config: &Config, handle: &Handle) -> Result<ApiRoutes, String> {
        if config.api_tokens.is_empty() {
            return Ok(ApiRoutes::default());
        }
        match config.api_bind {
            ApiBind::Public => Ok(ApiRoutes { public: routes(config, handle)?, admin: Vec::new() }),
            ApiBind::Admin if config.admin_bind.is_empty() => Err("api_tokens: the HTTP API is served on the operators' listener, which is off: set admin_bind, 127.0.0.1:9090 for \
                 example; or api_bind = \"public\", to serve it where clients connect"
                .to_owned()),
            ApiBind::Admin => Ok(ApiRoutes { public: Vec::new(), admin: routes(config, handle)? }),
        }
    }
}

/// The routes of the API.
fn routes(config: &Config, handle: &Handle) -> Result<Vec<ApiRoute>, String> {
    let holders = Holders::new(&config.api_tokens.parse()?);
    let rules = Arc::new(Rules { config: Arc::new(config.clone()), holders });
    let desk = Arc::new(Desk {
        handle: handle.clone(),
        #[allow(clippy::disallowed_types)]
        shared: Mutex::new(Shared { rules, keys: Keys::default(), rates: Vec::new(), running: 0 }),
    });
    let handler = move |request: OwnedRequest| {
        let desk = Arc::clone(&desk);
        let answer: crate::shard::user::site::LocalAnswer<Streamed> =
            Box::pin(async move { Streamed::whole(answer(desk, request).await) });
        answer
    };
    // The bound of the body is looked at here, so that its error has the shape of all others.
    let handler = RouteHandler::Upload(Arc::new(handler), usize::MAX);
    // What is not there is answered in the shape of all errors, also where nothing follows the prefix.
    let paths = [format!("{PREFIX}{{*path}}"), PREFIX.to_owned(), PREFIX.trim_end_matches('/').to_owned()];
    let of_path = |path: &String| METHODS.map(|method| (method, path.clone(), handler.clone()));
    Ok(paths.iter().flat_map(of_path).collect())
}

async fn answer(desk: Arc<Desk>, mut request: OwnedRequest) -> Response {
    match desk.serve(&mut request).await {
        Ok(response) => response,
        Err(fault) => respond(&fault),
    }
}

/// A fault as an answer.
fn respond(fault: &Fault) -> Response {
    let body = serde_json::json!({ "error": fault.shown() }).to_string();
    let status = Status::new(fault.code.status()).unwrap_or(Status::INTERNAL_SERVER_ERROR);
    let mut response = json(status, body);
    if let Some(seconds) = fault.retry_after {
        response = response.header("retry-after", seconds.to_string());
    }
    if fault.code == Code::Unauthorized {
        response = response.header("www-authenticate", "Bearer realm=\"shardcast\"");
    }
    response
}

fn json(status: Status, body: String) -> Response {
    let response = Response::new(status).header("content-type", "application/json");
    response.header("cache-control", "no-store").body(body.into_bytes())
}

fn find(request: &OwnedRequest) -> Result<&'static Entry, Box<Response>> {
    let path = request.path().strip_prefix(PREFIX).unwrap_or_default();
    let Some(entry) = ENTRIES.iter().find(|entry| entry.path == path) else {
        let message =
            format!("there is no {:?}; GET {PREFIX}openapi.json says what there is", Shown(request.path()));
        return Err(Box::new(respond(&Fault::new(Code::NotFound, message))));
    };
    let is_allowed = match request.method() {
        Method::Get | Method::Head => entry.may_get,
        Method::Post => entry.may_post,
        _ => false,
    };
    if is_allowed {
        return Ok(entry);
    }
    let allowed: Vec<&str> = [("GET, HEAD", entry.may_get), ("POST", entry.may_post)]
        .iter()
        .filter(|(_, may)| *may)
        .map(|(name, _)| *name)
        .collect();
    let allowed = allowed.join(", ");
    let fault = Fault::new(Code::MethodNotAllowed, format!("{} is asked by {allowed}", entry.path));
    Err(Box::new(respond(&fault).header("allow", allowed)))
}

impl Desk {
    async fn serve(self: &Arc<Self>, request: &mut OwnedRequest) -> Result<Response, Fault> {
        let entry = match find(request) {
            Ok(entry) => entry,
            Err(response) => return Ok(*response),
        };
        if entry.verb == Verb::OpenApi {
            return Ok(json(Status::OK, OPENAPI.to_owned()));
        }
        let authorization = request.header("authorization");
        let rules = self.rules();
        let (token, holder) = rules.holders.find(authorization.as_deref()).inspect_err(|_| {
            if authorization.is_some() {
                let address = request.address().map(|address| address.to_string());
                tracing::warn!(
                    address = address.as_deref().unwrap_or("-"),
                    "refused by the HTTP API: the token is none of api_tokens"
                );
            }
        })?;
        holder.check_scope(entry.scope)?;
        let turn = self.begin()?;
        if request.is_draining() {
            return Err(Fault::new(Code::Draining, "the server stops").retry_after(1));
        }
        let is_post = request.method() == Method::Post;
        let body =
            if is_post { self.body(request, rules.config.api_body_bytes_max).await? } else { Vec::new() };
        let command = match is_post {
            true => read_body(entry.verb, &body),
            false => request.with(|request| read_query(entry.verb, request.queries())),
        };
        let cost = command.as_ref().map_or(1, Command::cost);
        self.lock().rate(holder.number).take(cost, rules.config.api_rate, request.now())?;
        let command = command?;
        let key = if is_post { self.key(request, holder.number)? } else { None };
        let digest: Digest =
            Sha256::new().chain_update(entry.path).chain_update([0]).chain_update(&body).finalize().into();
        if let Some(key) = &key {
            let begun = self.lock().keys.begin(key, digest, request.now());
            match begun {
                Begun::Fresh => {}
                Begun::Again(kept) => {
                    let status = Status::new(kept.status).unwrap_or(Status::OK);
                    return Ok(json(status, kept.body.to_string()).header("idempotency-replayed", "true"));
                }
                Begun::Mismatch => {
                    let message = "this Idempotency-Key was sent with another request";
                    return Err(Fault::at(Code::IdempotencyMismatch, "Idempotency-Key", message));
                }
                Begun::InProgress => {
                    let message = "the request with this Idempotency-Key is not answered yet";
                    let fault = Fault::at(Code::IdempotencyInProgress, "Idempotency-Key", message);
                    return Err(fault.retry_after(1));
                }
            }
        }
        self.run(request, (rules, token), (command, key, turn)).await
    }

    /// Does what is asked in a task of its own: it is done to its end, and its answer kept, when the client has left.
    async fn run(
        self: &Arc<Self>,
        request: &OwnedRequest,
        (rules, token): (Arc<Rules>, usize),
        (command, key, turn): (Command, Option<Name>, Turn),
    ) -> Result<Response, Fault> {
        let (reply, answer) = oneshot::channel();
        let (desk, request) = (Arc::clone(self), request.clone());
        spawn(async move {
            let _turn = turn;
            let guard = Forget { desk: &desk, key };
            let asker =
                Asker { request: &request, holder: rules.holders.holder(token), handle: &desk.handle };
            let outcome = asker.run(command).await;
            let outcome = outcome.map(|done| serde_json::to_string(&done).unwrap_or_default());
            guard.finish(&outcome);
            // The client may have left.
            let _ = reply.send(outcome);
        });
        let lost = || Err(Fault::new(Code::Internal, "the request failed in the server; the log says why"));
        answer.await.unwrap_or_else(|_| lost()).map(|body| json(Status::OK, body))
    }

    fn key(&self, request: &OwnedRequest, token: u32) -> Result<Option<Name>, Fault> {
        let Some(key) = request.header("idempotency-key") else { return Ok(None) };
        if key.is_empty() || key.chars().count() > API_KEY_CHARS_MAX {
            let message = format!("Idempotency-Key has 1 to {API_KEY_CHARS_MAX} characters");
            return Err(Fault::at(Code::BadValue, "Idempotency-Key", message));
        }
        Ok(Some(Name { token, key: key.into() }))
    }

    async fn body(&self, request: &mut OwnedRequest, bytes_max: usize) -> Result<Vec<u8>, Fault> {
        let too_large = || {
            let message = format!("the body has more than api_body_bytes_max = {bytes_max} bytes");
            Fault::new(Code::TooLarge, message)
        };
        let length = request.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > bytes_max as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            match request.chunk().await {
                Ok(None) => return Ok(body),
                Ok(Some(piece)) if body.len() + piece.len() > bytes_max => return Err(too_large()),
                Ok(Some(piece)) => body.extend(piece),
                Err(BodyError::TooLarge) => return Err(too_large()),
                Err(BodyError::TooSlow) => {
                    return Err(Fault::new(Code::SlowBody, "the body came too slowly (header_timeout)"));
                }
                Err(error) => return Err(Fault::new(Code::BadJson, error.to_string())),
            }
        }
    }

    /// What the settings say now.
    fn rules(&self) -> Arc<Rules> {
        let config = self.handle.config();
        let mut shared = self.lock();
        if let Some(config) = config.filter(|config| !Arc::ptr_eq(config, &shared.rules.config)) {
            // They were checked when they were taken.
            let tokens = config.api_tokens.parse().unwrap_or_default();
            let holders = shared.rules.holders.renewed(&tokens);
            shared.rates.retain(|(number, _)| holders.has(*number));
            shared.rules = Arc::new(Rules { config, holders });
        }
        Arc::clone(&shared.rules)
    }

    /// Takes one of the places for requests, until what is returned is dropped.
    fn begin(self: &Arc<Self>) -> Result<Turn, Fault> {
        let mut shared = self.lock();
        if shared.running >= API_REQUESTS_MAX {
            let message = format!("{API_REQUESTS_MAX} requests are being done, which is the most");
            return Err(Fault::new(Code::Busy, message).retry_after(1));
        }
        shared.running += 1;
        Ok(Turn(Arc::clone(self)))
    }

    #[allow(clippy::disallowed_types)]
    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nobody panics while holding it: what it guards is whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// How often whoever has this number has asked.
    fn rate(&mut self, number: u32) -> &mut Rate {
        let place = self.rates.iter().position(|(known, _)| *known == number);
        let place = place.unwrap_or_else(|| {
            self.rates.push((number, Rate::default()));
            self.rates.len() - 1
        });
        &mut self.rates[place].1
    }
}

/// One of the places for requests.
struct Turn(Arc<Desk>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

/// The key of a request that is being done: it is forgotten if that does not come to an end.
struct Forget<'a> {
    desk: &'a Desk,
    key: Option<Name>,
}

impl Forget<'_> {
    /// What was answered is kept, unless it may succeed when it is tried again.
    fn finish(mut self, outcome: &Result<String, Fault>) {
        let Some(key) = self.key.take() else { return };
        let kept = match outcome {
            Ok(body) => Some(Kept { status: 200, body: body.as_str().into() }),
            Err(fault) if fault.code.status() < 500 => {
                let body = serde_json::json!({ "error": fault.shown() }).to_string();
                Some(Kept { status: fault.code.status(), body: body.into() })
            }
            Err(_) => None,
        };
        self.desk.lock().keys.finish(&key, kept);
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.desk.lock().keys.finish(&key, None);
        }
    }
}
