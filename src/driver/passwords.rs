//! Passwords are compared with their bcrypt hashes on a thread of its own: one comparison is some 60 ms of a core by design, which would
//! hold up a shard.
//!
//! The thread begins with the first comparison, does one at a time, and ends when nobody can ask it any more.

use std::sync::OnceLock;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Comparisons that may wait; beyond it a login is refused at once.
pub(crate) const LOGINS_WAITING_MAX: usize = 8;

struct Job {
    password: String,
    hash: String,
    reply: oneshot::Sender<bool>,
}

/// Hands passwords to the thread.
#[derive(Default)]
pub(crate) struct PasswordDesk {
    jobs: OnceLock<Option<Sender<Job>>>,
}

impl PasswordDesk {
    /// Asks whether a password is the one of a hash. `None`: too many wait, or there is no thread.
    pub(crate) fn compare(&self, password: String, hash: String) -> Option<oneshot::AsyncReceiver<bool>> {
        let jobs = self.jobs.get_or_init(begin).as_ref()?;
        let (reply, answer) = oneshot::async_channel();
        match jobs.try_send(Job { password, hash, reply }) {
            Ok(()) => Some(answer),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

fn begin() -> Option<Sender<Job>> {
    let (jobs, waiting) = bounded(LOGINS_WAITING_MAX);
    let thread = std::thread::Builder::new().name("passwords".to_owned()).spawn(move || run(&waiting));
    if let Err(error) = thread {
        tracing::error!(%error, "no thread for passwords: logins with a bcrypt hash are refused");
        return None;
    }
    Some(jobs)
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(Job { password, hash, reply }) = jobs.recv() {
        if !reply.is_closed() {
            // Nobody may wait for the answer any more.
            let _ = reply.send(bcrypt::verify(password, &hash).unwrap_or(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on(answer: oneshot::AsyncReceiver<bool>) -> Option<bool> {
        use std::task::{Context, Poll, Waker};
        let mut answer = std::pin::pin!(answer);
        loop {
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => return answer.ok(),
                Poll::Pending => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_password_is_known_by_its_hash_and_nothing_else_is() {
        let desk = PasswordDesk::default();
        let made = bcrypt::hash_with_result("changeit", 4).unwrap();
        let hashes = [
            made.format_for_version(bcrypt::Version::TwoA),
            made.format_for_version(bcrypt::Version::TwoB),
            made.format_for_version(bcrypt::Version::TwoY),
        ];
        for hash in &hashes {
            for (password, expected) in
                [("changeit", true), ("changei", false), ("", false), ("changeit\0", false)]
            {
                let answer = desk.compare(password.to_owned(), hash.clone()).expect("nothing waits");
                assert_eq!(block_on(answer), Some(expected), "{hash} {password:?}");
            }
        }
        let answer = desk.compare("changeit".to_owned(), "$2b$10$short".to_owned()).expect("nothing waits");
        assert_eq!(block_on(answer), Some(false), "what is no hash is nobody's");
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let desk = PasswordDesk::default();
        let hash = bcrypt::hash("changeit", 8).unwrap();
        let asked: Vec<_> = (0..64).filter_map(|_| desk.compare("x".to_owned(), hash.clone())).collect();
        assert!(asked.len() <= LOGINS_WAITING_MAX + 2 + 1, "{} wait", asked.len());
        assert!(asked.into_iter().all(|answer| block_on(answer) == Some(false)));
    }
}
