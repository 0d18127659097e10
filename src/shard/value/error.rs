//! Why a client is refused, and why a handler did not do its work.

use crate::base::log::SOCKETIO;
use crate::protocol::socketio::event::ArgsError;
use crate::protocol::socketio::raw_json::RawJson;

/// Sends a client away: what a connect handler returns to refuse it.
///
/// The client sees `connect_error` with the message, and the data if there is any.
///
/// ```
/// use shardcast::Refused;
///
/// let refused = Refused::new("unauthorized").data(&serde_json::json!({ "retry": false }));
/// assert_eq!(refused.to_string(), "unauthorized");
/// ```
#[derive(Clone, Debug)]
pub struct Refused {
    pub(crate) message: String,
    pub(crate) data: Option<RawJson>,
}

impl Refused {
    /// A refusal with the text that the client's `connect_error` carries.
    pub fn new(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), data: None }
    }

    /// Adds what the client finds in `error.data`. Data that is no JSON (a map with keys that are no text) is
    /// left out, and logged.
    pub fn data(mut self, data: &impl serde::Serialize) -> Refused {
        match RawJson::from_value(data) {
            Ok(json) => self.data = Some(json),
            Err(error) => {
                tracing::warn!(target: SOCKETIO, %error, "a refusal's data is no JSON; it is sent without")
            }
        }
        self
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Whatever can be an error is a refusal with its text: `&str`, `String`, `Box<dyn Error>`, error types of your own.
impl<E: Into<Box<dyn std::error::Error>>> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused::new(error.into().to_string())
    }
}

/// Why a handler did not do its work. `on_error` gets it, and may answer the client; without one it is logged, and the client
/// gets no acknowledgement.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// The client's arguments are not what the handler takes.
    Args(ArgsError),
    /// The handler returned an error.
    Failed(Box<dyn std::error::Error>),
    /// The handler gives no answer: see [`NoAck`](crate::NoAck). Nobody is told of it.
    #[doc(hidden)]
    NoAck,
}

impl std::fmt::Display for HandlerError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HandlerError::Args(error) => error.fmt(formatter),
            HandlerError::Failed(error) => error.fmt(formatter),
            HandlerError::NoAck => formatter.write_str("there is no answer"),
        }
    }
}

impl From<ArgsError> for HandlerError {
    fn from(error: ArgsError) -> HandlerError {
        HandlerError::Args(error)
    }
}
