//! Which endpoints share a message queue: one connection to a broker serves all that are on one channel there.

use crate::config::EndpointSettings;
use crate::config::engine::EngineOptions;
use crate::config::queue::MessageQueue;

/// A queue and the endpoints that are on it, by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedQueue {
    pub(crate) queue: MessageQueue,
    pub(crate) endpoints: Vec<u8>,
}

/// A message queue and the endpoints that are on it, by path; none is the configuration's own.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) queue: MessageQueue,
    pub(crate) endpoints: Vec<Option<Box<str>>>,
    /// What those have of their own.
    pub(crate) settings: Vec<EndpointSettings>,
    /// The namespaces that were registered there by name.
    pub(crate) namespaces: Vec<String>,
}

/// The distinct queues of all endpoints, in their order. An endpoint without a queue is in none.
///
/// # Errors
/// A queue that is wrong, and two endpoints that say different things about one channel.
pub(crate) fn queues<'a>(
    endpoints: impl IntoIterator<Item = &'a EngineOptions>,
) -> Result<Vec<SharedQueue>, String> {
    let mut shared: Vec<SharedQueue> = Vec::new();
    for (number, options) in (0..=u8::MAX).zip(endpoints) {
        let Some(queue) = options.queue().map_err(|fault| format!("endpoint {}: {fault}", options.path))?
        else {
            continue;
        };
        let is_same = |other: &&mut SharedQueue| {
            (&other.queue.address, &other.queue.channel) == (&queue.address, &queue.channel)
        };
        match shared.iter_mut().find(is_same) {
            None => shared.push(SharedQueue { queue, endpoints: vec![number] }),
            Some(other) if is_alike(&other.queue, &queue) => other.endpoints.push(number),
            Some(other) => {
                return Err(format!(
                    "endpoint {}: queue_formats, node_key or queue_pickle differ from those of another endpoint on \
                     channel {:?} of {}; write the same, or another channel",
                    options.path, queue.channel, other.queue.url
                ));
            }
        }
    }
    Ok(shared)
}

/// Whether two speak in one way. How the URL was written does not matter.
fn is_alike(one: &MessageQueue, other: &MessageQueue) -> bool {
    (one.formats, &one.node_key, one.is_pickle_read) == (other.formats, &other.node_key, other.is_pickle_read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::queue::formats::QueueFormat;

    #[cfg(feature = "bus")]
    #[test]
    fn endpoints_on_one_channel_share_a_queue() {
        let options = |url: &str, channel: &str| EngineOptions {
            message_queue: url.into(),
            channel: channel.into(),
            ..EngineOptions::default()
        };
        let endpoints = [
            options("memory:a", "one"),
            options("", "one"),
            options("memory:a", "two"),
            options(" memory:a ", "one"),
            options("memory:b", "one"),
        ];
        let found = queues(&endpoints).expect("all of these are right");
        let shown: Vec<_> = found
            .iter()
            .map(|shared| {
                (shared.queue.url.to_string(), shared.queue.channel.as_str(), shared.endpoints.as_slice())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("memory:a".to_owned(), "one", &[0_u8, 3][..]),
                ("memory:a".to_owned(), "two", &[2]),
                ("memory:b".to_owned(), "one", &[4])
            ]
        );
        let other = EngineOptions { path: "/x/".into(), queue_pickle: true, ..options("memory:a", "one") };
        let fault = queues([&endpoints[0], &other]).expect_err("they differ");
        assert!(fault.contains("endpoint /x/: queue_formats, node_key or queue_pickle differ"), "{fault}");
    }

    #[test]
    fn a_wrong_queue_is_named_with_its_endpoint() {
        let wrong = EngineOptions {
            path: "/x/".into(),
            message_queue: "nats://s3cret@a".into(),
            queue_formats: [QueueFormat::Node].into(),
            ..EngineOptions::default()
        };
        let fault = queues([&EngineOptions::default(), &wrong]).expect_err("NATS has no Node");
        assert!(fault.starts_with("endpoint /x/: ") && !fault.contains("s3cret"), "{fault}");
    }
}
