//! The subprotocol of a WebSocket: by a rule of the user's, or among those that are served.

use crate::shard::user::request::Request;

/// Chooses one of the subprotocols that a request offers, or none; an error is the message of a refusal.
pub(crate) type ChooseProtocol = Box<dyn for<'a, 'r> Fn(&'a Request<'r>) -> Result<Option<&'a str>, String>>;

/// Makes a rule of a function whose error can be shown.
pub(crate) fn rule<E: std::fmt::Display>(
    choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> Result<Option<&'a str>, E> + 'static,
) -> ChooseProtocol {
    fn boxed(
        choose: impl for<'a, 'r> Fn(&'a Request<'r>) -> Result<Option<&'a str>, String> + 'static,
    ) -> ChooseProtocol {
        Box::new(choose)
    }
    boxed(move |request| choose(request).map_err(|error| error.to_string()))
}
