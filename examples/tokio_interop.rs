//! Handlers that await tokio: `cargo run --example tokio_interop`, then open http://127.0.0.1:5000.
//!
//! The page asks for a quotation, the handler asks another service for it with reqwest. That service is a route of
//! this very server, so that the example needs no network.

use std::sync::LazyLock;
use std::time::Duration;

use shardcast::http::{Response, Status};
use shardcast::{Config, Server, Socket};
use tokio::runtime::Runtime;

/// reqwest wants a tokio runtime around it. The shards themselves need none.
static TOKIO: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("tokio has its threads"));

/// How long the other service may take.
const PATIENCE: Duration = Duration::from_secs(5);

const QUOTATIONS: [&str; 3] = [
    "Simplicity is prerequisite for reliability.",
    "Premature optimization is the root of all evil.",
    "Make it work, make it right, make it fast.",
];

async fn quotation(service: String, number: usize) -> Result<String, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let response = client.get(format!("http://{service}/quotations/{number}")).send().await?;
    response.error_for_status()?.text().await
}

fn main() -> shardcast::Result<()> {
    let config = Config::load()?;
    let service = config.bind[0].clone();
    Server::new(config)
        .namespace("/", move |io| {
            let service = service.clone();
            io.on_async("quotation", move |_: Socket, number: usize| {
                let asked = TOKIO.spawn(quotation(service.clone(), number));
                // This shard serves others until tokio's threads have the answer.
                async move { asked.await?.map_err(Box::<dyn std::error::Error>::from) }
            });
        })
        .route("/quotations/{number}", |request| {
            let number = request.param("number").and_then(|number| number.parse::<usize>().ok());
            match number.and_then(|number| QUOTATIONS.get(number)) {
                Some(text) => Response::text(*text),
                None => Response::text("no such quotation").with_status(Status::NOT_FOUND),
            }
        })
        .route("/", |_| Response::html(include_str!("pages/tokio_interop.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}
