//! Request path to a relative path that cannot leave its folder, and the type of the file it names.
//!
//! Does not touch the file system; symbolic links are for whoever opens the file to refuse.

use std::borrow::Cow;

use super::query::percent_decode_path;

/// What a path that ends in `/` names.
const INDEX_FILE: &str = "index.html";

/// The file that a request path names, relative to the served folder; `None` when the path is not one we
/// would ever serve.
///
/// The path is decoded once. Refused are `.` and `..`, hidden files (a leading dot), empty segments,
/// backslashes, colons (a drive or a stream elsewhere), and control characters, NUL among them.
pub(crate) fn relative_path(request_path: &str) -> Option<String> {
    let decoded = percent_decode_path(request_path.strip_prefix('/')?)?;
    let is_folder = decoded.is_empty() || decoded.ends_with('/');
    let path = if is_folder { Cow::Owned(format!("{decoded}{INDEX_FILE}")) } else { decoded };
    path.split('/').all(is_plain_segment).then(|| path.into_owned())
}

fn is_plain_segment(segment: &str) -> bool {
    let is_refused = |char: char| char.is_control() || matches!(char, '\\' | ':');
    !segment.is_empty() && !segment.starts_with('.') && !segment.contains(is_refused)
}

/// The `Content-Type` of a file by its extension, with the charset for text; unknown ones are downloads.
pub(crate) fn content_type(path: &str) -> Cow<'static, str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    // Source maps are JSON, which the table does not know.
    if name.ends_with(".map") {
        return Cow::Borrowed("application/json; charset=utf-8");
    }
    let Some(mime) = mime_guess::from_path(name).first_raw() else {
        return Cow::Borrowed("application/octet-stream");
    };
    match mime {
        "application/javascript" | "application/json" => Cow::Owned(format!("{mime}; charset=utf-8")),
        _ if mime.starts_with("text/") => Cow::Owned(format!("{mime}; charset=utf-8")),
        _ => Cow::Borrowed(mime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_file_below_the_folder_or_nothing() {
        for (path, expected) in [
            ("/", Some("index.html")),
            ("/docs/", Some("docs/index.html")),
            ("/a/b.js", Some("a/b.js")),
            ("/a%20b.txt", Some("a b.txt")),
            ("/a+b", Some("a+b")),
            ("/a..b", Some("a..b")),
            ("/%252e%252e/x", Some("%2e%2e/x")),
            ("", None),
            ("a", None),
            ("*", None),
            ("//etc/passwd", None),
            ("/%2fetc/passwd", None),
            ("/a//b", None),
            ("/a/./b", None),
            ("/..", None),
            ("/../a", None),
            ("/a/../../b", None),
            ("/%2e%2e/a", None),
            ("/a/%2E%2e%2fb", None),
            ("/..%5ca", None),
            ("/a\\b", None),
            ("/C:/windows", None),
            ("/.git/config", None),
            ("/a/.env", None),
            ("/a%00.txt", None),
            ("/a%0ab", None),
            ("/a%7f", None),
            ("/a%c2%85", None),
            ("/%ff", None),
            ("/%zz", None),
        ] {
            assert_eq!(relative_path(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn text_has_a_charset() {
        for (path, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "application/javascript; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("socket.io.js.map", "application/json; charset=utf-8"),
            ("a.PNG", "image/png"),
            ("a.svg", "image/svg+xml"),
            ("a.wasm", "application/wasm"),
            ("a.unknown", "application/octet-stream"),
            ("a.d/noext", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path), expected, "{path}");
        }
    }
}
