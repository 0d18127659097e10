//! When a socket's right to be there ends.

use crate::base::time::Time;

/// When a socket's time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    pub(crate) deadline: Time,
    /// The deadline in seconds since 1970, if it was given so: then it follows the wall clock.
    pub(crate) unix_seconds: Option<u64>,
    /// The earliest entry in the wheel.
    pub(crate) armed: Time,
    pub(crate) has_asked: bool,
}
