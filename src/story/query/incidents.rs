//! The stories of what happens to the cluster: a row of the list for each, and their steps.

use std::collections::{BTreeMap, HashMap};

use super::{
    Finder, Relation, Stories, Story,
    address::Address,
    cluster::{Because, Start, StepDown, start_time},
    election::{Election, place_of, silent_since},
};
use crate::{
    field,
    story::{Recording, links},
    trace::{Kind, record::FLAG_REPLAY, stage::Stage},
};

/// How it ended, as far as captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This member won the election; by raft's id, as it may be one that sent no records.
    Won(u64),
    /// Nobody asks for votes any more, and nobody has won.
    NobodyWon,
    /// The election is not over.
    Open,
    /// The leader stepped down, because of this.
    SteppedDown(Because),
    /// The member serves clients.
    Serves,
    /// It does not, as far as captured.
    Starts,
}

/// A row of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its address.
    pub address: Address,
    /// The member, by raft's id: the winner, else the first candidate; the one that steps down or
    /// starts.
    pub by: u64,
    /// The same by position; `u8::MAX` if it sent no records.
    pub member: u8,
    /// Position of its first event.
    pub first: usize,
    /// Whether that is its beginning: an election may have begun before, if its candidate's records
    /// are missing.
    pub is_begun: bool,
    /// Position of the event that ended it.
    pub end: Option<usize>,
    /// How it ended.
    pub outcome: Outcome,
}

/// All of them, in the order in which they began.
pub fn incidents(stories: &Stories<'_>) -> Vec<Incident> {
    let (cluster, recording) = (stories.cluster(), stories.recording);
    let elections = cluster.elections.iter().filter(|election| !election.candidates.is_empty());
    let mut all: Vec<Incident> =
        elections.map(|election| of_election(recording, election)).collect();
    all.extend(cluster.step_downs.iter().map(|one| of_step_down(recording, one)));
    all.extend(cluster.starts.iter().map(|start| of_start(stories, start)));
    all.sort_by_key(|incident| start_time(recording, stories.order, incident.first));
    all
}

/// The one with this address, also if the address is of a time when nobody had won it yet.
pub fn known_at(stories: &Stories<'_>, address: Address) -> Option<Incident> {
    let recording = stories.recording;
    let mut elections = stories.cluster().elections.iter();
    let election = elections.find(|known| known.is_at(address, recording));
    let address = election.map_or(address, |known| known.address(recording));
    incidents(stories).into_iter().find(|incident| incident.address == address)
}

fn of_election(recording: &Recording, election: &Election) -> Incident {
    let outcome = match (election.winner, election.over) {
        (Some((winner, _)), _) => Outcome::Won(winner),
        (None, Some(_)) => Outcome::NobodyWon,
        (None, None) => Outcome::Open,
    };
    let by = election.winner.map_or(election.candidates[0], |(winner, _)| winner);
    Incident {
        address: election.address(recording),
        by,
        member: place_of(recording, by).unwrap_or(u8::MAX),
        first: election.first(),
        is_begun: election.is_begun(recording),
        end: election.committed.or(election.winner.map(|(_, at)| at)).or(election.over),
        outcome,
    }
}

fn of_step_down(recording: &Recording, step_down: &StepDown) -> Incident {
    Incident {
        address: Address::StepDown { term: step_down.term },
        by: recording.members.get(usize::from(step_down.member)).map_or(0, |known| known.member_id),
        member: step_down.member,
        first: step_down.event,
        is_begun: true,
        end: Some(step_down.event),
        outcome: Outcome::SteppedDown(step_down.because),
    }
}

fn of_start(stories: &Stories<'_>, start: &Start) -> Incident {
    let end = ready(stories, start);
    // It begins before the others, and ends after some of them.
    let begun = own(stories, start).find(|at| stories.event(*at).stage == Stage::MemberStart);
    let member = stories.recording.members.get(usize::from(start.member));
    let member_id = member.map_or(0, |member| member.member_id);
    Incident {
        address: Address::Start { member_id, boot: start.boot },
        by: member_id,
        member: start.member,
        first: begun.unwrap_or(start.first),
        is_begun: true,
        end,
        outcome: if end.is_some() { Outcome::Serves } else { Outcome::Starts },
    }
}

/// The positions of the events of a start, in playback order, and those before it.
fn own<'a>(stories: &'a Stories<'_>, start: &'a Start) -> impl Iterator<Item = usize> + use<'a> {
    let from = stories.rank[start.first];
    let rows = stories.order.rows[from..].iter().copied();
    rows.filter(|at| {
        let event = &stories.recording.events[*at];
        (event.member, event.boot) == (start.member, start.boot)
    })
}

/// The event with which a member serves clients.
fn ready(stories: &Stories<'_>, start: &Start) -> Option<usize> {
    own(stories, start).find(|at| stories.event(*at).stage == Stage::MemberReady)
}

impl Stories<'_> {
    /// The story of something that happened to the cluster.
    pub fn incident(&self, address: Address) -> Option<Story> {
        let cluster = self.cluster();
        match address {
            Address::Election { .. } => {
                let is_it = |known: &&Election| known.is_at(address, self.recording);
                let election = cluster.elections.iter().find(is_it)?;
                Some(Finder::new(self).election(election))
            }
            Address::StepDown { term } => {
                let step_down = cluster.step_downs.iter().find(|known| known.term == term)?;
                Some(Finder::new(self).step_down(step_down))
            }
            Address::Start { member_id, boot } => {
                let members = &self.recording.members;
                let is_it = |start: &&Start| {
                    let member = members.get(usize::from(start.member));
                    start.boot == boot && member.is_some_and(|known| known.member_id == member_id)
                };
                let start = cluster.starts.iter().find(is_it)?;
                Some(Finder::new(self).start(start))
            }
        }
    }
}

impl Finder<'_> {
    /// From the last message of the old leader to the first commit of the new term.
    fn election(mut self, election: &Election) -> Story {
        let of = |list: &[usize], relation| {
            list.iter().map(|at| (*at, relation)).collect::<Vec<(usize, Relation)>>()
        };
        self.picked.extend(of(&election.heard, Relation::Message));
        self.picked.extend(of(&election.steps, Relation::Election));
        self.cuts(election.first());
        self.links(election);
        let title = format!("election of term {}", election.term);
        let entry = election.entry.map(|index| (election.term, index));
        if let Some((term, index)) = entry {
            let lives = self.lives(0, (term, index));
            for member in lives.keys() {
                let entries = self.stories.entries(*member, index).iter().copied();
                let own = entries.filter(|at| {
                    let event = self.event(*at);
                    event.stage == Stage::RaftEntry && field!(event, RaftEntry, term) == term
                });
                let own = own.map(|at| (at, Relation::Log)).collect::<Vec<_>>();
                self.picked.extend(own);
            }
            self.log(index, &lives);
            self.messages(0, (term, index), &lives);
            // The story ends when each member that took part knows of the commit.
            self.retain_of_time(election);
        }
        self.told(title, entry)
    }

    /// The links that were cut or healed from the silence that began the election until it was
    /// decided, or given up: a member that asks in vain may have been cut off, and often follows
    /// its leader again because it is no more.
    fn links(&mut self, election: &Election) {
        let (recording, order) = (self.stories.recording, self.stories.order);
        let silent = silent_since(recording, order, election).into_values().min();
        let first = order.times[election.first()];
        let end = election.winner.map(|(_, at)| at).or(election.over);
        let to = end.map_or(i128::MAX, |at| order.times[at]);
        let time = (silent.map_or(first, |silent| silent.min(first)), to);
        let changed = links::changed_during(recording, order, time);
        self.picked.extend(changed.map(|at| (at, Relation::Election)));
    }

    /// The cuts of the links that were cut when this happened.
    fn cuts(&mut self, at: usize) {
        let (recording, order) = (self.stories.recording, self.stories.order);
        let time = order.times[at];
        let cuts = links::cut_during(recording, order, (time, time)).into_iter();
        self.picked.extend(cuts.map(|at| (at, Relation::Election)));
    }

    /// Leaves out what happened in starts that began after the election, and what comes after the
    /// last of the others has learned of the commit.
    fn retain_of_time(&mut self, election: &Election) {
        let stories = self.stories;
        let won = election.winner.map_or(usize::MAX, |(_, at)| stories.rank[at]);
        let mut began: HashMap<(u8, u16), usize> = HashMap::new();
        for (rank, at) in stories.order.rows.iter().enumerate() {
            let event = stories.event(*at);
            began.entry((event.member, event.boot)).or_insert(rank);
        }
        self.picked.retain(|at, _| {
            let event = stories.event(*at);
            began.get(&(event.member, event.boot)).is_none_or(|began| *began <= won)
        });
        let commits = self.picked.keys().filter(|at| self.event(**at).stage == Stage::RaftCommit);
        let elected = election.steps.iter().copied();
        if let Some(last) = commits.map(|at| self.rank(*at)).max() {
            let end = elected.map(|at| self.rank(at)).fold(last, usize::max);
            self.picked.retain(|at, _| stories.rank[*at] <= end);
        }
    }

    /// The role that changed, and what led to it: the message of a later term, or the request to
    /// another member to take over, or the last message of each other member, as far as it is known
    /// to be the last.
    fn step_down(mut self, step_down: &StepDown) -> Story {
        let event = self.event(step_down.event);
        let rank = self.rank(step_down.event);
        let mut last = BTreeMap::new();
        for at in &self.stories.order.rows[..rank] {
            let other = self.event(*at);
            if (other.member, other.boot) != (event.member, event.boot) {
                continue;
            }
            match (step_down.because, other.stage) {
                (Because::NoMajority, Stage::RaftReceive) if other.kind != Kind::Begin => {
                    last.insert(field!(other, RaftReceive, peer), *at);
                }
                (Because::HandedOver(_), Stage::ElectionTransfer) => _ = last.insert(0, *at),
                _ => (),
            }
        }
        let (lane, times) = ((event.member, event.boot), &self.stories.order.times);
        let frames = &self.stories.cluster().frames;
        let until = times[step_down.event];
        let is_last = |at: &usize| {
            self.event(*at).stage != Stage::RaftReceive
                || frames.is_whole(lane, (times[*at], until))
        };
        let found: Vec<usize> = last.into_values().filter(is_last).chain(step_down.by).collect();
        for at in found {
            self.picked.insert(at, Relation::Message);
            let partner = self.stories.order.partner.get(&at);
            self.picked.extend(partner.map(|at| (*at, Relation::Message)));
        }
        self.picked.insert(step_down.event, Relation::Election);
        self.cuts(step_down.event);
        self.told(format!("step-down of the leader of term {}", step_down.term), None)
    }

    /// What the member found and did until it served clients: its own marks, its roles, the repair
    /// of its log, and the publication. Entries that it applied again are counted, not listed.
    fn start(mut self, start: &Start) -> Story {
        let until = ready(self.stories, start).map_or(usize::MAX, |at| self.rank(at));
        let own = own(self.stories, start);
        let own: Vec<usize> = own.take_while(|at| self.rank(*at) <= until).collect();
        for at in own.iter().copied() {
            let event = self.event(at);
            let is_own = matches!(
                event.stage,
                Stage::MemberStart
                    | Stage::MemberReady
                    | Stage::RaftRole
                    | Stage::ElectionTimeout
                    | Stage::ElectionCampaign
            );
            let is_publication =
                event.stage == Stage::Rpc && super::method_of(event) == "internal/Publish";
            if is_own || is_publication {
                self.picked.insert(at, Relation::Own);
            }
        }
        let member = self.stories.recording.members.get(usize::from(start.member));
        self.repair(&own, member.map_or(0, |member| member.member_id));
        let name = self.stories.recording.members.get(usize::from(start.member));
        let name = name.map_or("unknown", |member| &member.name);
        self.told(format!("start {} of {name}", start.boot), None)
    }

    fn told(self, title: String, entry: Option<(u64, u64)>) -> Story {
        let steps = self.steps();
        let voters = entry.and_then(|(_, index)| self.stories.voters(index));
        Story {
            id: 0,
            title,
            entry,
            is_lost: false,
            steps,
            missing: Vec::new(),
            unheard: self.stories.strangers.clone(),
            voters,
            maybe_told: Vec::new(),
            brief: Vec::new(),
        }
    }
}

/// How many entries a start applied again, as far as captured.
pub fn replayed(stories: &Stories<'_>, start: &Start) -> usize {
    let is_again = |at: &usize| {
        let event = stories.event(*at);
        event.stage == Stage::ApplyEntry
            && event.kind == Kind::Span
            && event.flags & FLAG_REPLAY != 0
    };
    own(stories, start).filter(is_again).count()
}
