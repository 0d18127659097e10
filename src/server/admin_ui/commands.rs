//! What the page asks to be done: sockets join, leave, are disconnected or sent an event, in all processes.
//!
//! What is wrong with a command is logged, and nothing is done. The page is not told, as it waits for no answer: it sees what has
//! happened to sockets by what it hears of them.

use std::sync::Arc;

use crate::base::limits::NAMESPACE_BYTES_MAX;
use crate::base::log::SOCKETIO;
use crate::base::shown::Shown;
use crate::protocol::socketio::event::Args;
use crate::server::admin_ui::Desk;
use crate::server::namespace::Namespace;
use crate::shard::user::context::Context;
use crate::shard::user::recipients::Recipients;
use crate::shard::value::room::ROOM_NAME_BYTES_MAX;

/// What the page can ask.
const COMMANDS: [&str; 4] = ["join", "leave", "_disconnect", "emit"];

pub(super) fn register(io: &mut Namespace<'_>, desk: &Arc<Desk>) {
    for command in COMMANDS {
        let is_read_only = desk.is_read_only;
        io.on_raw(command, move |cx, args| obey(cx, command, args, is_read_only));
    }
}

/// One command, read and checked.
struct Command<'a> {
    namespace: String,
    /// Whom it concerns: the members of a room, a socket's id being one, or everybody.
    filter: Option<String>,
    what: What<'a>,
}

enum What<'a> {
    Join(String),
    Leave(String),
    Disconnect { must_close: bool },
    Emit { event: String, args: Args<'a> },
}

fn obey(cx: &mut Context<'_>, name: &str, args: Args<'_>, is_read_only: bool) {
    let sid = cx.id();
    if is_read_only {
        tracing::info!(target: SOCKETIO, page = %sid.brief(), command = name, "not done: admin_ui_read_only");
        return;
    }
    let command = match read(name, args) {
        Ok(command) => command,
        Err(fault) => {
            tracing::info!(target: SOCKETIO, page = %sid.brief(), command = name, "not done: {fault}");
            return;
        }
    };
    let Command { namespace, filter, what } = command;
    tracing::info!(
        target: SOCKETIO,
        page = %sid.brief(),
        command = name,
        namespace = %Shown(&namespace),
        whom = %Shown(filter.as_deref().unwrap_or("everybody")),
        "a command of Socket.IO's admin page"
    );
    let whom = || -> Recipients<'_> {
        match &filter {
            Some(room) => cx.to_in(&namespace, room),
            None => cx.broadcast_in(&namespace),
        }
    };
    match what {
        What::Join(room) => drop(whom().join(room)),
        What::Leave(room) => drop(whom().leave(room)),
        What::Disconnect { must_close: false } => drop(whom().disconnect()),
        What::Disconnect { must_close: true } => drop(whom().close()),
        What::Emit { event, args } => {
            let emitted = whom().emit(&event, args);
            tracing::debug!(target: SOCKETIO, ?emitted, "the admin page's event");
        }
    }
}

fn read<'a>(name: &str, args: Args<'a>) -> Result<Command<'a>, String> {
    let namespace = text(args, 0, "the namespace", NAMESPACE_BYTES_MAX)?;
    if !namespace.starts_with('/') {
        return Err("the namespace begins with no slash".to_owned());
    }
    let (filter, what) = match name {
        "emit" => {
            let event = text(args, 2, "the event's name", ROOM_NAME_BYTES_MAX)?;
            (filter(args, 1)?, What::Emit { event, args: args.skip(3) })
        }
        "_disconnect" => {
            let must_close = args.read(1).map_err(|error| format!("whether to close: {error}"))?;
            (filter(args, 2)?, What::Disconnect { must_close })
        }
        _ => {
            let room = text(args, 1, "the room", ROOM_NAME_BYTES_MAX)?;
            (filter(args, 2)?, if name == "join" { What::Join(room) } else { What::Leave(room) })
        }
    };
    Ok(Command { namespace, filter, what })
}

fn filter(args: Args<'_>, index: usize) -> Result<Option<String>, String> {
    match args.get(index) {
        None | Some("null" | "\"\"") => Ok(None),
        Some(_) => text(args, index, "the room or socket", ROOM_NAME_BYTES_MAX).map(Some),
    }
}

fn text(args: Args<'_>, index: usize, what: &str, bytes_max: usize) -> Result<String, String> {
    let text: String = args.read(index).map_err(|error| format!("{what}: {error}"))?;
    match text.len() > bytes_max {
        true => Err(format!("{what} has more than {bytes_max} bytes")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_whole_or_not_at_all() {
        let long = format!(r#""/","{}""#, "r".repeat(ROOM_NAME_BYTES_MAX + 1));
        let rows = [
            ("join", r#""/","r","id""#, Some(("/", Some("id"), "join r"))),
            ("join", r#""/","r""#, Some(("/", None, "join r"))),
            ("join", r#""/chat","r",null"#, Some(("/chat", None, "join r"))),
            ("leave", r#""/","r","""#, Some(("/", None, "leave r"))),
            ("leave", r#""/","r",7"#, None),
            ("join", r#""/""#, None),
            ("join", r#""nope","r""#, None),
            ("join", r#"7,"r""#, None),
            ("join", r#"null,"r""#, None),
            ("join", r#""/",{}"#, None),
            ("join", "", None),
            ("join", &long, None),
            ("_disconnect", r#""/",true,"id""#, Some(("/", Some("id"), "close"))),
            ("_disconnect", r#""/",false,"id""#, Some(("/", Some("id"), "disconnect"))),
            ("_disconnect", r#""/",false"#, Some(("/", None, "disconnect"))),
            ("_disconnect", r#""/","id""#, None),
            ("_disconnect", r#""/""#, None),
            ("emit", r#""/","lobby","note",1,{"a":2}"#, Some(("/", Some("lobby"), r#"emit note 1,{"a":2}"#))),
            ("emit", r#""/",null,"note""#, Some(("/", None, "emit note "))),
            ("emit", r#""/",["lobby"],"note""#, None),
            ("emit", r#""/",null,7"#, None),
            ("emit", r#""/",null"#, None),
        ];
        for (name, args, expected) in rows {
            let command = read(name, Args::of_elements(args, &[]));
            let found = command.ok().map(|Command { namespace, filter, what }| {
                let what = match what {
                    What::Join(room) => format!("join {room}"),
                    What::Leave(room) => format!("leave {room}"),
                    What::Disconnect { must_close: true } => "close".to_owned(),
                    What::Disconnect { must_close: false } => "disconnect".to_owned(),
                    What::Emit { event, args } => format!("emit {event} {}", args.raw()),
                };
                (namespace, filter, what)
            });
            let expected = expected.map(|(namespace, filter, what)| {
                (namespace.to_owned(), filter.map(str::to_owned), what.to_owned())
            });
            assert_eq!(found, expected, "{name} {args}");
        }
    }
}
