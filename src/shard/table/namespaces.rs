//! The namespaces of one shard: those that were registered, before the server ran or while it does, and those that a pattern makes
//! when a client asks.
//!
//! A namespace has a number, its place in a table. The number of one that a pattern made is given again after its
//! last socket has gone. Sockets and rooms keep their namespace there, so they go by number; what user code holds
//! goes by [`NamespaceRef`], which knows when its number is another's.
//!
//! Each endpoint has its own. Shards call one by its [`Address`]: the endpoint and the name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Index, IndexMut};
use std::rc::Rc;

use smallvec::SmallVec;

use crate::base::slab::Key;
use crate::message::address::Address;
use crate::shard::value::endpoint::MAIN;

/// The number of a namespace that has no table on this shard.
const NO_NUMBER: u16 = u16::MAX;

/// What the parts of a pattern stand for, by name.
type Params = Box<[(Box<str>, Box<str>)]>;

/// One namespace, as handles of it know it.
#[derive(Debug)]
pub(crate) struct NamespaceRef {
    pub(crate) endpoint: u8,
    /// The name that clients use.
    pub(crate) name: Box<str>,
    /// What shards call it among themselves.
    pub(crate) address: Address,
    pub(crate) params: Params,
    /// The place of its handlers in `App::namespaces`.
    pub(crate) setup: u16,
    /// Where its table was when this was made.
    number: u16,
}

/// The reference of no namespace, which a vacant table has.
impl Default for NamespaceRef {
    fn default() -> NamespaceRef {
        NamespaceRef {
            endpoint: MAIN,
            name: Box::default(),
            address: Address::default(),
            params: Box::default(),
            setup: 0,
            number: NO_NUMBER,
        }
    }
}

/// Sockets of one namespace on this shard, and its rooms.
#[derive(Debug)]
pub(crate) struct NamespaceTable {
    pub(crate) namespace: Rc<NamespaceRef>,
    /// Places in the table of sockets, in memory order.
    pub(crate) members: BTreeSet<u32>,
    /// How many of the members were let in and are not over.
    pub(crate) open_sockets: u64,
    pub(crate) room_ids: HashMap<Box<str>, Key, ahash::RandomState>,
    /// A pattern made it: it goes with its last member.
    pub(crate) is_made: bool,
}

/// Why there is no namespace of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceError {
    /// No namespace is registered by this name, and no pattern matches it.
    Unknown,
    /// Patterns have made `namespaces_max` namespaces.
    Full,
}

/// Whether a namespace's name has parts in braces, and so stands for many.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['{', '}'])
}

/// The namespaces of one endpoint, by name.
#[derive(Debug)]
struct Names {
    path: Box<str>,
    /// Clients choose names, so the hash is keyed.
    numbers: HashMap<Box<str>, u16, ahash::RandomState>,
    /// From a pattern to the place of its handlers.
    patterns: matchit::Router<u16>,
}

/// Every namespace of one shard.
///
/// The `numbers` have exactly the tables that are in use; a table that is not is in `vacant` and has no member.
#[derive(Debug)]
pub(crate) struct Namespaces {
    tables: Vec<NamespaceTable>,
    /// By the endpoint's number.
    names: Vec<Names>,
    vacant: Vec<u16>,
    made: usize,
    pub(crate) made_max: usize,
    hasher: ahash::RandomState,
}

impl Namespaces {
    pub(crate) fn new(made_max: usize, hasher: ahash::RandomState) -> Namespaces {
        Namespaces { tables: Vec::new(), names: Vec::new(), vacant: Vec::new(), made: 0, made_max, hasher }
    }

    /// Takes in the next endpoint, with its patterns: they lead to the places of their handlers.
    pub(crate) fn add_endpoint(&mut self, path: &str, patterns: matchit::Router<u16>) {
        let numbers = HashMap::with_hasher(self.hasher.clone());
        self.names.push(Names { path: path.into(), numbers, patterns });
    }

    /// Takes in what was registered: `setup` is the place of its handlers. If a pattern has made a namespace of that name, its sockets
    /// are from now on those of what is registered: then the result is the place of the pattern's handlers.
    pub(crate) fn register(&mut self, endpoint: u8, name: &str, setup: u16) -> (u16, Option<u16>) {
        let Some(number) = self.find(endpoint, name) else {
            return (self.insert((endpoint, name), setup, Box::default(), false), None);
        };
        let address = self.address(endpoint, name);
        let table = &mut self[number];
        debug_assert!(table.is_made, "a name is registered once");
        let own =
            NamespaceRef { endpoint, name: name.into(), address, params: Box::default(), setup, number };
        let pattern = std::mem::replace(&mut table.namespace, Rc::new(own)).setup;
        table.is_made = false;
        self.made -= 1;
        (number, Some(pattern))
    }

    /// Takes in a further pattern of an endpoint.
    pub(crate) fn register_pattern(&mut self, endpoint: u8, name: &str, setup: u16) -> Result<(), String> {
        insert_pattern(&mut self.names[usize::from(endpoint)].patterns, name, setup)
    }

    /// Whether there is room for a further pattern beside the others.
    pub(crate) fn check_pattern(&self, endpoint: u8, name: &str) -> Result<(), String> {
        insert_pattern(&mut self.names[usize::from(endpoint)].patterns.clone(), name, 0)
    }

    /// The number of a namespace that is there.
    pub(crate) fn find(&self, endpoint: u8, name: &str) -> Option<u16> {
        self.names.get(usize::from(endpoint))?.numbers.get(name).copied()
    }

    /// The number of a namespace that is there, by what shards call it.
    pub(crate) fn find_address(&self, address: &Address) -> Option<u16> {
        match address.endpoint() {
            None => self.find(MAIN, address.name()),
            Some(path) => {
                let names = self.names.iter().find(|names| *names.path == *path)?;
                names.numbers.get(address.name()).copied()
            }
        }
    }

    /// The place of the handlers of a namespace, by what shards call it, whether or not it has a member here.
    pub(crate) fn setup_at(&self, address: &Address) -> Option<u16> {
        if let Some(number) = self.find_address(address) {
            return Some(self[number].namespace.setup);
        }
        let names = match address.endpoint() {
            None => self.names.get(usize::from(MAIN))?,
            Some(path) => self.names.iter().find(|names| *names.path == *path)?,
        };
        names.patterns.at(address.name()).ok().map(|found| *found.value)
    }

    /// The number of a namespace that a client asks for: it is made if a pattern matches.
    pub(crate) fn open(&mut self, endpoint: u8, name: &str) -> Result<u16, NamespaceError> {
        if let Some(number) = self.find(endpoint, name) {
            return Ok(number);
        }
        let (setup, params) = self.match_pattern(endpoint, name).ok_or(NamespaceError::Unknown)?;
        if self.made >= self.made_max {
            return Err(NamespaceError::Full);
        }
        self.made += 1;
        Ok(self.insert((endpoint, name), setup, params, true))
    }

    /// Lets go of a namespace that a pattern made, once it has no member.
    pub(crate) fn release(&mut self, number: u16) {
        let table = &mut self[number];
        if !table.is_made || !table.members.is_empty() {
            return;
        }
        debug_assert!(table.room_ids.is_empty(), "a room has members, and they are members of the namespace");
        table.is_made = false;
        let namespace = std::mem::take(&mut table.namespace);
        self.names[usize::from(namespace.endpoint)].numbers.remove(&namespace.name);
        self.made -= 1;
        self.vacant.push(number);
    }

    /// The number that a handle means, wherever its namespace is by now. `None`: it has no member here.
    #[inline]
    pub(crate) fn resolve(&self, namespace: &Rc<NamespaceRef>) -> Option<u16> {
        match self.tables.get(usize::from(namespace.number)) {
            Some(table) if Rc::ptr_eq(&table.namespace, namespace) => Some(namespace.number),
            _ => self.find(namespace.endpoint, &namespace.name),
        }
    }

    /// A namespace to send to, whether or not it has a member here. `None`: there can be none of that name.
    pub(crate) fn refer(&self, endpoint: u8, name: &str) -> Option<Rc<NamespaceRef>> {
        if let Some(number) = self.find(endpoint, name) {
            return Some(Rc::clone(&self[number].namespace));
        }
        let (setup, params) = self.match_pattern(endpoint, name)?;
        let address = self.address(endpoint, name);
        Some(Rc::new(NamespaceRef { endpoint, name: name.into(), address, params, setup, number: NO_NUMBER }))
    }

    /// A namespace to send to, which may be one that only other processes have.
    pub(crate) fn refer_anywhere(&self, endpoint: u8, name: &str) -> Rc<NamespaceRef> {
        self.refer(endpoint, name).unwrap_or_else(|| {
            let address = self.address(endpoint, name);
            Rc::new(NamespaceRef { endpoint, name: name.into(), address, ..NamespaceRef::default() })
        })
    }

    /// The same by what shards call it.
    pub(crate) fn refer_address(&self, address: &Address) -> Option<Rc<NamespaceRef>> {
        self.refer(self.endpoint_at(address)?, address.name())
    }

    /// The number of the endpoint of a namespace, by what shards call it.
    pub(crate) fn endpoint_at(&self, address: &Address) -> Option<u8> {
        let Some(path) = address.endpoint() else { return Some(MAIN) };
        let place = self.names.iter().position(|names| *names.path == *path)?;
        u8::try_from(place).ok()
    }

    /// The namespaces with these handlers: one that was registered, or those that a pattern has made.
    pub(crate) fn of_setup(&self, setup: usize) -> SmallVec<[Rc<NamespaceRef>; 1]> {
        let mut found = SmallVec::new();
        for table in self.tables.iter().filter(|table| table.namespace.number != NO_NUMBER) {
            if usize::from(table.namespace.setup) == setup {
                found.push(Rc::clone(&table.namespace));
                // What was registered is alone.
                if !table.is_made {
                    break;
                }
            }
        }
        found
    }

    /// How many sockets each namespace has, by endpoint and name.
    pub(crate) fn census(&self) -> BTreeMap<(Option<String>, String), u64> {
        let tables = self.tables.iter().filter(|table| table.open_sockets > 0);
        tables
            .map(|table| {
                let address = &table.namespace.address;
                let key = (address.endpoint().map(str::to_owned), address.name().to_owned());
                (key, table.open_sockets)
            })
            .collect()
    }

    /// How many namespaces patterns have made that are still there.
    #[cfg(test)]
    pub(crate) fn made(&self) -> usize {
        self.made
    }

    /// Every table, those that are vacant included.
    #[cfg(test)]
    pub(crate) fn tables(&self) -> &[NamespaceTable] {
        &self.tables
    }

    /// Names of clients' making have no control characters: they are logged, and a poll's body is cut at one.
    fn match_pattern(&self, endpoint: u8, name: &str) -> Option<(u16, Params)> {
        if !name.starts_with('/') || name.contains(char::is_control) {
            return None;
        }
        let found = self.names.get(usize::from(endpoint))?.patterns.at(name).ok()?;
        let params = found.params.iter().map(|(key, value)| (key.into(), value.into())).collect();
        Some((*found.value, params))
    }

    fn address(&self, endpoint: u8, name: &str) -> Address {
        let further = (endpoint != MAIN).then(|| &*self.names[usize::from(endpoint)].path);
        Address::new(further, name)
    }

    fn insert(&mut self, (endpoint, name): (u8, &str), setup: u16, params: Params, is_made: bool) -> u16 {
        let number = self.vacant.pop().unwrap_or_else(|| {
            u16::try_from(self.tables.len()).expect("App::add_namespace and namespaces_max bound the tables")
        });
        let address = self.address(endpoint, name);
        let table = NamespaceTable {
            namespace: Rc::new(NamespaceRef { endpoint, name: name.into(), address, params, setup, number }),
            members: BTreeSet::new(),
            open_sockets: 0,
            room_ids: HashMap::with_hasher(self.hasher.clone()),
            is_made,
        };
        match self.tables.get_mut(usize::from(number)) {
            Some(vacant) => *vacant = table,
            None => self.tables.push(table),
        }
        self.names[usize::from(endpoint)].numbers.insert(name.into(), number);
        number
    }
}

fn insert_pattern(patterns: &mut matchit::Router<u16>, name: &str, setup: u16) -> Result<(), String> {
    patterns.insert(name, setup).map_err(|error| format!("namespace {name:?}: {error}"))
}

impl Index<u16> for Namespaces {
    type Output = NamespaceTable;

    fn index(&self, number: u16) -> &NamespaceTable {
        &self.tables[usize::from(number)]
    }
}

impl IndexMut<u16> for Namespaces {
    fn index_mut(&mut self, number: u16) -> &mut NamespaceTable {
        &mut self.tables[usize::from(number)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(made_max: usize) -> Namespaces {
        let mut namespaces = Namespaces::new(made_max, ahash::RandomState::with_seeds(1, 2, 3, 4));
        let mut patterns = matchit::Router::new();
        patterns.insert("/game/{id}", 2).unwrap();
        patterns.insert("/{*name}", 3).unwrap();
        namespaces.add_endpoint("/socket.io/", patterns);
        namespaces.register(MAIN, "/", 0);
        namespaces.register(MAIN, "/game/lobby", 1);
        namespaces
    }

    #[test]
    fn a_concrete_name_wins_and_the_nearest_pattern_follows() {
        let mut namespaces = namespaces(10);
        let rows = [
            ("/", Some((0, ""))),
            ("/game/lobby", Some((1, ""))),
            ("/game/7", Some((2, "7"))),
            ("/game/é ?x=1", Some((2, "é ?x=1"))),
            ("/game/7/chat", Some((3, "game/7/chat"))),
            ("/other", Some((3, "other"))),
            ("", None),
            ("other", None),
            ("/game/\u{1e}4", None),
            ("/a\nb", None),
            ("/a\u{85}", None),
        ];
        for (name, expected) in rows {
            let opened = namespaces.open(MAIN, name).map(|number| Rc::clone(&namespaces[number].namespace));
            let found = opened
                .as_ref()
                .ok()
                .map(|namespace| (namespace.setup, namespace.params.first().map_or("", |(_, value)| value)));
            assert_eq!(found, expected, "{name:?}");
            assert_eq!(namespaces.find(MAIN, name).is_some(), expected.is_some(), "{name:?}");
        }
    }

    #[test]
    fn a_number_given_again_is_not_what_an_old_handle_means() {
        let mut namespaces = namespaces(2);
        let first = namespaces.open(MAIN, "/game/1").unwrap();
        let old = Rc::clone(&namespaces[first].namespace);
        let other = namespaces.open(MAIN, "/game/other").unwrap();
        assert_eq!(namespaces.open(MAIN, "/game/2"), Err(NamespaceError::Full));
        namespaces[first].members.insert(0);
        namespaces.release(first);
        assert_eq!(namespaces.find(MAIN, "/game/1"), Some(first), "somebody is in");
        namespaces[first].members.clear();
        namespaces.release(first);
        namespaces.release(first);
        assert_eq!(
            (namespaces.find(MAIN, "/game/1"), namespaces.resolve(&old), namespaces.made()),
            (None, None, 1)
        );
        let second = namespaces.open(MAIN, "/game/2").unwrap();
        assert_eq!(first, second, "the place is reused");
        assert_eq!(namespaces.resolve(&old), None, "and the old handle does not mean it");
        namespaces.release(second);
        namespaces.release(other);
        let third = namespaces.open(MAIN, "/game/1").unwrap();
        assert_eq!(third, other, "at another place");
        assert_eq!(namespaces.resolve(&old), Some(third), "the same name is the same namespace");
    }

    #[test]
    fn handlers_are_found_of_namespaces_without_a_member() {
        let mut namespaces = namespaces(10);
        let mut patterns = matchit::Router::new();
        patterns.insert("/game/{id}", 9).unwrap();
        namespaces.add_endpoint("/admin.io/", patterns);
        for (endpoint, name, setup) in [
            (None, "/", Some(0)),
            (None, "/game/lobby", Some(1)),
            (None, "/game/7", Some(2)),
            (Some("/admin.io/"), "/game/7", Some(9)),
            (Some("/admin.io/"), "/other", None),
            (Some("/none/"), "/game/7", None),
        ] {
            assert_eq!(namespaces.setup_at(&Address::new(endpoint, name)), setup, "{endpoint:?} {name}");
        }
    }

    #[test]
    fn endpoints_have_their_own() {
        let mut namespaces = namespaces(2);
        namespaces.add_endpoint("/a,b/", matchit::Router::new());
        namespaces.register(1, "/", 4);
        let own = namespaces.find(1, "/").unwrap();
        let address = namespaces[own].namespace.address.clone();
        assert_eq!(address, Address::new(Some("/a,b/"), "/"));
        for (endpoint, name, setup) in [
            (Some("/a,b/"), "/", Some(4)),
            (None, "/", Some(0)),
            (None, "/a,b/,/", None),
            (Some("/b/"), "/", None),
            (Some("/a,b/"), "/x", None),
        ] {
            let found = namespaces.find_address(&Address::new(endpoint, name));
            assert_eq!(found.map(|number| namespaces[number].namespace.setup), setup, "{endpoint:?} {name}");
        }
        assert_eq!(namespaces.open(1, "/game/1"), Err(NamespaceError::Unknown), "patterns are not shared");
    }

    #[test]
    fn what_is_registered_later_takes_over_what_a_pattern_has_made() {
        let mut namespaces = namespaces(1);
        let made = namespaces.open(MAIN, "/late").unwrap();
        namespaces[made].members.insert(0);
        let old = Rc::clone(&namespaces[made].namespace);
        assert_eq!(namespaces.register(MAIN, "/late", 7), (made, Some(3)));
        let now = Rc::clone(&namespaces[made].namespace);
        assert_eq!((now.setup, now.params.len(), namespaces.made()), (7, 0, 0));
        assert_eq!(namespaces.resolve(&old), Some(made), "the same name is the same namespace");
        assert_eq!(namespaces.of_setup(7).len(), 1);
        assert!(namespaces.of_setup(3).is_empty());
        namespaces[made].members.clear();
        namespaces.release(made);
        assert_eq!(namespaces.find(MAIN, "/late"), Some(made), "it stays without a member");
        assert!(namespaces.open(MAIN, "/game/9").is_ok(), "what was made is not counted any more");
        assert_eq!(namespaces.register(MAIN, "/later", 8).1, None);
    }

    #[test]
    fn a_pattern_that_another_stands_in_the_way_of_is_told() {
        let mut namespaces = namespaces(10);
        assert!(namespaces.check_pattern(MAIN, "/game/{other}").is_err());
        assert!(namespaces.check_pattern(MAIN, "/hall/{id}").is_ok());
        assert_eq!(namespaces.setup_at(&Address::new(None, "/hall/1")), Some(3), "a check changes nothing");
        namespaces.register_pattern(MAIN, "/hall/{id}", 9).unwrap();
        assert_eq!(namespaces.setup_at(&Address::new(None, "/hall/1")), Some(9));
    }

    #[test]
    fn what_is_registered_stays() {
        let mut namespaces = namespaces(1);
        namespaces.release(0);
        assert_eq!(namespaces.find(MAIN, "/"), Some(0));
        assert!(
            namespaces
                .refer(MAIN, "/game/9")
                .is_some_and(|namespace| namespaces.resolve(&namespace).is_none())
        );
    }
}
