//! The subprotocol of a WebSocket: by a rule of the user's, or among those that are served.

use crate::base::guard::guarded;
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

/// The subprotocol of a request, by the rule if there is one, else among those that are served; all are when none is named.
///
/// # Errors
/// The rule refuses, with this message; empty when it panicked.
pub(crate) fn choose(
    request: &Request<'_>,
    rule: Option<&ChooseProtocol>,
    served: &[String],
) -> Result<Option<Box<str>>, String> {
    let Some(rule) = rule else {
        let mut offered = request.protocols();
        let is_served = |name: &&str| served.is_empty() || served.iter().any(|served| served == name);
        return Ok(offered.find(is_served).map(Box::from));
    };
    let choice = guarded(|| rule(request)).map_err(|panic| {
        tracing::error!(message = %panic, "choose_protocol panicked; the client is refused");
        request.count_panic();
        String::new()
    })??;
    if let Some(name) = choice
        && !request.protocols().any(|offered| offered == name)
    {
        // The client would fail the connection (RFC 6455 §4.1).
        tracing::error!(
            name,
            "choose_protocol named a subprotocol that the client does not offer; none is answered"
        );
        return Ok(None);
    }
    Ok(choice.map(Box::from))
}
