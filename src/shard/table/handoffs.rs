//! Which connections go to another shard, and how soon (`handoffs_per_second_max`).
//!
//! Clients cause it: by polling on a connection that the kernel gave to another shard than their session's, and by `shard_key`. Both
//! shards work for it, so those of one shard have a rate. A request beyond it waits until it is its turn, and is refused if that takes
//! too long.

use std::time::Duration;

use crate::base::ids::ShardId;
use crate::base::log::ENGINEIO;
use crate::base::slab::Key;
use crate::protocol::http::response::Response;
use crate::protocol::http::status::Status;
use crate::shard::table::Tables;
use crate::shard::value::connection::Step;
use crate::shard::value::kinds::RequestRefused;

/// A request that would wait for longer is answered 503: far below the time after which a proxy or a client gives it up.
pub(crate) const HANDOFF_PATIENCE: Duration = Duration::from_secs(3);

impl Tables {
    /// Hands a connection over with the request that is at the start of `input`, now or when it is its turn.
    pub(crate) fn hand_off_in_turn(&mut self, key: Key, to: ShardId, input: &[u8]) -> Step {
        let per_second = self.env.config.handoffs_per_second_max;
        let now = self.env.now;
        let Some(http) = self.http_mut(key) else { return Step::Used(input.len()) };
        if per_second == 0 || std::mem::take(&mut http.may_move) {
            self.hand_off(key, to, input);
            return Step::Used(input.len());
        }
        match self.handoffs.reserve(now, per_second, HANDOFF_PATIENCE) {
            Ok(Duration::ZERO) => {
                self.hand_off(key, to, input);
                Step::Used(input.len())
            }
            Ok(wait) => {
                self.env.counters.handoffs_delayed.add(1);
                if let Some(http) = self.http_mut(key) {
                    http.may_move = true;
                }
                self.slow_down(key, wait);
                Step::Later
            }
            Err(wait) => {
                self.refuse_hand_off(key, wait);
                Step::Used(input.len())
            }
        }
    }

    #[cold]
    fn refuse_hand_off(&mut self, key: Key, wait: Duration) {
        self.env.counters.handoffs_delayed.add(1);
        self.count_refused(RequestRefused::Moves);
        tracing::warn!(
            target: ENGINEIO,
            handoffs_per_second_max = self.env.config.handoffs_per_second_max,
            "request refused: too many connections go to other shards; raise handoffs_per_second_max, let clients keep their \
             connections (keep-alive), or set shard_key = false"
        );
        if let Some(http) = self.http_mut(key) {
            http.is_answering = true;
        }
        let response = Response::text("too many hand-overs").with_status(Status::SERVICE_UNAVAILABLE);
        self.respond_and_close(key, &response.header("retry-after", (wait.as_secs() + 1).to_string()));
    }
}
