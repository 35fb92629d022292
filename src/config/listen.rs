//! Where a member listens, which origins may read its answers, and by which names it is called.
//!
//! | flag                        | serves                                                   |
//! |-----------------------------|----------------------------------------------------------|
//! | `--listen-client-urls`      | gRPC, and plain HTTP unless the next flag is given       |
//! | `--listen-client-http-urls` | plain HTTP                                               |
//! | `--listen-metrics-urls`     | metrics and probes, also before the member is ready      |
//!
//! All three take `http` and `unix` URLs. An advertised URL needs a host and a port, even if it is
//! a path (see [`urls`](super::urls)), because etcd checks that too.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{
    args::Given,
    error::ConfigError,
    flags,
    urls::{self, Address, Url},
};

/// Where a member serves clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `--listen-client-urls`, at least one address.
    pub clients: Vec<Address>,
    /// `--listen-client-http-urls`: if there is one, `clients` serve gRPC only.
    pub http: Vec<Address>,
    /// `--listen-metrics-urls`: probes and metrics only, may be empty.
    pub metrics: Vec<Address>,
}

/// `--cors`: the origins whose pages may read the answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// Every origin: `*`.
    Any,
    /// These, as browsers write them in `Origin`.
    Origins(BTreeSet<String>),
}

/// `--host-whitelist`: the names by which HTTP may call the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Every name: `*`, or an empty list.
    Any,
    /// These, without ports.
    Names(BTreeSet<String>),
}

/// Reads the three flags.
pub(super) fn listen(given: &Given) -> Result<Listen, ConfigError> {
    let clients = addresses(given, "listen-client-urls")?;
    if clients.is_empty() {
        return Err(ConfigError::NoUrls("listen-client-urls"));
    }
    let http = addresses(given, "listen-client-http-urls")?;
    if let Some(both) = http.iter().find(|address| clients.contains(address)) {
        return Err(ConfigError::SameUrl(match both {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(_) => both.to_string(),
        }));
    }
    Ok(Listen { clients, http, metrics: addresses(given, "listen-metrics-urls")? })
}

/// URLs that differ as texts may be one address: `localhost` and 127.0.0.1.
fn addresses(given: &Given, flag: &'static str) -> Result<Vec<Address>, ConfigError> {
    let urls = url_list(given, flag).or_else(|error| match error {
        ConfigError::NoUrls(_) => Ok(Vec::new()),
        other => Err(other),
    })?;
    let mut addresses = Vec::new();
    for url in urls {
        let address = url.bind_address().map_err(ConfigError::Bind)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The addresses of `--listen-peer-urls`.
pub(super) fn peers(given: &Given) -> Result<Vec<SocketAddr>, ConfigError> {
    let urls = url_list(given, "listen-peer-urls")?;
    urls.iter().map(|url| url.peer_bind_address().map_err(ConfigError::Bind)).collect()
}

/// The URLs of a flag by which others reach this member.
pub(super) fn advertised(given: &Given, flag: &'static str) -> Result<Vec<Url>, ConfigError> {
    let all = url_list(given, flag)?;
    match all.iter().find_map(Url::unreachable) {
        Some(why) => Err(ConfigError::Advertise { flag, urls: urls::joined(&all), why }),
        None => Ok(all),
    }
}

/// The URLs of a flag, at least one.
pub(super) fn url_list(given: &Given, flag: &'static str) -> Result<Vec<Url>, ConfigError> {
    let text = match given.text(flag) {
        // As in etcd, an empty list is the default.
        "" => flags::find(flag).map_or("", |flag| flag.default),
        text => text,
    };
    match text {
        "" => Err(ConfigError::NoUrls(flag)),
        text => Ok(urls::parse_list(text).expect("checked when it was given")),
    }
}

pub(super) fn hosts(given: &Given) -> Hosts {
    let names = given.text("host-whitelist").split(',').filter(|name| !name.is_empty());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    if names.is_empty() || names.contains("*") { Hosts::Any } else { Hosts::Names(names) }
}

pub(super) fn cors(given: &Given) -> Cors {
    match urls::parse_origins(given.text("cors")).expect("checked when it was given") {
        None => Cors::Any,
        Some(origins) => Cors::Origins(origins.into_iter().collect()),
    }
}
