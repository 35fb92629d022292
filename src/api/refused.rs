//! Calls that are refused before a service has them: which methods are not served, and the records.
//!
//! The member does not serve the method, something in the call's headers is wrong, or its message
//! is too large or does not decode. Such a call
//! is listed like every other, with its method, its code and the reason. A method that is not in
//! etcd's API is an "unknown method", because its name is the client's own text.

use http::{HeaderValue, uri::PathAndQuery};
use tonic::{Code, Status};

use super::{answers, calls, origin::Origin};
use crate::{
    server::Server,
    set, stage,
    trace::{METHODS, Reason},
};

/// The methods that are served, by service.
const SERVED: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV", &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    (
        "etcdserverpb.Maintenance",
        &["Status", "Alarm", "HashKV", "Hash", "Defragment", "Snapshot", "MoveLeader", "Downgrade"],
    ),
    (
        "etcdserverpb.Cluster",
        &["MemberList", "MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"],
    ),
    ("grpc.health.v1.Health", &["Check", "Watch"]),
    (OBSERVE, &["Observe"]),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
];

/// The service of users and roles, which this member does not have.
const AUTH: &str = "etcdserverpb.Auth";

/// The glass's own service.
const OBSERVE: &str = "glasspb.Observe";

/// The entry of [`METHODS`] for all methods that have none.
const UNKNOWN: &str = "unknown method";

/// etcd's answer to a method that is not served, and why it is not.
pub(super) fn unserved(path: &str, has_observe: bool) -> Option<(Status, Reason)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    if (service, method) == (AUTH, "Authenticate") {
        // With this answer etcd's clients that have a password continue without a token.
        let text = "etcdserver: authentication is not enabled";
        return Some((Status::failed_precondition(text), Reason::AuthNotEnabled));
    }
    let known = SERVED.iter().find(|(name, _)| *name == service);
    match known {
        Some((name, _)) if *name == OBSERVE && !has_observe => {}
        Some((_, methods)) if methods.contains(&method) => return None,
        Some(_) => {
            let text = format!("unknown method {method} for service {service}");
            return Some((Status::unimplemented(text), Reason::UnknownMethod));
        }
        None => {}
    }
    let status = Status::unimplemented(format!("unknown service {service}"));
    Some((status, Reason::UnknownMethod))
}

/// Whether this is the path of the glass's own service.
pub(super) fn is_observe(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|path| path.starts_with(OBSERVE))
}

/// What the record of a unary call needs of its request, which is gone by the time that it is
/// refused. Nothing here is copied: the parts are shared with the request.
pub(super) struct Asked {
    path: Option<PathAndQuery>,
    traceparent: Option<HeaderValue>,
}

impl Asked {
    /// Of this request.
    pub(super) fn of<B>(request: &http::Request<B>) -> Asked {
        Asked {
            path: request.uri().path_and_query().cloned(),
            traceparent: request.headers().get("traceparent").cloned(),
        }
    }

    /// Records the call, whose service was not reached, if this answer refuses it.
    pub(super) fn refused_with<B>(&self, server: &Server, answer: &http::Response<B>) {
        if let Some(end) = end_of(answer) {
            let path = self.path.as_ref().map_or("", PathAndQuery::path);
            let origin = Origin::new(self.traceparent.as_ref(), answers::ends());
            record(server, (path, origin), end);
        }
    }
}

/// With which code this answer refuses a call whose service was not reached, and why.
fn end_of<B>(answer: &http::Response<B>) -> Option<(Code, Reason)> {
    let code = tonic::Status::from_header_map(answer.headers())?.code();
    match code {
        Code::Ok => None,
        Code::ResourceExhausted => Some((code, Reason::RequestTooLarge)),
        _ => Some((code, Reason::Undecodable)),
    }
}

/// Records a call to this path that ends before it begins.
pub(super) fn record(
    server: &Server,
    (path, origin): (&str, Origin),
    (code, reason): (Code, Reason),
) {
    let method = method_of(path);
    let id = server.ids.of_client(method, b"", origin.is_sampled());
    let mut span = stage!(Rpc, id, method = method).begun();
    origin.note(id);
    origin.note_late(id);
    let code = u8::try_from(code as i32).unwrap_or(u8::MAX);
    set!(span, Rpc, code = code);
    calls::refused(method, code);
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
    fn an_answer_that_refuses_a_call_has_its_code_and_its_reason() {
        let refusal = |code| end_of(&tonic::Status::new(code, "why").into_http::<()>());
        assert_eq!(Some((Code::Internal, Reason::Undecodable)), refusal(Code::Internal));
        let too_large = (Code::ResourceExhausted, Reason::RequestTooLarge);
        assert_eq!(Some(too_large), refusal(Code::ResourceExhausted));
        assert_eq!(None, refusal(Code::Ok));
        assert_eq!(None, end_of(&http::Response::new(())));
    }

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
