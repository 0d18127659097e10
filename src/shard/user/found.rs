//! What was found out in all processes, with the names of those that did not say.

use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

use crate::shard::value::args::ToArgs;

/// What this process and the others have found out: sockets, ids, rooms, or a number. It is used like that value itself; which
/// processes did not answer, so that theirs is not in it, says [`processes_missing`](Found::processes_missing).
///
/// ```no_run
/// # fn example(handle: shardcast::Handle) -> Result<(), shardcast::AckError> {
/// let sockets = handle.to("/", "lobby").fetch().wait()?;
/// println!("{} are in the lobby", sockets.len());
/// for socket in &sockets {
///     println!("{}", socket.id());
/// }
/// if !sockets.is_complete() {
///     println!("not counted are those of {}", sockets.processes_missing().join(", "));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found<T> {
    value: T,
    processes_missing: Vec<String>,
}

impl<T> Found<T> {
    pub(crate) fn new(value: T, processes_missing: Vec<String>) -> Found<T> {
        Found { value, processes_missing }
    }

    /// Other processes that did not answer, by name: too late, gone meanwhile, or behind a message queue that is away.
    /// Always empty where no message queue is configured.
    pub fn processes_missing(&self) -> &[String] {
        &self.processes_missing
    }

    /// Whether every process has answered.
    pub fn is_complete(&self) -> bool {
        self.processes_missing.is_empty()
    }

    /// The value alone.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> From<T> for Found<T> {
    fn from(value: T) -> Found<T> {
        Found { value, processes_missing: Vec::new() }
    }
}

impl<T> Deref for Found<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Compares the value alone.
impl<T: PartialEq> PartialEq<T> for Found<T> {
    fn eq(&self, other: &T) -> bool {
        self.value == *other
    }
}

impl<T: IntoIterator> IntoIterator for Found<T> {
    type Item = T::Item;
    type IntoIter = T::IntoIter;

    fn into_iter(self) -> T::IntoIter {
        self.value.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Found<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&self.value).into_iter()
    }
}

impl<T: fmt::Display> fmt::Display for Found<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(formatter)
    }
}

/// The value alone: what a handler answers a client.
impl<T: Serialize> Serialize for Found<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: Serialize> ToArgs for Found<T> {
    fn to_args(&self) -> impl Serialize + '_ {
        (&self.value,)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_like_what_was_found() {
        let found = Found::new(vec![1, 2], vec!["a:1".to_owned()]);
        assert_eq!((found.len(), found.iter().sum::<i32>(), (&found).into_iter().count()), (2, 3, 2));
        let complete = Found::from(vec![1, 2]);
        assert!(found == vec![1, 2] && found != complete, "who is missing makes a difference");
        assert_eq!(serde_json::to_string(&found).unwrap(), "[1,2]");
        assert_eq!((found.is_complete(), found.processes_missing()), (false, &["a:1".to_owned()][..]));
        assert_eq!(found.clone().into_inner(), found.into_iter().collect::<Vec<_>>());
        assert_eq!(Found::from(7_u64).to_string(), "7");
        assert!(*Found::from(7_u64) > 6);
    }
}
