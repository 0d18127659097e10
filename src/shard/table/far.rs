//! What a shard says to other processes about sockets that come back: see `message/far`.

use crate::base::ids::NodeTag;
use crate::base::ids::Sid;
use crate::base::slab::Key;
use crate::mesh::link::Said;
use crate::message::address::Address;
use crate::message::far::{FarAsker, FarKept, FarSaid, FarWord, OffsetText};
use crate::message::recovery::{Asker, Kept, LostSocket, NotKept, Offset, RecoveryMessage};
use crate::shard::table::Tables;
use crate::shard::value::recovery::{Arriving, FarKeeper, Stage};
use crate::shard::value::socket::{state_of, state_of_mut};

impl Tables {
    /// Asks the other processes who keeps a socket. False: none of them can have it, or none can be asked.
    pub(crate) fn ask_far(
        &self,
        namespace: &Address,
        asker: Asker,
        (pid, offset): (Sid, Option<Offset>),
    ) -> bool {
        let Some((own, link)) = self.mesh.links.tag.zip(self.mesh.links.of(namespace)) else { return false };
        let have_moved = link.interests.have_moved();
        if !link.is_up() || own == pid.node() && !have_moved {
            link.stats.sockets_given_up.add(u64::from(link.keeps_sockets));
            return false;
        }
        let said = FarSaid::Ask { pid, offset: offset.map(OffsetText::new) };
        let word = Box::new(FarWord::new(namespace, FarAsker::new(own, asker), said));
        // Whoever has taken it since does not have its tag.
        let to = (!have_moved).then(|| pid.node());
        link.say(Said::Far { to, word }).is_ok()
    }

    /// Says whether a socket is kept here that another process asks for.
    pub(crate) fn answer_far(
        &self,
        namespace: &Address,
        asker: FarAsker,
        found: Result<Option<LostSocket>, NotKept>,
    ) {
        let keeper = self.mesh.links.tag.unwrap_or_default();
        let said = match found {
            Ok(Some(lost)) => FarSaid::Found { keeper, shard: self.env.id.0, lost },
            Ok(None) => FarSaid::NotFound(NotKept::Unknown),
            Err(reason) => FarSaid::NotFound(reason),
        };
        self.say_far(namespace, asker.node, FarWord::new(namespace, asker, said));
    }

    /// Gives an asker what its client has missed.
    pub(crate) fn answer_missed(&mut self, namespace: &Address, asker: Asker, missed: Option<Vec<Kept>>) {
        let Some(node) = asker.node else {
            let missed = RecoveryMessage::Missed { to: asker.socket, missed };
            self.send_recovery(asker.shard, missed);
            return;
        };
        let missed = missed.map(|missed| missed.into_iter().map(FarKept::from).collect());
        let said = FarSaid::Missed(missed);
        self.say_far(namespace, node, FarWord::new(namespace, FarAsker::new(node, asker), said));
    }

    /// A socket that comes from another process is in its rooms, and what this process said before that is on its way: the keeper may give it
    /// up. The companion says so once the broker has confirmed the rooms.
    pub(crate) fn ask_far_keeper(&mut self, key: Key) {
        let Some(state) = self.sockets.get_mut(key).and_then(state_of_mut) else { return };
        let Stage::Arriving(arriving) = &mut state.stage else { return };
        arriving.since = None;
        let (pid, FarKeeper { node, shard }) = (state.pid, arriving.keeper);
        self.say_to_keeper(key, node, FarSaid::GiveUp { pid, shard: shard.0 });
    }

    /// A socket that was to come from another process is gone.
    pub(crate) fn release_far(&self, key: Key) {
        let state = self.sockets.get(key).and_then(state_of);
        if let Some((pid, Stage::Arriving(Arriving { keeper, .. }))) =
            state.map(|state| (state.pid, &state.stage))
        {
            self.say_to_keeper(key, keeper.node, FarSaid::Release { pid, shard: keeper.shard.0 });
        }
    }

    fn say_to_keeper(&self, key: Key, node: NodeTag, said: FarSaid) {
        let Some((own, namespace)) = self.mesh.links.tag.zip(self.address_of(key)) else { return };
        let asker = FarAsker::new(own, Asker { node: None, shard: self.env.id, socket: key });
        self.say_far(&namespace, node, FarWord::new(&namespace, asker, said));
    }

    pub(crate) fn say_far(&self, namespace: &Address, to: NodeTag, word: FarWord) {
        if let Some(link) = self.mesh.links.of(namespace) {
            // What is refused is counted there. The asker then waits in vain, and its client comes back anew.
            let _ = link.say(Said::Far { to: Some(to), word: Box::new(word) });
        }
    }
}
