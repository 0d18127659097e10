//! The events of the scenarios `dashboard` and `ticks`, for `shardcast bench-server`.
//!
//! | event | the server |
//! |---|---|
//! | `watch` board | acknowledges, emits `board` with all values and `true`, then with what has changed and `false` |
//! | `set` board, key, value | sets the value |
//! | `play` room, hz, bytes | acknowledges, then emits `tick` with a number that counts up and a text of so many bytes, hz times a second |
//!
//! A board is `board-10` for ten events a second. All players of a room are on one shard: `shardcast bench` sends a `shard_key`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use shardcast::{CloseReason, Context, Namespace, StateError, StateRoom, Tick};

/// How often a second boards and games can be had.
const HZ: [u32; 6] = [1, 5, 10, 20, 30, 60];
/// The text that a tick carries.
const TICK_BYTES_MAX: usize = 1 << 20;

/// The games of one shard: of each room, how many players it has and what a tick carries.
type Games = Rc<RefCell<HashMap<(u32, String), (usize, Rc<str>)>>>;

/// Where a socket plays.
#[derive(Clone)]
struct Playing(u32, String);

/// Registers them.
pub(crate) fn register(io: &mut Namespace) {
    for hz in HZ {
        io.state_room(&format!("board-{hz}"), StateRoom::max_hz(f64::from(hz)).event("board"));
    }
    io.on("watch", |cx: &mut Context, board: &str| -> Result<bool, String> {
        if !HZ.iter().any(|hz| board == format!("board-{hz}")) {
            return Err(format!("{board} is no board; there are board-N with N of {HZ:?}"));
        }
        Ok(cx.join(board))
    });
    io.on("set", |cx: &mut Context, board: &str, key: &str, value: String| -> Result<(), StateError> {
        cx.state(board).set(key, &value)
    });
    let games = Games::default();
    let (joining, leaving) = (Rc::clone(&games), Rc::clone(&games));
    io.on("play", move |cx: &mut Context, room: String, hz: u32, bytes: usize| -> Result<(), String> {
        if !HZ.contains(&hz) || bytes > TICK_BYTES_MAX || cx.get::<Playing>().is_some() {
            return Err(format!("{hz} Hz and {bytes} bytes: hz is one of {HZ:?}, bytes at most {TICK_BYTES_MAX}, and one game a socket"));
        }
        cx.join(&room);
        cx.set(Playing(hz, room.clone()));
        let mut games = joining.borrow_mut();
        games.entry((hz, room)).or_insert_with(|| (0, "x".repeat(bytes).into())).0 += 1;
        Ok(())
    });
    io.on_disconnect(move |cx: &mut Context, _: CloseReason| {
        let Some(Playing(hz, room)) = cx.get() else { return };
        let (mut games, game) = (leaving.borrow_mut(), (hz, room));
        let Some((players, _)) = games.get_mut(&game) else { return };
        *players -= 1;
        if *players == 0 {
            games.remove(&game);
        }
    });
    for hz in HZ {
        let games = Rc::clone(&games);
        io.every(Duration::from_secs(1) / hz, move |tick: &Tick| {
            for ((_, room), (_, text)) in games.borrow().iter().filter(|game| game.0.0 == hz) {
                tick.to(room).this_shard().emit("tick", (tick.number(), &**text));
            }
        });
    }
}
