//! Streams of Redis as answers: the newest id, from where to read on, what an entry consists of, what is read once more; and keys that are
//! taken.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};

use crate::bus::redis::{BODY_FIELD, CHANNEL_FIELD, Progress, StreamId};
use crate::bus::{Body, Channel, Delivery, ReadBack, names};
use crate::message::recovery::Position;

/// The last id that a stream has given out; its start if there is no stream.
pub(crate) async fn newest(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<StreamId, RedisError> {
    let about = redis::cmd("XINFO").arg("STREAM").arg(key).query_async::<Value>(connection).await;
    let fields = match about {
        Ok(Value::Map(fields)) => fields,
        Ok(_) => Vec::new(),
        Err(error) if error.to_string().contains("no such key") => Vec::new(),
        Err(error) => return Err(error),
    };
    let last = fields.iter().find(|(name, _)| text(Some(name)) == Some("last-generated-id"));
    let id = last.and_then(|(_, id)| StreamId::parse(text(Some(id))?.as_bytes()));
    Ok(id.unwrap_or(StreamId::START))
}

/// From where to read on. A stream whose last id is behind ours is another one: of Redis that came back with what it had saved a while
/// ago, which we have read, or that came back with nothing, of which we have not.
pub(crate) async fn resume(
    connection: &mut MultiplexedConnection,
    key: &str,
    progress: &Progress,
) -> Result<StreamId, RedisError> {
    let newest = newest(connection, key).await?;
    if newest >= progress.last {
        return Ok(progress.last);
    }
    let mut pipeline = Pipeline::new();
    for id in progress.samples() {
        pipeline.cmd("XRANGE").arg(key).arg(id.to_string()).arg(id.to_string());
    }
    if pipeline.is_empty() {
        return Ok(StreamId::START);
    }
    let found = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
    let is_old = found.iter().any(|entries| matches!(entries, Value::Array(entries) if !entries.is_empty()));
    Ok(if is_old { newest } else { StreamId::START })
}

pub(crate) fn entry_of(entry: Value) -> Option<(StreamId, Vec<Value>)> {
    let Value::Array(parts) = entry else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    Some((StreamId::parse(&id)?, fields))
}

/// What an entry of our own stream says.
pub(crate) fn own_message(fields: Vec<Value>) -> Option<(Channel, Body)> {
    let mut fields = fields.into_iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let (name, channel, body, bytes) = (fields.next()??, fields.next()??, fields.next()??, fields.next()??);
    let is_ours = name == CHANNEL_FIELD.as_bytes() && body == BODY_FIELD.as_bytes();
    let channel = names::channel_of(&channel).filter(|_| is_ours)?;
    Some((channel, Body::Bytes(Bytes::from(bytes))))
}

/// Entries of our own stream from an id on, as they were delivered when they were new.
pub(crate) async fn read_back(
    connection: &mut MultiplexedConnection,
    key: &str,
    (from, len_max): (Position, usize),
) -> Result<ReadBack, RedisError> {
    let mut command = redis::cmd("XRANGE");
    command.arg(key).arg(from.to_string()).arg("+").arg("COUNT").arg(len_max);
    let answer: Value = command.query_async(connection).await?;
    let Value::Array(entries) = answer else { return Ok(ReadBack { is_end: true, ..ReadBack::default() }) };
    let is_end = entries.len() < len_max;
    let delivery = |entry| {
        let (id, fields) = entry_of(entry)?;
        let (channel, body) = own_message(fields)?;
        Some(Delivery { channel, body, offset: Some(id.to_string().into()) })
    };
    Ok(ReadBack { deliveries: entries.into_iter().filter_map(delivery).collect(), is_end })
}

/// What keys have, each of which is gone with that. An error is an answer to one of them.
pub(crate) async fn take(
    connection: &mut MultiplexedConnection,
    keys: &[String],
) -> Result<Vec<Value>, RedisError> {
    let mut pipeline = Pipeline::with_capacity(keys.len());
    for key in keys {
        pipeline.cmd("GETDEL").arg(key);
    }
    connection.send_packed_commands(&pipeline, 0, pipeline.len()).await
}

pub(crate) fn bytes_of(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        _ => None,
    }
}

pub(crate) fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
