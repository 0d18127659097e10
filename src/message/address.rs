//! What shards and other threads call a namespace: its endpoint and its name.
//!
//! The namespaces of two endpoints may have the same name, so a name alone says too little in a message. The type is there so
//! that nobody can put a name where an address belongs.

use std::fmt;

/// A namespace of one endpoint, in one piece of memory.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// The path of a further endpoint, if it is in one, and then the name.
    text: String,
    /// Where the name begins; 0 is the configuration's own endpoint.
    name_at: usize,
}

/// By hand, because a derived `clone_from` would not use the memory that is there.
impl Clone for Address {
    fn clone(&self) -> Address {
        Address { text: self.text.clone(), name_at: self.name_at }
    }

    fn clone_from(&mut self, other: &Address) {
        self.text.clone_from(&other.text);
        self.name_at = other.name_at;
    }
}

impl Address {
    /// A namespace of the configuration's own endpoint, or of the further one at a path.
    pub(crate) fn new(endpoint: Option<&str>, name: &str) -> Address {
        let path = endpoint.unwrap_or("");
        Address { text: [path, name].concat(), name_at: path.len() }
    }

    /// The memory that it has.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.text.capacity()
    }

    /// The path of the further endpoint; `None` for the configuration's own.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        (self.name_at > 0).then(|| &self.text[..self.name_at])
    }

    /// The name that clients use.
    pub(crate) fn name(&self) -> &str {
        &self.text[self.name_at..]
    }
}

/// For the log: the path, a comma, the name.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint() {
            Some(path) => write!(formatter, "{path},{}", self.name()),
            None => formatter.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_endpoint_and_its_name_whatever_they_contain() {
        let rows = [
            (None, "/", "/"),
            (None, "/a,b", "/a,b"),
            (Some("/admin.io/"), "/", "/admin.io/,/"),
            (Some("/a,b/"), "/c", "/a,b/,/c"),
        ];
        let mut reused = Address::default();
        for (endpoint, name, shown) in rows {
            let address = Address::new(endpoint, name);
            assert_eq!((address.endpoint(), address.name()), (endpoint, name));
            assert_eq!(address.to_string(), shown);
            reused.clone_from(&address);
            assert_eq!(reused, address);
        }
        assert_ne!(Address::new(Some("/a/"), "/"), Address::new(None, "/a//"));
    }
}
