//! What a handler may take: the arguments of its event, one after the other.

use std::fmt;

use serde::Deserialize;

use crate::protocol::socketio::event::{Args, ArgsReader};
use crate::protocol::socketio::lent::Scratch;
use crate::shard::user::context::Context;
use crate::shard::value::error::HandlerError;

/// What can be a parameter of a handler: every type that implements serde's [`Deserialize`], which is read from the next argument of
/// the event; and [`Ack`](crate::Ack), which takes none of them.
///
/// A synchronous handler may take types that borrow from the event, and so copies nothing: `&str`, `&[u8]`, an `Option` or a `Vec` of
/// them, structs with such fields. A text that came with escapes (`"a\nb"`) is in no place as it is meant: it is unescaped into a
/// place of its own, and lent from there, so that `&str` takes every text. `Cow<str>` is read as `String` is, because that is what
/// serde does with it; within a struct `#[serde(borrow)]` says otherwise.
///
/// What is lent ends with the handler. The compiler sees to it that nothing of it is kept:
///
/// ```
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server};
///
/// #[derive(serde::Deserialize)]
/// struct Move<'a> {
///     player: &'a str,
///     to: (i32, i32),
/// }
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("move", |cx: &mut Context, step: Move| {
///         cx.to("game").emit("moved", (step.player, step.to));
///     });
///     io.on("length", |_: &mut Context, text: &str, bytes: Option<&[u8]>| (text.len(), bytes.map(<[u8]>::len)));
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// assert_eq!(client.call("length", "two\nlines").unwrap().first::<usize>().unwrap(), 9);
/// ```
///
/// ```compile_fail
/// # use shardcast::{Config, Context, Server};
/// Server::new(Config::default()).namespace("/", |io| {
///     io.on("keep", |_: &mut Context, text: &str| {
///         std::thread::spawn(move || println!("{text}")); // a `String` could go there
///     });
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot take a `{Self}`: it cannot be read from an event's arguments",
    label = "this handler takes it",
    note = "derive `serde::Deserialize` for `{Self}`, or take a `serde_json::Value`"
)]
pub trait Argument<'e>: Sized {
    /// Takes what is next.
    #[doc(hidden)]
    fn take(source: &mut Source<'e, '_>) -> Result<Self, HandlerError>;
}

#[diagnostic::do_not_recommend]
impl<'e, T: Deserialize<'e>> Argument<'e> for T {
    #[inline]
    fn take(source: &mut Source<'e, '_>) -> Result<T, HandlerError> {
        Ok(source.reader.next_lent(source.scratch)?)
    }
}

/// Where the parameters of a handler come from.
#[doc(hidden)]
pub struct Source<'e, 'c> {
    reader: ArgsReader<'e>,
    scratch: &'e Scratch,
    /// For parameters that are no arguments of the event.
    pub(super) cx: &'c Context<'c>,
}

impl<'e, 'c> Source<'e, 'c> {
    pub(crate) fn new(args: Args<'e>, scratch: &'e Scratch, cx: &'c Context<'c>) -> Source<'e, 'c> {
        Source { reader: args.reader(), scratch, cx }
    }
}

impl fmt::Debug for Source<'_, '_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("reader", &self.reader).finish_non_exhaustive()
    }
}
