//! `/metrics`: what is counted, as Prometheus reads it, in the format that is asked for.

use crate::mesh::life::Phase;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::server::admin::exposition::{Format, Snapshot};
use crate::server::admin::process::{ProcessUsage, ThreadUsage};
use crate::server::admin::{AdminRoutes, Desk};
use crate::shard::value::stats::EndpointStats;

pub(super) fn register(routes: &mut AdminRoutes, desk: &Desk) {
    let desk = desk.clone();
    routes.get(
        "/metrics",
        "what is counted, for Prometheus: text 0.0.4, or OpenMetrics 1.0",
        move |request| {
            let accepted: Vec<&str> = request.headers().get_all("accept").collect();
            let format = Format::of_accept(&accepted.join(","));
            let Some(snapshot) = desk.snapshot() else {
                return Response::text("starting\n").with_status(Status::SERVICE_UNAVAILABLE);
            };
            Response::text(snapshot.text(format))
                .header("content-type", format.content_type())
                .header("cache-control", "no-store")
                .header("vary", "accept")
        },
    );
}

impl Desk {
    /// The figures now; nobody is asked. `None` before the server runs.
    fn snapshot(&self) -> Option<Snapshot> {
        let shared = self.handle.shared()?;
        // An endpoint is counted on each shard from the start, also while that shard is not made yet.
        let known = shared.counters.iter().find_map(|counters| counters.endpoints.get());
        let paths: Vec<&str> =
            known.map(|all| all.iter().map(|one| &*one.path).collect()).unwrap_or_default();
        let mut endpoints = Vec::new();
        for path in paths {
            for (shard, counters) in shared.counters.iter().enumerate() {
                let own = counters.endpoints.get().and_then(|all| all.iter().find(|one| *one.path == *path));
                let stats = own.map_or_else(EndpointStats::default, |one| one.snapshot());
                endpoints.push((shard, path.to_owned(), stats));
            }
        }
        let name = |path: Option<&str>| path.unwrap_or(self.handle.main_path()).to_owned();
        Some(Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            is_ready: self.unready().is_none(),
            is_draining: self.handle.phase() == Phase::Draining,
            started_unix_millis: shared.started_unix_millis,
            io: (shared.io, shared.io_reason.clone()),
            usage: ProcessUsage::now(),
            threads: shared
                .counters
                .iter()
                .map(|counters| ThreadUsage::of(counters.meters.thread.get()))
                .collect(),
            inboxes: shared.mesh.depths().collect(),
            shards: shared.counters.clone(),
            endpoints,
            certificates: (shared.certificate_ends)(),
            queues: shared
                .mesh
                .links
                .iter_with_paths()
                .map(|(path, link)| (name(path), link.snapshot()))
                .collect(),
        })
    }
}
