//! `shardcast doctor`: walks the way of a client from outside, and says of each part whether it is well and which line to change.
//!
//! Reading order: `place` (the URL), `request` and `talk` (what is said and heard), `look` (in which order), `seen`
//! (what was seen, as values), `verdicts` (what that means; it does not look).

mod look;
mod place;
mod report;
mod request;
mod seen;
mod talk;
mod verdicts;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::client::{self, Trust, client_config};
use look::Manner;
use place::Place;
use verdicts::Verdict;

/// Walk a client's way to a Socket.IO server, and say which line to change
///
/// Name, connection, TLS, proxy, handshake, polling, stickiness, large messages, upgrade, WebSocket, compression, own pages, pages of
/// other origins, and silence until the server's ping. It opens some twenty sessions, joins one namespace, sends no event, and works
/// with any Socket.IO server of version 3 or later.
///
/// Exit code 0: nothing that clients would meet. 1: a fault. 2: the command line makes no sense.
#[derive(Args, Debug)]
pub(crate) struct DoctorOptions {
    /// The server as clients reach it: https://app.example, localhost:5000
    url: String,
    /// The path of the endpoint [default: that of the URL, or /socket.io/]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The namespace to join
    #[arg(long, value_name = "NAME", default_value = "/")]
    namespace: String,
    /// What the connect handler gets, as JSON; others see it in the list of processes
    #[arg(long, value_name = "JSON")]
    auth: Option<String>,
    /// The origin of a page that is served elsewhere: https://page.example
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// A header of each request, such as 'Cookie: session=..'; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How long one answer may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::bench::duration)]
    timeout: Duration,
    /// How long silent connections are watched; the server's ping ends it sooner, and 0 leaves it out
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::bench::duration)]
    idle: Duration,
    /// A PEM file with the certificate of an authority of your own
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Write the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Headers that decide where a request ends or what it is, and are the doctor's own.
const HEADERS_OWN: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "origin",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "transfer-encoding",
    "upgrade",
];

/// Looks, judges, says.
pub(crate) fn run(options: &DoctorOptions) -> Result<ExitCode, String> {
    let manner = options.manner()?;
    let seen = look::look(&manner, &mut |part| report::progress(part));
    let findings = verdicts::judge(&seen);
    report::say(&manner.place, &findings, options.json);
    let is_faulty = findings.iter().any(|finding| finding.verdict == Verdict::Fault);
    Ok(if is_faulty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl DoctorOptions {
    fn manner(&self) -> Result<Manner, String> {
        let place = Place::read(&self.url, self.path.as_deref())?;
        if !self.namespace.starts_with('/') || self.namespace.contains([',', '?']) {
            return Err(format!(
                "--namespace {:?} must begin with a slash, and hold no comma",
                self.namespace
            ));
        }
        if let Some(auth) = &self.auth {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(auth)
                .map_err(|error| format!("--auth is no JSON object: {error}"))?;
        }
        let tls = if place.is_secure {
            Some(Arc::new(client_config(Trust::SystemAnd(self.ca.as_deref()))?))
        } else {
            None
        };
        Ok(Manner {
            place,
            namespace: self.namespace.clone(),
            auth: self.auth.clone(),
            origin: self.origin.as_deref().map(origin).transpose()?,
            headers: self.headers.iter().map(|text| header(text)).collect::<Result<_, _>>()?,
            patience: self.timeout,
            idle: self.idle,
            tls,
        })
    }
}

/// An origin as browsers send it.
fn origin(text: &str) -> Result<String, String> {
    let place = Place::read(text, None)
        .map_err(|_| format!("--origin {text:?} is none; write https://page.example"))?;
    if !text.contains("://") || text.trim_end_matches('/').matches('/').count() != 2 {
        return Err(format!("--origin {text:?} is a scheme, a host and a port; write {:?}", place.origin()));
    }
    Ok(place.origin())
}

fn header(text: &str) -> Result<String, String> {
    let (name, value) =
        client::header(text, &HEADERS_OWN).map_err(|why| format!("--header {text:?} {why}"))?;
    Ok(format!("{name}: {value}\r\n"))
}
