//! The ids of this member's requests. An id also says whether every member keeps its trace, so that
//! is decided here, before anything is known of the request but its method and its key.

use std::sync::Arc;

use crate::trace::{Collector, IdGenerator, Sampler};

/// Mints the ids under which this member's requests are proposed, answered and traced.
pub(crate) struct RequestIds {
    generator: IdGenerator,
    /// Keeps requests at random, and limits how many are kept in a second.
    sampler: Sampler,
    /// Knows the filters of the observers.
    collector: Arc<Collector>,
}

impl RequestIds {
    /// Ids from this generator; `collector` names the requests that observers wait for.
    pub(crate) fn new(generator: IdGenerator, collector: Arc<Collector>) -> Self {
        Self { generator, sampler: Sampler::new(), collector }
    }

    /// Ids for tests, of which no trace is kept by chance.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Arc<Self> {
        let info = crate::trace::Info {
            member_id: 1,
            cluster_id: 1,
            name: String::new(),
            version: String::new(),
            boot: 1,
            wall_ns: 1,
        };
        let collector = Arc::new(Collector::new(info));
        Arc::new(Self::new(IdGenerator::new(1, 1, 0), collector))
    }

    /// The id of a client's request. Its trace is kept if the caller asks for that (`forced`), if
    /// an observer waits for requests like it, or at random. `method` is an index into
    /// [`METHODS`](crate::trace::METHODS).
    pub(crate) fn of_client(&self, method: u64, key: &[u8], forced: bool) -> u64 {
        let forced = forced || self.collector.is_armed(method, key);
        self.of_member(forced)
    }

    /// The id of a request that the member makes by itself, whose trace is kept if `forced`, or at
    /// random.
    pub(super) fn of_member(&self, forced: bool) -> u64 {
        self.generator.next(self.sampler.keep_next(forced))
    }

    /// The id of a request whose trace is kept or not as the caller says, beyond any limit.
    pub(super) fn next(&self, is_kept: bool) -> u64 {
        self.generator.next(is_kept)
    }
}

impl std::fmt::Debug for RequestIds {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RequestIds").finish_non_exhaustive()
    }
}
