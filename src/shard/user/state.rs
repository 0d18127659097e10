//! A state room as users change and read it.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::mesh::{Mesh, ShardMessage};
use crate::message::address::Address;
use crate::message::state::StateChange;
use crate::protocol::socketio::raw_json::RawJson;
use crate::protocol::surrogates::read_json;
use crate::shard::core::SharedCore;
use crate::shard::value::shard_key::shard_of_key;
use crate::shard::value::state::{StateError, message};

/// One state room, to set and to read: see [`StateRoom`](crate::StateRoom).
#[derive(Debug)]
pub struct State<'a> {
    origin: Origin<'a>,
    room: &'a str,
}

enum Origin<'a> {
    Shard { core: &'a SharedCore, namespace: u16 },
    Outside { mesh: &'a Mesh, address: Address },
}

impl<'a> State<'a> {
    pub(crate) fn here(core: &'a SharedCore, namespace: u16, room: &'a str) -> State<'a> {
        State { origin: Origin::Shard { core, namespace }, room }
    }

    pub(crate) fn outside(mesh: &'a Mesh, address: Address, room: &'a str) -> State<'a> {
        State { origin: Origin::Outside { mesh, address }, room }
    }

    /// Sets a key's value; `null` removes the key. It takes effect a moment later, on all shards in the same order.
    ///
    /// # Errors
    /// [`StateError`]. From another thread the bounds and the room's existence are not known: what they refuse there is
    /// logged by the shard.
    pub fn set(&self, key: &str, value: &impl Serialize) -> Result<(), StateError> {
        let value = RawJson::from_value(value).map_err(|_| StateError::NotJson)?;
        // A page could not tell it from a key that is gone.
        if value.as_str() == "null" {
            return self.remove(key);
        }
        self.send(StateChange::Set { key: key.to_owned(), value: value.as_str().to_owned() })
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As for [`set`](State::set).
    pub fn remove(&self, key: &str) -> Result<(), StateError> {
        self.send(StateChange::Remove { key: key.to_owned() })
    }

    /// A key's value, as this shard knows it. `None` from another thread.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let Origin::Shard { core, namespace } = &self.origin else { return None };
        // How a type is read may be user code: the text is copied, and nothing is borrowed meanwhile.
        let text = {
            let core = core.borrow();
            let table = core.states.get(core.states.find(*namespace, self.room)?);
            table.values.get(key)?.clone()
        };
        read_json(&text).ok()
    }

    fn send(&self, change: StateChange) -> Result<(), StateError> {
        match &self.origin {
            Origin::Shard { core, namespace } => {
                core.borrow_mut().states().change(*namespace, self.room, change)
            }
            Origin::Outside { mesh, address } => {
                let message = message(address, self.room, change, false);
                if mesh.len() == 0 {
                    return Err(StateError::NotRunning);
                }
                let home = shard_of_key(self.room, mesh.len());
                let sent = mesh.send(home, ShardMessage::State(Arc::new(message)));
                mesh.ring(home);
                sent.map_err(|_| StateError::ShardBusy)
            }
        }
    }
}

impl std::fmt::Debug for Origin<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Origin::Shard { .. } => "Shard",
            Origin::Outside { .. } => "Outside",
        })
    }
}
