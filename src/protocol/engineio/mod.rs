//! Engine.IO, revisions 3 and 4: packets, long-polling payloads, and what a session does with them.
//!
//! See README.md in this folder for the specification's sections.

pub(crate) mod jsonp;
pub(crate) mod packet;
pub(crate) mod payload;
pub(crate) mod payload3;
pub(crate) mod polling;
pub(crate) mod request;
pub(crate) mod revision;
pub(crate) mod session;

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod vectors3;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz3;
