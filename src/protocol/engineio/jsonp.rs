//! Long-polling for pages that may only load scripts (JSONP), both ways, as engine.io's `polling-jsonp`.
//!
//! A body in, a script that calls the page with it out; a form in, the body that it carries out.

use crate::protocol::http::query;

/// The number by which a page knows the function that awaits a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Callback(u32);

impl Callback {
    /// Reads the parameter `j`. Its digits count and nothing else, as in Node; without any it is 0.
    pub(crate) fn parse(text: &str) -> Callback {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        Callback(digits.parse().unwrap_or_default())
    }
}

/// The script that hands a body to the page: JSON, with the two line ends escaped that JSON allows in a string and
/// JavaScript once did not.
pub(crate) fn encode(callback: Callback, body: &str) -> Vec<u8> {
    let json = serde_json::to_string(body).expect("a string has JSON");
    let json = json.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    format!("___eio[{}]({json});", callback.0).into_bytes()
}

/// The body in a form: its field `d`. A browser changes line ends in forms, so the client wrote `\n` for one, and put
/// another backslash before a `\n` that was there already.
pub(crate) fn decode(form: &str) -> Option<String> {
    let escaped = query::get_last(form, "d")?;
    let mut body = String::with_capacity(escaped.len());
    let mut rest = escaped.as_ref();
    while let Some(place) = rest.find("\\n") {
        let (before, after) = rest.split_at(place);
        match before.strip_suffix('\\') {
            Some(before) => body.extend([before, "\\n"]),
            None => body.extend([before, "\n"]),
        }
        rest = after.get(2..).unwrap_or_default();
    }
    body.push_str(rest);
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_safe_whatever_the_body_holds() {
        let rows = [
            ("3", "4hello", r#"___eio[3]("4hello");"#),
            ("", "4\"\\", r#"___eio[0]("4\"\\");"#),
            ("1);alert(2", "4\u{2028}\u{2029}\n\u{1e}", r#"___eio[12]("4\u2028\u2029\n\u001e");"#),
            ("99999999999", "6", r#"___eio[0]("6");"#),
        ];
        for (j, body, expected) in rows {
            assert_eq!(String::from_utf8(encode(Callback::parse(j), body)).unwrap(), expected);
        }
    }

    #[test]
    fn a_form_gives_the_body_that_the_client_escaped() {
        let rows = [
            ("d=2%3A4a", Some("2:4a")),
            ("d=4%5Cn", Some("4\n")),
            ("d=4%5C%5Cn", Some("4\\n")),
            ("d=4%5C%5C%5Cn%5Cn", Some("4\\\\n\n")),
            ("d=%5C", Some("\\")),
            ("d=a+b%2B", Some("a b+")),
            ("d=", Some("")),
            ("e=1", None),
            ("", None),
        ];
        for (form, expected) in rows {
            assert_eq!(decode(form).as_deref(), expected, "{form}");
        }
    }
}
