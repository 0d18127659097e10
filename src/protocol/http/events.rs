//! Server-sent events as text (HTML Living Standard §9.2): what an `EventSource` in a browser reads.
//!
//! Does not send; a field's value cannot begin another field, whatever it holds.

use std::fmt::Write;
use std::time::Duration;

/// The type of a stream of events.
pub(crate) const EVENTS_TYPE: &str = "text/event-stream";

/// A comment: a line that a client reads past, and that shows on the way whether anybody still listens.
pub(crate) const KEEP_ALIVE_COMMENT: &[u8] = b": keep-alive\n\n";

/// One server-sent event.
///
/// ```
/// use shardcast::http::Event;
///
/// let event = Event::new("two\nlines").id("7").name("note");
/// assert_eq!(event.to_string(), "event: note\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    name: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
    data: String,
}

impl Event {
    /// An event with this text; `event.data` in the browser. Lines in it may end in any way, and arrive as lines.
    pub fn new(data: impl Into<String>) -> Event {
        Event { data: data.into(), ..Event::default() }
    }

    /// An event with a value as JSON, for `JSON.parse(event.data)`.
    ///
    /// # Errors
    /// What serde_json says of a value that is no JSON.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Event, serde_json::Error> {
        serde_json::to_string(value).map(Event::new)
    }

    /// The name under which the page listens, `source.addEventListener(name, ..)`; without one it is `message`. Line breaks are
    /// left out.
    #[must_use]
    pub fn name(mut self, name: impl ToString) -> Event {
        self.name = Some(one_line(&name.to_string()));
        self
    }

    /// What the browser sends back in `Last-Event-ID` when it connects again. Line breaks and NUL are left out.
    #[must_use]
    pub fn id(mut self, id: impl ToString) -> Event {
        self.id = Some(one_line(&id.to_string()));
        self
    }

    /// How long the browser waits before it connects again, from now on.
    #[must_use]
    pub fn retry(mut self, after: Duration) -> Event {
        self.retry = Some(after);
        self
    }
}

/// The event as its client reads it.
impl std::fmt::Display for Event {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(name) = &self.name {
            writeln!(out, "event: {name}")?;
        }
        if let Some(id) = &self.id {
            writeln!(out, "id: {id}")?;
        }
        if let Some(retry) = self.retry {
            writeln!(out, "retry: {}", retry.as_millis())?;
        }
        let text = self.data.replace("\r\n", "\n");
        for line in text.split(['\n', '\r']) {
            writeln!(out, "data: {line}")?;
        }
        out.write_char('\n')
    }
}

/// A value without what would end its line, or would make a browser ignore it.
fn one_line(value: &str) -> String {
    value.replace(['\r', '\n', '\0'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_2_6_no_value_begins_another_field() {
        for (event, expected) in [
            (Event::new(""), "data: \n\n"),
            (Event::new("one"), "data: one\n\n"),
            (Event::new("a\nb\rc\r\nd"), "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            (Event::new("\n\nevent: forged"), "data: \ndata: \ndata: event: forged\n\n"),
            (Event::new("x").id("1\nevent: forged"), "id: 1event: forged\ndata: x\n\n"),
            (Event::new("x").id("a\0b"), "id: ab\ndata: x\n\n"),
            (Event::new("x").name("n\r\n\r\ndata: forged"), "event: ndata: forged\ndata: x\n\n"),
            (Event::new("x").retry(Duration::from_secs(3)), "retry: 3000\ndata: x\n\n"),
        ] {
            assert_eq!(event.to_string(), expected);
        }
    }
}
