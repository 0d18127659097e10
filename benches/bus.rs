//! Readers of JSON from other programs: messages of python-socketio's queue and batches of the HTTP API, whose arguments stay text, and
//! answers of Node servers, which become values.
//!
//! Each row reads the same message; the rows differ in the parser. Every bench compares its answer before it is timed.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shardcast::bench_support::{read_api_batch, read_python_event};

/// Bytes of the arguments, about.
const SIZES: [usize; 3] = [10, 10_000, 100_000];

/// Sockets in one answer of a Node server.
const SOCKETS: [usize; 2] = [10, 1000];

fn main() {
    divan::main();
}

/// Arguments as a dashboard gets them: names, numbers and short texts.
fn args(len: usize) -> Value {
    let row = |n: usize| json!({"id": n, "name": format!("sensor {n}"), "value": n as f64 * 0.37, "ok": n.is_multiple_of(3), "tags": ["a", "b"]});
    let mut rows = vec![json!("hello")];
    let mut bytes = 0;
    while bytes + 80 < len {
        rows.push(row(rows.len()));
        bytes += 80;
    }
    json!(rows)
}

/// A message as python-socketio 5.16 publishes it.
fn message(len: usize) -> Vec<u8> {
    let args = args(len).to_string();
    let head = r#"{"method": "emit", "event": "ev", "data": "#;
    let tail = r#", "binary": false, "namespace": "/", "room": "lobby", "skip_sid": null, "callback": null, "host_id": "00112233445566778899aabbccddeeff"}"#;
    [head, &args, tail].concat().into_bytes()
}

fn assert_args(read: &str, len: usize) {
    let read: Value = serde_json::from_str(&format!("[{read}]")).expect("the arguments are JSON");
    assert_eq!(read, args(len));
}

#[divan::bench(args = SIZES)]
fn python_as_it_is_read(bencher: Bencher<'_, '_>, len: usize) {
    let message = message(len);
    assert_args(&read_python_event(&message).expect("it is an event"), len);
    bencher
        .counter(BytesCount::of_slice(&message))
        .bench_local(|| read_python_event(black_box(&message)).map(|args| args.len()));
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    method: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    namespace: &'a RawValue,
    #[serde(borrow)]
    room: &'a RawValue,
    #[serde(borrow)]
    skip_sid: Option<&'a RawValue>,
    #[serde(borrow)]
    host_id: &'a RawValue,
}

fn by_serde_json(message: &[u8]) -> Option<&str> {
    let raw: Raw<'_> = serde_json::from_str(std::str::from_utf8(message).ok()?).ok()?;
    let is_emit = raw.method.get() == "\"emit\"" && raw.event.get().len() + raw.namespace.get().len() > 4;
    let has_target = !raw.room.get().is_empty() && !raw.host_id.get().is_empty() && raw.skip_sid.is_none();
    let args = raw.data.get().strip_prefix('[')?.strip_suffix(']')?;
    (is_emit && has_target).then_some(args)
}

#[divan::bench(args = SIZES)]
fn python_by_serde_json_raw(bencher: Bencher<'_, '_>, len: usize) {
    let message = message(len);
    assert_args(by_serde_json(&message).expect("it is an event"), len);
    bencher
        .counter(BytesCount::of_slice(&message))
        .bench_local(|| by_serde_json(black_box(&message)).map(str::len));
}

/// Writes into the copy that it is given, and has to write the arguments anew.
fn by_simd_json(copy: &mut [u8]) -> Option<String> {
    use simd_json::prelude::{ValueAsScalar, ValueObjectAccess, Writable};
    let value = simd_json::to_borrowed_value(copy).ok()?;
    let is_emit = value.get("method").as_str() == Some("emit") && value.get("event").is_some();
    let args = value.get("data")?.encode();
    let args = args.strip_prefix('[')?.strip_suffix(']')?;
    is_emit.then(|| args.to_owned())
}

#[divan::bench(args = SIZES)]
fn python_by_simd_json_values(bencher: Bencher<'_, '_>, len: usize) {
    let message = message(len);
    assert_args(&by_simd_json(&mut message.clone()).expect("it is an event"), len);
    bencher
        .counter(BytesCount::of_slice(&message))
        .bench_local(|| by_simd_json(&mut black_box(&message).clone()).map(|args| args.len()));
}

/// The least that simd-json can do: it finds that the message is JSON, and its text is still to be divided.
#[divan::bench(args = SIZES)]
fn python_by_simd_json_tape_only(bencher: Bencher<'_, '_>, len: usize) {
    let message = message(len);
    let tape_len = |mut copy: Vec<u8>| simd_json::to_tape(&mut copy).map(|tape| tape.0.len()).unwrap_or(0);
    assert!(tape_len(message.clone()) > 10);
    bencher.counter(BytesCount::of_slice(&message)).bench_local(|| tape_len(black_box(&message).clone()));
}

/// Requests in a batch of the HTTP API, and the bytes of the arguments of each.
const BATCHES: [(usize, usize); 3] = [(10, 100), (1000, 100), (100, 10_000)];

fn batch((requests, len): (usize, usize)) -> Vec<u8> {
    let emit = |n: usize| json!({"emit": {"namespace": "/", "to": format!("user:{n}"), "event": "news", "args": args(len)}});
    json!({ "requests": (0..requests).map(emit).collect::<Vec<_>>() }).to_string().into_bytes()
}

fn assert_batch(read: Option<Vec<String>>, (requests, len): (usize, usize)) {
    let read = read.expect("all of it can be read");
    assert_eq!(read.len(), requests);
    read.iter().for_each(|one| assert_args(one, len));
}

#[divan::bench(args = BATCHES)]
fn api_batch_as_it_is_read(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let body = batch(size);
    assert_batch(read_api_batch(&body), size);
    bencher.counter(BytesCount::of_slice(&body)).bench_local(|| read_api_batch(black_box(&body)));
}

/// The arguments have to be written anew. What the server checks beside, names of fields and of namespaces, is left out.
fn batch_by_simd_json(copy: &mut [u8]) -> Option<Vec<String>> {
    use simd_json::prelude::{ValueAsArray, ValueAsScalar, ValueObjectAccess, Writable};
    let value = simd_json::to_borrowed_value(copy).ok()?;
    let read = |request: &simd_json::BorrowedValue<'_>| {
        let emit = request.get("emit")?;
        let is_whole = !emit.get("event")?.as_str()?.is_empty() && emit.get("to")?.as_str().is_some();
        let args = emit.get("args")?.encode();
        is_whole.then(|| args.strip_prefix('[')?.strip_suffix(']').map(str::to_owned)).flatten()
    };
    value.get("requests")?.as_array()?.iter().map(read).collect()
}

#[divan::bench(args = BATCHES)]
fn api_batch_by_simd_json_values(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let body = batch(size);
    assert_batch(batch_by_simd_json(&mut body.clone()), size);
    bencher
        .counter(BytesCount::of_slice(&body))
        .bench_local(|| batch_by_simd_json(&mut black_box(&body).clone()));
}

/// The least that simd-json can do, as above.
#[divan::bench(args = BATCHES)]
fn api_batch_by_simd_json_tape_only(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let body = batch(size);
    let tape_len = |mut copy: Vec<u8>| simd_json::to_tape(&mut copy).map(|tape| tape.0.len()).unwrap_or(0);
    assert!(tape_len(body.clone()) > 10);
    bencher.counter(BytesCount::of_slice(&body)).bench_local(|| tape_len(black_box(&body).clone()));
}

/// What a Node server answers to `fetchSockets`.
fn answer(sockets: usize) -> Vec<u8> {
    let socket = |n: usize| {
        json!({
            "id": format!("Wb5dYVxGuVEDHjYR{n:04}"),
            "handshake": {
                "headers": {"host": "localhost:3000", "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                    "accept": "*/*", "connection": "keep-alive", "accept-encoding": "gzip, deflate, br"},
                "time": "Sat Nov 28 2026 20:00:00 GMT+0000 (Coordinated Universal Time)", "address": "127.0.0.1",
                "xdomain": false, "secure": false, "issued": 1_795_000_000_000_u64 + n as u64,
                "url": "/socket.io/?EIO=4&transport=websocket", "query": {"EIO": "4", "transport": "websocket"}, "auth": {},
            },
            "rooms": [format!("Wb5dYVxGuVEDHjYR{n:04}"), "lobby", format!("room:{}", n % 7)],
            "data": {"name": format!("user {n}"), "score": n},
        })
    };
    json!({"requestId": "AbCdEf", "sockets": (0..sockets).map(socket).collect::<Vec<_>>()})
        .to_string()
        .into_bytes()
}

#[derive(Debug, PartialEq, Deserialize)]
struct Answer {
    #[serde(rename = "requestId")]
    request: String,
    sockets: Vec<RemoteSocket>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct RemoteSocket {
    id: String,
    handshake: Value,
    rooms: Vec<String>,
    data: Value,
}

fn assert_answer(read: Option<Answer>, bytes: &[u8]) {
    assert_eq!(read, serde_json::from_slice(bytes).ok());
}

#[divan::bench(args = SOCKETS)]
fn node_sockets_by_serde_json(bencher: Bencher<'_, '_>, sockets: usize) {
    let bytes = answer(sockets);
    let read = |bytes: &[u8]| serde_json::from_slice::<Answer>(bytes).ok();
    assert!(read(&bytes).is_some_and(|answer| answer.sockets.len() == sockets));
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| read(black_box(&bytes)));
}

#[divan::bench(args = SOCKETS)]
fn node_sockets_by_simd_json(bencher: Bencher<'_, '_>, sockets: usize) {
    let bytes = answer(sockets);
    let read = |bytes: &[u8]| simd_json::serde::from_slice::<Answer>(&mut bytes.to_vec()).ok();
    assert_answer(read(&bytes), &bytes);
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| read(black_box(&bytes)));
}

/// What a shard keeps of a socket: the rooms as names, the rest as text.
#[derive(Deserialize)]
struct SlimAnswer<'a> {
    #[serde(borrow)]
    sockets: Vec<SlimSocket<'a>>,
}

#[derive(Deserialize)]
struct SlimSocket<'a> {
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    handshake: &'a RawValue,
    rooms: Vec<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[divan::bench(args = SOCKETS)]
fn node_sockets_by_serde_json_raw(bencher: Bencher<'_, '_>, sockets: usize) {
    let bytes = answer(sockets);
    let weigh = |bytes: &[u8]| {
        let answer: SlimAnswer<'_> = serde_json::from_slice(bytes).ok()?;
        let weight = |socket: &SlimSocket<'_>| {
            socket.id.len() + socket.handshake.get().len() + socket.data.get().len() + socket.rooms.len()
        };
        Some((answer.sockets.len(), answer.sockets.iter().map(weight).sum::<usize>()))
    };
    assert!(weigh(&bytes).is_some_and(|(count, weight)| count == sockets && weight > 300 * sockets));
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| weigh(black_box(&bytes)));
}

/// All of it as values, whose texts simd-json lends from its copy.
#[divan::bench(args = SOCKETS)]
fn node_values_by_serde_json(bencher: Bencher<'_, '_>, sockets: usize) {
    let bytes = answer(sockets);
    let count = |bytes: &[u8]| -> Option<usize> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        Some(value.get("sockets")?.as_array()?.len())
    };
    assert_eq!(count(&bytes), Some(sockets));
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| count(black_box(&bytes)));
}

#[divan::bench(args = SOCKETS)]
fn node_values_by_simd_json(bencher: Bencher<'_, '_>, sockets: usize) {
    use simd_json::prelude::{ValueAsArray, ValueObjectAccess};
    let bytes = answer(sockets);
    let count = |mut copy: Vec<u8>| -> Option<usize> {
        let value = simd_json::to_borrowed_value(&mut copy).ok()?;
        Some(value.get("sockets")?.as_array()?.len())
    };
    assert_eq!(count(bytes.clone()), Some(sockets));
    let owned: Value = simd_json::serde::from_slice(&mut bytes.clone()).expect("it is JSON");
    assert_eq!(Some(owned), serde_json::from_slice(&bytes).ok());
    bencher.counter(BytesCount::of_slice(&bytes)).bench_local(|| count(black_box(&bytes).clone()));
}
