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
//! member that follows it. So is a candidate: a member that was killed has asked for votes if
//! another tells of its question ([`stands`]).
//!
//! Invariant: an event belongs to one election at most. What a member does in a start that begins
//! after the election was won belongs to that start. The last message of the old leader is the last
//! that was captured before the member turned from it, though it had a step in the election before:
//! a follower that refuses a pre-vote still heeds its leader. Only what a leader sends counts, and
//! of an earlier term: an old leader that asks for votes is a candidate like any other. Where later
//! ones may have been lost, the election says so: members forget heartbeats before elections, and
//! under load they keep only some messages.

use std::collections::{BTreeMap, HashMap};

use super::{
    address::{Address, Begun},
    silence::{SILENT_NS, Silences},
    thinned::Frames,
};
use crate::{
    field, fields,
    story::{Event, Recording, order::Order},
    trace::{Kind, message, stage::Stage, value::LEADER},
};

mod heard;
mod stands;

use heard::Heard;
pub(super) use heard::silent_since;
use stands::{QUIET_NS, STRAGGLES_NS, Stand, asked_by, stands_for};

/// The numbers of the roles.
const FOLLOWER: u64 = 0;
const CANDIDATE: u64 = 1;
const PRE_CANDIDATE: u64 = 3;

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
    /// The members that asked for votes, by raft's id, in their order; also those of which only
    /// others tell.
    pub candidates: Vec<u64>,
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
        place_of(recording, self.winner?.0)
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

    /// The steps with which members began it, in playback order, and then those with which others
    /// were asked: of a candidate that was killed there may be nothing else.
    fn begun<'a>(&'a self, recording: &'a Recording) -> impl Iterator<Item = Begun> + 'a {
        let steps = || self.steps.iter().map(|at| &recording.events[*at]);
        let told = steps().filter(|event| asked_by(event).is_some());
        steps().filter(|event| begins(event)).chain(told).filter_map(|event| {
            let member_id = recording.members.get(usize::from(event.member))?.member_id;
            Some(Begun { member_id, boot: event.boot, clock: event.clock })
        })
    }

    /// Whether its beginning was captured, and not only what a member was asked meanwhile.
    pub fn is_begun(&self, recording: &Recording) -> bool {
        begins(&recording.events[self.first()])
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

/// The position of the member with this id, if it sent records.
pub(super) fn place_of(recording: &Recording, member_id: u64) -> Option<u8> {
    let place = recording.members.iter().position(|member| member.member_id == member_id)?;
    u8::try_from(place).ok()
}

/// Collects the elections of a recording, event by event in playback order.
pub(super) struct Elections<'a> {
    recording: &'a Recording,
    order: &'a Order,
    all: Vec<Election>,
    /// The newest election for each term.
    newest: BTreeMap<u64, usize>,
    /// The elections in which members stand, by raft's id.
    stands: HashMap<u64, Stand>,
    /// The election of each step.
    places: HashMap<usize, usize>,
    /// The election in which each start of a member took its newest step, by term.
    lately: HashMap<(u8, u16, u64), usize>,
    /// When the members' starts began, as a number of events seen.
    began: HashMap<(u8, u16), usize>,
    seen: usize,
    /// When each election was won, as a number of events seen.
    won: HashMap<usize, usize>,
    /// What members heard of the old leaders.
    heard: Heard,
    /// The leader of each term, as far as known.
    leaders: HashMap<u64, u64>,
    /// The processes that were not heard of any more.
    silences: Silences,
}

impl<'a> Elections<'a> {
    pub(super) fn new(recording: &'a Recording, order: &'a Order) -> Elections<'a> {
        Elections {
            recording,
            order,
            all: Vec::new(),
            newest: BTreeMap::new(),
            stands: HashMap::new(),
            places: HashMap::new(),
            lately: HashMap::new(),
            began: HashMap::new(),
            seen: 0,
            won: HashMap::new(),
            heard: Heard::default(),
            leaders: HashMap::new(),
            silences: Silences::of(recording, order),
        }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, at: usize, event: &Event) {
        self.seen += 1;
        self.began.entry((event.member, event.boot)).or_insert(self.seen);
        self.end_stands(at, event);
        if let Some(term) = self.term(event) {
            let stands = event.stage == Stage::RaftRole && stands_for(event) == Some(term);
            if begins(event) || stands {
                self.open(term, at);
            }
            let place = self.place(term, at, event);
            let place = place.or_else(|| asked_by(event).map(|_| self.open(term, at)));
            if let Some(place) = place {
                self.add(place, at, event);
            }
        }
        match event.stage {
            Stage::RaftReceive if event.kind != Kind::Begin => {
                self.heard.receive(at, event, &self.all);
            }
            Stage::RaftRole => {
                self.heard.turn(at, event, &self.all);
                self.role(at, event);
            }
            Stage::RaftEntry | Stage::RaftCommit => self.log(at, event),
            _ => (),
        }
    }

    /// The elections, in the order in which they began.
    pub(super) fn finish(mut self, frames: &Frames) -> Vec<Election> {
        let last = self.order.rows.last().map_or(i128::MIN, |at| self.order.times[*at]);
        for place in 0..self.all.len() {
            self.end_of_silence(place, last);
        }
        self.heard.tell(&mut self.all, (self.recording, self.order), frames);
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
                let stands = self.stands.get(&self.member_id(event.member));
                stands.map(|stand| stand.term).or(Some(field!(event, ElectionTally, term)))
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

    fn member_id(&self, place: u8) -> u64 {
        self.recording.members.get(usize::from(place)).map_or(0, |member| member.member_id)
    }

    /// The election for this term that begins or continues now.
    fn open(&mut self, term: u64, at: usize) -> usize {
        if let Some(place) = self.newest.get(&term).copied() {
            self.end_of_silence(place, self.order.times[at]);
            // A member that is cut off may ask again when the others have long elected another.
            let known = &self.all[place];
            let end = if known.winner.is_some() { known.committed } else { known.over };
            if end.is_none() {
                return place;
            }
        }
        let old = self.leaders.get(&term.saturating_sub(1)).copied().unwrap_or(0);
        self.newest.insert(term, self.all.len());
        self.all.push(Election { term, old, ..Election::default() });
        self.all.len() - 1
    }

    /// The election for this term to which the event belongs, as far as one is known.
    fn place(&mut self, term: u64, at: usize, event: &Event) -> Option<usize> {
        let sent = self.order.partner.get(&at).and_then(|sent| self.places.get(sent)).copied();
        if let Some(place) = sent.filter(|place| self.all[*place].term == term) {
            return Some(place);
        }
        let place = self.newest.get(&term).copied()?;
        self.end_of_silence(place, self.order.times[at]);
        let lane = (event.member, event.boot, term);
        match (asked_by(event), event.stage) {
            // The answer to the question that it has just received.
            (Some((candidate, _)), Stage::ElectionVote) => {
                let lately = self.lately.get(&lane).copied();
                let stood = |place: &usize| self.all[*place].candidates.contains(&candidate);
                lately.filter(stood).or_else(|| self.goes_on(place, at, Some(candidate)))
            }
            (Some((candidate, _)), _) => self.goes_on(place, at, Some(candidate)),
            (None, Stage::RaftRole) => {
                let [led, leader] = fields!(event, RaftRole: term_new, leader_new);
                self.goes_on(place, at, (led == term && leader != 0).then_some(leader))
            }
            (None, _) if begins(event) => Some(place),
            (None, _) => {
                let lately = self.lately.get(&lane).copied();
                let own = lately.and_then(|place| self.goes_on(place, at, None));
                own.or_else(|| self.goes_on(place, at, None))
            }
        }
    }

    /// This election, unless it was over before this event. Its last messages may still be under
    /// way then: those of this candidate, or about its victory.
    fn goes_on(&self, place: usize, at: usize, who: Option<u64>) -> Option<usize> {
        let known = &self.all[place];
        let is_question = asked_by(&self.recording.events[at]).is_some();
        let end = match known.winner {
            Some(_) if is_question => known.committed,
            Some(_) => None,
            None => known.over,
        };
        let Some(end) = end else { return Some(place) };
        let is_late = self.order.times[end] + STRAGGLES_NS < self.order.times[at];
        let is_its_own = who.is_none_or(|who| known.candidates.contains(&who));
        (!is_late && is_its_own).then_some(place)
    }

    fn add(&mut self, place: usize, at: usize, event: &Event) {
        let won = self.won.get(&place).copied().unwrap_or(usize::MAX);
        if won < self.began[&(event.member, event.boot)] {
            return;
        }
        let old = match event.stage {
            Stage::ElectionTimeout => field!(event, ElectionTimeout, leader),
            Stage::RaftRole => field!(event, RaftRole, leader_old),
            _ => 0,
        };
        let own = self.member_id(event.member);
        let election = &mut self.all[place];
        if election.old == 0 && election.winner.is_none() {
            election.old = old;
        }
        let is_new = !election.steps.iter().any(|step| {
            let step = &self.recording.events[*step];
            (step.member, step.boot) == (event.member, event.boot)
        });
        if is_new && own != election.old && election.old != 0 {
            let has_turned = begins(event);
            self.heard.join((place, election), (at, event), has_turned, self.recording);
        }
        election.steps.push(at);
        self.places.insert(at, place);
        self.lately.insert((event.member, event.boot, election.term), place);
        let is_role = event.stage == Stage::RaftRole && stands_for(event) == Some(election.term);
        if is_role || event.stage == Stage::ElectionCampaign {
            self.note_candidate(place, own);
        }
        if let Some((candidate, _)) = asked_by(event) {
            self.hear_of(place, (candidate, at));
        }
    }

    fn note_candidate(&mut self, place: usize, candidate: u64) {
        let election = &mut self.all[place];
        if !election.candidates.contains(&candidate) {
            election.candidates.push(candidate);
        }
    }

    /// A candidate has asked another member for its vote. If nothing else is known of it, it stands
    /// from here on.
    fn hear_of(&mut self, place: usize, (candidate, at): (u64, usize)) {
        let asked = self.order.times[at];
        let election = &self.all[place];
        let (term, is_known) = (election.term, election.candidates.contains(&candidate));
        if let Some(stand) = self.stands.get_mut(&candidate).filter(|stand| stand.term == term) {
            stand.asked = asked;
            return;
        }
        // One that has ceased to ask is not begun again by what it had asked before.
        if candidate == 0 || is_known || election.winner.is_some() {
            return;
        }
        self.note_candidate(place, candidate);
        self.stands.insert(candidate, Stand { term, boot: None, asked });
        self.all[place].over = None;
    }

    /// Notes who does not stand any more, as this event shows.
    fn end_stands(&mut self, at: usize, event: &Event) {
        let own = self.member_id(event.member);
        let has_ended = |stand: &&Stand| stand.has_ended_before(event);
        if let Some(term) = self.stands.get(&own).filter(has_ended).map(|stand| stand.term) {
            self.leaves(own, term, at);
        }
        if event.stage != Stage::RaftReceive || event.kind == Kind::Begin {
            return;
        }
        let (peer, time) = (field!(event, RaftReceive, peer), self.order.times[at]);
        let has_ended = |stand: &&Stand| stand.has_ended_by(event, time);
        if let Some(term) = self.stands.get(&peer).filter(has_ended).map(|stand| stand.term) {
            self.leaves(peer, term, at);
        }
    }

    /// Ends an election of which nothing has been heard for long: only others than its candidates
    /// tell of it, or these were not heard of any more themselves.
    fn end_of_silence(&mut self, place: usize, time: i128) {
        let election = &self.all[place];
        let stands = || self.stands.iter().filter(|(_, stand)| stand.term == election.term);
        let is_told = |(_, stand): &(&u64, &Stand)| stand.boot.is_some();
        let is_silent = |(id, stand): (&u64, &Stand)| {
            let lane = place_of(self.recording, *id).zip(stand.boot);
            let silence = lane.and_then(|lane| self.silences.of_process(lane));
            silence.is_some_and(|silence| silence.from + SILENT_NS < time)
        };
        let asks = stands().filter(is_told).any(|stand| !is_silent(stand));
        let is_of_silent = stands().next().is_some() && stands().all(|stand| is_told(&stand));
        let quiet = if is_of_silent { SILENT_NS } else { QUIET_NS };
        let is_newest = self.newest.get(&election.term) == Some(&place);
        let Some(last) = election.steps.last().copied() else { return };
        let is_quiet = self.order.times[last] + quiet < time;
        if asks || !is_newest || !is_quiet || election.winner.is_some() {
            return;
        }
        let gone: Vec<u64> = stands().map(|(id, _)| *id).collect();
        self.all[place].over.get_or_insert(last);
        gone.into_iter().for_each(|id| _ = self.stands.remove(&id));
    }

    /// Follows who stands and who leads.
    fn role(&mut self, at: usize, event: &Event) {
        let [new, term, leader] = fields!(event, RaftRole: role_new, term_new, leader_new);
        let own = self.member_id(event.member);
        if leader != 0 {
            self.leaders.insert(term, leader);
        }
        // One of which nobody had known that it asked has won no election that is over, and a term
        // has one winner: who asks for it once it is won, learns of that winner.
        let is_won = |place: &usize| {
            let same = self.all.iter().enumerate().filter(|(_, one)| one.term == term);
            same.filter(|(at, _)| at != place).any(|(_, one)| one.winner.is_some())
        };
        let won = self.newest.get(&term).filter(|_| leader != 0).copied();
        let won = won.filter(|place| !is_won(place));
        if let Some(place) = won.and_then(|place| self.goes_on(place, at, Some(leader))) {
            self.all[place].winner.get_or_insert((leader, at));
            if new == LEADER {
                self.all[place].won.get_or_insert(at);
            }
            self.won.entry(place).or_insert(self.seen);
        }
        let stands = stands_for(event);
        if let Some(before) = self.stands.get(&own).map(|stand| stand.term)
            && Some(before) != stands
        {
            self.leaves(own, before, at);
        }
        if let Some(term) = stands {
            let stand = Stand { term, boot: Some(event.boot), asked: self.order.times[at] };
            self.stands.insert(own, stand);
            if let Some(place) = self.newest.get(&term) {
                self.all[*place].over = None;
            }
        }
    }

    /// Notes that a member does not stand any more for this term.
    fn leaves(&mut self, member_id: u64, term: u64, at: usize) {
        self.stands.remove(&member_id);
        if self.stands.values().any(|other| other.term == term) {
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
