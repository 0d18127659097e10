//! Bodies for fuzzing and for tests: nothing on a channel makes a reader panic, and what is read can be said again.
//!
//! Built for tests and for the fuzzer only. Does not make inputs.

use std::borrow::Cow;

use bytes::Bytes;

use crate::bus::{Body, Channel, Delivery};
use crate::config::queue::NODE_KEY_DEFAULT;
use crate::config::queue::formats::QueueFormat;

use super::{Format, Heard, Message, Uid};

/// The fuzzer's entry: one byte for the format and the channel, then the message.
pub(crate) fn queue(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    let plain = |name: &str| Channel::Plain(name.into());
    let field =
        |name: &'static str, value: &'static str| (Cow::Borrowed(name), Bytes::from_static(value.as_bytes()));
    let (format, channel) = match choice % 5 {
        0 => (format(QueueFormat::Node), plain("socket.io#/#")),
        1 => (format(QueueFormat::Node), plain("socket.io-request#/#")),
        2 => (format(QueueFormat::Node), plain("socket.io-response#/#me#")),
        3 => (format(QueueFormat::NodeSharded), Channel::Sharded("socket.io#/#".into())),
        _ => {
            let kind = ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"];
            let kind = kind.get(usize::from(choice / 5) % kind.len()).copied().unwrap_or_default();
            let fields = vec![
                field("uid", "x"),
                field("nsp", "/"),
                field("type", kind),
                (Cow::Borrowed("data"), body),
            ];
            let channel = Channel::Stream("socket.io".into());
            return check(
                &format(QueueFormat::NodeStreams),
                Delivery { channel, body: Body::Fields(fields), offset: None },
            );
        }
    };
    check(&format, Delivery { channel, body: Body::Bytes(body), offset: None });
}

/// What has been read is written as something that is read as the same, once it has been through a writer: that leaves white
/// space, repeated headers and the like.
fn check(format: &Format, delivery: Delivery) {
    let Ok(Some(heard)) = format.read(&delivery) else { return };
    let Some(once) = again(format, &heard) else { return };
    let twice = again(format, &once).expect("what has been written once can be written again");
    assert_eq!(once, twice);
}

/// The message as it is heard when the one who has heard it says it.
fn again(format: &Format, heard: &Heard) -> Option<Heard> {
    let post = match &heard.message {
        Message::Reply(reply) => format.reply(&heard.namespace, "me", reply),
        message => format.write(&heard.namespace, message),
    };
    let post = post.ok()?;
    let delivery = Delivery { channel: post.channel, body: post.body, offset: None };
    Some(format.read(&delivery).expect("what is written can be read").expect("and is for others"))
}

fn format(of: QueueFormat) -> Format {
    Format::new(of, NODE_KEY_DEFAULT, Uid("me".into())).expect("it is one of Node's")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::protocol::socketio::json::tests::json;

    use super::super::vectors::{messages, replies};
    use super::*;

    /// Bytes of all that is written, each with the choice of its channel.
    fn written() -> Vec<(u8, Vec<u8>)> {
        let mut inputs = Vec::new();
        for (choice, of) in
            [(1, QueueFormat::Node), (3, QueueFormat::NodeSharded), (4, QueueFormat::NodeStreams)]
        {
            let format = format(of);
            let posts = messages().into_iter().filter_map(|(_, message)| format.write("/", &message).ok());
            let answers = replies().into_iter().filter_map(|(_, mut reply)| {
                reply.request = "me".into();
                format.reply("/", "me", &reply).ok()
            });
            for post in posts.chain(answers) {
                match post.body {
                    Body::Bytes(bytes) => {
                        let is_event = bytes.first() == Some(&0x93);
                        inputs.push((if is_event { 0 } else { choice }, bytes.to_vec()));
                        inputs.push((2, bytes.to_vec()));
                    }
                    Body::Fields(fields) => {
                        inputs.extend((0..11).map(|kind| (4 + 5 * kind, fields[3].1.to_vec())));
                    }
                }
            }
        }
        inputs
    }

    proptest! {
        #[test]
        fn any_bytes_return(input in prop::collection::vec(any::<u8>(), 0..100)) {
            queue(&input);
        }

        #[test]
        fn what_is_written_returns_with_flaws_and_cuts(
            which in any::<prop::sample::Index>(),
            flaws in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let inputs = written();
            let (choice, mut body) = which.get(&inputs).clone();
            for (place, value) in flaws {
                let place = place.index(body.len());
                body[place] = value;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
            body.insert(0, choice);
            queue(&body);
        }

        #[test]
        fn requests_of_any_json_return(
            choice in any::<u8>(),
            kind in 0..14_u8,
            members in prop::collection::vec(
                ("uid|requestId|opts|rooms|close|data|packet|sid|room|sockets|clientCount|nsp|type", json()),
                0..6,
            ),
        ) {
            let members: String = members.iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
            let text = format!("{{\"type\":{kind},\"requestId\":\"me\",\"opts\":{{}}{members}}}");
            queue(&[&[choice], text.as_bytes()].concat());
        }
    }
}
