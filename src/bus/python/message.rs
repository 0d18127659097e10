//! The messages of python-socketio's queue as values, lent from their bytes as far as that can be, and why one is dropped.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::socketio::json::JsonError;

/// Attachments of one message: each is kept with 24 bytes.
pub(super) const MESSAGE_ATTACHMENTS_MAX: usize = 1024;

/// One message of the queue, lent from its bytes as far as that can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Emit(Emit<'a>),
    /// What a client has answered. For the process with this id alone.
    Callback {
        host_id: Cow<'a, str>,
        callback: Callback<'a>,
        /// Elements of a JSON array without its brackets.
        args: Cow<'a, str>,
        attachments: Vec<Cow<'a, [u8]>>,
    },
    Disconnect {
        sid: Cow<'a, str>,
        namespace: Cow<'a, str>,
        host_id: Option<Cow<'a, str>>,
    },
    EnterRoom(Membership<'a>),
    LeaveRoom(Membership<'a>),
    CloseRoom {
        room: Cow<'a, str>,
        namespace: Cow<'a, str>,
        host_id: Option<Cow<'a, str>>,
    },
}

/// An event for everybody in a namespace, or for rooms of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Emit<'a> {
    pub(crate) event: Cow<'a, str>,
    /// Elements of a JSON array without its brackets; `{"_placeholder":true,"num":0}` stands where an attachment belongs.
    pub(crate) args: Cow<'a, str>,
    pub(crate) attachments: Vec<Cow<'a, [u8]>>,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) rooms: Rooms<'a>,
    /// Ids of sockets that do not get it.
    pub(crate) skip: Vec<Cow<'a, str>>,
    /// Where answers go; only together with `host_id`.
    pub(crate) callback: Option<Callback<'a>>,
    /// The process that it is from. Programs that only emit may have none.
    pub(crate) host_id: Option<Cow<'a, str>>,
}

/// Whom an event is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rooms<'a> {
    Everybody,
    /// The members of any of these, which may be none; an id of a socket is a room. Numbers have become their digits.
    Of(Vec<Cow<'a, str>>),
}

/// What an answer names, so that the process that asked finds its question. Ids count for each room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callback<'a> {
    pub(crate) room: Cow<'a, str>,
    /// The room is a number in Python, where 7 and "7" are two rooms.
    pub(crate) is_number: bool,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) id: u64,
}

/// A socket and a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership<'a> {
    pub(crate) sid: Cow<'a, str>,
    pub(crate) room: Cow<'a, str>,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) host_id: Option<Cow<'a, str>>,
}

/// How messages are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Pickles too, of the few types that JSON has, and bytes.
    pub(crate) pickle: bool,
    /// The longest message, and the most that a pickle may unfold to.
    pub(crate) bytes_max: usize,
}

/// Why a message is dropped. Python drops most of these as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    TooLong,
    /// Also bare `NaN` and `Infinity`, which Python's `json` writes and no client reads.
    NotJson,
    TooDeep,
    /// A pickle, and those are not to be read.
    PickleOff,
    Pickle(PickleError),
    /// No object that says what is to be done.
    NotMessage,
    MethodUnknown,
    Missing(&'static str),
    /// A value that its key does not have.
    Invalid(&'static str),
    TooManyAttachments,
    /// A placeholder without its attachment.
    Placeholder,
}

/// What is wrong with a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PickleError {
    Truncated,
    /// An instruction that is not in the short list of those which plain data need.
    OpcodeUnknown,
    /// It would call something, or make an object of a class.
    GlobalForbidden,
    /// The instructions make no sense: a stack that is too short, a memo that is not there.
    Broken,
    TextInvalid,
    NumberInvalid,
    /// A value that JSON does not have.
    NotJson,
    TooDeep,
    /// More values than are kept, or more than `bytes_max` when its references are followed.
    TooLarge,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Unreadable::TooLong => "the message is too long",
            Unreadable::NotJson => "the message is not JSON (Python writes NaN and Infinity, which are none)",
            Unreadable::TooDeep => "the message is nested too deeply",
            Unreadable::PickleOff => {
                "the message is a pickle, as python-socketio before 5.14 writes, and those are not read"
            }
            Unreadable::Pickle(error) => error.reason(),
            Unreadable::NotMessage => "the message is no object with a method",
            Unreadable::MethodUnknown => "the message's method is unknown",
            Unreadable::Missing(key) => return write!(formatter, "the message has no {key}"),
            Unreadable::Invalid(key) => return write!(formatter, "the message's {key} is invalid"),
            Unreadable::TooManyAttachments => "the message has too many attachments",
            Unreadable::Placeholder => "the message has a placeholder without its attachment",
        };
        formatter.write_str(text)
    }
}

impl PickleError {
    fn reason(self) -> &'static str {
        match self {
            PickleError::Truncated => "the pickle ends too early",
            PickleError::OpcodeUnknown => "the pickle holds more than plain data",
            PickleError::GlobalForbidden => "the pickle would call code or make an object of a class",
            PickleError::Broken => "the pickle is broken",
            PickleError::TextInvalid => "a text in the pickle is invalid",
            PickleError::NumberInvalid => "a number in the pickle is invalid or too large",
            PickleError::NotJson => "the pickle holds what JSON does not have",
            PickleError::TooDeep => "the pickle is nested too deeply",
            PickleError::TooLarge => "the pickle unfolds to too much",
        }
    }
}

impl From<JsonError> for Unreadable {
    fn from(error: JsonError) -> Unreadable {
        match error {
            JsonError::Invalid => Unreadable::NotJson,
            JsonError::TooDeep => Unreadable::TooDeep,
        }
    }
}

impl From<PickleError> for Unreadable {
    fn from(error: PickleError) -> Unreadable {
        Unreadable::Pickle(error)
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn own_bytes(attachments: Vec<Cow<'_, [u8]>>) -> Vec<Cow<'static, [u8]>> {
    attachments.into_iter().map(|bytes| Cow::Owned(bytes.into_owned())).collect()
}

fn own_all(names: Vec<Cow<'_, str>>) -> Vec<Cow<'static, str>> {
    names.into_iter().map(own).collect()
}

impl Message<'_> {
    /// The same message, without its bytes.
    pub(super) fn into_owned(self) -> Message<'static> {
        match self {
            Message::Emit(emit) => Message::Emit(emit.into_owned()),
            Message::Callback { host_id, callback, args, attachments } => Message::Callback {
                host_id: own(host_id),
                callback: callback.into_owned(),
                args: own(args),
                attachments: own_bytes(attachments),
            },
            Message::Disconnect { sid, namespace, host_id } => {
                Message::Disconnect { sid: own(sid), namespace: own(namespace), host_id: host_id.map(own) }
            }
            Message::EnterRoom(membership) => Message::EnterRoom(membership.into_owned()),
            Message::LeaveRoom(membership) => Message::LeaveRoom(membership.into_owned()),
            Message::CloseRoom { room, namespace, host_id } => {
                Message::CloseRoom { room: own(room), namespace: own(namespace), host_id: host_id.map(own) }
            }
        }
    }
}

impl Emit<'_> {
    fn into_owned(self) -> Emit<'static> {
        Emit {
            event: own(self.event),
            args: own(self.args),
            attachments: own_bytes(self.attachments),
            namespace: own(self.namespace),
            rooms: match self.rooms {
                Rooms::Everybody => Rooms::Everybody,
                Rooms::Of(rooms) => Rooms::Of(own_all(rooms)),
            },
            skip: own_all(self.skip),
            callback: self.callback.map(Callback::into_owned),
            host_id: self.host_id.map(own),
        }
    }
}

impl Callback<'_> {
    fn into_owned(self) -> Callback<'static> {
        let Callback { room, is_number, namespace, id } = self;
        Callback { room: own(room), is_number, namespace: own(namespace), id }
    }
}

impl Membership<'_> {
    fn into_owned(self) -> Membership<'static> {
        let Membership { sid, room, namespace, host_id } = self;
        Membership { sid: own(sid), room: own(room), namespace: own(namespace), host_id: host_id.map(own) }
    }
}
