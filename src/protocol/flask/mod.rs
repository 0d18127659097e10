//! Flask's session cookie: what an application signed, read and written here.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod login;
pub(crate) mod session;
pub(crate) mod signer;
#[cfg(test)]
mod vectors;
