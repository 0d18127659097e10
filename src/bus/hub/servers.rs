//! What processes say to each other's servers: events that a handler gets once in each process, and no client.

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::bus::hub::{Asker, Hub};
use crate::bus::own::{NodeId, ServerWord, Word};
use crate::bus::{Channel, Heard};
use crate::mesh::ShardMessage;
use crate::message::address::Address;
use crate::message::inquiry::AnswerText;
use crate::message::server_event::{ServerCall, ServerEvent};

impl Hub {
    /// This process says something to the servers of the others.
    pub(super) fn say_to_servers(&mut self, event: &ServerEvent) {
        self.post_all([Channel::All], Word::Server(ServerWord::new(event, None)));
    }

    /// Another process has said something to the servers.
    pub(super) fn hear_server_event(&mut self, word: &ServerWord<'_>, from: NodeId) {
        if !self.has_endpoint(word.endpoint) {
            return;
        }
        let event = ServerEvent {
            namespace: Address::new(word.endpoint, word.namespace),
            name: word.name.to_owned(),
            args: AnswerText {
                json: word.json.to_owned(),
                attachments: word.attachments.iter().map(|bytes| Bytes::copy_from_slice(bytes.0)).collect(),
            },
        };
        let asker = word.question.map(Asker::Peer);
        self.call_handler(event, self.fleet.name(from), asker);
    }

    /// Whether an endpoint speaks on this link: those of another queue are not reached by this one.
    pub(super) fn has_endpoint(&self, endpoint: Option<&str>) -> bool {
        self.endpoints.iter().any(|path| path.as_deref() == endpoint)
    }

    /// The same in a foreign format.
    pub(super) fn hear_foreign_server_event(&mut self, place: usize, heard: Heard) {
        let Heard::ServerEvent { namespace, name, args, ticket } = heard else { return };
        // Of several endpoints the first has the handlers: whoever asks expects one answer of a process.
        let Some(namespace) = self.addresses(&namespace).into_iter().next() else { return };
        let from = self.foreign[place].name().to_owned();
        let asker = ticket.map(|ticket| Asker::Foreign { place, ticket });
        self.call_handler(ServerEvent { namespace, name, args }, from, asker);
    }

    /// Has one shard call the handler: always the same one as long as it lives, so that events keep their order.
    fn call_handler(&mut self, event: ServerEvent, from: String, asker: Option<Asker>) {
        if !is_elements(&event.args.json) {
            return self.unreadable(&Channel::All, "the arguments of a server's event are no JSON");
        }
        let reply = match asker.map(|asker| self.owe_answer(asker)) {
            Some(None) => return,
            reply => reply.flatten(),
        };
        let shard = self.mesh.living(0);
        self.send(shard, ShardMessage::Server(Box::new(ServerCall { event, from, reply })));
    }
}

/// Whether a text is elements of a JSON array, joined by commas.
fn is_elements(json: &str) -> bool {
    serde_json::from_str::<Vec<IgnoredAny>>(&["[", json, "]"].concat()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_others_are_json_or_not_taken() {
        for (json, expected) in [
            ("", true),
            ("1", true),
            ("\"a\",{\"b\":[1,2]}", true),
            ("1,", false),
            ("1]", false),
            ("],[", false),
            ("{", false),
            ("\"a", false),
            ("1 2", false),
        ] {
            assert_eq!(is_elements(json), expected, "{json}");
        }
    }
}
