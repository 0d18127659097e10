//! Which messages a broker takes that knows bytes only, up to a size.

use bytes::Bytes;

use super::{Body, Fault, Post};

/// The bytes to send; none if there are more than the broker takes: a line of the log says so, and the connection stays.
pub(crate) fn bytes_within(post: &Post, bytes_max: usize) -> Result<Option<&Bytes>, Fault> {
    let Body::Bytes(bytes) = &post.body else {
        return Err(Fault::lasting(format!("{:?} is a stream, which Redis alone has", post.channel)));
    };
    if bytes.len() > bytes_max {
        tracing::warn!(
            channel = ?post.channel,
            bytes = bytes.len(),
            bytes_max,
            "a message for other processes is larger than the broker takes: it is left out"
        );
        return Ok(None);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Channel;

    #[test]
    fn a_body_is_sent_up_to_the_size_that_the_broker_takes() {
        let post = |body| Post { channel: Channel::All, body, may_repeat: false };
        let bytes = Bytes::from_static(b"four");
        let fitting = post(Body::Bytes(bytes.clone()));
        assert_eq!(bytes_within(&fitting, 4).expect("bytes"), Some(&bytes));
        assert_eq!(bytes_within(&fitting, 3).expect("no fault"), None);
        let fault = bytes_within(&post(Body::Fields(Vec::new())), 4).expect_err("of a stream");
        assert!(fault.is_lasting && fault.text.contains("Redis"), "{}", fault.text);
    }
}
