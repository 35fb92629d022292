//! What each member's disk had at a moment, and what that means if the power fails then.
//!
//! A power failure keeps what was synced. It may keep more, as far as the disk had written by
//! itself, but nobody may count on that; so here it keeps nothing else.

use glass_etcd::{
    change, field, fields,
    member::moment::Until,
    story::{
        Event, MemberInfo, Recording,
        state::{States, Value, Watermark as Water},
    },
    trace::{Kind, Stage},
};

use super::watermarks::{Moment, moment};

/// The disk of a member at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The member's name.
    pub(crate) name: String,
    /// Raft's id of it.
    pub(crate) member_id: u64,
    /// The id of its cluster.
    pub(crate) cluster_id: u64,
    /// What its disk had; `None` if that is unknown.
    pub(crate) until: Option<Until>,
    /// Whether every sync up to the moment is known; it may have had more otherwise.
    pub(crate) is_exact: bool,
}

/// A moment that is to be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    /// What each disk had.
    pub(crate) disks: Vec<Disk>,
    /// The write of the story that is open.
    pub(crate) wanted: Option<Wanted>,
    /// What is said before it is done.
    pub(crate) said: Vec<String>,
}

/// A write that is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The term and the index of its entry.
    pub(crate) entry: (u64, u64),
    /// The revision that it made; `None` if it made none, or that was not captured.
    pub(crate) revision: Option<u64>,
    /// The term of the entry that replaced it in some log, if one did: then it never was committed.
    pub(crate) replaced: Option<u64>,
    /// Whether a record says that it was committed.
    pub(crate) is_committed: bool,
}

impl Wanted {
    /// The write of the request with this id, whose entry has this term and index.
    pub(crate) fn of(recording: &Recording, id: u64, entry: (u64, u64)) -> Wanted {
        let mut wanted = Wanted { entry, ..Wanted::default() };
        for event in &recording.events {
            match event.stage {
                Stage::MvccWrite if event.id == id => {
                    let [old, new] = change!(event, MvccWrite, revision);
                    wanted.revision = wanted.revision.max((old < new).then_some(new));
                }
                Stage::RaftEntry | Stage::ApplyEntry => {
                    let [term, index] = fields!(event, RaftEntry | ApplyEntry: term, index);
                    wanted.is_committed |=
                        event.stage == Stage::ApplyEntry && (term, index) == entry;
                    if index == entry.1 && entry.0 < term {
                        let known = wanted.replaced.unwrap_or(term);
                        wanted.replaced = Some(known.min(term));
                    }
                }
                // Its leader commits no other entry at this index in this term.
                Stage::RaftCommit => {
                    let [term, commit] = fields!(event, RaftCommit: term, commit_new);
                    wanted.is_committed |= term == entry.0 && entry.1 <= commit;
                }
                _ => (),
            }
        }
        wanted
    }
}

/// The disks of all members, each at its own moment; one without a moment had recorded nothing.
pub(crate) fn disks(
    recording: &Recording,
    states: &States,
    cut: impl Fn(u8) -> Option<Moment>,
) -> Vec<Disk> {
    let disk = |(member, place): (&MemberInfo, u8)| {
        let cut = cut(place);
        let synced = cut.map(|cut| states.at_moment(place, cut, Water::Synced));
        Disk {
            name: member.name.clone(),
            member_id: member.member_id,
            cluster_id: member.cluster_id,
            until: cut.and_then(|cut| until(recording, states, place, cut)),
            is_exact: synced.is_some_and(|synced| synced.known().is_some()),
        }
    };
    recording.members.iter().zip(0..).map(disk).collect()
}

fn until(recording: &Recording, states: &States, place: u8, cut: Moment) -> Option<Until> {
    let at = |water| states.at_moment(place, cut, water);
    let synced = match at(Water::Synced) {
        Value::Known(index) | Value::Within(index, _) => index,
        Value::Unknown => return None,
    };
    let own = recording.events.iter().filter(|event| (event.member, event.boot) == (place, cut.0));
    let syncs =
        own.clone().filter(|event| event.stage == Stage::WalFsync && event.kind == Kind::Span);
    let term = at(Water::Term).known()?;
    // A term is entered in memory first. If its sync comes later, the disk has an earlier one.
    let is_later = |event: &Event| cut < moment(event) && field!(event, WalFsync, term) == term;
    let is_open = syncs.clone().any(is_later);
    let (term, vote) = if is_open { (term - 1, None) } else { (term, at(Water::Vote).known()) };
    // Writes and syncs alternate on one thread, so the first write after the last sync is the
    // first that is not synced.
    let last = syncs.filter(|event| moment(event) <= cut).map(|event| event.clock).max();
    let is_after = |event: &&Event| last.is_some_and(|last| last < event.clock);
    let writes = own.filter(|event| event.stage == Stage::WalWrite && event.kind == Kind::Span);
    let next = writes.filter(is_after).min_by_key(|event| event.clock);
    let next = next.map(|event| fields!(event, WalWrite: segment, offset)).map(|[s, o]| (s, o));
    Some(Until { synced, term, vote, next })
}

/// What the disks have, in a sentence.
pub(crate) fn said(disks: &[Disk]) -> String {
    let words = |disk: &Disk| match &disk.until {
        Some(Until { synced, term, .. }) => {
            let least = if disk.is_exact { "" } else { " at least" };
            format!("{} entries up to {synced}{least}, term {term}", disk.name)
        }
        None => format!("{} unknown", disk.name),
    };
    let disks: Vec<String> = disks.iter().map(words).collect();
    format!("Synced at this moment: {}.", disks.join("; "))
}

/// Why not all of these disks can be copied.
pub(crate) fn refusal(disks: &[Disk]) -> Option<String> {
    let unknown: Vec<&str> =
        disks.iter().filter(|disk| disk.until.is_none()).map(|disk| &*disk.name).collect();
    if disks.is_empty() {
        return Some("the recording has no members".to_owned());
    }
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        return Some(format!("no record says what the disk of {unknown} had at this moment"));
    }
    let is_empty = |disk: &&Disk| disk.until.is_some_and(|until| until.synced == 0);
    let empty = disks.iter().find(is_empty)?;
    Some(format!("{} had nothing synced at this moment", empty.name))
}

#[cfg(test)]
mod tests {
    use glass_etcd::story::order::Order;

    use super::*;

    #[test]
    fn a_disk_that_is_unknown_or_empty_cannot_be_copied() {
        let disk = |synced: Option<u64>| Disk {
            name: "etcd-01".to_owned(),
            member_id: 7,
            cluster_id: 1,
            until: synced.map(|synced| Until { synced, term: 3, ..Until::default() }),
            is_exact: false,
        };
        assert_eq!(
            said(&[disk(Some(41)), disk(None)]),
            "Synced at this moment: etcd-01 entries up to 41 at least, term 3; etcd-01 unknown."
        );
        assert!(refusal(&[disk(Some(1)), disk(None)]).unwrap().contains("etcd-01"));
        assert!(refusal(&[disk(Some(0))]).unwrap().contains("nothing synced"));
        assert_eq!(refusal(&[disk(Some(1))]), None);
        assert!(refusal(&[]).is_some());
    }

    fn step(stage: Stage, kind: Kind, (from, to): (u64, u64), fields: &[u64]) -> Event {
        let mut event = Event::mark(0, stage, from);
        (event.kind, event.clock_end, event.boot) = (kind, to, 1);
        event.fields[..fields.len()].copy_from_slice(fields);
        event
    }

    /// A member in term 3 with entry 40; then entry 41, then a vote in term 4.
    fn recording() -> Recording {
        let frame = |stage, fields: &[u64]| step(stage, Kind::Keyframe, (2, 2), fields);
        let events = vec![
            frame(Stage::Keyframe, &[0, 3, 40, 40, 7, 8, 40, 40]),
            frame(Stage::KeyframeBackend, &[40, 7, 0, 0, 8, 1, 1, 0]),
            step(Stage::WalWrite, Kind::Span, (10, 12), &[41, 41, 40, 41, 0, 1_000, 0]),
            step(Stage::WalFsync, Kind::Span, (13, 20), &[41, 41, 40, 41, 100, 0, 0]),
            step(Stage::RaftRole, Kind::Mark, (25, 25), &[0, 0, 3, 4, 8, 0, 8, 9]),
            step(Stage::WalWrite, Kind::Span, (30, 32), &[0, 0, 41, 41, 0, 1_100, 0]),
            step(Stage::WalFsync, Kind::Span, (33, 40), &[0, 0, 41, 41, 24, 4, 9]),
        ];
        let member = MemberInfo {
            members: Default::default(),
            member_id: 7,
            cluster_id: 1,
            name: "etcd-01".to_owned(),
            version: String::new(),
            boots: Vec::new(),
        };
        Recording { members: vec![member], events, dropped: vec![0] }
    }

    fn at(clock: u64) -> Option<Until> {
        let recording = recording();
        let states = States::of(&recording, &Order::of(&recording));
        disks(&recording, &states, |_| Some((1, clock))).remove(0).until
    }

    #[test]
    fn a_disk_has_what_the_last_sync_before_the_moment_covered() {
        let until = |synced, term, vote, next| Some(Until { synced, term, vote, next });
        assert_eq!(at(12), until(40, 3, Some(8), None), "written is not synced");
        assert_eq!(at(20), until(41, 3, Some(8), Some((0, 1_100))));
        assert_eq!(at(32), until(41, 3, None, Some((0, 1_100))), "the vote is not synced yet");
        assert_eq!(at(40), until(41, 4, Some(9), None));
    }

    #[test]
    fn a_member_without_records_is_unknown() {
        let recording = recording();
        let states = States::of(&recording, &Order::of(&recording));
        assert_eq!(disks(&recording, &states, |_| None)[0].until, None);
    }
}
