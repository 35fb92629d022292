//! The URLs under which members listen and are reached.
//!
//! | URL                     | means                                                      |
//! |-------------------------|------------------------------------------------------------|
//! | `http://127.0.0.1:2379` | exactly scheme, host and port                              |
//! | `unix://localhost:2379` | the socket file `localhost:2379` in the working directory  |
//! | `unix:///run/etcd.sock` | the socket file at this path                               |
//!
//! The first form of `unix` looks like host and port because etcd before 3.5.13 demands both in
//! every URL, and later versions still demand them in an advertised one. `https` and `unixs` mean
//! TLS, which is not supported yet, and are refused by name. Lists come out sorted, as in etcd,
//! where ids are made from them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

/// An address on which a member listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A TCP port of an address.
    Tcp(SocketAddr),
    /// A socket file, relative to the working directory unless its path is absolute.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Address {
    /// The socket file, unless it is a port.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Tcp(_) => None,
            Address::Unix(path) => Some(path),
        }
    }
}

/// Why a member cannot use a URL; the texts are etcd's where it has one.
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
    /// A name where listening needs an address (etcd: `checkBindURLs`).
    #[error("expected IP in URL for binding ({0})")]
    NotAnAddress(String),
    /// A scheme that needs TLS: `https` or `unixs`.
    #[error("TLS is not supported yet: {0}")]
    Tls(String),
    /// `unix` without a path, or with a part that is not one of a path.
    #[error("URL does not have the form \"unix://path\": {0}")]
    UnixPath(String),
    /// A `unix` URL of a peer: members dial ports only.
    #[error("unix sockets are not supported between members yet: {0}")]
    UnixPeer(String),
}

/// A URL that a member can use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Url {
    /// An `http` URL: a host and a port.
    Http {
        /// A name or an address; IPv6 without its brackets.
        host: String,
        port: u16,
    },
    /// A `unix` URL: the path of a socket file.
    Unix {
        /// The part before the first slash: usually empty, or the whole path.
        authority: String,
        /// The first slash and the rest.
        path: String,
    },
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Url::Http { host, port } if host.contains(':') => write!(f, "http://[{host}]:{port}"),
            Url::Http { host, port } => write!(f, "http://{host}:{port}"),
            Url::Unix { authority, path } => write!(f, "unix://{authority}{path}"),
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

/// Parses URLs that are apart already, and sorts them.
pub(super) fn parse_each(list: &[String]) -> Result<Vec<Url>, UrlError> {
    let mut urls = list.iter().map(|url| parse(url.trim())).collect::<Result<Vec<_>, _>>()?;
    urls.sort_by_key(Url::to_string);
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
        "unix" => return unix(rest).ok_or_else(|| UrlError::UnixPath(text.to_owned())),
        "unixs" => return Err(UrlError::Tls(text.to_owned())),
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
    Ok(Url::Http { host: host.to_owned(), port })
}

/// Reads the part after `unix://`. Go would cut off a user, a query and a fragment and decode
/// percent signs, so the socket would not be at the path that was written; such URLs are refused.
fn unix(rest: &str) -> Option<Url> {
    if rest.is_empty() || rest.contains(['?', '#', '%', '@', '\0']) {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Some(Url::Unix { authority: authority.to_owned(), path: path.to_owned() })
}

/// Reads the list of `--cors`: `None` for every origin, otherwise the origins in the form in which
/// browsers send them.
pub(super) fn parse_origins(text: &str) -> Result<Option<Vec<String>>, UrlError> {
    if matches!(text, "" | "*") {
        return Ok(None);
    }
    text.split(',').map(|origin| parse_origin(origin.trim())).collect::<Result<_, _>>().map(Some)
}

/// etcd demands a port, and compares the texts. Browsers omit the scheme's default port, so it is
/// dropped here.
fn parse_origin(text: &str) -> Result<String, UrlError> {
    let lower = text.to_ascii_lowercase();
    let (own_port, rest) = match lower.split_once("://") {
        Some(("http", rest)) => (":80", rest),
        Some(("https", rest)) => (":443", rest),
        _ => return Err(UrlError::Scheme(text.to_owned())),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    host_and_port(&rest[..end], text)?;
    if end != rest.len() {
        return Err(UrlError::Path(text.to_owned()));
    }
    Ok(lower.strip_suffix(own_port).unwrap_or(&lower).to_owned())
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
    /// Where to listen for clients. `localhost` is taken as 127.0.0.1, as Go takes it; other names
    /// are refused, because they may mean another machine.
    pub(super) fn bind_address(&self) -> Result<Address, UrlError> {
        let (host, port) = match self {
            Url::Http { host, port } => (host, *port),
            Url::Unix { authority, path } => {
                return Ok(Address::Unix(PathBuf::from(format!("{authority}{path}"))));
            }
        };
        if host == "localhost" {
            return Ok(Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        let address: IpAddr = host.parse().map_err(|_| UrlError::NotAnAddress(self.to_string()))?;
        Ok(Address::Tcp(SocketAddr::new(address, port)))
    }

    /// The address to listen on for other members.
    pub(super) fn peer_bind_address(&self) -> Result<SocketAddr, UrlError> {
        match self.bind_address()? {
            Address::Tcp(address) => Ok(address),
            Address::Unix(_) => Err(UrlError::UnixPeer(self.to_string())),
        }
    }

    /// The addresses of the name, sorted; empty if it cannot be resolved.
    fn resolved(&self) -> Vec<SocketAddr> {
        let Url::Http { host, port } = self else { return Vec::new() };
        let mut found: Vec<_> = match self.bind_address() {
            Ok(Address::Tcp(address)) => vec![address],
            _ => {
                (host.as_str(), *port).to_socket_addrs().map(Iterator::collect).unwrap_or_default()
            }
        };
        found.sort();
        found
    }

    /// Why this URL cannot be advertised (etcd: `checkHostURLs`); `None` if it can.
    pub(super) fn unreachable(&self) -> Option<String> {
        match self {
            Url::Http { host, .. } if host.is_empty() => {
                Some(format!("unexpected empty host ({self})"))
            }
            Url::Http { .. } => None,
            Url::Unix { authority, .. } => match authority.rsplit_once(':') {
                Some(("", _)) => Some(format!("unexpected empty host ({self})")),
                Some(_) => None,
                None if authority.is_empty() => Some("missing port in address".to_owned()),
                None => Some(format!("address {authority}: missing port in address")),
            },
        }
    }
}

/// Refuses URLs by which members cannot reach each other.
pub(super) fn no_unix(urls: &[Url]) -> Result<(), UrlError> {
    match urls.iter().find(|url| matches!(url, Url::Unix { .. })) {
        Some(url) => Err(UrlError::UnixPeer(url.to_string())),
        None => Ok(()),
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

/// The URLs as text, separated by commas.
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
    fn urls_beyond_scheme_host_and_port_are_refused_with_the_words_of_etcd() {
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
    fn schemes_that_are_not_built_yet_are_refused_by_name() {
        assert_eq!(error("https://127.0.0.1:1"), "TLS is not supported yet: https://127.0.0.1:1");
        assert_eq!(error("unixs://a:1"), "TLS is not supported yet: unixs://a:1");
    }

    #[test]
    fn a_unix_url_is_the_path_of_a_socket() {
        for (url, path) in [
            ("unix://localhost:2379", "localhost:2379"),
            ("unix:///run/etcd.sock", "/run/etcd.sock"),
            ("unix://run/etcd.sock", "run/etcd.sock"),
        ] {
            let [parsed] = &parse_list(url).expect("valid")[..] else { panic!("one URL") };
            assert_eq!(parsed.to_string(), url);
            assert_eq!(parsed.bind_address(), Ok(Address::Unix(PathBuf::from(path))));
            let refused = format!("unix sockets are not supported between members yet: {url}");
            assert_eq!(parsed.peer_bind_address().unwrap_err().to_string(), refused);
        }
        for wrong in ["unix://", "unix://a?b", "unix:///a%20b", "unix:///a#b", "unix://@a:1"] {
            let text = format!("URL does not have the form \"unix://path\": {wrong}");
            assert_eq!(error(wrong), text);
        }
        // Go accepts this, and listens on another address.
        assert_eq!(
            error("unix:a.sock"),
            "URL scheme must be http, https, unix, or unixs: unix:a.sock"
        );
    }

    #[test]
    fn advertised_urls_have_a_host_and_a_port_even_if_they_are_a_path() {
        let why = |url: &str| parse_list(url).expect("valid")[0].unreachable();
        assert_eq!(why("http://a:1"), None);
        assert_eq!(why("unix://localhost:1"), None);
        assert_eq!(why("unix://localhost:1/x"), None);
        assert_eq!(why("http://:1").as_deref(), Some("unexpected empty host (http://:1)"));
        assert_eq!(why("unix:///run/x").as_deref(), Some("missing port in address"));
        assert_eq!(why("unix://x").as_deref(), Some("address x: missing port in address"));
    }

    #[test]
    fn origins_are_compared_as_browsers_send_them() {
        let list = |text: &str| parse_origins(text).expect("valid");
        assert_eq!(list("*"), None);
        assert_eq!(list(""), None);
        assert_eq!(
            list("http://A.example:80, https://b.example:443,https://c.example:80,http://[::1]:1"),
            Some(
                ["http://a.example", "https://b.example", "https://c.example:80", "http://[::1]:1"]
                    .map(str::to_owned)
                    .to_vec()
            )
        );
        let refused = |text: &str| parse_origins(text).expect_err(text).to_string();
        assert_eq!(
            refused("http://a.example"),
            "URL address does not have the form \"host:port\": http://a.example"
        );
        assert_eq!(refused("http://a:1/x"), "URL must not contain a path: http://a:1/x");
        for wrong in ["*,http://a:1", "a:1", "unix://a:1"] {
            assert!(refused(wrong).starts_with("URL scheme must be http"), "{wrong}");
        }
    }

    #[test]
    fn a_list_comes_out_sorted_without_doubles() {
        let urls = parse_list("http://b:2, http://a:1,http://b:2,http://[::1]:3").expect("valid");
        assert_eq!(joined(&urls), "http://[::1]:3,http://a:1,http://b:2");
    }

    #[test]
    fn a_member_listens_on_addresses_only() {
        let bind = |text: &str| parse(text).and_then(|url| url.bind_address());
        let tcp = |text: &str| Ok(Address::Tcp(text.parse().unwrap()));
        assert_eq!(bind("http://localhost:1"), tcp("127.0.0.1:1"));
        assert_eq!(bind("http://[::1]:2"), tcp("[::1]:2"));
        assert_eq!(bind("http://0.0.0.0:0"), tcp("0.0.0.0:0"));
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
