//! Which events belong to the story of a request, or of an election.
//!
//! ```text
//! request ── id ──────────► its own stages, on every member
//!         ── term, index ─► wal.write, wal.fsync, raft.send, raft.receive, raft.progress,
//!                           raft.commit, buffer.freeze, backend.commit that cover it
//!         ── round ───────► read_index.round, its messages, read_index.confirmed
//! send    ── link ────────► receive
//! ```
//!
//! A loop event that covers forty requests belongs to forty stories; it is drawn once in each.
//! Messages that only repeat what is known (the tenth heartbeat with the same commit index) are
//! left to the raw grain: of each kind, from one member to another, the first one tells the story.

use std::collections::{BTreeSet, HashMap, HashSet};

use glass_etcd::trace::{Event, FLAG_REPLAY, Kind, Recording, Stage, message};

use super::{
    story::Subject,
    watermarks::{self, Moment},
};

/// `role.new` of [`Stage::RaftRole`] when the member becomes leader.
pub(crate) const LEADER: u64 = 2;

/// For each event of the recording, whether it belongs to the story.
pub(crate) fn belongs(recording: &Recording, subject: Subject) -> Vec<bool> {
    let mut chosen = match subject {
        Subject::Request(id) => Joins::of(recording, id).choose(recording),
        Subject::Election { term } => choose_election(recording, term),
    };
    close_over_links(recording, &mut chosen);
    mark_losses(recording, &mut chosen);
    chosen
}

/// Records that a member lost during the story may have been part of it.
fn mark_losses(recording: &Recording, chosen: &mut [bool]) {
    let window = Window::around(recording, chosen);
    for (event, chosen) in recording.events.iter().zip(chosen) {
        let (from, to) = (event.fields[0], event.fields[1]);
        *chosen |= event.stage == Stage::Lost && window.overlaps(event, from, to);
    }
}

/// From when to when, on each member's clock, a story goes.
pub(crate) struct Window(HashMap<(u8, u16), (u64, u64)>);

impl Window {
    /// The window of the chosen events.
    pub(crate) fn around(recording: &Recording, chosen: &[bool]) -> Window {
        let mut window: HashMap<(u8, u16), (u64, u64)> = HashMap::new();
        for (event, _) in recording.events.iter().zip(chosen).filter(|(_, chosen)| **chosen) {
            let (from, to) = window.entry((event.member, event.boot)).or_insert((u64::MAX, 0));
            (*from, *to) = ((*from).min(event.clock), (*to).max(event.clock_end));
        }
        Window(window)
    }

    /// Whether the event took effect in it.
    pub(crate) fn contains(&self, event: &Event) -> bool {
        let clock = watermarks::moment(event).1;
        self.overlaps(event, clock, clock)
    }

    /// Whether a part of the event's member's clock reaches into it.
    fn overlaps(&self, event: &Event, from: u64, to: u64) -> bool {
        let of_member = self.0.get(&(event.member, event.boot));
        of_member.is_some_and(|(first, last)| from <= *last && *first <= to)
    }
}

/// What joins other events to a request.
struct Joins {
    id: u64,
    indexes: BTreeSet<u64>,
    rounds: BTreeSet<u64>,
}

impl Joins {
    fn of(recording: &Recording, id: u64) -> Joins {
        let (mut indexes, mut rounds) = (BTreeSet::new(), BTreeSet::new());
        for event in recording.events.iter().filter(|event| event.id == id) {
            match event.stage {
                Stage::RaftEntry | Stage::ApplyEntry => _ = indexes.insert(event.fields[1]),
                Stage::ReadIndexWait => rounds.extend([event.fields[0], event.link]),
                _ => {}
            }
        }
        rounds.remove(&0);
        Joins { id, indexes, rounds }
    }

    fn choose(&self, recording: &Recording) -> Vec<bool> {
        let mut chosen: Vec<bool> =
            recording.events.iter().map(|event| self.is_own(event)).collect();
        let mut firsts = HashSet::new();
        for at in by_member_and_clock(recording) {
            let event = &recording.events[at];
            if let Some(class) = self.tells_first(event) {
                let place = (event.member, event.boot, event.stage, event.fields[0], class);
                chosen[at] |= firsts.insert(place);
            }
        }
        if let Some(at) = self.proposal(recording) {
            chosen[at] = true;
        }
        chosen
    }

    /// What belongs to the request no matter what else there is.
    fn is_own(&self, event: &Event) -> bool {
        let f = &event.fields;
        match event.stage {
            _ if event.id != 0 && event.id == self.id => event.flags & FLAG_REPLAY == 0,
            _ if self.rounds.contains(&event.id) => true,
            Stage::WalWrite | Stage::WalFsync => self.covers(f[0], f[1]),
            Stage::RaftSend | Stage::RaftReceive if f[1] == message::APP => {
                self.covers_after(f[3], f[4])
            }
            Stage::RaftProgress => self.covers_after(f[1], f[2]),
            Stage::RaftCommit => self.covers_after(f[1], f[2]),
            Stage::BackendCommit => self.covers_after(f[0], f[1]),
            _ => false,
        }
    }

    /// What belongs to the request when it is the first of its class on its member.
    fn tells_first(&self, event: &Event) -> Option<&'static str> {
        let index = *self.indexes.first()?;
        let f = &event.fields;
        match (event.stage, f[1]) {
            (Stage::RaftSend | Stage::RaftReceive, message::APP_RESP) => {
                (f[6] == 0 && index <= f[3]).then_some("acknowledges")
            }
            (Stage::RaftSend | Stage::RaftReceive, message::APP | message::HEARTBEAT) => {
                (index <= f[5]).then_some("tells the commit")
            }
            (Stage::BufferFreeze, _) => (index <= f[2]).then_some("freezes"),
            _ => None,
        }
    }

    fn covers(&self, first: u64, last: u64) -> bool {
        first <= last && self.indexes.range(first..=last).next().is_some()
    }

    /// Whether one of the indexes lies beyond `old` and not beyond `new`.
    fn covers_after(&self, old: u64, new: u64) -> bool {
        // Saturating, for numbers that no log has: nothing lies beyond the last of them.
        old < new && self.covers(old.saturating_add(1), new)
    }

    /// The message that took the proposal to the leader. It has no index yet, and unless the record
    /// names the request, it is the first one after the request entered raft.
    fn proposal(&self, recording: &Recording) -> Option<usize> {
        let own = |stage| {
            let events = recording.events.iter();
            events.filter(move |event| event.id == self.id && event.stage == stage)
        };
        let asked = own(Stage::RaftInbox).next().or_else(|| own(Stage::RaftPropose).next())?;
        let entered = own(Stage::RaftEntry)
            .find(|entry| entry.member == asked.member && entry.boot == asked.boot)
            .map_or(u64::MAX, |entry| entry.clock);
        let is_candidate = |event: &Event| {
            event.stage == Stage::RaftSend
                && event.fields[1] == message::PROP
                && (event.member, event.boot) == (asked.member, asked.boot)
                && (asked.clock..entered).contains(&event.clock)
        };
        let events = recording.events.iter().enumerate();
        events
            .filter(|(_, event)| {
                is_candidate(event) && matches!(event.id, id if id == 0 || id == self.id)
            })
            .min_by_key(|(_, event)| (event.id == 0, event.clock))
            .map(|(at, _)| at)
    }
}

/// Takes the other end of every message that was taken.
fn close_over_links(recording: &Recording, chosen: &mut [bool]) {
    let is_message = |event: &Event| {
        matches!(event.stage, Stage::RaftSend | Stage::RaftReceive) && event.link != 0
    };
    let links: HashSet<u64> = recording
        .events
        .iter()
        .zip(&*chosen)
        .filter(|(event, chosen)| **chosen && is_message(event))
        .map(|(event, _)| event.link)
        .collect();
    for (event, chosen) in recording.events.iter().zip(chosen) {
        *chosen |= is_message(event) && links.contains(&event.link);
    }
}

/// The events of the election that was about this term.
fn choose_election(recording: &Recording, term: u64) -> Vec<bool> {
    let mut chosen: Vec<bool> =
        recording.events.iter().map(|event| is_of_election(event, term)).collect();
    let first_commit = recording
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.stage == Stage::RaftCommit && event.fields[0] == term)
        .min_by_key(|(_, event)| (watermarks::wall(recording, event), event.clock));
    if let Some((at, commit)) = first_commit {
        chosen[at] = true;
        let (old, new) = (commit.fields[1], commit.fields[2]);
        let empty = recording.events.iter().position(|event| {
            event.stage == Stage::RaftEntry
                && event.member == commit.member
                && event.fields[0] == term
                && old < event.fields[1]
                && event.fields[1] <= new
        });
        chosen[empty.unwrap_or(at)] = true;
    }
    chosen
}

fn is_of_election(event: &Event, term: u64) -> bool {
    let f = &event.fields;
    let before = term.saturating_sub(1);
    match event.stage {
        Stage::ElectionTimeout => f[0] == before,
        Stage::ElectionCampaign => f[2] == term || (f[0] != 0 && f[1] == before),
        Stage::ElectionVote => f[3] == term,
        Stage::ElectionTally => f[5] == term || (f[2] != 0 && f[5] == before),
        Stage::RaftRole => f[3] == term || (f[3] == before && f[1] != 0 && f[1] != LEADER),
        Stage::WalFsync => f[5] == term && f[6] != 0,
        Stage::RaftSend | Stage::RaftReceive => match f[1] {
            message::VOTE | message::VOTE_RESP | message::PRE_VOTE => f[2] == term,
            message::PRE_VOTE_RESP => f[2] == term || f[2] == before,
            _ => false,
        },
        _ => false,
    }
}

/// Places of all events, member by member, in the order of their clocks.
fn by_member_and_clock(recording: &Recording) -> Vec<usize> {
    let mut places: Vec<usize> = (0..recording.events.len()).collect();
    let key = |at: &usize| -> (u8, Moment) {
        let event = &recording.events[*at];
        (event.member, watermarks::moment(event))
    };
    places.sort_by_key(key);
    places
}

/// Whether the beginning of this stage is worth a row of its own, because the stage waits.
pub(crate) fn waits(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Rpc
            | Stage::RaftPropose
            | Stage::ReadIndexWait
            | Stage::ReadIndexRound
            | Stage::ReadWaitApplied
            | Stage::WalFsync
    )
}

/// Beginnings of spans that wait, where none was recorded: a span knows when it began.
pub(crate) fn missing_beginnings(events: &[Event]) -> Vec<Event> {
    let place = |event: &Event| (event.member, event.boot, event.clock, event.stage);
    let begun: HashSet<_> =
        events.iter().filter(|event| event.kind == Kind::Begin).map(place).collect();
    events
        .iter()
        .filter(|event| event.kind == Kind::Span && waits(event.stage))
        .filter(|event| event.clock < event.clock_end && !begun.contains(&place(event)))
        .map(|event| Event {
            kind: Kind::Begin,
            clock_end: event.clock,
            took_ns: 0,
            result: 0,
            ..event.clone()
        })
        .collect()
}
