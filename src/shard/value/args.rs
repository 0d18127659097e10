//! What can be sent: the arguments of an event, or of an acknowledgement.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;

use crate::base::arity::each_arity;
use crate::base::ids::Sid;
use crate::protocol::socketio::any_value::AnyValue;
use crate::protocol::socketio::binary::Binary;
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
    note = "if the type implements `serde::Serialize`, send it by reference, `&value`, or as `shardcast::Json(value)`"
)]
pub trait ToArgs {
    /// The arguments, as a tuple.
    fn to_args(&self) -> impl Serialize + '_;

    /// Arguments that are JSON already: elements joined by commas, and their attachments.
    #[doc(hidden)]
    fn raw(&self) -> Option<(&str, &[Bytes])> {
        None
    }

    /// Whether this is `()`: an error handler that returns it gives no answer.
    #[doc(hidden)]
    fn is_unit(&self) -> bool {
        false
    }
}

/// One argument of a type of your own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a handler may return: anything that can be sent, as the acknowledgement; or a `Result` of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's answer",
    label = "the handler returns this",
    note = "return `()`, a value or tuple that implements `ToArgs`, `shardcast::Json(value)` for a type of your own, or a `Result` of these"
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

one_argument! {
    [] bool, [] i8, [] i16, [] i32, [] i64, [] u8, [] u16, [] u32, [] u64, [] usize, [] isize,
    [] f32, [] f64, [] char, [] String, [] std::borrow::Cow<'_, str>,
    [] Sid, [] AnyValue, [] Binary, [] RawJson, [] serde_json::Value,
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
