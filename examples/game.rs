//! A game that runs twenty times a second: `cargo run --example game`, then open http://127.0.0.1:5000 twice.
//!
//! Every game lives on one shard: the page connects with `shard_key` set to the game's name, so all its players are born
//! on the same core. Its state is plain data of that shard, without locks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use shardcast::http::Response;
use shardcast::{CloseReason, Config, Context, Namespace, Refused, Server, Sid, Tick};

const TICK: Duration = Duration::from_millis(50);
/// The arena's width and height.
const SIZE: f64 = 400.0;
const SPEED_PER_TICK: f64 = 6.0;

#[derive(Clone, Serialize)]
struct Player {
    name: String,
    x: f64,
    y: f64,
    #[serde(skip)]
    heading: (f64, f64),
}

/// The games of one shard.
type Games = Rc<RefCell<HashMap<String, HashMap<Sid, Player>>>>;

/// The name of a socket's game.
#[derive(Clone)]
struct In(String);

fn main() -> shardcast::Result<()> {
    Server::new(Config::load()?)
        .namespace("/", register)
        .route("/", |_| Response::html(include_str!("pages/game.html")))
        .static_folder("/pages", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pages"))
        .run()
}

fn register(io: &mut Namespace) {
    // This closure runs once on each shard.
    let games = Games::default();

    let (arriving, leaving, ticking) = (Rc::clone(&games), Rc::clone(&games), Rc::clone(&games));
    io.on_connect(move |cx: &mut Context| {
        let handshake = cx.handshake().ok_or(Refused::new("too late"))?;
        // An empty one names no shard.
        let game = handshake.query("shard_key").filter(|game| !game.is_empty());
        let game = game.ok_or(Refused::new("shard_key names the game"))?.into_owned();
        let name = handshake.query("name").unwrap_or("nobody".into()).into_owned();
        let player = Player { name, x: SIZE / 2.0, y: SIZE / 2.0, heading: (0.0, 0.0) };
        cx.join(&game);
        cx.set(In(game.clone()));
        arriving.borrow_mut().entry(game).or_default().insert(cx.id(), player);
        Ok::<(), Refused>(())
    });

    io.on("steer", move |cx: &mut Context, x: f64, y: f64| {
        let Some(In(game)) = cx.get() else { return };
        if let Some(player) = games.borrow_mut().get_mut(&game).and_then(|players| players.get_mut(&cx.id()))
        {
            player.heading = (x.clamp(-1.0, 1.0), y.clamp(-1.0, 1.0));
        }
    });

    io.on_disconnect(move |cx: &mut Context, _: CloseReason| {
        let Some(In(game)) = cx.get() else { return };
        let mut games = leaving.borrow_mut();
        if let Some(players) = games.get_mut(&game) {
            players.remove(&cx.id());
            if players.is_empty() {
                games.remove(&game);
            }
        }
    });

    io.every(TICK, move |tick: &Tick| {
        for (game, players) in ticking.borrow_mut().iter_mut() {
            // A shard that was held up has skipped ticks: the players move on by as much.
            let steps = 1.0 + tick.skipped() as f64;
            for player in players.values_mut() {
                player.x = (player.x + player.heading.0 * SPEED_PER_TICK * steps).clamp(0.0, SIZE);
                player.y = (player.y + player.heading.1 * SPEED_PER_TICK * steps).clamp(0.0, SIZE);
            }
            let seen: Vec<&Player> = players.values().collect();
            tick.to(game).emit("state", (tick.number(), seen));
        }
    });
}
