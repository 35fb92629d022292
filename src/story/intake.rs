//! Combines the messages of all members into one recording.
//!
//! An [`Intake`] takes hellos and batches from any number of members, in any order, and turns them
//! into events. The text of a key, a separate record on the wire, belongs to the step in which it
//! was written: the innermost one of the same member, thread and id. That step is known when it
//! ends; a step that has only begun gets its key if both are in one batch, which they nearly always
//! are.
//!
//! After a broken connection a member sends some records again; an intake takes each record once.
//! It does not take forgotten records again ([`Intake::forget`]).

mod forgotten;
mod keys;

use std::collections::HashSet;

use forgotten::Forgotten;
use keys::{Text, WaitingKeys};

use crate::{
    story::{BootInfo, Event, KeyText, MemberInfo, Recording},
    trace::{
        collect::Hello,
        record::{BYTES, FLAG_RANGE_END, Kind, Record},
        stage::Stage,
    },
};

/// The most names of other members that are taken from one member.
const MEMBERS_MAX: usize = 256;

/// Collects records into a recording.
#[derive(Debug, Default)]
pub struct Intake {
    /// The members and their events.
    pub recording: Recording,
    keys: WaitingKeys,
    forgotten: Forgotten,
    heard: HashSet<Heard>,
}

/// The identity of an event: member, boot, clocks, kind and stage.
type Heard = (u8, u16, u64, u64, Kind, Stage);

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The bytes are not a whole number of records.
    #[error("a batch of {0} bytes is not a whole number of records")]
    Length(usize),
    /// The batch was not preceded by a hello.
    #[error("a batch came before its hello")]
    NoHello,
    /// A recording names at most 256 members.
    #[error("more members than a recording can name")]
    TooManyMembers,
}

impl Intake {
    /// Continues an existing recording.
    pub fn new(recording: Recording) -> Intake {
        let heard = recording.events.iter().map(heard).collect();
        Intake { recording, heard, ..Intake::default() }
    }

    /// Registers a member, or its return. Returns its position.
    pub fn hello(&mut self, hello: &Hello) -> Result<u8, IntakeError> {
        let start_ns = hello.wall_ns.saturating_sub(hello.tick_base);
        let boot = BootInfo { boot: hello.boot, wall_ns: start_ns };
        let members = &mut self.recording.members;
        let known = members.iter().position(|member| member.member_id == hello.member_id);
        let at = known.unwrap_or(members.len());
        let place = u8::try_from(at).map_err(|_| IntakeError::TooManyMembers)?;
        if known.is_none() {
            members.push(MemberInfo {
                member_id: hello.member_id,
                cluster_id: hello.cluster_id,
                name: hello.name.clone(),
                version: hello.version.clone(),
                boots: Vec::new(),
                members: Vec::new(),
            });
            self.recording.dropped.push(0);
        }
        let member = &mut members[at];
        member.version.clone_from(&hello.version);
        member.members.clone_from(&hello.members);
        member.members.truncate(MEMBERS_MAX);
        match member.boots.iter_mut().find(|known| known.boot == boot.boot) {
            Some(known) => *known = boot,
            None => member.boots.push(boot),
        }
        Ok(place)
    }

    /// Takes a batch of the member at this position. Returns how many events were added.
    pub fn batch(&mut self, place: u8, bytes: &[u8], dropped: u64) -> Result<usize, IntakeError> {
        let (records, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() {
            return Err(IntakeError::Length(bytes.len()));
        }
        let lost =
            self.recording.dropped.get_mut(usize::from(place)).ok_or(IntakeError::NoHello)?;
        *lost = (*lost).max(dropped);
        let first = self.recording.events.len();
        for bytes in records {
            let record = Record::decode(bytes);
            match Event::of(&record, place) {
                Some(event) => self.take(event),
                None if record.kind() == Some(Kind::Key) => self.take_key(&record, place, first),
                // A stage of a later version: the other records can still be read.
                None => (),
            }
        }
        Ok(self.recording.events.len() - first)
    }

    /// Forgets the events received first, so that at most `keep` remain. Returns how many were
    /// forgotten.
    pub fn trim(&mut self, keep: usize) -> usize {
        let gone = self.recording.events.len().saturating_sub(keep);
        for event in self.recording.events.drain(..gone) {
            self.heard.remove(&heard(&event));
        }
        gone
    }

    /// Forgets all events that `is_meant` rejects, by position.
    pub fn retain(&mut self, is_meant: impl Fn(usize) -> bool) {
        let mut at = 0;
        let heard_before = &mut self.heard;
        self.recording.events.retain(|event| {
            let stays = is_meant(at);
            at += 1;
            if !stays {
                heard_before.remove(&heard(event));
            }
            stays
        });
    }

    /// Forgets all events that `stays` rejects, by position, and refuses them when a member sends
    /// them again. The caller forgets whole requests only: see [`forgotten`].
    pub fn forget(&mut self, stays: impl Fn(usize) -> bool) {
        self.forgotten.note(&self.recording.events, &stays);
        self.retain(stays);
    }

    fn take(&mut self, mut event: Event) {
        if self.forgotten.has(&event) || !self.heard.insert(heard(&event)) {
            return;
        }
        if event.kind == Kind::Span {
            (event.key, event.range_end) = self.keys.take(&event);
        }
        self.recording.events.push(event);
    }

    fn take_key(&mut self, record: &Record, member: u8, first: usize) {
        let (head, id, clock) = (record.head(), record.id(), record.clock());
        let (bytes, length) = record.key_text();
        let text = KeyText { bytes, length };
        let is_end = head.flags & FLAG_RANGE_END != 0;
        let begun = self.recording.events[first..].iter_mut().rev().find(|event| {
            event.kind == Kind::Begin && event.id == id && event.thread == head.thread
        });
        if let Some(begun) = begun {
            let place = if is_end { &mut begun.range_end } else { &mut begun.key };
            place.get_or_insert_with(|| text.clone());
        }
        self.keys.insert((member, head.boot, head.thread, id), clock, Text { is_end, text });
    }
}

/// The memory that an event takes in an intake, in bytes: the event, its key, and the entry by
/// which a second copy of it is recognised.
pub fn bytes_of(event: &Event) -> usize {
    let texts = event.key.iter().chain(&event.range_end).map(|key| key.bytes.len());
    size_of::<Event>() + size_of::<Heard>() + texts.sum::<usize>()
}

fn heard(event: &Event) -> Heard {
    (event.member, event.boot, event.clock, event.clock_end, event.kind, event.stage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::Head;

    fn hello(member_id: u64, boot: u16) -> Hello {
        let (name, version) = (format!("m{member_id}"), "0.1.0".to_owned());
        Hello {
            member_id,
            cluster_id: 9,
            name,
            version,
            boot,
            wall_ns: 1_000,
            tick_base: 400,
            members: Vec::new(),
        }
    }

    fn record(stage: Stage, kind: Kind, clock: u64, length: u64) -> Record {
        let head = Head { stage: stage as u8, kind: kind as u8, thread: 1, ..Head::default() };
        let mut record = Record::new(head, clock, clock, 77, &[0; 8]);
        record.set_length(length, length * 16);
        record
    }

    fn bytes(records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        records.iter().for_each(|record| record.encode(&mut out));
        out
    }

    #[test]
    fn a_key_goes_to_the_innermost_step_around_it_and_to_its_beginning() {
        let mut intake = Intake::default();
        let place = intake.hello(&hello(5, 1)).unwrap();
        let batch = bytes(&[
            record(Stage::Rpc, Kind::Begin, 10, 0),
            Record::key(11, 77, 1, b"foo"),
            record(Stage::RpcValidate, Kind::Span, 12, 1),
            record(Stage::Rpc, Kind::Span, 10, 9),
        ]);
        assert_eq!(Ok(3), intake.batch(place, &batch, 0));
        let keys: Vec<_> = intake
            .recording
            .events
            .iter()
            .map(|event| event.key.as_ref().map(|key| key.bytes.clone()))
            .collect();
        assert_eq!(vec![Some(b"foo".to_vec()), None, Some(b"foo".to_vec())], keys);
    }

    #[test]
    fn a_member_that_comes_back_keeps_its_place_and_gets_another_boot() {
        let mut intake = Intake::default();
        let places = [hello(5, 1), hello(6, 1), hello(5, 2)].map(|hello| intake.hello(&hello));
        assert_eq!([Ok(0), Ok(1), Ok(0)], places);
        let boots = &intake.recording.members[0].boots;
        let expected = [1, 2].map(|boot| BootInfo { boot, wall_ns: 600 });
        assert_eq!(expected.as_slice(), boots);
    }

    #[test]
    fn repeated_records_are_taken_once_and_trimmed_ones_are_gone() {
        let mut intake = Intake::default();
        let place = intake.hello(&hello(5, 0)).unwrap();
        let batch =
            bytes(&[record(Stage::Rpc, Kind::Span, 1, 1), record(Stage::Rpc, Kind::Span, 3, 1)]);
        assert_eq!([Ok(2), Ok(0)], [0, 1].map(|_| intake.batch(place, &batch, 0)));
        assert_eq!(1, intake.trim(1));
        assert_eq!(vec![3], intake.recording.events.iter().map(|e| e.clock).collect::<Vec<_>>());
    }

    #[test]
    fn forgotten_records_are_not_taken_again_when_they_are_repeated() {
        let mut intake = Intake::default();
        let place = intake.hello(&hello(5, 0)).unwrap();
        let rpcs = [1, 3, 5].map(|clock| record(Stage::Rpc, Kind::Span, clock, 1));
        assert_eq!(Ok(3), intake.batch(place, &bytes(&rpcs), 0));
        // The first remains, although the one after it is forgotten.
        intake.forget(|at| at != 1);
        assert_eq!(Ok(0), intake.batch(place, &bytes(&rpcs), 0));
        let later = record(Stage::Rpc, Kind::Span, 7, 1);
        assert_eq!(Ok(1), intake.batch(place, &bytes(&[later]), 0));
        let mut next_boot = rpcs[1];
        next_boot.set_head(Head { boot: 1, ..next_boot.head() });
        assert_eq!(Ok(1), intake.batch(place, &bytes(&[next_boot]), 0));
        let clocks: Vec<u64> = intake.recording.events.iter().map(|event| event.clock).collect();
        assert_eq!(vec![1, 5, 7, 3], clocks);
    }

    #[test]
    fn a_request_forgotten_while_it_ran_does_not_come_back() {
        let mut intake = Intake::default();
        let place = intake.hello(&hello(5, 0)).unwrap();
        let begin = record(Stage::Rpc, Kind::Begin, 1, 0);
        assert_eq!(Ok(1), intake.batch(place, &bytes(&[begin]), 0));
        intake.forget(|_| false);
        let rest =
            [record(Stage::RaftEntry, Kind::Mark, 5, 0), record(Stage::Rpc, Kind::Span, 1, 9)];
        assert_eq!(Ok(0), intake.batch(place, &bytes(&rest), 0));
        // Later steps for it on other members belong to no story any more.
        let late = record(Stage::ApplyEntry, Kind::Span, 20, 1);
        assert_eq!(Ok(1), intake.batch(place, &bytes(&[late]), 0));
    }

    #[test]
    fn bad_batches_are_refused_and_stages_of_the_future_are_skipped() {
        let mut intake = Intake::default();
        assert_eq!(Err(IntakeError::NoHello), intake.batch(0, &[], 0));
        let place = intake.hello(&hello(5, 1)).unwrap();
        assert_eq!(Err(IntakeError::Length(127)), intake.batch(place, &[0; 127], 0));
        let mut future = record(Stage::Rpc, Kind::Span, 1, 1);
        future.set_head(Head { stage: 255, ..future.head() });
        assert_eq!(Ok(0), intake.batch(place, &bytes(&[future]), 3));
        assert_eq!(vec![3], intake.recording.dropped);
    }
}
