//! The URLs under which members listen and are reached.
//!
//! etcd takes `http`, `https`, `unix` and `unixs`, and wants exactly scheme, host and port. Here
//! only `http` works yet: the others are understood, and refused by name.
//! Lists come out sorted, as in etcd, where ids are made from them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
};

/// Why a URL is not one that a member can use; the texts are etcd's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// `127.0.0.1:2380`, without a scheme.
    #[error("parse {0:?}: first path segment in URL cannot contain colon")]
    NoScheme(String),
    /// Another scheme, or none.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// Host or port is missing.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// The port is not a number up to 65535.
    #[error("parse {0:?}: invalid port after host")]
    Port(String),
    /// Something follows the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// Listening needs an address, not a name (etcd: `checkBindURLs`).
    #[error("expected IP in URL for binding ({0})")]
    NotAnAddress(String),
    /// `https`.
    #[error("TLS is not supported yet: {0}")]
    Tls(String),
    /// `unix`.
    #[error("unix sockets are not supported yet: {0}")]
    Unix(String),
}

/// A URL of scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Url {
    scheme: String,
    /// A name or an address; IPv6 without its brackets.
    host: String,
    port: u16,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port),
            false => write!(f, "{}://{}:{}", self.scheme, self.host, self.port),
        }
    }
}

/// Parses a list separated by commas, and sorts it (etcd: `types.NewURLs`).
pub(super) fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
    let mut urls = text.split(',').map(|url| parse(url.trim())).collect::<Result<Vec<_>, _>>()?;
    urls.sort_by_key(Url::to_string);
    urls.dedup();
    Ok(urls)
}

fn parse(text: &str) -> Result<Url, UrlError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        // Go takes `x:y` as scheme and rest only if `x` could be a scheme.
        let before = text.split(['/', '?']).next().unwrap_or("");
        let odd = before.contains(':') && !before.starts_with(|c: char| c.is_ascii_alphabetic());
        return Err(match odd {
            true => UrlError::NoScheme(text.to_owned()),
            false => UrlError::Scheme(text.to_owned()),
        });
    };
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "http" | "https" => (),
        "unix" | "unixs" => return Err(UrlError::Unix(text.to_owned())),
        _ => return Err(UrlError::Scheme(text.to_owned())),
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, port) = host_and_port(&rest[..end], text)?;
    if end != rest.len() {
        return Err(UrlError::Path(text.to_owned()));
    }
    if scheme == "https" {
        return Err(UrlError::Tls(text.to_owned()));
    }
    Ok(Url { scheme, host: host.to_owned(), port })
}

fn host_and_port<'a>(authority: &'a str, url: &str) -> Result<(&'a str, u16), UrlError> {
    let wrong = || UrlError::HostPort(url.to_owned());
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(wrong)?,
        None if host.contains([':', '@', ']']) => return Err(wrong()),
        None => host,
    };
    let port = port.parse().map_err(|_| UrlError::Port(url.to_owned()))?;
    Ok((host, port))
}

impl Url {
    /// Where to listen. `localhost` is taken as 127.0.0.1, as Go takes it; other names are refused,
    /// because they may mean another machine.
    pub(super) fn bind_address(&self) -> Result<SocketAddr, UrlError> {
        if self.host == "localhost" {
            return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port));
        }
        let address: IpAddr =
            self.host.parse().map_err(|_| UrlError::NotAnAddress(self.to_string()))?;
        Ok(SocketAddr::new(address, self.port))
    }

    /// The addresses behind the name, sorted; empty when nobody knows it.
    fn resolved(&self) -> Vec<SocketAddr> {
        let mut found: Vec<_> = match self.bind_address() {
            Ok(address) => vec![address],
            Err(_) => (self.host.as_str(), self.port)
                .to_socket_addrs()
                .map(Iterator::collect)
                .unwrap_or_default(),
        };
        found.sort();
        found
    }
}

/// Whether two sorted lists name the same places: by text, or else by what the names resolve to
/// (etcd: `netutil.URLStringsEqual`).
pub(super) fn same_places(left: &[Url], right: &[Url]) -> bool {
    if left == right {
        return true;
    }
    let resolve = |urls: &[Url]| -> Vec<Vec<SocketAddr>> {
        let mut all: Vec<_> = urls.iter().map(Url::resolved).collect();
        all.sort();
        all
    };
    let (left, right) = (resolve(left), resolve(right));
    left == right && left.iter().all(|addresses| !addresses.is_empty())
}

/// As text, separated by commas.
pub(super) fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse_list(text).expect_err(text).to_string()
    }

    #[test]
    fn what_is_not_scheme_host_and_port_is_refused_with_the_words_of_etcd() {
        assert_eq!(
            error("127.0.0.1:2380"),
            "parse \"127.0.0.1:2380\": first path segment in URL cannot contain colon"
        );
        assert_eq!(
            error("ftp://127.0.0.1:2380"),
            "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:2380"
        );
        assert_eq!(
            error("http://127.0.0.1"),
            "URL address does not have the form \"host:port\": http://127.0.0.1"
        );
        assert_eq!(error("http://"), "URL address does not have the form \"host:port\": http://");
        assert_eq!(
            error("http://127.0.0.1:2380/path"),
            "URL must not contain a path: http://127.0.0.1:2380/path"
        );
        assert_eq!(
            error("http://[::1]:2380,x"),
            "URL scheme must be http, https, unix, or unixs: x"
        );
        assert_eq!(error(""), "URL scheme must be http, https, unix, or unixs: ");
        assert_eq!(error("http://h:70000"), "parse \"http://h:70000\": invalid port after host");
    }

    #[test]
    fn what_is_not_built_yet_is_refused_by_name() {
        assert_eq!(error("https://127.0.0.1:1"), "TLS is not supported yet: https://127.0.0.1:1");
        assert_eq!(error("unix://a:1"), "unix sockets are not supported yet: unix://a:1");
    }

    #[test]
    fn a_list_comes_out_sorted_without_doubles() {
        let urls = parse_list("http://b:2, http://a:1,http://b:2,http://[::1]:3").expect("valid");
        assert_eq!(joined(&urls), "http://[::1]:3,http://a:1,http://b:2");
    }

    #[test]
    fn a_member_listens_on_addresses_only() {
        let bind = |text: &str| parse(text).and_then(|url| url.bind_address());
        assert_eq!(bind("http://localhost:1"), Ok("127.0.0.1:1".parse().unwrap()));
        assert_eq!(bind("http://[::1]:2"), Ok("[::1]:2".parse().unwrap()));
        assert_eq!(bind("http://0.0.0.0:0"), Ok("0.0.0.0:0".parse().unwrap()));
        assert_eq!(
            bind("http://example.com:1").expect_err("a name").to_string(),
            "expected IP in URL for binding (http://example.com:1)"
        );
    }

    #[test]
    fn the_same_place_under_two_names_is_the_same() {
        let list = |text: &str| parse_list(text).expect("valid");
        assert!(same_places(&list("http://localhost:1"), &list("http://127.0.0.1:1")));
        assert!(!same_places(&list("http://localhost:1"), &list("http://127.0.0.1:2")));
        assert!(!same_places(&list("http://localhost:1"), &list("http://localhost:1,http://a:2")));
    }
}
