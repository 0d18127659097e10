//! `/`: the admin page for a browser, and for everybody else what there is.

use crate::protocol::http::response::Response;
use crate::server::admin::{AdminRoutes, page};

/// Registers it; what is registered later is not on the list.
pub(super) fn register(routes: &mut AdminRoutes) {
    let mut list = format!("shardcast {}\n\n", env!("CARGO_PKG_VERSION"));
    for (path, about) in &routes.index {
        list.push_str(&format!("{path:<12} {about}\n"));
    }
    list.push_str(&format!("{:<12} this list, and for a browser the admin page\n", "/"));
    routes.get("/", "this list, and for a browser the admin page", move |request| {
        let wants_html = request.headers().get_all("accept").any(|accept| accept.contains("text/html"));
        let answer = if wants_html { page::page() } else { Response::text(list.clone()) };
        answer.header("vary", "accept").header("cache-control", "no-store")
    });
}
