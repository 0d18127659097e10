//! Bodies for fuzzing and for tests: no message makes a reader panic, and what is read can be delivered, and written and read.
//!
//! Built for tests and for the fuzzer only. Does not make inputs.

use crate::protocol::socketio::frames::FramedEvent;

use super::{Message, Options, host_of, read, write};

const OPTIONS: Options = Options { pickle: true, bytes_max: 1 << 20 };

/// The fuzzer's entry: the bytes of one message.
pub(crate) fn queue(input: &[u8]) {
    let _ = host_of(input);
    let Ok(message) = read(input, OPTIONS) else { return };
    if let Message::Emit(emit) = &message
        && let Ok(frames) = emit.to_frames()
    {
        let event = FramedEvent::check(&frames, &emit.namespace).expect("what is framed is a good event");
        assert_eq!((&*event.name, event.args), (&*emit.event, &*emit.args));
        assert!(event.attachments.iter().copied().eq(emit.attachments.iter().map(|bytes| &**bytes)));
    }
    let mut out = Vec::new();
    write(&message, &mut out);
    let again = match read(&out, Options { pickle: false, bytes_max: usize::MAX }) {
        Ok(again) => again,
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&out)),
    };
    assert_same(&again, &message);
}

/// Python cannot say one `null`, and has no bytes in answers.
fn assert_same(read: &Message<'_>, written: &Message<'_>) {
    match (read, written) {
        (Message::Emit(read), Message::Emit(written)) if written.args == "null" => {
            assert_eq!(read.args, "");
            assert_eq!((&read.rooms, &read.skip), (&written.rooms, &written.skip));
        }
        (
            Message::Callback { callback: read, .. },
            Message::Callback { callback: written, attachments, .. },
        ) if !attachments.is_empty() => assert_eq!(read, written),
        _ => assert_eq!(read, written),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Callback, Emit, Membership, Rooms};
    use super::*;
    use crate::protocol::socketio::json::tests::json;

    /// The bytes of a few messages with something changed, and instructions of pickles in any order.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let opcodes = prop::sample::select(b"(01NIJKMLFGSTUVXCB]lae)t}dsupqrghjcR.\x80\x95\x88\x89\x8a\x8b\x8c\x8d\x8e\x96\x85\x86\x87\x93\x94".to_vec());
        let instructions = prop::collection::vec(
            prop_oneof![6 => opcodes.prop_map(|opcode| vec![opcode]), 2 => prop::collection::vec(0_u8..4, 1..3),
                1 => Just(b"\x8c\x06method\x8c\x04emit".to_vec()), 1 => Just(b"c_codecs\nencode\n".to_vec()),
                1 => Just(b"\x8c\x06latin1".to_vec()), 1 => Just(b"1\n".to_vec())],
            0..60,
        );
        let started = instructions.prop_map(|parts| [&b"\x80\x04}"[..], &parts.concat(), b"."].concat());
        let flawed = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
            |(which, place, value)| {
                let mut bytes = samples()[which.index(samples().len())].clone();
                let place = place.index(bytes.len());
                bytes[place] = value;
                bytes
            },
        );
        prop_oneof![started, flawed, prop::collection::vec(any::<u8>(), 0..60)]
    }

    fn samples() -> Vec<Vec<u8>> {
        vec![
            br#"{"method": "emit", "event": "ev", "data": [[{"_placeholder": true, "num": 0}], "YQ=="], "binary": true, "namespace": "/", "room": ["a", 7], "skip_sid": "S", "callback": ["R", "/", 1], "host_id": "00"}"#.to_vec(),
            br#"{"method": "callback", "host_id": "00", "sid": "S", "namespace": "/", "id": 1, "args": [1]}"#.to_vec(),
            b"\x80\x04}(\x8c\x06method\x8c\x04emit\x8c\x05event\x8c\x02ev\x8c\x04data\x94(K\x01](C\x01xh\x00e}\x8c\x01kG?\xf8\x00\x00\x00\x00\x00\x00st\x8c\tnamespace\x8c\x01/u.".to_vec(),
            b"(dp0\nVmethod\np1\nVemit\np2\nsVevent\nVev\nsVdata\n(I1\nL5L\nF1.5\nI01\nNc_codecs\nencode\np6\n(V\\u0000\xff\nVlatin1\ntRg1\nl(lp1\natsVnamespace\nV/\ns.".to_vec(),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![4 => "\\PC{0,12}", 1 => "[0-9]{1,3}", 1 => any::<String>()]
    }

    fn placeholder() -> impl Strategy<Value = String> {
        (0..3_u8).prop_map(|num| format!("{{\"_placeholder\":true,\"num\":{num}}}"))
    }

    fn emit() -> impl Strategy<Value = Emit<'static>> {
        let plain = prop::collection::vec(json(), 0..4).prop_map(|args| (args, Vec::new()));
        let binary = (
            prop::collection::vec(prop_oneof![2 => json(), 1 => placeholder()], 0..4),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 3),
        );
        let rooms = prop_oneof![Just(None), prop::collection::vec(name(), 0..3).prop_map(Some)];
        let callback = prop::option::of((name(), any::<u64>()));
        (
            prop_oneof![plain, binary],
            name(),
            "/[a-z]{0,4}",
            rooms,
            prop::collection::vec(name(), 0..3),
            callback,
        )
            .prop_map(|((args, attachments), event, namespace, rooms, skip, callback)| Emit {
                event: event.into(),
                args: args.join(",").into(),
                attachments: attachments.into_iter().map(Into::into).collect(),
                namespace: namespace.clone().into(),
                rooms: rooms
                    .map_or(Rooms::Everybody, |rooms| Rooms::Of(rooms.into_iter().map(Into::into).collect())),
                skip: skip.into_iter().map(Into::into).collect(),
                callback: callback.map(|(room, id)| Callback {
                    room: room.into(),
                    is_number: false,
                    namespace: namespace.into(),
                    id,
                }),
                host_id: Some("0011".into()),
            })
    }

    proptest! {
        #[test]
        fn whatever_comes_returns(input in hostile()) {
            queue(&input);
        }

        #[test]
        fn an_event_that_is_written_is_read_as_the_same(emit in emit()) {
            let mut out = Vec::new();
            write(&Message::Emit(emit.clone()), &mut out);
            let expected = match &*emit.args {
                "null" => Emit { args: "".into(), ..emit },
                _ => emit,
            };
            let options = Options { pickle: false, bytes_max: usize::MAX };
            prop_assert_eq!(read(&out, options), Ok(Message::Emit(expected)));
            prop_assert_eq!(host_of(&out), Some("0011"));
            queue(&out);
        }

        #[test]
        fn other_messages_that_are_written_are_read_as_the_same(
            (sid, room, namespace, id, is_number) in (name(), name(), "/[a-z]{0,4}", any::<u64>(), any::<bool>()),
            args in prop::collection::vec(json(), 0..4),
            has_host in any::<bool>(),
        ) {
            let host_id = has_host.then_some("0011".into());
            let member = || Membership {
                sid: (&*sid).into(),
                room: (&*room).into(),
                namespace: (&*namespace).into(),
                host_id: host_id.clone(),
            };
            let room_name = if is_number { id.to_string() } else { room.clone() };
            let messages = [
                Message::EnterRoom(member()),
                Message::LeaveRoom(member()),
                Message::Disconnect { sid: (&*sid).into(), namespace: (&*namespace).into(), host_id: host_id.clone() },
                Message::CloseRoom { room: (&*room).into(), namespace: (&*namespace).into(), host_id: host_id.clone() },
                Message::Callback {
                    host_id: "0011".into(),
                    callback: Callback { room: room_name.into(), is_number, namespace: (&*namespace).into(), id },
                    args: args.join(",").into(),
                    attachments: Vec::new(),
                },
            ];
            for written in messages {
                let mut out = Vec::new();
                write(&written, &mut out);
                let read = read(&out, Options { pickle: false, bytes_max: usize::MAX });
                prop_assert_eq!(read.as_ref(), Ok(&written));
                let may_say = !matches!(written, Message::Callback { .. }) && has_host;
                prop_assert_eq!(host_of(&out), may_say.then_some("0011"));
            }
        }
    }
}
