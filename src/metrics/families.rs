//! All names: etcd's of 3.4 to 3.7, those of grpc-prometheus and of Prometheus's process collector,
//! and ours with `glass_`.
//!
//! Each has its type, its help text and the source of its samples. The table is in the order of the
//! names, as Go's handler writes them. `book/src/metrics.md` is made of it.
//!
//! The texts are etcd's, so that tools which show or check them see no difference.

mod debugging;
mod others;
mod server;
mod storage;

use super::{ByWord, Counter, Gauge, Histogram, Peer};

/// Prometheus's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows only, until the process ends.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

impl Kind {
    /// The word of a TYPE line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A number that code counts.
#[derive(Clone, Copy, Debug)]
pub enum Recorded<'a> {
    /// A number that only grows.
    Counter(&'a Counter),
    /// A number that rises and falls.
    Gauge(&'a Gauge),
    /// Counts by bucket.
    Histogram(&'a Histogram),
}

/// The labels that name a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// `From`, for what the peer has sent.
    From,
    /// `To`, for what it is sent.
    To,
    /// `Local` and `Remote`, for the connection.
    Pair,
}

/// Where the samples of a name come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// From code that counts, without labels.
    Recorded(Recorded<'static>),
    /// From code that counts by a label of a few values: the label, a value and its number.
    Labelled(&'static [(&'static str, &'static str, Recorded<'static>)]),
    /// One sample for each word that came, below this label; beside another label and its value, if
    /// that is not empty.
    ByWord(&'static str, &'static [(&'static str, &'static str, &'static ByWord)]),
    /// One sample for each peer.
    Peer(Of, fn(&Peer) -> Recorded<'_>),
    /// Apply's durations, by operation and success.
    Applied,
    /// Broken streams, by direction and service.
    StreamFailures,
    /// From the state of the member, when it is asked for.
    Asked,
    /// Nothing: why it means nothing here.
    Absent(&'static str),
}

/// A name with its samples.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name, without the suffixes of a histogram.
    pub name: &'static str,
    /// The text of the HELP line.
    pub help: &'static str,
    /// The type.
    pub kind: Kind,
    /// Where its samples come from.
    pub source: Source,
}

const fn counter(name: &'static str, help: &'static str, source: Source) -> Family {
    Family { name, help, kind: Kind::Counter, source }
}

const fn gauge(name: &'static str, help: &'static str, source: Source) -> Family {
    Family { name, help, kind: Kind::Gauge, source }
}

const fn histogram(name: &'static str, help: &'static str, source: Source) -> Family {
    Family { name, help, kind: Kind::Histogram, source }
}

/// Every name, in order.
pub fn families() -> impl Iterator<Item = &'static Family> {
    [debugging::ROWS, storage::ROWS, server::ROWS, others::ROWS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_have_the_form_of_their_types() {
        let names: Vec<&str> = families().map(|family| family.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        for Family { name, help, kind, source } in families() {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(is_name) && !help.is_empty(), "{name}");
            let is_of_kind = match source {
                Source::Recorded(Recorded::Counter(_)) => *kind == Kind::Counter,
                Source::Recorded(Recorded::Gauge(_)) => *kind == Kind::Gauge,
                Source::Recorded(Recorded::Histogram(_)) => *kind == Kind::Histogram,
                _ => true,
            };
            assert!(is_of_kind, "{name}");
            // etcd has counters without the suffix; ours have it.
            let is_counted = !name.starts_with("glass_") || *kind != Kind::Counter;
            assert!(is_counted || name.ends_with("_total"), "{name}");
        }
    }
}
