//! Subscribers, and which of the kept records each receives.
//!
//! A subscriber receives whole traces. Whether a request is let through is decided once, as soon as
//! enough is known of it (its method, key and result); until then its records wait. If there are
//! too many traces, a hash of the id decides and not chance, so that all members let the same ones
//! through, up to the difference of their thresholds.
//!
//! Filters look at what this member knows. A request that another member serves has no rpc here:
//! its method cannot be tested and passes, its key is known once it is applied. The program that
//! merges the members must drop a trace that its serving member did not let through.

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Hello, id};
use crate::{
    field,
    trace::{
        record::FLAG_CANCELLED,
        record::{Kind, Record},
        span::DEADLINE_EXCEEDED,
        stage::{Family, Stage},
        waiting::waits,
    },
};

/// Batches that wait for a slow reader; later ones are dropped and counted.
const BATCHES_MAX: usize = 64;
/// The most records in a batch.
const BATCH_RECORDS: usize = 4096;
/// The most whole traces a second, unless the subscriber asks for another number.
pub const TRACES_PER_SECOND: u32 = 50;
const SECOND_NS: u64 = 1_000_000_000;

/// The records that a subscriber asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whole traces a second at most; 0 means [`TRACES_PER_SECOND`].
    pub traces_per_second: u32,
    /// Only requests whose key begins so; empty for all.
    pub key_prefix: Vec<u8>,
    /// Only this method, by its place in [`crate::trace::METHODS`].
    pub method: Option<u64>,
    /// Only requests that ended in an error.
    pub errors_only: bool,
    /// Also the records that are held from before the subscription.
    pub history: bool,
}

impl Filter {
    /// Whether it can recognise a request on arrival, by its method or key.
    pub fn is_armed(&self) -> bool {
        self.method.is_some() || !self.key_prefix.is_empty()
    }

    /// Whether it lets a request with this method and key through.
    pub fn matches(&self, method: u64, key: &[u8]) -> bool {
        self.method.is_none_or(|wanted| wanted == method) && key.starts_with(&self.key_prefix)
    }
}

/// Records in the order of the member's clock, and how complete they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The records. Those of a request that was pinned late may be older than the last watermark.
    pub records: Vec<Record>,
    /// Records lost since the hello: overwritten before they were read, or not taken in time.
    pub dropped: u64,
    /// Requests that this member finished since the hello.
    pub seen: u64,
    /// The number of seen requests that the filter let through.
    pub let_through: u64,
    /// Everything up to this clock has been sent, as far as it is kept.
    pub watermark: u64,
}

/// Where a subscriber receives its records.
pub struct Subscription {
    /// The identity of the member, and how to read its ticks.
    pub hello: Hello,
    /// The records; the channel closes when the collector ends.
    pub batches: mpsc::Receiver<Batch>,
}

/// Records on offer to all subscribers, with the collector's counts at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    /// The kept records, in clock order.
    pub(super) records: &'a [Record],
    /// All kept records up to this clock have been offered.
    pub(super) watermark: u64,
    /// Nanoseconds since the member's start.
    pub(super) now_ns: u64,
    /// Rpcs finished since the collector began.
    pub(super) finished: u64,
    /// Records overwritten before they were read since the collector began.
    pub(super) lost: u64,
}

mod verdicts;

use verdicts::Verdicts;

/// The records of a request that is not decided yet.
#[derive(Debug, Default)]
struct Undecided {
    records: Vec<Record>,
    method: Option<u64>,
    key: Option<Vec<u8>>,
    is_error: bool,
    is_done: bool,
}

#[derive(Debug)]
enum Verdict {
    Through,
    Refused,
    Undecided(Box<Undecided>),
}

/// Where the collector sends a subscriber's records.
pub(super) struct Subscriber {
    filter: Filter,
    sender: mpsc::Sender<Batch>,
    own_prefix: u64,
    verdicts: Verdicts,
    /// Rpcs finished, and records lost, before the subscription.
    finished_before: u64,
    lost_before: u64,
    not_taken: u64,
    let_through: u64,
    /// Ids whose hash is above this are thinned out.
    threshold: u64,
    second: u64,
    offered: u64,
    passed: u64,
}

impl Subscriber {
    /// Makes both ends of the channel. Nothing is sent before [`Subscriber::begin`].
    pub(super) fn new(filter: Filter, hello: Hello) -> (Subscriber, Subscription) {
        let (sender, batches) = mpsc::channel(BATCHES_MAX);
        let subscriber = Subscriber {
            own_prefix: hello.member_id & 0xffff,
            filter,
            sender,
            verdicts: Verdicts::default(),
            finished_before: 0,
            lost_before: 0,
            not_taken: 0,
            let_through: 0,
            threshold: u64::MAX,
            second: 0,
            offered: 0,
            passed: 0,
        };
        (subscriber, Subscription { hello, batches })
    }

    /// Begins to count at what `past` says, and sends its records: the history, or what a
    /// subscriber that does not want it needs all the same.
    pub(super) fn begin(&mut self, past: &Offer<'_>) {
        (self.finished_before, self.lost_before) = (past.finished, past.lost);
        let limit = std::mem::replace(&mut self.filter.traces_per_second, u32::MAX);
        self.offer(past);
        // History is bounded already: thinning and counting begin with what is live.
        self.filter.traces_per_second = limit;
        (self.offered, self.passed, self.let_through) = (0, 0, 0);
    }

    /// Sends the records that the filter lets through. False when the subscriber has gone.
    pub(super) fn offer(&mut self, offer: &Offer<'_>) -> bool {
        self.enter_second(offer.now_ns / SECOND_NS);
        let mut out = Vec::new();
        for record in offer.records {
            self.consider(record, &mut out);
        }
        out.sort_unstable_by_key(|record| (record.clock_end(), record.clock()));
        let mut chunks: Vec<&[Record]> = out.chunks(BATCH_RECORDS).collect();
        if chunks.is_empty() {
            // An empty batch is a sign of life, and moves the watermark.
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        for (at, records) in chunks.into_iter().enumerate() {
            let partly = records.last().map_or(0, |last| last.clock_end().saturating_sub(1));
            let watermark = if at == last { offer.watermark } else { partly.min(offer.watermark) };
            let batch = Batch {
                records: records.to_vec(),
                dropped: offer.lost - self.lost_before + self.not_taken,
                seen: offer.finished - self.finished_before,
                let_through: self.let_through,
                watermark,
            };
            match self.sender.try_send(batch) {
                Ok(()) => (),
                Err(TrySendError::Full(batch)) => self.not_taken += batch.records.len() as u64,
                Err(TrySendError::Closed(_)) => return false,
            }
        }
        true
    }

    /// The filter, for arming.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    fn consider(&mut self, record: &Record, out: &mut Vec<Record>) {
        let Some(stage) = record.stage() else { return };
        let id = record.id();
        // Records that belong to no request pass no filter: the loops, and a leader's first entry.
        if stage.family() == Family::Loop || id == 0 {
            out.push(*record);
            return;
        }
        let verdict = match self.verdicts.take(id) {
            Some(verdict) => verdict,
            None => self.first_verdict(id),
        };
        if stage == Stage::Rpc {
            self.verdicts.note_rpc(id, record.head().kind == Kind::Begin as u8);
        }
        let verdict = match verdict {
            Verdict::Refused => Verdict::Refused,
            Verdict::Through => {
                self.pass(record, out);
                Verdict::Through
            }
            Verdict::Undecided(mut request) => {
                request.learn(record, stage);
                let is_own = id >> 48 == self.own_prefix;
                match request.decide(&self.filter, is_own) {
                    None => Verdict::Undecided(request),
                    Some(false) => Verdict::Refused,
                    Some(true) => {
                        self.passed += 1;
                        request.records.iter().for_each(|record| self.pass(record, out));
                        Verdict::Through
                    }
                }
            }
        };
        self.verdicts.put(id, verdict);
    }

    fn pass(&mut self, record: &Record, out: &mut Vec<Record>) {
        let head = record.head();
        if head.stage == Stage::Rpc as u8 && head.kind == Kind::Span as u8 {
            self.let_through += 1;
        }
        out.push(*record);
    }

    fn first_verdict(&mut self, id: u64) -> Verdict {
        self.offered += 1;
        let is_thinned = self.threshold < id::hash(id) || self.limit() * 2 <= self.passed;
        if is_thinned { Verdict::Refused } else { Verdict::Undecided(Box::default()) }
    }

    fn limit(&self) -> u64 {
        let asked = self.filter.traces_per_second;
        u64::from(if asked == 0 { TRACES_PER_SECOND } else { asked })
    }

    fn enter_second(&mut self, second: u64) {
        if self.second == second {
            return;
        }
        let (offered, limit) = (self.offered, self.limit());
        self.threshold =
            if offered <= limit { u64::MAX } else { (u64::MAX / offered).saturating_mul(limit) };
        (self.second, self.offered, self.passed) = (second, 0, 0);
    }
}

impl Undecided {
    fn learn(&mut self, record: &Record, stage: Stage) {
        self.records.push(*record);
        let head = record.head();
        let is_span = head.kind == Kind::Span as u8;
        match stage {
            Stage::Rpc => {
                self.method = Some(field!(record, Rpc, method));
                // A request that waits by design ends when its client leaves or its deadline
                // passes: no error.
                let is_end = head.flags & FLAG_CANCELLED != 0 || head.result == DEADLINE_EXCEEDED;
                let is_usual_end = is_end && self.method.is_some_and(waits);
                self.is_error |= head.result != 0 && !is_usual_end;
                self.is_done |= is_span;
            }
            Stage::Key if self.key.is_none() => self.key = Some(record.key_text().0),
            Stage::ApplyEntry => self.is_done |= is_span && self.method.is_none(),
            _ => (),
        }
    }

    /// Whether the request is let through, or `None` while it cannot be known.
    fn decide(&self, filter: &Filter, is_own: bool) -> Option<bool> {
        let unknown = if self.is_done { Some(false) } else { None };
        if let (Some(wanted), true) = (filter.method, is_own) {
            match self.method {
                Some(method) if method == wanted => (),
                Some(_) => return Some(false),
                None => return unknown,
            }
        }
        if !filter.key_prefix.is_empty() {
            match &self.key {
                Some(key) if key.starts_with(&filter.key_prefix) => (),
                Some(_) => return Some(false),
                None => return unknown,
            }
        }
        if filter.errors_only && !self.is_error {
            return unknown;
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests;
