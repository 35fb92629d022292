//! The single recording that a command or the player holds, from live members or from a file.
//!
//! ```text
//!   Listener ── Message ──▶ take ─┐
//!                                 ├─▶ Memory: one recording ──▶ the player, glass trace
//!   a file ──── events ───▶ read ─┘      │
//!                                        └─▶ forget, trim
//! ```
//!
//! Messages arrive undecoded, and only this module decodes them, so no event is held twice. The
//! memory also knows which member answers at each endpoint, and when that member last gave a sign
//! of life. A sign of life is a hello or a batch from the member itself; messages from other
//! members do not count.
//!
//! Invariant: [`Memory::bytes`] is the size of the events. A memory drops nothing by itself: the
//! player decides what to drop ([`crate::state::forget`]), and so do the commands that follow.

use glass_etcd::{
    story::{
        Recording,
        intake::{Intake, IntakeError, bytes_of},
    },
    trace::raw_clock,
};

use super::{Message, Said};

/// The effect of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A member has introduced itself, for the first time or again: its position in the recording.
    Hello(u8),
    /// A member has sent a batch.
    Events {
        /// The member's position in the recording.
        member: u8,
        /// How many events of this member were appended to the recording; 0 for a mere sign of
        /// life.
        count: usize,
    },
    /// An endpoint is unreachable, or its stream broke; the listener retries.
    Down {
        /// Position among the endpoints given.
        endpoint: usize,
        reason: String,
    },
}

/// One of the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As given on the command line.
    pub(crate) endpoint: String,
    /// The member that answers there, by position; `None` before its first hello.
    pub(crate) member: Option<u8>,
    /// Whether a batch has arrived since the hello. The first batches are the member's history.
    pub(crate) has_spoken: bool,
    /// Why the endpoint does not answer now; `None` while it does.
    pub(crate) down: Option<String>,
    /// Requests finished there since the hello.
    pub(crate) finished: u64,
    /// Time of the member's last sign of life, in raw ticks.
    pub(super) heard: u64,
}

/// The recording and its endpoints; see the essay of this module.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    intake: Intake,
    seen: Vec<Seen>,
    bytes: usize,
    forgotten: u64,
}

impl Memory {
    /// An empty recording for the members at these endpoints.
    pub(crate) fn of_endpoints(endpoints: &[String]) -> Memory {
        let seen = endpoints.iter().map(|endpoint| Seen {
            endpoint: endpoint.clone(),
            member: None,
            has_spoken: false,
            down: None,
            finished: 0,
            heard: raw_clock::now(),
        });
        Memory { seen: seen.collect(), ..Memory::default() }
    }

    /// All events that are still held.
    pub(crate) fn recording(&self) -> &Recording {
        &self.intake.recording
    }

    /// The recording, once nothing more is expected.
    pub(crate) fn into_recording(self) -> Recording {
        self.intake.recording
    }

    /// The endpoints, in the order in which they were given.
    pub(crate) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Whether this member, by position, answers at none of its endpoints.
    pub(crate) fn is_down(&self, member: u8) -> bool {
        let mut own = self.seen.iter().filter(|seen| seen.member == Some(member)).peekable();
        own.peek().is_some() && own.all(|seen| seen.down.is_some())
    }

    /// Size of all events, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events [`Memory::forget`] has removed so far.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Adds a message to the recording.
    pub(crate) fn take(&mut self, Message { endpoint, said }: Message) -> Change {
        let taken = match said {
            Said::Down(reason) => Err(reason),
            Said::Hello(hello) => self.intake.hello(&hello).map(Change::Hello).map_err(text),
            Said::Batch(batch) => {
                let seen = &mut self.seen[endpoint];
                (seen.has_spoken, seen.finished) = (true, batch.seen);
                // After a rejected hello there is no position, and the batches are rejected as
                // well.
                let member = seen.member.unwrap_or(u8::MAX);
                let taken = self.intake.batch(member, &batch.records, batch.dropped);
                taken.map(|count| Change::Events { member, count }).map_err(text)
            }
        };
        let seen = &mut self.seen[endpoint];
        match taken {
            Ok(change) => {
                seen.heard = raw_clock::now();
                if let Change::Hello(member) = change {
                    (seen.member, seen.has_spoken, seen.down) = (Some(member), false, None);
                }
                if let Change::Events { count, .. } = change {
                    self.count_last(count);
                }
                change
            }
            Err(reason) => {
                seen.down = Some(reason.clone());
                Change::Down { endpoint, reason }
            }
        }
    }

    /// Moves over the events that were read from a file so far. Returns their number.
    pub(crate) fn read(&mut self, read: &mut Recording) -> usize {
        let own = &mut self.intake.recording;
        if own.members != read.members {
            own.members.clone_from(&read.members);
        }
        if own.dropped != read.dropped {
            own.dropped.clone_from(&read.dropped);
        }
        let count = read.events.len();
        own.events.append(&mut read.events);
        self.count_last(count);
        count
    }

    /// Drops the events not marked in `kept`, by position. The caller keeps or drops a request as a
    /// whole.
    pub(crate) fn forget(&mut self, kept: &[bool]) {
        let before = self.recording().events.len();
        self.intake.forget(|at| kept[at]);
        self.forgotten += (before - self.recording().events.len()) as u64;
        self.count_all();
    }

    /// Once there are a quarter more than `keep` events, drops the oldest, so that `keep` remain.
    /// Returns how many were dropped. Dropping moves all that remain: doing it for each batch would
    /// take a fifth of a core.
    pub(crate) fn trim(&mut self, keep: usize) -> usize {
        if self.recording().events.len() <= keep + keep / 4 {
            return 0;
        }
        let gone = self.intake.trim(keep);
        self.count_all();
        gone
    }

    fn count_all(&mut self) {
        self.bytes = self.recording().events.iter().map(bytes_of).sum();
    }

    fn count_last(&mut self, count: usize) {
        let events = &self.intake.recording.events;
        self.bytes += events[events.len() - count..].iter().map(bytes_of).sum::<usize>();
    }
}

#[allow(clippy::needless_pass_by_value, reason = "errors are mapped by value")]
fn text(error: IntakeError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use glass_etcd::{story::Event, trace::Stage};

    use super::*;

    /// Goal: following a cluster for hours costs no more for each batch than at the start.
    #[test]
    fn the_oldest_events_go_many_at_a_time() {
        let event = |clock: u64| Event::mark(0, Stage::RaftStable, clock);
        let mut memory = Memory::default();
        let add = |memory: &mut Memory, clocks: std::ops::RangeInclusive<u64>| {
            let events = clocks.map(event).collect();
            memory.read(&mut Recording { events, ..Recording::default() });
        };
        add(&mut memory, 1..=10);
        assert_eq!(0, memory.trim(8));
        add(&mut memory, 11..=11);
        assert_eq!(3, memory.trim(8));
        let clocks: Vec<u64> = memory.recording().events.iter().map(|event| event.clock).collect();
        assert_eq!((4..=11).collect::<Vec<_>>(), clocks);
        assert_eq!(memory.bytes(), 8 * bytes_of(&event(1)));
    }
}
