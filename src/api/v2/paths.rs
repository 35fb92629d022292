//! The path of a request, as Go's server and its mux take it: decoded, and only if it is clean.
//!
//! `/v2/keys//a` is answered with 301 and the clean path, for every method. So no path leads from
//! `/v2/keys` to anything else.

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};

use super::{form, plain};

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// This path, decoded.
    Path(Vec<u8>),
    /// The client should ask there.
    Elsewhere(String),
    /// The path has a `%` that begins nothing.
    Malformed,
}

/// Where the request for this URI goes.
pub(super) fn target(uri: &Uri) -> Target {
    let Ok(path) = form::unescape(uri.path().as_bytes(), false) else { return Target::Malformed };
    let clean = clean(&path);
    if clean == path {
        return Target::Path(path);
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Target::Elsewhere(format!("{}{query}", escape(&clean)))
}

/// Without `//`, `.` and `..`; a `/` at the end stays (etcd: net/http `cleanPath`).
fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let mut clean: Vec<u8> = names.iter().flat_map(|name| [&b"/"[..], name].concat()).collect();
    if clean.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    clean
}

/// A path as Go writes it into a URL.
fn escape(path: &[u8]) -> String {
    let mut escaped = String::new();
    for byte in path {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => escaped.push(char::from(*byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'='
            | b'@' => escaped.push(char::from(*byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// "Ask there": with a body only for GET, as from Go.
pub(super) fn moved(method: &Method, location: &str) -> Response {
    let body = match *method {
        Method::GET => format!("<a href=\"{}\">Moved Permanently</a>.\n\n", html(location)),
        _ => String::new(),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    if [Method::GET, Method::HEAD].contains(method) {
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, kind);
    }
    response
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;").replace('\'', "&#39;")
}

/// Go's answer to a request whose target is no URL.
pub(super) fn malformed() -> Response {
    let mut response = plain(StatusCode::BAD_REQUEST, "400 Bad Request");
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_and_sent_elsewhere_if_it_is_not_clean() {
        let path = |path: &[u8]| Target::Path(path.to_vec());
        let elsewhere = |to: &str| Target::Elsewhere(to.to_owned());
        for (uri, expected) in [
            ("/v2/keys/a%20b/%ff", path(b"/v2/keys/a b/\xff")),
            ("/v2/keys/a/", path(b"/v2/keys/a/")),
            ("/v2/keys/a+b", path(b"/v2/keys/a+b")),
            ("/v2/keys//a?x=%2F", elsewhere("/v2/keys/a?x=%2F")),
            ("/v2/keys/../../x", elsewhere("/x")),
            ("/v2/keys/%2e%2e/a%20b/", elsewhere("/v2/a%20b/")),
            ("/v2/%zz", Target::Malformed),
            ("/v2/%a", Target::Malformed),
        ] {
            assert_eq!(target(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
