//! The browser client's files below an endpoint's path, as Node's `serveClient` serves them.

use std::borrow::Cow;

use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::http::etag;
use crate::protocol::http::head::Head;
use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::value::files::FileRequest;
use crate::shard::value::kinds::RequestRefused;

/// The files of the bundle; nothing else of its folder is served.
const FILES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// What every answer but a 304 carries: the browser asks each time whether its copy is the present one.
pub(crate) const CACHE_CONTROL: &str = "public, max-age=0";

impl Tables {
    /// Answers a request for a file of the client bundle. False when it is for something else.
    pub(crate) fn answer_bundle(&mut self, key: Key, endpoint: u8, head: &Head<'_, '_>) -> bool {
        let table = self.endpoint(endpoint);
        let rest = head.path.strip_prefix(table.options.path.as_str());
        let Some(name) = FILES.into_iter().find(|name| rest == Some(name)) else { return false };
        let has_folder = !table.options.client_bundle.as_os_str().is_empty();
        let built_in = built_in(name).filter(|_| !has_folder && !table.is_raw);
        if !table.options.serve_client || !has_folder && built_in.is_none() {
            self.refuse_bundle(key, head);
            return true;
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            self.respond(key, &Response::new(Status::METHOD_NOT_ALLOWED).header("allow", "GET, HEAD"));
            return true;
        }
        let known = head.headers.get("if-none-match");
        if let Some(bytes) = built_in {
            self.answer_built_in(key, endpoint, (name, bytes), known);
            return true;
        }
        if let (Some(known), Some(tag)) = (known, &table.bundle_tag)
            && etag::if_none_match(known, tag)
        {
            let response = self.vary_headers(key, endpoint).into_iter();
            let response = response.fold(Response::new(Status::NOT_MODIFIED), |response, (name, value)| {
                response.header(name, value)
            });
            self.respond(key, &response);
            return true;
        }
        let folder = table.options.client_bundle.clone();
        let request = FileRequest {
            content_type: Cow::Borrowed(content_type(name)),
            if_none_match: known.map(str::to_owned),
            ranges: None,
            tag: table.bundle_tag.clone(),
            headers: self.vary_headers(key, endpoint),
            missing: Some(folder.join(name)),
        };
        self.await_file(key, request, name, folder);
        true
    }

    /// The client that is compiled in: never compressed, so that it costs nothing.
    fn answer_built_in(
        &mut self,
        key: Key,
        endpoint: u8,
        (name, bytes): (&'static str, &'static [u8]),
        known: Option<&str>,
    ) {
        let tag = format!("\"{VERSION}\"");
        let response = match known.is_some_and(|known| etag::if_none_match(known, &tag)) {
            true => Response::new(Status::NOT_MODIFIED),
            false => Response::with_content(content_type(name), Cow::Borrowed(bytes)),
        };
        let headers = self.vary_headers(key, endpoint).into_iter();
        let response = response.header("etag", tag).header("cache-control", CACHE_CONTROL);
        self.respond(key, &headers.fold(response, |response, (name, value)| response.header(name, value)));
    }

    /// A cache must not give a page of another origin what it kept from one without: the grant says so where there is one.
    fn vary_headers(&self, key: Key, endpoint: u8) -> Vec<(&'static str, String)> {
        let is_unsaid = self.heeds_origins(endpoint) && !self.has_grant(key);
        is_unsaid.then(|| ("Vary", "Origin".to_owned())).into_iter().collect()
    }

    /// A page asks for the client, as Node's server would serve it, and this server was given none.
    fn refuse_bundle(&mut self, key: Key, head: &Head<'_, '_>) {
        tracing::warn!(
            target: ENGINEIO,
            path = head.path,
            "answered 404: the server has no copy of the browser client; build it with the feature client and leave serve_client on, let \
             client_bundle name a folder like npm's socket.io-client/dist, or load the client from elsewhere"
        );
        self.count_refused(RequestRefused::NoClient);
        let response = Response::text(
            "this server has no copy of the browser client: set client_bundle to a folder like npm's \
             socket.io-client/dist, or load the client from elsewhere",
        );
        self.respond(key, &response.with_status(Status::NOT_FOUND));
    }
}

/// The version of the client that is compiled in.
#[cfg(feature = "client")]
const VERSION: &str = "4.8.4";
#[cfg(not(feature = "client"))]
const VERSION: &str = "";

/// A file of the client that is compiled in. The one that is not minified is given as the one that is.
#[cfg(feature = "client")]
fn built_in(name: &str) -> Option<&'static [u8]> {
    match name {
        "socket.io.js" | "socket.io.min.js" => {
            Some(include_bytes!("../../../assets/socket.io-client/socket.io.min.js"))
        }
        "socket.io.esm.min.js" => {
            Some(include_bytes!("../../../assets/socket.io-client/socket.io.esm.min.js"))
        }
        _ => None,
    }
}

#[cfg(not(feature = "client"))]
fn built_in(_: &str) -> Option<&'static [u8]> {
    None
}

fn content_type(name: &str) -> &'static str {
    if name.ends_with(".map") {
        "application/json; charset=utf-8"
    } else {
        "application/javascript; charset=utf-8"
    }
}
