//! `--host-whitelist`: the names by which HTTP may call this member.
//!
//! A page can have its own name resolved to the member's address. To the browser the member is then
//! the page's own server, and CORS does not apply ("DNS rebinding", CVE-2018-5702). Such a request
//! still says in `Host` which name it uses. With a list, a name that is not on it gets status 421,
//! before anything else is looked at, as in etcd (etcd: `accessController`). The port does not
//! count. gRPC and the ports of `--listen-metrics-urls` are not checked.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::text;
use crate::config::Hosts;

/// Refuses a request by a name that is not on the list.
pub(super) async fn control(
    State(hosts): State<Arc<Hosts>>,
    request: Request,
    next: Next,
) -> Response {
    let Hosts::Names(names) = &*hosts else { return next.run(request).await };
    // HTTP/2 has the name in the address.
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = named.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let name = without_port(named.unwrap_or_default());
    if names.contains(name) {
        return next.run(request).await;
    }
    tracing::warn!(host = name, "rejecting HTTP request to prevent DNS rebinding attacks");
    text::error(StatusCode::MISDIRECTED_REQUEST, &refusal(name))
}

/// The name without its port, and without the brackets of an address of IPv6 that has one (Go:
/// net.SplitHostPort).
fn without_port(host: &str) -> &str {
    let Some((name, _)) = host.rsplit_once(':') else { return host };
    match name.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').unwrap_or(host),
        None if name.contains(':') => host,
        None => name,
    }
}

fn refusal(name: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {name:?}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_without_its_port() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("a.example:2379", "a.example"),
            ("127.0.0.1:2379", "127.0.0.1"),
            ("[::1]:2379", "::1"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name, "{host}");
        }
    }
}
