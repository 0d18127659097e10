//! `shardcast top`: what a server's shards do now, in the terminal, from the figures that its operators' listener has for Prometheus.
//!
//! Reading order: `figures` (what `/metrics` says), `screen` (two readings side by side, as text), and here who asks, and how often.

mod figures;
mod screen;

use std::io::{IsTerminal, Write};
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use crate::client::{Address, Trust, Way, client_config, now};
use figures::Figures;

/// Where `admin_bind` is in the guides.
const ADDRESS: &str = "127.0.0.1:9090";
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A shorter interval would measure its own asking.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Readings in a row that may fail before it ends: a server that is started anew is away for a moment.
const FAILURES_MAX: u32 = 30;

/// Show what a server's shards do now
///
/// It asks the operators' listener (admin_bind) for /metrics, and shows rates between two readings. Ctrl-C ends it.
#[derive(Args, Debug)]
pub(crate) struct TopOptions {
    /// The operators' listener: 127.0.0.1:9090, https://host:port, or unix:PATH [env: SHARDCAST_ADMIN_BIND] [default: 127.0.0.1:9090]
    address: Option<String>,
    /// The server's admin_token; others see it in the list of processes, so set the variable [env: SHARDCAST_ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The server's admin_user and admin_password
    #[arg(long, value_name = "NAME:PASSWORD", conflicts_with = "token")]
    user: Option<String>,
    /// From one reading to the next
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = super::bench::duration)]
    interval: Duration,
    /// Show one interval, and end
    #[arg(long)]
    once: bool,
    /// A PEM file with the certificate of an authority of your own
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Who is asked, and with which words.
struct Source {
    shown: String,
    way: Way,
    request: Vec<u8>,
}

/// Shows until it is ended, or until the server has been away for long.
pub(crate) fn run(options: &TopOptions) -> Result<ExitCode, String> {
    let source = options.source()?;
    let interval = options.interval.max(INTERVAL_MIN);
    let mut before = source.read()?;
    let mut failures = 0;
    let is_terminal = std::io::stdout().is_terminal() && !options.once;
    loop {
        pause(interval);
        let text = match source.read() {
            Ok(figures) => {
                failures = 0;
                let text = screen::draw(&source.shown, &before, &figures);
                before = figures;
                text
            }
            Err(fault) if options.once || failures == FAILURES_MAX => return Err(fault),
            Err(fault) => {
                failures += 1;
                format!("{}\n{fault}\n", source.shown)
            }
        };
        let text = if is_terminal { screen::in_place(&text) } else { text };
        let mut out = std::io::stdout();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() || options.once {
            // Whoever reads may have gone.
            return Ok(ExitCode::SUCCESS);
        }
    }
}

impl TopOptions {
    fn source(&self) -> Result<Source, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let address = self.address.clone().or_else(|| variable("SHARDCAST_ADMIN_BIND"));
        let address = address.unwrap_or_else(|| ADDRESS.to_owned());
        let login = match (&self.token, &self.user) {
            (Some(token), _) => Some(format!("Bearer {token}")),
            (None, Some(user)) => Some(format!("Basic {}", STANDARD.encode(user))),
            (None, None) => variable("SHARDCAST_ADMIN_TOKEN").map(|token| format!("Bearer {token}")),
        };
        if login.as_ref().is_some_and(|login| login.chars().any(char::is_control)) {
            return Err("the token holds a control character, such as the end of a line".to_owned());
        }
        let (host, authority, address, is_secure) = place(&address)?;
        let tls = if is_secure {
            Some(Arc::new(client_config(Trust::SystemAnd(self.ca.as_deref()))?))
        } else {
            None
        };
        let login = login.map_or_else(String::new, |login| format!("Authorization: {login}\r\n"));
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{login}\r\n");
        let shown = match &address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(_) => authority,
        };
        Ok(Source { shown, way: Way { address, host, tls }, request: request.into_bytes() })
    }
}

/// The name for TLS, what `Host` says, the address, and whether it speaks TLS.
fn place(text: &str) -> Result<(String, String, Address, bool), String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok((
            "localhost".to_owned(),
            "localhost".to_owned(),
            Address::Unix(PathBuf::from(path)),
            false,
        ));
    }
    let refuse = |why: &str| format!("{text:?} {why}; write 127.0.0.1:9090, https://host:port or unix:PATH");
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = url::Url::parse(&with_scheme).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let (host, port) = (url.host_str().ok_or_else(|| refuse("names no host"))?, url.port_or_known_default());
    let port = port.ok_or_else(|| refuse("names no port"))?;
    let is_secure = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(refuse("is neither http nor https")),
    };
    let authority = format!("{host}:{port}");
    let mut found =
        authority.to_socket_addrs().map_err(|error| refuse(&format!("has no address: {error}")))?;
    let address = found.next().ok_or_else(|| refuse("has no address"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), authority, Address::Tcp(address), is_secure))
}

impl Source {
    fn read(&self) -> Result<Figures, String> {
        let end = now() + PATIENCE;
        let shown = &self.shown;
        let exchange = self.way.open(end).and_then(|mut wire| wire.exchange(&self.request, end));
        let answer = exchange.map_err(|failure| {
            format!(
                "{shown}: {failure}; is admin_bind set, and is it this address? Clients' port has no figures"
            )
        })?;
        match answer.status {
            200 => Figures::read(&answer.body, now()).ok_or_else(|| {
                format!("{shown}: no figures of shardcast at /metrics; this is another server's")
            }),
            401 | 403 => Err(format!(
                "{shown}: {}: give --token or --user, as admin_token or admin_user say",
                answer.status
            )),
            404 => Err(format!(
                "{shown}: 404: that is not the operators' listener (admin_bind), or an older server"
            )),
            status => Err(format!("{shown}: {status}: {}", answer.body.trim())),
        }
    }
}

/// Waits; nobody sends.
fn pause(interval: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(interval);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_in_four_ways() {
        let rows = [
            ("127.0.0.1:9090", "127.0.0.1:9090", false),
            ("http://127.0.0.1:9090", "127.0.0.1:9090", false),
            ("https://127.0.0.1", "127.0.0.1:443", true),
            ("[::1]:9090", "[::1]:9090", false),
            ("unix:/run/shardcast/admin", "localhost", false),
        ];
        for (text, authority, is_secure) in rows {
            let (host, own_authority, address, own_is_secure) = place(text).unwrap();
            assert_eq!((own_authority.as_str(), own_is_secure), (authority, is_secure), "{text}");
            assert!(!host.contains('['), "{text}");
            assert_eq!(matches!(address, Address::Unix(_)), text.starts_with("unix:"), "{text}");
        }
        for (text, expected) in [
            ("ftp://a:1", "neither http nor https"),
            ("http://", "cannot be read"),
            ("a b", "cannot be read"),
        ] {
            let said = place(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
