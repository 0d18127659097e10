//! Where user code is called: a panic of it goes no further.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::shown::Shown;

/// A panic of user code that was caught; it is displayed as what it said, which may quote a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caught(String);

impl fmt::Display for Caught {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(formatter)
    }
}

/// Runs user code, and catches its panic.
#[inline]
pub(crate) fn guarded<R>(work: impl FnOnce() -> R) -> Result<R, Caught> {
    catch_unwind(AssertUnwindSafe(work)).map_err(caught)
}

/// Drops a value of the user's, whose destructor is user code, too. A panic of it is logged.
pub(crate) fn discard<T>(value: T) {
    if let Err(panic) = guarded(|| drop(value)) {
        tracing::error!(message = %panic, "a destructor panicked");
    }
}

#[cold]
fn caught(payload: Box<dyn Any + Send>) -> Caught {
    let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no message)".to_owned()
    };
    // `panic_any` takes any value, and its destructor may panic as well. What that says is not looked at: it could
    // go on like this for ever.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    Caught(message)
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Grim(u32);

    impl Drop for Grim {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Grim(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_panic_says_what_it_said_whatever_its_payload_is() {
        let rows: [(&str, fn()); 5] = [
            ("boom", || panic!("boom")),
            ("boom 1", || panic!("boom {}", 1)),
            ("text", || panic_any("text".to_owned())),
            ("(no message)", || panic_any(7_u8)),
            ("(no message)", || panic_any(Grim(3))),
        ];
        for (expected, work) in rows {
            assert_eq!(guarded(work).map_err(|panic| panic.to_string()), Err(expected.to_owned()));
        }
        assert_eq!(guarded(|| 5), Ok(5));
    }

    #[test]
    fn a_destructor_that_panics_goes_no_further() {
        discard(Grim(2));
        discard(vec![Grim(0), Grim(1)]);
    }
}
