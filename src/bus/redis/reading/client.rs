//! Reads one stream on a connection of its own, which waits in Redis for what is new.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use tokio::time::sleep;

use crate::bus::redis::faults::client::fault;
use crate::bus::redis::queue::client::{Event, Queue};
use crate::bus::redis::streams::client::{entry_of, newest, own_message};
use crate::bus::redis::{REDIS_QUEUE_BYTES_MAX, StreamId};
use crate::bus::{Body, Channel};
use crate::config::queue::address::Host;

/// How long a read of a stream waits for something new; then the stream itself is looked at.
pub(in crate::bus::redis) const STREAM_WAIT: Duration = Duration::from_secs(5);

/// Messages of one read.
const STREAM_READ_MAX: usize = 256;

/// Reads one stream on a connection of its own, which waits in Redis for what is new.
pub(in crate::bus::redis) struct StreamReader {
    pub(in crate::bus::redis) connection: MultiplexedConnection,
    pub(in crate::bus::redis) key: Arc<str>,
    pub(in crate::bus::redis) host: Host,
    pub(in crate::bus::redis) queue: Queue,
    pub(in crate::bus::redis) is_own: bool,
}

impl StreamReader {
    pub(in crate::bus::redis) async fn run(mut self, mut last: StreamId) {
        loop {
            // What is not read stays in Redis.
            while self.queue.shared.waiting_bytes.load(Relaxed) > REDIS_QUEUE_BYTES_MAX / 4 {
                sleep(Duration::from_millis(2)).await;
            }
            match self.read_once(last).await {
                Ok(read) => last = read,
                Err(error) => return self.queue.lose(fault(&self.host, &error).text),
            }
        }
    }

    /// Passes on what is new behind an id; the id up to which that was.
    async fn read_once(&mut self, last: StreamId) -> Result<StreamId, RedisError> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(STREAM_READ_MAX).arg("BLOCK").arg(STREAM_WAIT.as_millis() as u64);
        command.arg("STREAMS").arg(&*self.key).arg(last.to_string());
        let answer: Value = command.query_async(&mut self.connection).await?;
        let Value::Map(streams) = answer else {
            let newest = newest(&mut self.connection, &self.key).await?;
            return Ok(if newest < last { StreamId::START } else { last });
        };
        let mut read = last;
        for (_, entries) in streams {
            let Value::Array(entries) = entries else { continue };
            for entry in entries {
                let Some((id, fields)) = entry_of(entry) else { continue };
                read = id;
                if let Some((channel, body)) = self.message_of(fields) {
                    self.queue.admit(Event::Entry { stream: Arc::clone(&self.key), id, channel, body });
                }
            }
        }
        Ok(read)
    }

    /// What an entry says. None if it is not one of those that belong here.
    fn message_of(&self, fields: Vec<Value>) -> Option<(Channel, Body)> {
        if self.is_own {
            return own_message(fields);
        }
        let mut fields = fields.into_iter().map(|value| match value {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        });
        let mut pairs = Vec::new();
        while let Some(name) = fields.next() {
            let name = String::from_utf8(name?).ok()?;
            pairs.push((Cow::Owned(name), Bytes::from(fields.next()??)));
        }
        Some((Channel::Stream((&*self.key).into()), Body::Fields(pairs)))
    }
}
