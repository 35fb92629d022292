//! What has arrived since the derived lists were rebuilt, and so how soon to rebuild them.

use glass_etcd::{
    story::Event,
    trace::{FLAG_KEPT, FLAG_NOISE, Kind, Stage},
};

/// Interval between refreshes of derived lists while records stream in, in nanoseconds.
const REFRESH_NS: u64 = 250_000_000;
/// For every eight MiB of events the interval grows by another [`REFRESH_NS`]: a refresh reads all
/// events, and must not use the whole processor.
const REFRESH_BYTES: usize = 8 << 20;
/// While nothing but routine arrives, the interval is longer by this factor: the members send a
/// thousand such records a second for no request, and only the sparklines change.
const ROUTINE_PAUSES: u64 = 4;

/// What has arrived since the last refresh, the more urgent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// No event.
    Nothing,
    /// Heartbeats, samples, waits for a processor: records that every idle member sends.
    Routine,
    /// A step of a request, or of a change in the cluster.
    Some,
}

impl News {
    /// What kind of news an event is.
    pub(super) fn of(event: &Event) -> News {
        let is_routine = event.flags & FLAG_NOISE != 0
            || event.kind == Kind::Keyframe
            || event.stage == Stage::CpuWait && event.flags & FLAG_KEPT == 0;
        if is_routine { News::Routine } else { News::Some }
    }

    /// Nanoseconds from a refresh to the next one, with this many bytes of events.
    pub(super) fn pause_ns(self, bytes: usize) -> u64 {
        let factor = (1 + bytes / REFRESH_BYTES) as u64;
        let pauses = if self == News::Routine { ROUTINE_PAUSES } else { 1 };
        REFRESH_NS.saturating_mul(factor).saturating_mul(pauses)
    }
}
