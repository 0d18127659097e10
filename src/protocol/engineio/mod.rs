//! Engine.IO, revision 4: packets, long-polling payloads, and what a session does with them.
//!
//! See README.md in this folder for the specification's sections.

pub(crate) mod packet;
pub(crate) mod payload;
pub(crate) mod request;
pub(crate) mod session;

#[cfg(test)]
mod vectors;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
