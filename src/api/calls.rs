//! What is counted for each RPC, as grpc-prometheus counts it (etcd: `grpc_prometheus`).
//!
//! ```text
//!   a call begins             started
//!   a message of the client   msg_received      once for a unary call
//!   a message to the client   msg_sent          once for a unary call that succeeds
//!   the call ends             handled, by code; handling_seconds with --metrics=extensive
//! ```
//!
//! A stream is one call with many messages. In traces its messages are requests of their own,
//! under methods of their own; here they count for the stream. The counters stand in a table by the
//! number that records carry for the method, so counting finds them without a search.
//!
//! As in etcd, the methods of Lock and Election are shown once they are called, and all others from
//! the start; a method that etcd 3.5 does not have is not counted.

use std::sync::atomic::{AtomicBool, Ordering};

use tonic::metadata::MetadataMap;

use super::method::Method;
use crate::{
    metrics::{Counter, Histogram, Text, recorded},
    trace::{CANCELED, METHODS},
};

/// gRPC's codes by number, as Go names them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Packages by the service's name.
const PACKAGES: [(&str, &str); 9] = [
    ("Auth", "etcdserverpb"),
    ("Cluster", "etcdserverpb"),
    ("KV", "etcdserverpb"),
    ("Lease", "etcdserverpb"),
    ("Maintenance", "etcdserverpb"),
    ("Watch", "etcdserverpb"),
    ("Health", "grpc.health.v1"),
    ("Lock", "v3lockpb"),
    ("Election", "v3electionpb"),
];

/// Methods of later versions.
const LATER: [&str; 1] = ["KV/RangeStream"];

/// The counts of one method.
#[derive(Debug)]
struct Counts {
    started: Counter,
    handled: [Counter; CODES.len()],
    received: Counter,
    sent: Counter,
    took: Histogram,
}

impl Counts {
    const fn new() -> Self {
        Self {
            started: Counter::new(),
            handled: [const { Counter::new() }; CODES.len()],
            received: Counter::new(),
            sent: Counter::new(),
            took: Histogram::default_seconds(),
        }
    }
}

/// By position in [`METHODS`].
static COUNTS: [Counts; METHODS.len()] = [const { Counts::new() }; METHODS.len()];

/// `--metrics=extensive`: whether durations of calls are counted.
static IS_EXTENSIVE: AtomicBool = AtomicBool::new(false);

/// Turns the durations of calls on, or off.
pub fn set_extensive(is_extensive: bool) {
    IS_EXTENSIVE.store(is_extensive, Ordering::Relaxed);
}

/// Whether the durations of calls are counted.
pub(super) fn is_extensive() -> bool {
    IS_EXTENSIVE.load(Ordering::Relaxed)
}

/// The counts of the call that this method is, or whose message it is.
fn counts(method: Method) -> &'static Counts {
    let call = match method {
        Method::WatchStream => Method::Watch,
        Method::LeaseKeepAliveStream => Method::LeaseKeepAlive,
        method => method,
    };
    &COUNTS[call as usize]
}

/// Whether the method is a call, and neither a message of one nor a request over plain HTTP.
fn is_call(method: Method) -> bool {
    !matches!(method, Method::Watch | Method::LeaseKeepAlive) && !method.is_http()
}

/// A call begins, or a request of one, with so many bytes.
pub(super) fn begun(method: Method, bytes: usize) {
    if method.is_http() {
        return;
    }
    recorded::CLIENT_BYTES_RECEIVED.add(bytes as u64);
    let counts = counts(method);
    if is_call(method) {
        counts.started.increment();
    }
    if is_call(method) && !matches!(method, Method::WatchStream | Method::LeaseKeepAliveStream) {
        counts.received.increment();
    }
}

/// A message of the client has come on a stream.
pub(super) fn received(method: Method) {
    counts(method).received.increment();
}

/// A stream is refused before its first message was read.
pub(super) fn stream_refused(method: Method, code: u8) {
    let counts = counts(method);
    counts.started.increment();
    handled(counts, code, 0);
}

/// A call ends with this code, after so many nanoseconds.
pub(super) fn ended(method: Method, code: u8, ns: u64) {
    if is_call(method) {
        handled(counts(method), code, ns);
    }
}

fn handled(counts: &Counts, code: u8, ns: u64) {
    if let Some(of) = counts.handled.get(usize::from(code)) {
        of.increment();
    }
    if is_extensive() {
        counts.took.observe(ns);
    }
}

/// A message of so many bytes is sent to the client of this call.
pub(super) fn sent(method: Method, bytes: usize) {
    // What answers a message of a stream is counted by the stream.
    if is_call(method) {
        recorded::CLIENT_BYTES_SENT.add(bytes as u64);
        counts(method).sent.increment();
    }
}

/// A call is refused before a service has it. `method` is a position in [`METHODS`].
pub(super) fn refused(method: u64, code: u8) {
    let place = usize::try_from(method).unwrap_or(usize::MAX);
    if METHODS.get(place).is_some_and(|name| labels(name).is_some()) {
        COUNTS[place].started.increment();
        handled(&COUNTS[place], code, 0);
    }
}

/// A call has come from a client that names its version, or does not (etcd:
/// `MetadataClientAPIVersionKey`).
pub(super) fn client(metadata: &MetadataMap, is_stream: bool) {
    let version = metadata.get("client-api-version").and_then(|value| value.to_str().ok());
    let calls = if is_stream { &recorded::STREAMS } else { &recorded::UNARY_CALLS };
    calls.count(version.unwrap_or("unknown"));
}

/// The code of a call whose client has gone.
pub(super) const GONE: u8 = CANCELED;

/// The full name of a method by its name in [`METHODS`], such as `/etcdserverpb.KV/Put`; `None` if
/// it is no method of etcd 3.5.
pub(super) fn full_name(method: Method) -> Option<String> {
    let [_, name, service, _] = labels(METHODS[method as usize])?;
    Some(format!("/{}/{}", service.1, name.1))
}

type Label = (&'static str, String);

/// The labels of a method; `code` is filled in later.
fn labels(name: &str) -> Option<[Label; 4]> {
    let (service, method) = name.split_once('/')?;
    let (_, package) = PACKAGES.iter().find(|(of, _)| *of == service)?;
    if method.contains('(') || LATER.contains(&name) {
        return None;
    }
    let kind = match name {
        "Watch/Watch" | "Lease/LeaseKeepAlive" => "bidi_stream",
        "Maintenance/Snapshot" | "Health/Watch" | "Election/Observe" => "server_stream",
        _ => "unary",
    };
    Some([
        ("grpc_code", String::new()),
        ("grpc_method", method.to_owned()),
        ("grpc_service", format!("{package}.{service}")),
        ("grpc_type", kind.to_owned()),
    ])
}

/// The methods that are shown.
fn shown() -> impl Iterator<Item = ([Label; 4], &'static Counts)> {
    METHODS.iter().zip(&COUNTS).filter_map(|(name, counts)| {
        let of_etcd = !name.starts_with("Lock/") && !name.starts_with("Election/");
        let is_shown = of_etcd || 0 < counts.started.get();
        Some((labels(name)?, counts)).filter(|_| is_shown)
    })
}

/// Writes the samples of one of the five names.
pub(super) fn write(text: &mut Text, family: &str) {
    for (mut labels, counts) in shown() {
        if family == "grpc_server_handled_total" {
            for (code, count) in CODES.iter().zip(&counts.handled) {
                (*code).clone_into(&mut labels[0].1);
                text.sample(family, &as_text(&labels), count.get() as f64);
            }
            continue;
        }
        let labels = as_text(&labels[1..]);
        match family {
            "grpc_server_started_total" => {
                text.sample(family, &labels, counts.started.get() as f64);
            }
            "grpc_server_msg_received_total" => {
                text.sample(family, &labels, counts.received.get() as f64);
            }
            "grpc_server_msg_sent_total" => {
                text.sample(family, &labels, counts.sent.get() as f64);
            }
            _ => text.histogram(family, &labels, &counts.took),
        }
    }
}

fn as_text(labels: &[Label]) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_has_the_labels_that_etcd_gives_it() {
        let of = |name: &str| labels(name).map(|labels| labels.map(|(_, value)| value).join(" "));
        assert_eq!(of("KV/Put").as_deref(), Some(" Put etcdserverpb.KV unary"));
        assert_eq!(of("Watch/Watch").as_deref(), Some(" Watch etcdserverpb.Watch bidi_stream"));
        let health = " Watch grpc.health.v1.Health server_stream";
        assert_eq!(of("Health/Watch").as_deref(), Some(health));
        for none in ["unknown", "GET /health", "internal/Publish", "Watch/Watch(stream)"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of("KV/RangeStream"), None);
        assert_eq!(full_name(Method::Put).as_deref(), Some("/etcdserverpb.KV/Put"));
    }

    #[test]
    fn a_stream_is_one_call_with_many_messages() {
        let of = counts(Method::Watch);
        let totals = || (of.started.get(), of.received.get());
        let before = totals();
        begun(Method::WatchStream, 0);
        for _ in 0..2 {
            begun(Method::Watch, 10);
            received(Method::WatchStream);
        }
        ended(Method::Watch, 0, 0);
        ended(Method::WatchStream, GONE, 0);
        let now = totals();
        assert_eq!((now.0 - before.0, now.1 - before.1), (1, 2));
        assert!(0 < of.handled[usize::from(GONE)].get());
    }
}
