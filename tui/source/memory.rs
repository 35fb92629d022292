//! What was heard and is remembered: one recording of all members, whoever told it.
//!
//! ```text
//!   Listener ── Message ──▶ take ─┐
//!                                 ├─▶ Memory: one recording ──▶ the player, glass trace
//!   a file ──── events ───▶ read ─┘      │
//!                                        └─▶ forget
//! ```
//!
//! Messages come here as they came from the network, and become events here and nowhere else, so no
//! event is held twice. Of each endpoint it is known which member answers there, and when that one
//! gave a sign of life: a hello or a batch of its own, and nothing that another member said.
//!
//! Invariant: [`Memory::bytes`] is what the events take. Nothing is forgotten unless somebody asks:
//! what may go is known to the player ([`crate::state::forget`]), and to the commands that follow.

use glass_etcd::trace::{
    Recording,
    intake::{Intake, IntakeError, bytes_of},
    tick,
};

use super::{Message, Said};

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A member is heard, for the first time or again: its place in the recording.
    Hello(u8),
    /// A member has told something, or that it is alive.
    Events {
        /// Its place in the recording.
        member: u8,
        /// How many events more are in the recording, at its end. All of them are this member's.
        count: usize,
    },
    /// An endpoint cannot be reached, or broke off; it is tried again.
    Down {
        /// Its place among the endpoints.
        endpoint: usize,
        /// Why.
        reason: String,
    },
}

/// One of the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As it was given.
    pub(crate) endpoint: String,
    /// The member that answers there, by place, once it was heard.
    pub(crate) member: Option<u8>,
    /// Whether something came since the connection was made: what is held of the past comes first.
    pub(crate) has_spoken: bool,
    /// Why it is not heard now.
    pub(crate) down: Option<String>,
    /// Requests finished there since the hello.
    pub(crate) finished: u64,
    /// When its member gave the last sign of life, in raw ticks.
    pub(super) heard: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    intake: Intake,
    seen: Vec<Seen>,
    bytes: usize,
    forgotten: u64,
}

impl Memory {
    /// Nothing was heard yet of these endpoints.
    pub(crate) fn of_endpoints(endpoints: &[String]) -> Memory {
        let seen = endpoints.iter().map(|endpoint| Seen {
            endpoint: endpoint.clone(),
            member: None,
            has_spoken: false,
            down: None,
            finished: 0,
            heard: tick::now(),
        });
        Memory { seen: seen.collect(), ..Memory::default() }
    }

    /// What is remembered.
    pub(crate) fn recording(&self) -> &Recording {
        &self.intake.recording
    }

    /// What is remembered, when nothing more is to come.
    pub(crate) fn into_recording(self) -> Recording {
        self.intake.recording
    }

    /// The endpoints, in the order in which they were given.
    pub(crate) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// What the events take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events were forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes in what an endpoint said.
    pub(crate) fn take(&mut self, Message { endpoint, said }: Message) -> Change {
        let taken = match said {
            Said::Down(reason) => Err(reason),
            Said::Hello(hello) => self.intake.hello(&hello).map(Change::Hello).map_err(text),
            Said::Batch(batch) => {
                let seen = &mut self.seen[endpoint];
                (seen.has_spoken, seen.finished) = (true, batch.seen);
                // A hello that was refused has no place, and its batches say so.
                let member = seen.member.unwrap_or(u8::MAX);
                let taken = self.intake.batch(member, &batch.records, batch.dropped);
                taken.map(|count| Change::Events { member, count }).map_err(text)
            }
        };
        let seen = &mut self.seen[endpoint];
        match taken {
            Ok(change) => {
                seen.heard = tick::now();
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

    /// Takes the events out of what was read of a file so far. Returns how many there were.
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

    /// Forgets all events but those that are kept, by place; their requests must be whole.
    pub(crate) fn forget(&mut self, kept: &[bool]) {
        let before = self.recording().events.len();
        self.intake.forget(|at| kept[at]);
        self.forgotten += (before - self.recording().events.len()) as u64;
        self.count_all();
    }

    /// Forgets the events heard first, so that at most `keep` stay. Returns how many went.
    pub(crate) fn trim(&mut self, keep: usize) -> usize {
        let gone = self.intake.trim(keep);
        if gone != 0 {
            self.count_all();
        }
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
