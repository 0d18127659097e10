//! What errors of Redis, and of its client, mean. None of their texts has a password.

use redis::{ErrorKind, RedisError, Value};

use crate::bus::Fault;
use crate::config::queue::address::Host;

pub(in crate::bus::redis) fn is_about_password(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| ["NOAUTH", "WRONGPASS"].contains(&code))
        || ["NOAUTH", "WRONGPASS"].iter().any(|code| error.to_string().contains(code))
}

/// What an error of the crate means. None of its texts has a password.
pub(in crate::bus::redis) fn fault(host: &Host, error: &RedisError) -> Fault {
    let text = error.to_string();
    if is_about_password(error) {
        return Fault::lasting(format!(
            "redis at {host} does not take the user and password in message_queue: {text}"
        ));
    }
    if error.kind() == ErrorKind::RESP3NotSupported || text.contains("unknown command 'HELLO'") {
        return Fault::lasting(format!("redis at {host} is too old: version 6 is needed"));
    }
    if error.is_connection_refusal() {
        return Fault::passing(format!("nobody listens at {host}"));
    }
    if error.is_timeout() {
        return Fault::passing(format!("redis at {host} does not answer"));
    }
    let is_lasting = error.kind() == ErrorKind::InvalidClientConfig || error.code() == Some("NOPERM");
    Fault { text: format!("redis at {host}: {text}"), is_lasting }.or_of_certificate()
}

/// An error in an answer to one of several commands.
pub(in crate::bus::redis) fn answer_fault(host: &Host, answers: &[Value]) -> Result<(), Fault> {
    let error = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    let Some(error) = error else { return Ok(()) };
    let details = error.details().unwrap_or_default();
    if details.starts_with("unknown command") {
        return Err(Fault::lasting(format!("redis at {host} is too old for what is asked of it: {details}")));
    }
    let is_lasting = error.code() == "NOPERM";
    Err(Fault { text: format!("redis at {host}: {} {details}", error.code()), is_lasting })
}
