//! What the foreign formats have heard, for our shards.

use std::sync::Arc;

use crate::base::time::Time;
use crate::bus::hub::words::reframe;
use crate::bus::hub::{Asker, Awaited, Hub};
use crate::bus::{Channel, Delivery, Heard};
use crate::message::address::Address;
use crate::message::inquiry::{Ask, Findings};
use crate::message::recovery::Position;
use crate::message::target::{Broadcast, SocketCommand};

impl Hub {
    pub(super) fn hear_foreign(&mut self, delivery: &Delivery, now: Time) {
        for place in 0..self.foreign.len() {
            if !self.foreign[place].is_of(&delivery.channel) {
                continue;
            }
            if let Err(reason) = self.foreign[place].hear(delivery, now, &mut self.posts, &mut self.heard) {
                self.unreadable(&delivery.channel, &reason);
            }
            return self.take_heard(place);
        }
    }

    /// Does what a foreign format has heard.
    pub(super) fn take_heard(&mut self, place: usize) {
        for heard in std::mem::take(&mut self.heard) {
            match heard {
                Heard::ServerEvent { .. } => self.hear_foreign_server_event(place, heard),
                Heard::Found { question, findings, is_last } => {
                    self.add_findings(question, Awaited::Foreign(place), findings, is_last);
                }
                Heard::Emit { namespace, target, frame } => {
                    let frame = Arc::new(frame);
                    for address in self.addresses(&namespace) {
                        let (target, frame) = (target.clone(), Arc::clone(&frame));
                        self.deliver(Broadcast {
                            namespace: address,
                            target,
                            frame,
                            offset: None,
                            id: None,
                            position: Position::default(),
                            published: 0,
                        });
                    }
                }
                Heard::Change { namespace, target, change } => {
                    for namespace in self.addresses(&namespace) {
                        let (target, change) = (target.clone(), change.clone());
                        self.apply(SocketCommand { namespace, target, change });
                    }
                }
                Heard::Ask { namespace, target, ask, timeout, ticket } => {
                    // Of several endpoints the first answers: whoever asks expects one answer of a process.
                    let Some(namespace) = self.addresses(&namespace).into_iter().next() else { continue };
                    let ask = match ask {
                        Ask::Answers { frame, .. } => {
                            let id = self.mesh.next_broadcast_ack_id();
                            match reframe(&frame, namespace.name(), id) {
                                Ok(frame) => Ask::Answers { id, frame: Arc::new(frame) },
                                Err(fault) => {
                                    self.unreadable(&Channel::Python, fault.reason());
                                    self.foreign[place].answer(ticket, Findings::default(), &mut self.posts);
                                    continue;
                                }
                            }
                        }
                        other => other,
                    };
                    let asker = Asker::Foreign { place, ticket };
                    if !self.ask_shards((namespace, target), ask, timeout, asker) {
                        self.foreign[place].answer(ticket, Findings::default(), &mut self.posts);
                    }
                }
            }
        }
    }

    /// A namespace by its name, at each endpoint of the link.
    pub(super) fn addresses(&self, namespace: &str) -> Vec<Address> {
        self.endpoints.iter().map(|path| Address::new(path.as_deref(), namespace)).collect()
    }
}
