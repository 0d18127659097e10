//! What can be sent: the arguments of an event, or of an acknowledgement.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;

use crate::base::arity::each_arity;
use crate::base::ids::Sid;
use crate::protocol::socketio::any_value::AnyValue;
use crate::protocol::socketio::binary::{Binary, PLACEHOLDER_FIRST};
use crate::protocol::socketio::event::Args;
use crate::protocol::socketio::given::Given;
use crate::protocol::socketio::owned::OwnedArgs;
use crate::protocol::socketio::raw_json::RawJson;
use crate::shard::value::error::HandlerError;

/// What `emit` takes and a handler returns: a tuple is the list of arguments, `()` is none, and anything
/// else is one argument. Flask-SocketIO makes the same difference.
///
/// Numbers, texts, `Vec`, `Option`, maps, JSON values and [`Binary`] can be given as they are. A type of your
/// own that implements [`Serialize`] is given by reference, or inside [`Json`].
///
/// ```
/// use shardcast::{Json, ToArgs};
///
/// #[derive(serde::Serialize)]
/// struct Point { x: i32, y: i32 }
///
/// fn takes(_: impl ToArgs) {}
/// takes("one");
/// takes(("one", 2, vec![3]));
/// takes(&Point { x: 1, y: 2 });
/// takes(Json(Point { x: 1, y: 2 }));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as it is",
    label = "this is sent to a client",
    note = "a value of a type of your own that implements `serde::Serialize` is sent as `shardcast::Json(value)`, or by reference: `&value`; `shardcast::sendable!(Type)` lets it be sent as it is",
    note = "if it is the future of an `async` handler: register it with `on_async` or `on_concurrent`, and take a `shardcast::Socket` in place of the context"
)]
pub trait ToArgs {
    /// The arguments, as a tuple.
    fn to_args(&self) -> impl Serialize + '_;

    /// Arguments that are JSON already: elements joined by commas, and their attachments.
    #[doc(hidden)]
    fn raw(&self) -> Option<(&str, &[Bytes])> {
        None
    }

    /// Whether there can be no [`Binary`] in it, so that nobody needs to look for any.
    #[doc(hidden)]
    #[inline]
    fn is_without_bytes(&self) -> bool {
        false
    }

    /// Whether this is `()`: an error handler that returns it gives no answer.
    #[doc(hidden)]
    fn is_unit(&self) -> bool {
        false
    }
}

/// Lets types of your own be sent as they are, not only by reference or as [`Json`]: emitted, and returned by handlers, each as one
/// argument. They implement [`Serialize`].
///
/// ```
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, Server};
///
/// #[derive(serde::Serialize)]
/// struct Point { x: i32, y: i32 }
///
/// #[derive(serde::Serialize)]
/// struct Name<'a>(&'a str);
///
/// shardcast::sendable!(Point, Name<'_>);
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("origin", |cx: &mut Context| {
///         cx.emit("name", Name("origin"));
///         Point { x: 0, y: 0 }
///     });
/// });
/// let client = TestServer::new(server).unwrap().connect("/").unwrap();
/// assert_eq!(client.call("origin", ()).unwrap().args().raw(), r#"{"x":0,"y":0}"#);
/// ```
#[macro_export]
macro_rules! sendable {
    ($($type:ty),+ $(,)?) => {
        $(impl $crate::ToArgs for $type {
            #[allow(refining_impl_trait)]
            fn to_args(&self) -> (&Self,) {
                (self,)
            }
        })+
    };
}

/// `Ok(value)` for handlers that use `?` and do not say elsewhere which error they return: a closure that ends in
/// `Ok(())` has none that the compiler could know.
///
/// ```
/// use shardcast::{Config, Context, Server};
///
/// Server::new(Config::default()).namespace("/", |io| {
///     io.on("age", |cx: &mut Context, text: &str| {
///         let age: u8 = text.trim().parse()?;
///         cx.emit("age", age);
///         shardcast::done(())
///     });
/// });
/// ```
///
/// # Errors
/// None of its own.
pub fn done<T>(value: T) -> Result<T, Box<dyn std::error::Error>> {
    Ok(value)
}

/// One argument of a type of your own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a handler may return: anything that can be sent, as the acknowledgement; or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's answer",
    label = "the handler returns this",
    note = "return `()`, a value or tuple that implements `ToArgs`, `shardcast::Json(value)` for a type of your own, or a `Result` of these",
    note = "the error of a `Result` is a `std::error::Error`, a text, a `Box<dyn std::error::Error>`, or `shardcast::NoAck`"
)]
pub trait Reply {
    /// The acknowledgement, or why there is none.
    fn into_reply(self) -> Result<impl ToArgs, HandlerError>;
}

impl<T: ToArgs> Reply for T {
    fn into_reply(self) -> Result<impl ToArgs, HandlerError> {
        Ok(self)
    }
}

impl<T: ToArgs, E: Into<Box<dyn std::error::Error>>> Reply for Result<T, E> {
    fn into_reply(self) -> Result<impl ToArgs, HandlerError> {
        self.map_err(|error| HandlerError::Failed(error.into()))
    }
}

/// No answer: a handler that returns it acknowledges nothing, though the client has asked, and has not failed either. As the error of
/// a `Result` it is for handlers that answer sometimes.
///
/// What it means for the client is that its timeout passes. A handler that answers *later* takes an [`Ack`](crate::Ack).
///
/// ```
/// use shardcast::testing::TestServer;
/// use shardcast::{Config, Context, NoAck, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     io.on("never", |_: &mut Context| NoAck);
///     io.on("find", |_: &mut Context, name: String| if name == "Ada" { Ok(1815) } else { Err(NoAck) });
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// assert_eq!(client.call("find", "Ada").unwrap().first::<u32>().unwrap(), 1815);
/// let unanswered = client.emit_with_ack("find", "Bob");
/// assert!(client.answer(unanswered).is_none());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoAck;

impl Reply for NoAck {
    fn into_reply(self) -> Result<impl ToArgs, HandlerError> {
        Err::<(), _>(HandlerError::NoAck)
    }
}

impl<T: ToArgs> Reply for Result<T, NoAck> {
    fn into_reply(self) -> Result<impl ToArgs, HandlerError> {
        self.map_err(|NoAck| HandlerError::NoAck)
    }
}

impl<T: Serialize + ?Sized> ToArgs for &T {
    fn to_args(&self) -> impl Serialize + '_ {
        (*self,)
    }
}

impl<T: Serialize> ToArgs for Json<T> {
    fn to_args(&self) -> impl Serialize + '_ {
        (&self.0,)
    }
}

impl ToArgs for Args<'_> {
    fn to_args(&self) -> impl Serialize + '_ {}

    fn raw(&self) -> Option<(&str, &[Bytes])> {
        Some((Args::raw(self), self.attachments()))
    }
}

impl ToArgs for OwnedArgs {
    fn to_args(&self) -> impl Serialize + '_ {}

    fn raw(&self) -> Option<(&str, &[Bytes])> {
        Some((self.args().raw(), self.args().attachments()))
    }
}

impl ToArgs for &OwnedArgs {
    fn to_args(&self) -> impl Serialize + '_ {}

    fn raw(&self) -> Option<(&str, &[Bytes])> {
        ToArgs::raw(*self)
    }
}

macro_rules! one_argument {
    ($([$($param:ident)*] $type:ty),+ $(,)?) => {
        $(impl<$($param: Serialize),*> ToArgs for $type {
            fn to_args(&self) -> impl Serialize + '_ {
                (self,)
            }
        })+
    };
}

macro_rules! without_bytes {
    ($($type:ty),+ $(,)?) => {
        $(impl ToArgs for $type {
            fn to_args(&self) -> impl Serialize + '_ {
                (self,)
            }

            #[inline]
            fn is_without_bytes(&self) -> bool {
                true
            }
        })+
    };
}

without_bytes! {
    bool, i8, i16, i32, i64, u8, u16, u32, u64, usize, isize, f32, f64, char, String, std::borrow::Cow<'_, str>,
    Sid, RawJson, serde_json::Value,
}

/// An attachment alone needs no encoder: its text is known.
impl ToArgs for Binary {
    fn to_args(&self) -> impl Serialize + '_ {
        (self,)
    }

    #[inline]
    fn raw(&self) -> Option<(&str, &[Bytes])> {
        Some((PLACEHOLDER_FIRST, std::slice::from_ref(&self.0)))
    }
}

one_argument! {
    [] AnyValue,
    [T] Vec<T>, [T] Option<T>, [T] Given<T>, [T] Box<T>, [K V] BTreeMap<K, V>,
}

impl<K: Serialize, V: Serialize, S> ToArgs for HashMap<K, V, S> {
    fn to_args(&self) -> impl Serialize + '_ {
        (self,)
    }
}

/// An array is one argument, as a list is in Python and JavaScript.
impl<T: Serialize, const N: usize> ToArgs for [T; N] {
    fn to_args(&self) -> impl Serialize + '_ {
        (self.as_slice(),)
    }
}

impl ToArgs for () {
    fn to_args(&self) -> impl Serialize + '_ {}

    fn is_unit(&self) -> bool {
        true
    }
}

macro_rules! argument_list {
    // No argument is `()`, above.
    () => {};
    ($($name:ident),+) => {
        impl<$($name: Serialize),+> ToArgs for ($($name,)+) {
            fn to_args(&self) -> impl Serialize + '_ {
                self
            }
        }
    };
}

each_arity!(argument_list);
