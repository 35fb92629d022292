//! `/livez` and `/readyz`: the probes of kubelets and load balancers.
//!
//! ```text
//!   GET /livez    serializable_read                       is the process worth keeping?
//!   GET /readyz   data_corruption, serializable_read,     should clients be sent here?
//!                 linearizable_read, non_learner
//!   GET /readyz/linearizable_read                         one of them
//! ```
//!
//! `verbose` lists every check even if all succeed. `exclude=NAME` leaves a check out and can be
//! repeated. An unknown name only causes a line in the log, so that a probe can name checks that
//! only other versions have. etcd runs the checks in random order; here the order is fixed. A probe
//! is one request of the trace, and the reads of its checks are part of it (etcd 3.5.11 and later:
//! etcdhttp/health.go).

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::{Query, State},
    http::{Method as HttpMethod, StatusCode},
    response::Response,
    routing::any,
};

use super::{
    interceptor::{Call, Method},
    origin::Origin,
    status::code_and_text,
    text::{error, method_not_allowed, nosniff, plain},
};
use crate::server::{
    Error, Server,
    health::{Check, Failed},
};

/// How many characters of unknown names the log shows.
const UNKNOWN_CHARS_MAX: usize = 200;

/// The parameters of a request, decoded.
pub(super) type Pairs = Vec<(String, String)>;

/// A question of an orchestrator: is the process alive, or ready for requests?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Livez,
    Readyz,
}

impl Probe {
    const ALL: [Probe; 2] = [Probe::Livez, Probe::Readyz];

    fn name(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }

    /// The method of the path of all checks, or of this one.
    fn method(self, only: Option<Check>) -> Method {
        match (self, only) {
            (Self::Livez, None) => Method::HttpLivez,
            // The only check that this probe has.
            (Self::Livez, Some(_)) => Method::HttpLivezSerializableRead,
            (Self::Readyz, None) => Method::HttpReadyz,
            (Self::Readyz, Some(Check::DataCorruption)) => Method::HttpReadyzDataCorruption,
            (Self::Readyz, Some(Check::SerializableRead)) => Method::HttpReadyzSerializableRead,
            (Self::Readyz, Some(Check::LinearizableRead)) => Method::HttpReadyzLinearizableRead,
            (Self::Readyz, Some(Check::NonLearner)) => Method::HttpReadyzNonLearner,
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Self::Livez => &[Check::SerializableRead],
            Self::Readyz => &Check::ALL,
        }
    }
}

/// A check's name in paths, texts and metrics.
fn name(check: Check) -> &'static str {
    match check {
        Check::DataCorruption => "data_corruption",
        Check::SerializableRead => "serializable_read",
        Check::LinearizableRead => "linearizable_read",
        Check::NonLearner => "non_learner",
    }
}

/// The paths of both probes, and of each check.
pub(super) fn routes() -> Router<Arc<Server>> {
    let mut router = Router::new();
    for probe in Probe::ALL {
        let whole = format!("/{}", probe.name());
        for check in probe.checks() {
            router = route(router, &format!("{whole}/{}", name(*check)), probe, Some(*check));
        }
        router = route(router, &whole, probe, None);
    }
    router
}

fn route(
    router: Router<Arc<Server>>,
    path: &str,
    probe: Probe,
    only: Option<Check>,
) -> Router<Arc<Server>> {
    let handler = async move |State(server): State<Arc<Server>>,
                              method: HttpMethod,
                              Query(pairs): Query<Pairs>| {
        match method {
            HttpMethod::GET => answer(&server, probe, only, pairs).await,
            _ => method_not_allowed(),
        }
    };
    router.route(path, any(handler))
}

async fn answer(server: &Server, probe: Probe, only: Option<Check>, pairs: Pairs) -> Response {
    let is_verbose = pairs.iter().any(|(name, _)| name == "verbose");
    let checks = match only {
        Some(check) => vec![check],
        None => without(probe.checks(), &excluded(pairs)),
    };
    let call = Call::open(server, probe.method(only), 0, b"", Origin::of_http());
    let (mut text, mut is_well) = (String::new(), true);
    for check in checks {
        let result = server.check(call.id(), check).await;
        counter(probe, check).count(result.is_ok());
        is_well &= result.is_ok();
        // Writing into a string cannot fail.
        let _ = match result {
            Ok(()) => writeln!(text, "[+]{} ok", name(check)),
            Err(why) => writeln!(text, "[-]{} failed: {}", name(check), reason(why)),
        };
    }
    let result = if is_well { Ok(()) } else { Err(Error::Unhealthy) };
    let response = match is_well {
        true => {
            let body = if is_verbose { text + "ok\n" } else { "ok\n".to_owned() };
            nosniff(plain(StatusCode::OK, body))
        }
        false => {
            tracing::warn!(probe = probe.name(), reason = %text.trim_end(), "health check error");
            error(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
    };
    let bytes = http_body::Body::size_hint(response.body()).lower();
    // The record has the status; over HTTP the reason is in the body.
    let _ = call.finish(result, usize::try_from(bytes).unwrap_or(usize::MAX), 0);
    response
}

/// The checks that are not excluded. Logs excluded names that no check has.
fn without(checks: &[Check], excluded: &[String]) -> Vec<Check> {
    let is_known = |excluded: &&String| checks.iter().any(|check| name(*check) == *excluded);
    let unknown: Vec<&str> =
        excluded.iter().filter(|name| !is_known(name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let names: String = format!("{unknown:?}").chars().take(UNKNOWN_CHARS_MAX).collect();
        tracing::warn!(names, "some health checks cannot be excluded, because they do not exist");
    }
    let is_left = |check: &Check| !excluded.iter().any(|excluded| excluded == name(*check));
    checks.iter().copied().filter(is_left).collect()
}

/// The names that `exclude` gives.
pub(super) fn excluded(pairs: Pairs) -> Vec<String> {
    let named = pairs.into_iter().filter(|(name, value)| name == "exclude" && !value.is_empty());
    named.map(|(_, value)| value).collect()
}

fn reason(failed: Failed) -> String {
    match failed {
        Failed::Alarm(name) => format!("alarm activated: {name}"),
        Failed::Read(error) => code_and_text(error).1.into_owned(),
        Failed::Learner => "not supported for learner".to_owned(),
    }
}

/// The results of a check for a probe since the process started.
struct Counter {
    success: AtomicU64,
    error: AtomicU64,
    /// The last result: 1 for success.
    last: AtomicU64,
}

impl Counter {
    const fn new() -> Self {
        Self { success: AtomicU64::new(0), error: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    fn count(&self, is_well: bool) {
        let counted = if is_well { &self.success } else { &self.error };
        counted.fetch_add(1, Ordering::Relaxed);
        self.last.store(u64::from(is_well), Ordering::Relaxed);
    }
}

static COUNTERS: [[Counter; Check::ALL.len()]; Probe::ALL.len()] =
    [const { [const { Counter::new() }; Check::ALL.len()] }; Probe::ALL.len()];

fn counter(probe: Probe, check: Check) -> &'static Counter {
    &COUNTERS[probe as usize][check as usize]
}

/// Counters of `/health` answers: "false", then "true".
static HEALTH: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Counts an answer to `/health`.
pub(super) fn count_health(is_well: bool) {
    HEALTH[usize::from(is_well)].fetch_add(1, Ordering::Relaxed);
}

/// How often `/health` has answered "false", and how often "true".
pub(super) fn counted_health() -> [u64; 2] {
    HEALTH.each_ref().map(|count| count.load(Ordering::Relaxed))
}

/// The metrics of a check that has run at least once.
pub(super) struct Counted {
    /// The probe that ran it: `livez` or `readyz`.
    pub(super) probe: &'static str,
    /// The check, for example `data_corruption`.
    pub(super) name: &'static str,
    /// The last result: 1 for success.
    pub(super) last: u64,
    /// How often the check had each result.
    pub(super) results: [(&'static str, u64); 2],
}

/// All checks that have run.
pub(super) fn counted() -> Vec<Counted> {
    let mut all = Vec::new();
    for probe in Probe::ALL {
        for check in probe.checks() {
            let counter = counter(probe, *check);
            let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let results = [("error", load(&counter.error)), ("success", load(&counter.success))];
            if results.iter().any(|(_, count)| *count != 0) {
                let last = load(&counter.last);
                all.push(Counted { probe: probe.name(), name: name(*check), last, results });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::METHODS;

    fn pairs(list: &[(&str, &str)]) -> Pairs {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_check_that_is_excluded_is_left_out_and_unknown_names_change_nothing() {
        let left = |list: &[(&str, &str)]| without(&Check::ALL, &excluded(pairs(list)));
        assert_eq!(left(&[("verbose", "")]), Check::ALL);
        assert_eq!(left(&[("exclude", "non-learner"), ("exclude", "")]), Check::ALL);
        assert_eq!(
            left(&[("exclude", "linearizable_read"), ("x", ""), ("exclude", "non_learner")]),
            [Check::DataCorruption, Check::SerializableRead]
        );
        let all = Check::ALL.map(|check| ("exclude", name(check)));
        assert_eq!(left(&all), []);
    }

    #[test]
    fn a_check_that_has_failed_says_why_in_the_words_of_etcd() {
        assert_eq!(reason(Failed::Alarm("CORRUPT")), "alarm activated: CORRUPT");
        assert_eq!(reason(Failed::Read(Error::Timeout)), "etcdserver: request timed out");
        assert_eq!(reason(Failed::Learner), "not supported for learner");
    }

    #[test]
    fn each_path_is_a_method_of_its_own() {
        let named = |probe: Probe, only| METHODS[probe.method(only) as usize];
        for probe in Probe::ALL {
            assert_eq!(named(probe, None), format!("GET /{}", probe.name()));
            for check in probe.checks() {
                let path = format!("GET /{}/{}", probe.name(), name(*check));
                assert_eq!(named(probe, Some(*check)), path);
            }
        }
    }

    #[test]
    fn the_numbers_of_checks_are_places() {
        for (at, check) in Check::ALL.into_iter().enumerate() {
            assert_eq!(check as usize, at);
        }
    }
}
