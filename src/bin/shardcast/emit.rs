//! `shardcast emit`, `join`, `leave` and `disconnect`: a word to the clients of other processes, through the message queue.
//!
//! Exit code 0: the broker has taken it. 1: it has not, or that is not known. 2: the command line is wrong.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use shardcast::{Config, EmitTo, Emitter, Emitting, Error, QueueFormats, RawJson, Result, ToArgs};

/// Where to say it, and to whom.
#[derive(Args, Debug)]
pub(crate) struct Whom {
    /// The broker, such as redis://localhost:6379/0; others see it in the list of processes, so set the variable if it has a password
    /// [env: SHARDCAST_MESSAGE_QUEUE]
    #[arg(short, long, value_name = "URL")]
    queue: Option<String>,
    /// The channel of the servers [env: SHARDCAST_CHANNEL] [default: flask-socketio]
    #[arg(short, long, value_name = "NAME")]
    channel: Option<String>,
    /// python, node, node-sharded or node-streams: what other servers speak; may be given more than once, and none says that there are
    /// no others [env: SHARDCAST_QUEUE_FORMATS] [default: python]
    #[arg(short, long = "format", value_name = "FORMAT")]
    formats: Vec<String>,
    /// The namespace
    #[arg(short, long, value_name = "NAME", default_value = "/")]
    namespace: String,
    /// A room whose members are meant, or a socket's id; may be given more than once
    #[arg(short, long = "room", value_name = "ROOM")]
    rooms: Vec<String>,
    /// A room whose members are not meant, or a socket's id; may be given more than once
    #[arg(short = 'x', long = "except", value_name = "ROOM")]
    except: Vec<String>,
    /// The path of a further endpoint
    #[arg(long, value_name = "PATH")]
    endpoint: Option<String>,
    /// How long the broker may take to take it
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = super::bench::duration)]
    timeout: Duration,
    /// A TOML file with the servers' configuration [env: SHARDCAST_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Send an event to the clients of all servers on a message queue
///
/// Without --room everybody in the namespace gets it. Each argument of the event is JSON, so a text has quotes of its own:
/// shardcast emit --queue redis://localhost:6379/0 --room news headline '"It works"' 42 '{"x": [1, 2]}'
///
/// Exit code 0: the broker has taken it. 1: it has not, or that is not known. 2: the command line makes no sense.
#[derive(Args, Debug)]
pub(crate) struct EmitOptions {
    /// The event's name
    event: String,
    /// Its arguments
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    args: Vec<String>,
    #[command(flatten)]
    whom: Whom,
}

/// Put clients into a room, wherever they are connected
///
/// Who is meant is said by --room, or all in the namespace by --everyone: shardcast join --room vIx7Cl3sXoDhmPSaAAAB vip
#[derive(Args, Debug)]
pub(crate) struct ChangeRoomOptions {
    /// The room
    #[arg(value_name = "NAME")]
    room: String,
    #[command(flatten)]
    everyone: Everyone,
    #[command(flatten)]
    whom: Whom,
}

/// Disconnect clients from the namespace, wherever they are connected
///
/// Who is meant is said by --room, or all in the namespace by --everyone.
#[derive(Args, Debug)]
pub(crate) struct DisconnectOptions {
    /// Close their connections, too
    #[arg(long)]
    close: bool,
    #[command(flatten)]
    everyone: Everyone,
    #[command(flatten)]
    whom: Whom,
}

#[derive(Args, Debug)]
struct Everyone {
    /// Everybody in the namespace
    #[arg(long, conflicts_with = "rooms", required_unless_present = "rooms")]
    everyone: bool,
}

/// Why it was not said.
pub(crate) enum Unsaid {
    /// The command line is wrong.
    Usage(String),
    /// The broker has not taken it.
    Failed(String),
}

impl From<Error> for Unsaid {
    fn from(error: Error) -> Unsaid {
        Unsaid::Usage(error.to_string())
    }
}

type Said = std::result::Result<(), Unsaid>;

pub(crate) fn emit(options: &EmitOptions) -> Said {
    let args = options.args.iter().enumerate().map(|(index, text)| read(index + 1, text));
    let args = Arguments(args.collect::<std::result::Result<_, _>>()?);
    options.whom.say(|to| to.emit(&options.event, args))
}

pub(crate) fn join(options: &ChangeRoomOptions) -> Said {
    options.whom.say(|to| to.join(&options.room))
}

pub(crate) fn leave(options: &ChangeRoomOptions) -> Said {
    options.whom.say(|to| to.leave(&options.room))
}

pub(crate) fn disconnect(options: &DisconnectOptions) -> Said {
    options.whom.say(|to| if options.close { to.close() } else { to.disconnect() })
}

impl Whom {
    fn say(&self, word: impl FnOnce(EmitTo<'_>) -> Emitting) -> Said {
        let config = self.config()?;
        shardcast::log::init(&config)?;
        let emitter = Emitter::new(&config)?.timeout(self.timeout);
        let emitter = self.endpoint.as_deref().map_or(emitter.clone(), |path| emitter.endpoint(path));
        let mut rooms = self.rooms.iter();
        let to = match rooms.next() {
            Some(first) => emitter.to(&self.namespace, first).to_all(rooms),
            None => emitter.namespace(&self.namespace),
        };
        let to = self.except.iter().fold(to, EmitTo::except);
        word(to).wait().map_err(|error| match error {
            shardcast::EmitError::Refused(_) | shardcast::EmitError::TooLarge { .. } => {
                Unsaid::Usage(error.to_string())
            }
            _ => Unsaid::Failed(error.to_string()),
        })
    }

    /// The servers' configuration, with what the command line says.
    fn config(&self) -> Result<Config> {
        let file = self.config.clone().or_else(|| std::env::var_os("SHARDCAST_CONFIG").map(PathBuf::from));
        let is_quiet = file.is_none() && std::env::var_os("SHARDCAST_LOG").is_none();
        let mut config = Config::load_with(file.as_deref(), std::env::vars())?;
        if is_quiet {
            // What is wrong is said by the error.
            config.log = "error".to_owned();
        }
        let engine = &mut config.engine;
        if let Some(url) = &self.queue {
            engine.message_queue = url.as_str().into();
        }
        if engine.message_queue.is_empty() {
            return Err(Error::new(
                "it is not known where the broker is: write --queue redis://localhost:6379/0, or set SHARDCAST_MESSAGE_QUEUE",
            ));
        }
        if let Some(channel) = &self.channel {
            engine.channel.clone_from(channel);
        }
        if !self.formats.is_empty() {
            engine.queue_formats = QueueFormats::parse(&self.formats.join(","))
                .map_err(|fault| Error::new(format!("--format: {fault}")))?;
        }
        Ok(config)
    }
}

/// An argument of an event as it was written.
fn read(number: usize, text: &str) -> std::result::Result<RawJson, Unsaid> {
    RawJson::new(text).map_err(|error| {
        let word = text.trim();
        let is_word =
            !word.starts_with(['"', '\'', '{', '[']) && !word.starts_with(|char: char| char.is_ascii_digit());
        let advice = if text.trim().is_empty() {
            "; an empty text is '\"\"'".to_owned()
        } else if is_word {
            format!("; a text has quotes of its own: '\"{word}\"'")
        } else if word.starts_with('\'') {
            "; JSON has double quotes".to_owned()
        } else {
            "; put single quotes around it, so that the shell leaves its double quotes".to_owned()
        };
        Unsaid::Usage(format!("argument {number} of the event is no JSON: {text}: {error}{advice}"))
    })
}

/// Arguments of an event.
struct Arguments(Vec<RawJson>);

impl ToArgs for Arguments {
    fn to_args(&self) -> impl Serialize + '_ {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_with_what_to_write() {
        for right in ["1", "-2.5e3", "\"a\"", "null", "{\"x\": [1, 2]}", " [] ", "18446744073709551616"] {
            assert!(read(1, right).is_ok(), "{right}");
        }
        for (text, expected) in [
            (
                "hello",
                "argument 2 of the event is no JSON: hello: expected value at line 1 column 1; a text has quotes of its own: '\"hello\"'",
            ),
            ("It works", "'\"It works\"'"),
            ("", "an empty text is '\"\"'"),
            ("{x: 1}", "key must be a string at line 1 column 2; put single quotes"),
            ("[1, 2", "at line 1 column 5"),
            ("'a'", "JSON has double quotes"),
            ("1 2", "trailing characters at line 1 column 3"),
        ] {
            let Err(Unsaid::Usage(fault)) = read(2, text) else { panic!("{text:?} is no JSON") };
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
