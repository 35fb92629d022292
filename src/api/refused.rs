//! Calls that are refused before a service has them: their records.
//!
//! The member does not serve the method, or something in the call's headers is wrong. Such a call
//! is listed like every other, with its method, its code and the reason. A method that is not in
//! etcd's API is an "unknown method", because its name is the client's own text.

use tonic::{Code, metadata::MetadataMap};

use super::interceptor;
use crate::{
    server::Server,
    set, stage,
    trace::{METHODS, Reason},
};

/// The entry of [`METHODS`] for all methods that have none.
const UNKNOWN: &str = "unknown method";

/// Records a call to this path that ends before it begins.
pub(super) fn record(
    server: &Server,
    (path, headers): (&str, &http::HeaderMap),
    end: (Code, Reason),
) {
    let (code, reason) = end;
    let caller = interceptor::caller(&MetadataMap::from_headers(headers.clone()));
    let forced = caller.is_some_and(|caller| caller.is_sampled);
    let method = method_of(path);
    let id = server.ids.of_client(method, b"", forced);
    let mut span = stage!(Rpc, id, method = method).begun();
    interceptor::note_caller(id, caller);
    let code = u8::try_from(code as i32).unwrap_or(u8::MAX);
    set!(span, Rpc, code = code);
    span.result(code);
    span.fail(reason);
}

/// The position in [`METHODS`] of the method that has this path: `/package.Service/Method`.
fn method_of(path: &str) -> u64 {
    let name = path.rsplit_once('.').map_or("", |(_, name)| name);
    let is_of_etcd = ["etcdserverpb.", "v3lockpb.", "v3electionpb.", "grpc.health.v1."];
    let is_known = is_of_etcd.iter().any(|package| {
        path.strip_prefix('/').and_then(|path| path.strip_prefix(package)) == Some(name)
    });
    let of = |wanted: &str| METHODS.iter().position(|method| *method == wanted);
    let known = if is_known && name.contains('/') { of(name) } else { None };
    known.or_else(|| of(UNKNOWN)).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_method_or_is_unknown() {
        let name = |path| METHODS[usize::try_from(method_of(path)).unwrap()];
        assert_eq!("Maintenance/Defragment", name("/etcdserverpb.Maintenance/Defragment"));
        assert_eq!("Auth/UserAdd", name("/etcdserverpb.Auth/UserAdd"));
        assert_eq!("Health/Check", name("/grpc.health.v1.Health/Check"));
        for path in [
            "",
            "/",
            "/x",
            "/KV/Put",
            "/etcdserverpb.KV/Nothing",
            "/other.KV/Put",
            "/etcdserverpb.x.KV/Put",
            "/etcdserverpb.unknown",
            "/etcdserverpb.unknown method/",
        ] {
            assert_eq!(UNKNOWN, name(path), "{path}");
        }
    }
}
