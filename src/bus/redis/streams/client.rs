//! Streams of Redis as answers: the newest id, from where to read on, and what an entry consists of.

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value};

use crate::bus::redis::{Progress, StreamId};

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

pub(crate) fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
