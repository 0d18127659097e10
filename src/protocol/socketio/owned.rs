//! Arguments that are kept: the text that came and its attachments, for a task, another thread, or a later event.
//!
//! Does not parse; what is read from it is read as from `Args`.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::event::{Args, ArgsError};

/// The arguments of an event as they came, to keep and to send on: [`Args`] that owns what it holds, and that other threads may have.
///
/// Nothing is parsed: sent on, it is the same text and the same attachments. Made by [`Args::into_owned`], or from values by
/// [`OwnedArgs::new`]; what `on_raw_async` gives to its handler.
///
/// ```
/// use std::cell::RefCell;
/// use shardcast::testing::TestServer;
/// use shardcast::{Args, Binary, Config, Context, OwnedArgs, Server};
///
/// let server = Server::new(Config::default()).namespace("/", |io| {
///     let last = RefCell::new(OwnedArgs::default());
///     io.on_raw("draw", move |cx: &mut Context, args: Args<'_>| {
///         cx.broadcast().include_self(false).emit("draw", args);
///         // The stroke before this one.
///         last.replace(args.into_owned())
///     });
/// });
/// let server = TestServer::new(server).unwrap();
/// let client = server.connect("/").unwrap();
/// assert!(client.call("draw", ("red", Binary::from(vec![1, 2]))).unwrap().args().is_empty());
/// let before = client.call("draw", "blue").unwrap();
/// assert_eq!(before.args().read::<Binary>(1).unwrap(), Binary::from(vec![1, 2]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    /// Elements of a valid JSON array, without its brackets.
    raw: String,
    /// Those that the text has placeholders for.
    attachments: Vec<Bytes>,
}

// Other threads may have it.
const _: fn() = || {
    fn is_send<T: Send + Sync>() {}
    is_send::<OwnedArgs>();
};

impl OwnedArgs {
    pub(crate) fn of(raw: String, attachments: Vec<Bytes>) -> OwnedArgs {
        OwnedArgs { raw, attachments }
    }

    /// The arguments, lent.
    pub fn args(&self) -> Args<'_> {
        Args::of_elements(&self.raw, &self.attachments)
    }

    /// Reads one argument as a type.
    ///
    /// # Errors
    /// Those of [`Args::read`].
    pub fn read<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        self.args().read(index)
    }

    /// The number of arguments. Counts them, in time linear to their length.
    pub fn len(&self) -> usize {
        self.args().len()
    }

    /// Whether there is no argument.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// How many bytes are kept: the text's, and those of the attachments.
    pub fn len_bytes(&self) -> usize {
        self.raw.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

impl<'a> Args<'a> {
    /// Keeps what was lent: the text is copied, the attachments are shared.
    pub fn into_owned(self) -> OwnedArgs {
        OwnedArgs { raw: self.raw().to_owned(), attachments: self.attachments().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::binary::Binary;
    use super::*;

    #[test]
    fn what_is_kept_is_what_came() {
        let attachments = [Bytes::from_static(b"x")];
        let raw = r#"1, {"a" : {"num":0,"_placeholder":true}}"#;
        let kept = Args::of_elements(raw, &attachments).into_owned();
        let sent = kept.clone();
        assert_eq!(sent, kept);
        assert_eq!((sent.args().raw(), sent.len(), sent.is_empty()), (raw, 2, false));
        assert_eq!(sent.args().attachments()[0].as_ptr(), attachments[0].as_ptr(), "shared and not copied");
        assert_eq!(sent.len_bytes(), raw.len() + 1);
        let object: std::collections::BTreeMap<String, Binary> = sent.read(1).unwrap();
        assert_eq!(object["a"].as_ref(), b"x");
        assert!(OwnedArgs::default().is_empty());
    }
}
