//! Elections: which events belong to which.
//!
//! ```text
//!   heard    the last message of the old leader, on each member that then takes part
//!   asked    election.timeout or election.transfer, election.campaign, the messages that ask
//!   voted    election.vote, the fsync of a vote, the messages that answer, election.tally
//!   won      raft.role: one member leads, the others learn it
//! ```
//!
//! A term has one winner at most, so the term names the election that was won. But members may ask
//! for pre-votes for a term, get none, and follow the old leader again; when they ask anew, perhaps
//! an hour later, that is another election for the same term ([`Election::address`]).
//!
//! The winner is known by its own `raft.role` or, where its records are missing, by those of a
//! member that follows it.
//!
//! Invariant: an event belongs to one election at most. What a member does in a start that begins
//! after the election was won belongs to that start. The last message of the old leader is the last
//! that was captured before the member turned from it, though it had a step in the election before:
//! a follower that refuses a pre-vote still heeds its leader. Where later ones may have been lost,
//! the election says so: members forget heartbeats before elections, and under load they keep only
//! some messages.

use std::collections::{BTreeMap, HashMap};

use super::{
    address::{Address, Begun},
    thinned::{Frames, is_dense},
};
use crate::{
    field, fields,
    story::{Event, Recording, order::Order},
    trace::{Kind, message, stage::Stage, value::LEADER},
};

/// The numbers of the roles.
const FOLLOWER: u64 = 0;
const CANDIDATE: u64 = 1;
const PRE_CANDIDATE: u64 = 3;

/// How long before a member's raft thread hears of a message it may have been received; in
/// nanoseconds.
const TAKEN_NS: i128 = 50_000_000;
/// How far the last heartbeats of one leader to two members may be apart, in nanoseconds.
const BEAT_NS: i128 = 250_000_000;

/// One election, successful or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Election {
    /// The term for which votes were asked.
    pub term: u64,
    /// Positions of the last messages of the old leader, one for each member that took part, as far
    /// as they were captured.
    pub heard: Vec<usize>,
    /// The members that took part, by position, of which the last message that they received of the
    /// old leader was not captured.
    pub unknown: Vec<u8>,
    /// Those of which later ones than the last captured one may have been lost.
    pub unsure: Vec<u8>,
    /// Positions of its events, in playback order.
    pub steps: Vec<usize>,
    /// The members that asked for votes, by position, in their order.
    pub candidates: Vec<u8>,
    /// The old leader, by raft's id; 0 if there was none, or none is known.
    pub old: u64,
    /// Position of the `raft.role` with which a member became leader.
    pub won: Option<usize>,
    /// The winner, by raft's id, and the position of the first event that names it: its own or, as
    /// far as captured, that of a member that follows it.
    pub winner: Option<(u64, usize)>,
    /// The index of the first entry of the term, which is empty.
    pub entry: Option<u64>,
    /// Position of the first `raft.commit` that holds that entry: the winner's or, if its records
    /// are missing, another member's.
    pub committed: Option<usize>,
    /// Position of the event after which nobody asked for votes any more.
    pub over: Option<usize>,
}

impl Election {
    /// The winner, by position, if it sent records.
    pub fn winner(&self, recording: &Recording) -> Option<u8> {
        let (winner, _) = self.winner?;
        let place = recording.members.iter().position(|member| member.member_id == winner)?;
        u8::try_from(place).ok()
    }

    /// Its address.
    pub fn address(&self, recording: &Recording) -> Address {
        let own = self.winner.is_none().then(|| self.begun(recording).next()).flatten();
        Address::Election { term: self.term, by: own }
    }

    /// Whether the address leads to this election.
    pub fn is_at(&self, address: Address, recording: &Recording) -> bool {
        match address {
            Address::Election { term, by } if term == self.term => match by {
                Some(by) => self.begun(recording).any(|begun| begun == by),
                None => self.winner.is_some(),
            },
            _ => false,
        }
    }

    /// The steps with which members began it, in playback order.
    fn begun<'a>(&'a self, recording: &'a Recording) -> impl Iterator<Item = Begun> + 'a {
        let steps = self.steps.iter().map(|at| &recording.events[*at]);
        steps.filter(|event| begins(event)).filter_map(|event| {
            let member_id = recording.members.get(usize::from(event.member))?.member_id;
            Some(Begun { member_id, boot: event.boot, clock: event.clock })
        })
    }

    /// Position of its first event that is no message of the old leader.
    pub fn first(&self) -> usize {
        self.steps[0]
    }
}

/// Whether a member begins an election with this step, or asks again.
fn begins(event: &Event) -> bool {
    matches!(
        event.stage,
        Stage::ElectionTimeout | Stage::ElectionTransfer | Stage::ElectionCampaign
    )
}

/// A member that takes part in an election.
#[derive(Clone, Copy, Debug)]
struct Joined {
    member: u8,
    /// Position of the event with which it turned from the old leader: its first event in it, or a
    /// later change of its role, leader or term.
    first: usize,
    /// Whether it has turned from it.
    has_turned: bool,
    /// Position of the newest message of the old leader before that was captured.
    last: Option<usize>,
}

/// Since when members had not heard of the old leader, as they record when they time out, or when
/// it asks them to take over.
fn silent_since(recording: &Recording, order: &Order, election: &Election) -> HashMap<u8, i128> {
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

/// Collects the elections of a recording, event by event in playback order.
pub(super) struct Elections<'a> {
    recording: &'a Recording,
    order: &'a Order,
    all: Vec<Election>,
    /// The newest election for each term.
    newest: BTreeMap<u64, usize>,
    /// The elections in which a member stands, and the start in which it does.
    stands: HashMap<u8, (u64, u16)>,
    /// The newest event of each member's receipts, by member and sender.
    received: HashMap<(u8, u64), usize>,
    /// When the members' starts began, as a number of events seen.
    began: HashMap<(u8, u16), usize>,
    seen: usize,
    /// When each election was won, as a number of events seen.
    won: HashMap<usize, usize>,
    /// For each election, the members that took part: the first step of each, and the newest
    /// message of the old leader before.
    joined: HashMap<usize, Vec<Joined>>,
    /// The leader of each term, as far as known.
    leaders: HashMap<u64, u64>,
}

impl<'a> Elections<'a> {
    pub(super) fn new(recording: &'a Recording, order: &'a Order) -> Elections<'a> {
        Elections {
            recording,
            order,
            all: Vec::new(),
            newest: BTreeMap::new(),
            stands: HashMap::new(),
            received: HashMap::new(),
            began: HashMap::new(),
            seen: 0,
            won: HashMap::new(),
            joined: HashMap::new(),
            leaders: HashMap::new(),
        }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, at: usize, event: &Event) {
        self.seen += 1;
        self.began.entry((event.member, event.boot)).or_insert(self.seen);
        if let Some((term, boot)) = self.stands.get(&event.member).copied()
            && boot != event.boot
        {
            self.leaves(event.member, term, at);
        }
        if let Some(term) = self.term(event) {
            if begins(event) {
                self.open(term);
            }
            self.add(term, at, event);
        }
        match event.stage {
            Stage::RaftReceive if event.kind != Kind::Begin => {
                let peer = field!(event, RaftReceive, peer);
                self.received.insert((event.member, peer), at);
                self.hears(at, event.member, peer);
            }
            Stage::RaftRole => {
                self.turns(at, event);
                self.role(at, event);
            }
            Stage::RaftEntry | Stage::RaftCommit => self.log(at, event),
            _ => (),
        }
    }

    /// The elections, in the order in which they began.
    pub(super) fn finish(mut self, frames: &Frames) -> Vec<Election> {
        for (place, joined) in &self.joined {
            let election = &mut self.all[*place];
            let silent = silent_since(self.recording, self.order, election);
            let latest = silent.values().copied().max();
            for one in joined {
                let lane = (one.member, self.recording.events[one.first].boot);
                let end = self.order.times[one.first];
                let times = |last: usize| (self.order.times[last], silent.get(&one.member), latest);
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
                election.heard.extend(self.order.partner.get(&last));
                let is_in_time = match times(last) {
                    (last, Some(since), _) => *since <= last + TAKEN_NS,
                    (last, None, _) => frames.is_whole(lane, (last, end)),
                };
                if !is_in_time || !is_dense(self.recording, last) {
                    election.unsure.push(one.member);
                }
            }
            election.unsure.sort_unstable();
            election.unknown.sort_unstable();
        }
        for election in &mut self.all {
            election.heard.sort_by_key(|at| self.order.times[*at]);
            election.heard.dedup();
        }
        self.all
    }

    /// The term of the election that the event may belong to.
    fn term(&self, event: &Event) -> Option<u64> {
        let next = |term: u64| term.checked_add(1);
        match event.stage {
            Stage::ElectionTimeout => next(field!(event, ElectionTimeout, term)),
            Stage::ElectionTransfer => next(field!(event, ElectionTransfer, term)),
            Stage::ElectionCampaign => {
                let [pre, old, new] = fields!(event, ElectionCampaign: pre, term_old, term_new);
                if pre != 0 { next(old) } else { Some(new) }
            }
            Stage::ElectionVote => Some(field!(event, ElectionVote, term)),
            Stage::ElectionTally => {
                let stands = self.stands.get(&event.member).map(|(term, _)| *term);
                stands.or(Some(field!(event, ElectionTally, term)))
            }
            Stage::WalFsync => {
                let [term, vote] = fields!(event, WalFsync: term, vote);
                (vote != 0).then_some(term)
            }
            Stage::RaftSend | Stage::RaftReceive => self.term_of_message(event),
            Stage::RaftDrop => {
                let [kind, term] = fields!(event, RaftDrop: type, term);
                let is_ballot = matches!(
                    kind,
                    message::VOTE | message::VOTE_RESP | message::PRE_VOTE | message::PRE_VOTE_RESP
                );
                is_ballot.then_some(term)
            }
            Stage::RaftRole => self.term_of_role(event),
            _ => None,
        }
    }

    fn term_of_message(&self, event: &Event) -> Option<u64> {
        let [kind, term, reject] = fields!(event, RaftSend | RaftReceive: type, term, reject);
        match kind {
            message::VOTE | message::VOTE_RESP | message::PRE_VOTE => Some(term),
            // A refusal has the term of the one that refuses.
            message::PRE_VOTE_RESP if reject != 0 && !self.newest.contains_key(&term) => {
                term.checked_add(1)
            }
            message::PRE_VOTE_RESP => Some(term),
            message::TIMEOUT_NOW => term.checked_add(1),
            _ => None,
        }
    }

    fn term_of_role(&self, event: &Event) -> Option<u64> {
        let [old, new] = fields!(event, RaftRole: role_old, role_new);
        let [term_old, term] = fields!(event, RaftRole: term_old, term_new);
        let leader = field!(event, RaftRole, leader_new);
        let is_of_next = match (old, new) {
            (_, PRE_CANDIDATE) => true,
            (_, CANDIDATE | LEADER) => false,
            // It follows the old leader again, steps down, or has lost its leader.
            (PRE_CANDIDATE | LEADER, _) => term_old == term,
            (_, FOLLOWER) => term_old == term && leader == 0,
            _ => false,
        };
        if is_of_next { term.checked_add(1) } else { Some(term) }
    }

    /// The election for this term that begins or continues now.
    fn open(&mut self, term: u64) {
        let known = self.newest.get(&term).map(|place| &self.all[*place]);
        // A member that is cut off may ask again when the others have long elected another.
        let is_over = |known: &Election| match known.winner {
            Some(_) => known.committed.is_some(),
            None => known.over.is_some(),
        };
        let is_open = known.is_some_and(|known| !is_over(known));
        if is_open {
            return;
        }
        let old = self.leaders.get(&term.saturating_sub(1)).copied().unwrap_or(0);
        self.newest.insert(term, self.all.len());
        self.all.push(Election { term, old, ..Election::default() });
    }

    fn add(&mut self, term: u64, at: usize, event: &Event) {
        let Some(place) = self.newest.get(&term).copied() else { return };
        let won = self.won.get(&place).copied().unwrap_or(usize::MAX);
        if won < self.began[&(event.member, event.boot)] {
            return;
        }
        let old = match event.stage {
            Stage::ElectionTimeout => field!(event, ElectionTimeout, leader),
            Stage::RaftRole => field!(event, RaftRole, leader_old),
            _ => 0,
        };
        let own = self.recording.members.get(usize::from(event.member));
        let own = own.map_or(0, |member| member.member_id);
        let election = &mut self.all[place];
        if election.old == 0 && election.winner.is_none() {
            election.old = old;
        }
        let is_new = !election.steps.iter().any(|step| {
            let step = &self.recording.events[*step];
            (step.member, step.boot) == (event.member, event.boot)
        });
        if is_new && own != election.old && election.old != 0 {
            let last = self.received.get(&(event.member, election.old)).copied();
            let last = last.filter(|last| self.recording.events[*last].boot == event.boot);
            let has_turned = begins(event);
            let joined = Joined { member: event.member, first: at, has_turned, last };
            self.joined.entry(place).or_default().push(joined);
        }
        election.steps.push(at);
        if event.stage == Stage::ElectionCampaign && !election.candidates.contains(&event.member) {
            election.candidates.push(event.member);
        }
    }

    /// The members that take part in an election which is not over, and heed its old leader still.
    fn heeding(&mut self, member: u8) -> impl Iterator<Item = (&Election, &mut Joined)> {
        let all = &self.all;
        self.joined.iter_mut().flat_map(move |(place, joined)| {
            let election = &all[*place];
            let is_open = election.winner.is_none() && election.over.is_none();
            let heeds = move |one: &&mut Joined| one.member == member && !one.has_turned && is_open;
            joined.iter_mut().filter(heeds).map(move |one| (election, one))
        })
    }

    /// A member that heeds the old leader hears of it again.
    fn hears(&mut self, at: usize, member: u8, peer: u64) {
        for (election, one) in self.heeding(member) {
            if election.old == peer {
                (one.last, one.first) = (Some(at), at);
            }
        }
    }

    /// A member turns from the old leader.
    fn turns(&mut self, at: usize, event: &Event) {
        let leader = field!(event, RaftRole, leader_new);
        for (election, one) in self.heeding(event.member) {
            if election.old != leader {
                (one.first, one.has_turned) = (at, true);
            }
        }
    }

    /// Follows who stands and who leads.
    fn role(&mut self, at: usize, event: &Event) {
        let [new, term, leader] = fields!(event, RaftRole: role_new, term_new, leader_new);
        if leader != 0 {
            self.leaders.insert(term, leader);
        }
        let stands = match new {
            PRE_CANDIDATE => term.checked_add(1),
            CANDIDATE => Some(term),
            _ => None,
        };
        if leader != 0
            && let Some(place) = self.newest.get(&term).copied()
        {
            self.all[place].winner.get_or_insert((leader, at));
            if new == LEADER {
                self.all[place].won.get_or_insert(at);
            }
            self.won.entry(place).or_insert(self.seen);
        }
        if let Some((before, _)) = self.stands.get(&event.member).copied()
            && Some(before) != stands
        {
            self.leaves(event.member, before, at);
        }
        if let Some(term) = stands {
            self.stands.insert(event.member, (term, event.boot));
            if let Some(place) = self.newest.get(&term) {
                self.all[*place].over = None;
            }
        }
    }

    /// Notes that a member does not stand any more for this term.
    fn leaves(&mut self, member: u8, term: u64, at: usize) {
        self.stands.remove(&member);
        if self.stands.values().any(|(other, _)| *other == term) {
            return;
        }
        if let Some(place) = self.newest.get(&term) {
            self.all[*place].over.get_or_insert(at);
        }
    }

    /// Notes the first entry of a term, and its commit by the winner.
    fn log(&mut self, at: usize, event: &Event) {
        if event.kind == Kind::Begin {
            return;
        }
        let term = field!(event, RaftEntry | RaftCommit, term);
        let Some(place) = self.newest.get(&term) else { return };
        let election = &mut self.all[*place];
        // Without the winner's own records, the entry is known from a member that follows it.
        let is_meant = match election.won {
            Some(won) => self.recording.events[won].member == event.member,
            None => election.winner.is_some(),
        };
        let is_opening = event.stage == Stage::RaftEntry
            && event.id == 0
            && field!(event, RaftEntry, bytes) == 0;
        if is_opening && is_meant {
            election.entry.get_or_insert(field!(event, RaftEntry, index));
        }
        if event.stage == Stage::RaftCommit
            && is_meant
            && election.entry.is_some_and(|index| index <= field!(event, RaftCommit, commit_new))
        {
            election.committed.get_or_insert(at);
        }
    }
}
