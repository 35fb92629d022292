//! The last messages of the old leader, on each member that takes part in an election.

use std::collections::{BTreeMap, HashMap};

use super::Election;
use crate::{
    field, fields,
    story::{
        Event, Recording,
        order::Order,
        query::thinned::{Frames, is_dense},
    },
    trace::{Kind, message, stage::Stage},
};

/// How long before a member's raft thread hears of a message it may have been received; in
/// nanoseconds.
const TAKEN_NS: i128 = 50_000_000;
/// How far the last heartbeats of one leader to two members may be apart, in nanoseconds.
const BEAT_NS: i128 = 250_000_000;

/// A member that takes part in an election.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined {
    pub(super) member: u8,
    /// Position of the event with which it turned from the old leader: its first event in it, or a
    /// later change of its role, leader or term.
    pub(super) first: usize,
    /// Whether it has turned from it.
    pub(super) has_turned: bool,
    /// Position of the newest message of the old leader before that was captured.
    pub(super) last: Option<usize>,
}

/// What members received of leaders.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The newest message that a member received of another as a leader, by term.
    newest: BTreeMap<(u8, u64, u64), usize>,
    /// For each election, the members that took part.
    joined: HashMap<usize, Vec<Joined>>,
}

/// The member, by raft's id, that sent a received message as the leader of a term.
fn leader_of(event: &Event) -> Option<(u64, u64)> {
    let [peer, kind, term] = fields!(event, RaftReceive: peer, type, term);
    message::is_of_leader(kind).then_some((peer, term))
}

impl Heard {
    /// Notes a receipt. A member that takes part in an election and heeds the old leader still
    /// hears of it again.
    pub(super) fn receive(&mut self, at: usize, event: &Event, all: &[Election]) {
        let Some((leader, term)) = leader_of(event) else { return };
        self.newest.insert((event.member, leader, term), at);
        for (election, one) in self.heeding(event.member, all) {
            if election.old == leader && term < election.term {
                (one.last, one.first) = (Some(at), at);
            }
        }
    }

    /// A member takes part in an election from this event on.
    pub(super) fn join(
        &mut self,
        (place, election): (usize, &Election),
        (at, event): (usize, &Event),
        has_turned: bool,
        recording: &Recording,
    ) {
        let of_old = (event.member, election.old, 0)..(event.member, election.old, election.term);
        let last = self.newest.range(of_old).next_back().map(|(_, last)| *last);
        let last = last.filter(|last| recording.events[*last].boot == event.boot);
        let joined = Joined { member: event.member, first: at, has_turned, last };
        self.joined.entry(place).or_default().push(joined);
    }

    /// A member turns from the leaders of elections that it does not follow now.
    pub(super) fn turn(&mut self, at: usize, event: &Event, all: &[Election]) {
        let leader = field!(event, RaftRole, leader_new);
        for (election, one) in self.heeding(event.member, all) {
            if election.old != leader {
                (one.first, one.has_turned) = (at, true);
            }
        }
    }

    /// The members that take part in an election which is not over, and heed its old leader still.
    fn heeding<'a>(
        &'a mut self,
        member: u8,
        all: &'a [Election],
    ) -> impl Iterator<Item = (&'a Election, &'a mut Joined)> {
        self.joined.iter_mut().flat_map(move |(place, joined)| {
            let election = &all[*place];
            let is_open = election.winner.is_none() && election.over.is_none();
            let heeds = move |one: &&mut Joined| one.member == member && !one.has_turned && is_open;
            joined.iter_mut().filter(heeds).map(move |one| (election, one))
        })
    }

    /// Fills in what each election says of its old leader's last messages.
    pub(super) fn tell(
        self,
        all: &mut [Election],
        (recording, order): (&Recording, &Order),
        frames: &Frames,
    ) {
        for (place, joined) in &self.joined {
            let election = &mut all[*place];
            let silent = silent_since(recording, order, election);
            let latest = silent.values().copied().max();
            for one in joined {
                let lane = (one.member, recording.events[one.first].boot);
                let end = order.times[one.first];
                let times = |last: usize| (order.times[last], silent.get(&one.member), latest);
                let near = one.last.filter(|last| match times(*last) {
                    (last, Some(since), _) => *since <= last + BEAT_NS,
                    (last, None, Some(since)) if since <= last + BEAT_NS => true,
                    (last, None, _) => frames.is_whole(lane, (last, end)),
                });
                let Some(last) = near else {
                    election.unknown.push(one.member);
                    continue;
                };
                election.heard.push(last);
                election.heard.extend(order.partner.get(&last));
                let is_in_time = match times(last) {
                    (last, Some(since), _) => *since <= last + TAKEN_NS,
                    (last, None, _) => frames.is_whole(lane, (last, end)),
                };
                if !is_in_time || !is_dense(recording, last) {
                    election.unsure.push(one.member);
                }
            }
            election.unsure.sort_unstable();
            election.unknown.sort_unstable();
        }
        for election in all {
            election.heard.sort_by_key(|at| order.times[*at]);
            election.heard.dedup();
        }
    }
}

/// Since when members had not heard of the old leader, as they record when they time out, or when
/// it asks them to take over.
pub(in crate::story::query) fn silent_since(
    recording: &Recording,
    order: &Order,
    election: &Election,
) -> HashMap<u8, i128> {
    let mut since = HashMap::new();
    for at in &election.steps {
        let (event, time) = (&recording.events[*at], order.times[*at]);
        let silent = match event.stage {
            Stage::ElectionTimeout => field!(event, ElectionTimeout, silent),
            Stage::RaftReceive if event.kind != Kind::Begin => {
                let is_request = field!(event, RaftReceive, type) == message::TIMEOUT_NOW;
                u64::from(is_request)
            }
            _ => 0,
        };
        if silent != 0 {
            since.entry(event.member).or_insert(time - i128::from(silent));
        }
    }
    since
}
