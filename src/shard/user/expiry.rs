//! How long a socket may stay, as its handlers say.

use std::time::Duration;

use crate::base::time::Time;
use crate::shard::user::socket::Socket;

impl Socket {
    /// Ends this socket after so long, unless it is said again: with the rest of a token's life, in a connect handler.
    ///
    /// `expiry_grace` before, [`on_expiry`](crate::Namespace::on_expiry) is called. At the deadline the client is disconnected from the
    /// namespace, with [`CloseReason::Expired`](crate::CloseReason::Expired); one whose connect handler has not decided is refused.
    pub fn expires_in(&self, life: Duration) {
        let mut core = self.core().borrow_mut();
        let deadline = core.tables.env.now + life;
        core.tables.expire_at(self.key(), deadline);
    }

    /// The same with the time that a token carries: seconds since 1970, as `exp` of a JSON Web Token. When the machine's clock is
    /// set, the deadline follows it.
    pub fn expires_at(&self, unix_seconds: u64) {
        self.core().borrow_mut().tables.expire_at_unix(self.key(), unix_seconds);
    }

    /// Takes the deadline away.
    pub fn never_expires(&self) {
        self.core().borrow_mut().tables.expire_at(self.key(), Time::NEVER);
    }
}
