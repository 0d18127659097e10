//! Single functions of the protocols, each beside its naive twin: decode, encode, mask, and is it JSON.
//!
//! Every bench compares its answer before it is timed.

mod naive;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use shardcast::Json;
use shardcast::bench_support::{client_frame, decode, encode_ack, encode_event, is_json, mask};

/// An event of a chat: what most packets look like.
const EVENT: &str = r#"42["message",{"room":"lobby","text":"hello, how are you?","n":17}]"#;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SIZES: [usize; 3] = [64, 1024, 64 * 1024];

fn main() {
    divan::main();
}

#[derive(Serialize)]
struct Message {
    room: &'static str,
    text: &'static str,
    n: u32,
}

const MESSAGE: Message = Message { room: "lobby", text: "hello, how are you?", n: 17 };

#[divan::bench]
fn decode_event(bencher: Bencher<'_, '_>) {
    let frame = client_frame(EVENT);
    let step =
        |bytes: &mut Vec<u8>| decode(bytes).map(|event| (event.id, event.name.len(), event.args.raw().len()));
    let mut bytes = frame.clone();
    let event = decode(&mut bytes).expect("the frame holds an event");
    assert_eq!((event.id, &*event.name), (None, "message"));
    assert_eq!(event.args.read::<Value>(0).expect("the argument is JSON"), json!(MESSAGE));
    bencher.with_inputs(|| frame.clone()).bench_local_refs(step);
}

#[divan::bench]
fn decode_event_naive(bencher: Bencher<'_, '_>) {
    let frame = client_frame(EVENT);
    let expected = Some((None, "message".to_owned(), vec![json!(MESSAGE)]));
    assert_eq!(naive::decode(&frame), expected);
    bencher.with_inputs(|| frame.clone()).bench_local_refs(|bytes| naive::decode(bytes));
}

#[divan::bench]
fn encode_an_event(bencher: Bencher<'_, '_>) {
    let mut out = Vec::new();
    assert!(encode_event(&mut out, "message", &Json(MESSAGE)));
    assert_eq!(out, naive::frame(EVENT));
    bencher.bench_local(|| {
        out.clear();
        encode_event(&mut out, black_box("message"), &Json(black_box(MESSAGE)))
    });
}

#[divan::bench]
fn encode_an_event_naive(bencher: Bencher<'_, '_>) {
    let encode = |name: &str, message: Message| {
        let payload = serde_json::to_string(&(name, message)).expect("a struct has JSON");
        naive::frame(&format!("42{payload}"))
    };
    assert_eq!(encode("message", MESSAGE), naive::frame(EVENT));
    bencher.bench_local(|| encode(black_box("message"), black_box(MESSAGE)));
}

#[divan::bench]
fn encode_an_ack(bencher: Bencher<'_, '_>) {
    let mut out = Vec::new();
    assert!(encode_ack(&mut out, 427, &("ok", 17)));
    assert_eq!(out, naive::frame(r#"43427["ok",17]"#));
    bencher.bench_local(|| {
        out.clear();
        encode_ack(&mut out, black_box(427), &(black_box("ok"), black_box(17)))
    });
}

#[divan::bench]
fn encode_an_ack_naive(bencher: Bencher<'_, '_>) {
    let encode = |id: u64, text: &str, number: i32| naive::frame(&format!("43{id}{}", json!([text, number])));
    assert_eq!(encode(427, "ok", 17), naive::frame(r#"43427["ok",17]"#));
    bencher.bench_local(|| encode(black_box(427), black_box("ok"), black_box(17)));
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|place| ((place * 167) >> 3) as u8).collect()
}

fn bench_mask(bencher: Bencher<'_, '_>, len: usize, mask: impl Fn(&mut [u8], [u8; 4])) {
    let mut bytes = payload(len);
    let by_definition: Vec<u8> =
        bytes.iter().enumerate().map(|(place, byte)| byte ^ KEY[place % 4]).collect();
    mask(&mut bytes, KEY);
    assert_eq!(bytes, by_definition);
    bencher.counter(BytesCount::new(len)).bench_local(|| mask(black_box(&mut bytes), black_box(KEY)));
}

#[divan::bench(args = SIZES)]
fn unmask(bencher: Bencher<'_, '_>, len: usize) {
    bench_mask(bencher, len, mask);
}

#[divan::bench(args = SIZES)]
fn unmask_naive(bencher: Bencher<'_, '_>, len: usize) {
    bench_mask(bencher, len, naive::mask);
}

/// A list of messages of about this many bytes.
fn json_text(len: usize) -> String {
    let one = json!(MESSAGE).to_string();
    let count = len.div_ceil(one.len() + 1);
    format!("[{}]", vec![one; count].join(","))
}

fn bench_json(bencher: Bencher<'_, '_>, len: usize, is_json: impl Fn(&str) -> bool) {
    let text = json_text(len);
    assert!(is_json(&text));
    assert!(!is_json(&text[..text.len() - 1]) && !is_json(&text.replace("17", "017")));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| is_json(black_box(&text)));
}

#[divan::bench(args = SIZES)]
fn json_scan(bencher: Bencher<'_, '_>, len: usize) {
    bench_json(bencher, len, is_json);
}

#[divan::bench(args = SIZES)]
fn json_scan_naive(bencher: Bencher<'_, '_>, len: usize) {
    bench_json(bencher, len, |text| serde_json::from_str::<IgnoredAny>(text).is_ok());
}
