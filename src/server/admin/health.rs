//! What probes ask: `/livez`, whether the process should be left alone, and `/readyz`, whether it should get new clients.

use std::time::Duration;

use crate::protocol::http::method::Method;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::server::admin::{AdminRoutes, Desk};
use crate::shard::user::sleep::sleep;

/// How long every shard may take to come round to its inbox. A probe of Kubernetes waits one second by itself, so ask it for two.
const PULSE_PATIENCE: Duration = Duration::from_secs(1);

/// From one look at the answers to the next.
const PULSE_PAUSE: Duration = Duration::from_millis(5);

pub(super) fn register(routes: &mut AdminRoutes, desk: &Desk) {
    routes.about("/livez", "200 while every shard answers within a second, else 503 with the silent ones");
    routes.about("/readyz", "200 while new clients may come, else 503 with the reason in a word");
    routes.open_to_all("/livez");
    routes.open_to_all("/readyz");
    let alive = desk.clone();
    routes.method_async(Method::Get, "/livez", move |_| {
        let desk = alive.clone();
        async move { livez(&desk).await }
    });
    let ready = desk.clone();
    routes.method(Method::Get, "/readyz", move |_| match ready.unready() {
        None => plain(Status::OK, "ready".to_owned()),
        Some(reason) => plain(Status::SERVICE_UNAVAILABLE, reason.to_owned()),
    });
}

impl Desk {
    /// Why no new client should be sent here, in a word; `None` when they may come.
    pub(super) fn unready(&self) -> Option<&'static str> {
        let shared = self.handle.shared()?;
        if shared.mesh.is_stopping() {
            return Some("draining");
        }
        let is_away = self.config().bus_required && shared.mesh.links.iter().any(|link| !link.is_up());
        is_away.then_some("bus")
    }
}

async fn livez(desk: &Desk) -> Response {
    let Some(shared) = desk.handle.shared() else {
        return plain(Status::SERVICE_UNAVAILABLE, "starting".to_owned());
    };
    let mesh = &shared.mesh;
    let pulse = mesh.send_pulse();
    let mut waited = Duration::ZERO;
    loop {
        // While the server stops, shards end one after the other, as they should.
        let is_missed = |shard: &_| !(mesh.is_stopping() && mesh.is_gone(*shard));
        let silent: Vec<usize> = pulse.silent().filter(is_missed).map(|shard| shard.index()).collect();
        if silent.is_empty() {
            return plain(Status::OK, "alive".to_owned());
        }
        if waited >= PULSE_PATIENCE {
            tracing::error!(shards = ?silent, "answered 503 to a probe: these shards did not answer within a second");
            return plain(Status::SERVICE_UNAVAILABLE, format!("silent shards: {silent:?}"));
        }
        sleep(PULSE_PAUSE).await;
        waited += PULSE_PAUSE;
    }
}

fn plain(status: Status, words: String) -> Response {
    Response::text(words + "\n").with_status(status).header("cache-control", "no-store")
}
