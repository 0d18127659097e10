//! Single functions of the protocols, each beside its naive twin: decode, encode, mask, and is it JSON.
//!
//! Every bench compares its answer before it is timed.

mod naive;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
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

/// What a value is read from: a short text, the message of a chat, and lists of such messages of these bytes.
const VALUES: [&str; 4] = ["14 B", "64 B", "10 KB", "100 KB"];

fn value_text(size: &str) -> String {
    let record = |n: usize| json!({ "id": n, "name": format!("user {n}"), "score": n as f64 / 8.0, "tags": ["a", "b"], "on": true });
    match size {
        "14 B" => json!("hello, there").to_string(),
        "64 B" => json!(MESSAGE).to_string(),
        "10 KB" => json!((0..130).map(record).collect::<Vec<_>>()).to_string(),
        _ => json!((0..1_270).map(record).collect::<Vec<_>>()).to_string(),
    }
}

/// A struct that reads the records of the lists.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Record {
    id: u64,
    name: String,
    score: f64,
    tags: Vec<String>,
    on: bool,
}

#[divan::bench(args = VALUES)]
fn owned_value_by_serde_json(bencher: Bencher<'_, '_>, size: &str) {
    let text = value_text(size);
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    assert_eq!(read(&text).map(|value| value.to_string()), Some(text.clone()));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| read(black_box(&text)));
}

/// The copy that it works in, and its buffers, are kept from call to call.
#[divan::bench(args = VALUES)]
fn owned_value_by_simd_json(bencher: Bencher<'_, '_>, size: &str) {
    let text = value_text(size);
    let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
    let mut read = |text: &str| {
        copy.clear();
        copy.extend_from_slice(text.as_bytes());
        simd_json::serde::from_slice_with_buffers::<Value>(&mut copy, &mut buffers).ok()
    };
    assert_eq!(read(&text).map(|value| value.to_string()), Some(text.clone()));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| read(black_box(&text)));
}

#[divan::bench(args = &VALUES[2..])]
fn owned_structs_by_serde_json(bencher: Bencher<'_, '_>, size: &str) {
    let text = value_text(size);
    let read = |text: &str| serde_json::from_str::<Vec<Record>>(text).ok();
    assert!(read(&text).is_some_and(|records| records.len() > 100));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| read(black_box(&text)));
}

#[divan::bench(args = &VALUES[2..])]
fn owned_structs_by_simd_json(bencher: Bencher<'_, '_>, size: &str) {
    let text = value_text(size);
    let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::default());
    let mut read = |text: &str| {
        copy.clear();
        copy.extend_from_slice(text.as_bytes());
        simd_json::serde::from_slice_with_buffers::<Vec<Record>>(&mut copy, &mut buffers).ok()
    };
    assert_eq!(read(&text), serde_json::from_str(&text).ok());
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| read(black_box(&text)));
}

/// What replies are made of: serde_json's writer, and ours.
#[divan::bench(args = VALUES)]
fn value_written_by_serde_json(bencher: Bencher<'_, '_>, size: &str) {
    let (text, mut out) = (value_text(size), Vec::new());
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut write = |value: &Value| {
        out.clear();
        serde_json::to_writer(&mut out, value).expect("a value has JSON");
        out.len()
    };
    assert_eq!(write(&value), text.len());
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| write(black_box(&value)));
}

#[divan::bench(args = VALUES)]
fn value_written_by_us(bencher: Bencher<'_, '_>, size: &str) {
    let (text, mut out) = (value_text(size), Vec::new());
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut write = |value: &Value| {
        out.clear();
        encode_ack(&mut out, 427, &value)
    };
    assert!(write(&value));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| write(black_box(&value)));
}
