//! Which server is meant: the URL as people write it, taken apart.

use url::{Host, Url};

/// The path of an endpoint unless another is said.
const PATH: &str = "/socket.io/";

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) is_secure: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// As `Host` and `Origin` have it: with brackets, and with the port unless it is the scheme's own.
    pub(super) authority: String,
    /// With a slash at both ends.
    pub(super) path: String,
}

impl Place {
    /// `https://app.example`, `app.example:8443`, `wss://app.example/rt/`: without a scheme it is https, but for this machine.
    pub(super) fn read(text: &str, path: Option<&str>) -> Result<Place, String> {
        let refuse =
            |why: &str| format!("the URL {text:?} {why}; write https://app.example or http://127.0.0.1:5000");
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else if ["localhost", "127.", "[::1]"].iter().any(|own| text.starts_with(own)) {
            format!("http://{text}")
        } else {
            format!("https://{text}")
        };
        let url = Url::parse(&with_scheme).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
        let is_secure = match url.scheme() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(refuse("is neither http nor https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("holds a login: give it as --header 'Authorization: ..'"));
        }
        let host = url.host().ok_or_else(|| refuse("names no host"))?;
        let port = url.port().unwrap_or(if is_secure { 443 } else { 80 });
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let host = match host {
            Host::Ipv6(address) => address.to_string(),
            other => other.to_string(),
        };
        let path = match (path, url.path()) {
            (Some(path), _) => path,
            (None, "/") => PATH,
            (None, path) => path,
        };
        if !path.starts_with('/') || path.contains(['?', '#', ' ']) || path.chars().any(char::is_control) {
            return Err(format!("--path {path:?} must begin with a slash and hold no query"));
        }
        let path = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
        Ok(Place { is_secure, host, port, authority, path })
    }

    /// The origin of a page that this server itself delivers.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_people_write_it() {
        let rows = [
            ("https://app.example", None, "https://app.example", 443, "/socket.io/"),
            ("app.example", None, "https://app.example", 443, "/socket.io/"),
            ("wss://app.example:8443/rt", None, "https://app.example:8443", 8443, "/rt/"),
            ("http://app.example:80/a/", Some("/b"), "http://app.example", 80, "/b/"),
            ("localhost:5000", None, "http://localhost:5000", 5000, "/socket.io/"),
            ("127.0.0.1:5000", None, "http://127.0.0.1:5000", 5000, "/socket.io/"),
            ("[::1]:5000", None, "http://[::1]:5000", 5000, "/socket.io/"),
            ("http://[2001:db8::1]/x/?a=b", None, "http://[2001:db8::1]", 80, "/x/"),
        ];
        for (text, path, origin, port, own_path) in rows {
            let place = Place::read(text, path).unwrap();
            assert_eq!(
                (place.origin().as_str(), place.port, place.path.as_str()),
                (origin, port, own_path),
                "{text}"
            );
            assert!(
                !place.host.contains(['[', ':']) || place.host.parse::<std::net::Ipv6Addr>().is_ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_words() {
        let rows = [
            ("ftp://app.example", None, "neither http nor https"),
            ("https://", None, "cannot be read"),
            ("https://a:b@app.example", None, "--header"),
            ("https://app.example", Some("rt"), "must begin with a slash"),
            ("https://app.example", Some("/a b"), "hold no query"),
            ("https://app.example", Some("/a\r\nX: y"), "must begin with a slash"),
        ];
        for (text, path, expected) in rows {
            let said = Place::read(text, path).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
