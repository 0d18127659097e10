//! Binary values in JSON as Node has them where a format has no place for bytes: `{"type":"Buffer","data":[1,2]}`.

use crate::protocol::socketio::binary::{NUM_KEY, PLACEHOLDER_KEY, WRITTEN_DEPTH_MAX};
use crate::protocol::socketio::json::{self, JsonError, Scanner};

use super::Payload;

/// Appends the payload's text, with its attachments in the place of their placeholders.
pub(super) fn with_buffers(out: &mut Vec<u8>, payload: &Payload) -> Result<(), JsonError> {
    if payload.attachments.is_empty() {
        out.extend_from_slice(payload.json.as_bytes());
        return Ok(());
    }
    let mut writer = Writer { out, scanner: Scanner::new(&payload.json), payload };
    writer.value(0)
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    scanner: Scanner<'a>,
    payload: &'a Payload,
}

impl Writer<'_> {
    /// Recursion is safe because the depth is limited.
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > WRITTEN_DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.scanner.skip_white_space();
        match self.scanner.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            _ => {
                let start = self.scanner.at;
                self.scanner.scalar()?;
                self.out.extend_from_slice(self.scanner.since(start).as_bytes());
                Ok(())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        let mut is_first = true;
        self.begin();
        while self.has_more(b']', &mut is_first)? {
            self.value(depth + 1)?;
        }
        Ok(())
    }

    /// The last of equal keys counts, as in JavaScript.
    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let start = self.out.len();
        let (mut is_placeholder, mut attachment) = (false, None);
        let mut is_first = true;
        self.begin();
        while self.has_more(b'}', &mut is_first)? {
            let key = self.scanner.key()?;
            self.out.extend_from_slice(key.as_bytes());
            self.out.push(b':');
            self.scanner.skip_white_space();
            let value_start = self.scanner.at;
            self.value(depth + 1)?;
            let value = self.scanner.since(value_start);
            match json::unescape(key).as_deref() {
                Some(PLACEHOLDER_KEY) => is_placeholder = value == "true",
                Some(NUM_KEY) => {
                    attachment = value.parse().ok().and_then(|num: usize| self.payload.attachments.get(num));
                }
                _ => {}
            }
        }
        if let Some(bytes) = attachment.filter(|_| is_placeholder) {
            self.out.truncate(start);
            self.out.extend_from_slice(br#"{"type":"Buffer","data":"#);
            serde_json::to_writer(&mut *self.out, &bytes[..]).expect("numbers have JSON and a Vec takes it");
            self.out.push(b'}');
        }
        Ok(())
    }

    /// Copies the first byte of a container.
    fn begin(&mut self) {
        self.out.extend(self.scanner.take());
    }

    /// Whether a container has another element; copies the comma before it, or the end.
    fn has_more(&mut self, close: u8, is_first: &mut bool) -> Result<bool, JsonError> {
        self.scanner.skip_white_space();
        let was_first = std::mem::take(is_first);
        if self.scanner.peek() == Some(close) {
            self.scanner.take();
            self.out.push(close);
            return Ok(false);
        }
        if !was_first {
            if self.scanner.take() != Some(b',') {
                return Err(JsonError::Invalid);
            }
            self.out.push(b',');
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn attachments_stand_where_their_placeholders_were() {
        let rows = [
            (r#"["a",{"_placeholder":true,"num":0}]"#, r#"["a",{"type":"Buffer","data":[1,255]}]"#),
            (
                r#"[{"b":[{"num":1 , "_placeholder":true}] , "c":"\n"}]"#,
                r#"[{"b":[{"type":"Buffer","data":[]}],"c":"\n"}]"#,
            ),
            (r#"{"_placeholder":true,"num":7}"#, r#"{"_placeholder":true,"num":7}"#),
            (r#"[ 1.50 , -0, "é\u00e9", null, true, [], {} ]"#, r#"[1.50,-0,"é\u00e9",null,true,[],{}]"#),
        ];
        let attachments = vec![Bytes::from_static(&[1, 255]), Bytes::new()];
        for (json, expected) in rows {
            let mut out = Vec::new();
            let payload = Payload { json: json.to_owned(), attachments: attachments.clone() };
            assert_eq!(with_buffers(&mut out, &payload), Ok(()), "{json}");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            assert_eq!(written(json), Ok(json.to_owned()), "without attachments it is data like any other");
        }
        for (json, error) in [
            ("[1 2]", JsonError::Invalid),
            ("{\"a\"", JsonError::Invalid),
            (&*"[".repeat(1_000_000), JsonError::TooDeep),
        ] {
            let payload = Payload { json: json.to_owned(), attachments: attachments.clone() };
            assert_eq!(with_buffers(&mut Vec::new(), &payload), Err(error));
        }
    }

    fn written(json: &str) -> Result<String, JsonError> {
        let mut out = Vec::new();
        with_buffers(&mut out, &Payload { json: json.to_owned(), attachments: Vec::new() })?;
        Ok(String::from_utf8(out).unwrap())
    }
}
