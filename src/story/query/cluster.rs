//! What happens to the cluster rather than for a request: elections, step-downs, starts of members,
//! and the times without a leader.
//!
//! ```text
//!   term 2   etcd-03 leads ──────●                      ● its last message that another received
//!   election 3                   ┊ ▲ timeout, pre-votes, votes
//!   term 3                       ┊ ┊        ●────────── etcd-02 leads
//!                                ├─┴────────┤
//!                                no leader
//! ```
//!
//! Everything is read in one pass over the playback order. Invariant: a time without a leader
//! begins with the last sign that another member had of the leader, as far as it was captured, and
//! ends when the next one became leader; so it is never longer than the records prove. A member
//! that is in a later term already does not heed the old leader, so what it receives is no such
//! sign. A leader that steps down before anyone has missed it leads until then. Who had missed it
//! before and heard of it again, as a member does that starts, shows no loss.

use std::collections::{BTreeMap, HashMap};

mod reign;

use super::{
    election::{Election, Elections},
    stalls::{Standstill, standstills},
    thinned::Frames,
};
use crate::{
    field, fields,
    story::{Event, Recording, order::Order},
    trace::{Kind, message, stage::Stage, value::LEADER},
};
use reign::{Next, Reign};

/// Why a leader ceased to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// A message of this later term reached it.
    LaterTerm(u64),
    /// It had handed the leadership over to this member.
    HandedOver(u64),
    /// For an election timeout no majority had answered it.
    NoMajority,
}

/// A leader became something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDown {
    /// The member, by position.
    pub member: u8,
    /// The term that it had led.
    pub term: u64,
    /// Position of its `raft.role`.
    pub event: usize,
    /// The cause.
    pub because: Because,
    /// Position of the message of the later term that reached it first, if one was captured.
    pub by: Option<usize>,
}

/// A member that followed a leader ceased to do so, whether the leader led on or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unled {
    /// The member, by position.
    pub member: u8,
    /// The leader that it had followed, by raft's id.
    pub leader: u64,
    /// The term of that leader.
    pub term: u64,
    /// The term of the member since then.
    pub term_new: u64,
    /// For how long it had not heard of the leader, in nanoseconds, if that is why.
    pub silent_ns: Option<u64>,
    /// Position of its `raft.role`.
    pub event: usize,
}

/// A start of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The member, by position.
    pub member: u8,
    /// The number of the start in its data directory.
    pub boot: u16,
    /// Position of the first event of this start; of a first start, of its `member.start`.
    pub first: usize,
    /// The last event of the start before, if that was captured.
    pub before: Option<usize>,
}

/// A time in which nobody led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaderless {
    /// When it began, on the common axis in nanoseconds.
    pub from: i128,
    /// When the next leader led; `None` if none is known.
    pub to: Option<i128>,
    /// The position of the event with which the first member asked for votes.
    pub asked: Option<usize>,
    /// The leader before, by raft's id; 0 if it is not known.
    pub before: u64,
    /// The start of it in which it led, if it sent records of that.
    pub boot: Option<u16>,
    /// The term that it led.
    pub term: u64,
    /// The position of the last event by which another member heard of it, or of its own last one;
    /// `None` if that was not captured.
    pub last: Option<usize>,
    /// The position of the first event since then that shows the loss.
    pub shown: Option<usize>,
    /// The position of the next leader's `raft.role`, if that was captured.
    pub next: Option<usize>,
    /// The next leader, by raft's id, and its term. Without its own record of that, `to` is when
    /// another member first heard of it.
    pub led_by: Option<(u64, u64)>,
    /// What it begins with.
    pub sign: Sign,
}

/// What a time without a leader begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The last event by which another member heard of the leader.
    Heard,
    /// The leader's step-down or, without one, its own last event.
    Own,
    /// The first event that shows the loss: when others last heard of the leader was not captured.
    Shown,
}

/// A time in which a member's process stood still, as it has recorded itself ([`standstills`]). A
/// member of a version that did not record it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The member, by position.
    pub member: u8,
    /// Whether it led when that began.
    pub is_leader: bool,
    /// When another member led instead; at the latest the end.
    pub led_until: i128,
    /// When that began, on the common axis in nanoseconds.
    pub from: i128,
    /// When it ended.
    pub to: i128,
    /// Position of its `process.stalled`.
    pub event: usize,
}

/// What happened to the cluster in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The elections, in the order in which they began.
    pub elections: Vec<Election>,
    /// The step-downs, in playback order.
    pub step_downs: Vec<StepDown>,
    /// The followers that ceased to follow their leader, in playback order.
    pub unled: Vec<Unled>,
    /// The starts whose beginning was captured, or that followed another start.
    pub starts: Vec<Start>,
    /// The times without a leader, in order.
    pub leaderless: Vec<Leaderless>,
    /// The times in which a member's process stood still.
    pub stalls: Vec<Stall>,
    /// The leaders, by raft's id, of the terms.
    leaders: BTreeMap<u64, u64>,
    /// When the members wrote keyframes.
    pub(super) frames: Frames,
    /// For each member, when it was heard of: by its own records, or by another's receipt.
    heard: BTreeMap<u64, Vec<i128>>,
}

impl Cluster {
    /// Reads a recording once.
    pub fn of(recording: &Recording, order: &Order) -> Cluster {
        let mut walk = Walk::new(recording, order);
        for at in &order.rows {
            walk.event(*at);
        }
        walk.finish()
    }

    /// The leader of a term, by raft's id, if any record names it.
    pub fn leader_of(&self, term: u64) -> Option<u64> {
        self.leaders.get(&term).copied()
    }

    /// The members, by raft's id, that were heard of in this time, and all that are known.
    pub fn alive(&self, from: i128, to: i128) -> (Vec<u64>, usize) {
        let all = self.heard.keys().copied();
        (all.filter(|id| self.is_heard(*id, (from, to))).collect(), self.heard.len())
    }

    /// Whether a member, by raft's id, was heard of in this time.
    pub(super) fn is_heard(&self, member_id: u64, (from, to): (i128, i128)) -> bool {
        let times = self.heard.get(&member_id).map_or(&[][..], Vec::as_slice);
        let next = times.partition_point(|time| *time < from);
        times.get(next).is_some_and(|time| *time <= to)
    }
}

/// Whether a message moves a member of an earlier term on to its own: questions before an election
/// do not, and neither do the answers that agree.
fn moves_on(event: &Event) -> bool {
    match field!(event, RaftReceive, type) {
        message::PRE_VOTE => false,
        message::PRE_VOTE_RESP => field!(event, RaftReceive, reject) != 0,
        _ => true,
    }
}

struct Walk<'a> {
    recording: &'a Recording,
    order: &'a Order,
    elections: Elections<'a>,
    cluster: Cluster,
    reigns: BTreeMap<u64, Reign>,
    /// The member to which a leader has handed over, by place and term.
    handed: HashMap<(u8, u64), u64>,
    /// The newest event of each member, and the term that it leads.
    last: HashMap<u8, usize>,
    leads: HashMap<(u8, u16), u64>,
    /// When a start of a member last ceased to lead.
    ceased: HashMap<(u8, u16), i128>,
    /// The term of each start of a member.
    terms: HashMap<(u8, u16), u64>,
    /// The newest election timeout of each start of a member: the term, and how long its leader had
    /// been silent.
    timeouts: HashMap<(u8, u16), (u64, u64)>,
    /// The first message of the newest term that reached each start of a member while the member
    /// was in an earlier one: raft takes messages in the order in which they arrive.
    later: HashMap<(u8, u16), (u64, usize)>,
    /// The standstills, by the event that tells of each.
    stood: HashMap<usize, Standstill>,
}

impl<'a> Walk<'a> {
    fn new(recording: &'a Recording, order: &'a Order) -> Walk<'a> {
        Walk {
            recording,
            order,
            elections: Elections::new(recording, order),
            cluster: Cluster::default(),
            reigns: BTreeMap::new(),
            handed: HashMap::new(),
            last: HashMap::new(),
            leads: HashMap::new(),
            ceased: HashMap::new(),
            terms: HashMap::new(),
            timeouts: HashMap::new(),
            later: HashMap::new(),
            stood: (standstills(recording, order).into_iter())
                .map(|stood| (stood.event, stood))
                .collect(),
        }
    }

    fn member_id(&self, place: u8) -> u64 {
        self.recording.members.get(usize::from(place)).map_or(0, |member| member.member_id)
    }

    fn event(&mut self, at: usize) {
        let event = &self.recording.events[at];
        self.start(at, event);
        self.hear(at, event);
        self.elections.event(at, event);
        self.cluster.frames.note(event, self.order.times[at]);
        match event.stage {
            Stage::RaftRole => self.role(at, event),
            Stage::Keyframe => {
                let [term, leader] = fields!(event, Keyframe: term, leader);
                self.leader(term, leader);
                self.terms.insert((event.member, event.boot), term);
                self.leads_still(event);
            }
            Stage::ElectionTransfer => {
                let [term, to] = fields!(event, ElectionTransfer: term, to);
                self.handed.insert((event.member, term), to);
            }
            Stage::ElectionTimeout => self.timeout(at, event),
            Stage::ProcessStalled => self.stall(at, event),
            Stage::ElectionCampaign => {
                let [pre, old, new] = fields!(event, ElectionCampaign: pre, term_old, term_new);
                let led = if pre != 0 { old } else { new.saturating_sub(1) };
                let time = self.order.times[at];
                if let Some(reign) = self.reigns.get_mut(&led) {
                    reign.asked.push((time, at));
                    reign.noticed.push(time);
                }
            }
            _ => (),
        }
        self.last.insert(event.member, at);
    }

    fn start(&mut self, at: usize, event: &Event) {
        let Event { member, boot, stage, .. } = *event;
        let last = self.last.get(&member).copied();
        let before = last.filter(|last| self.recording.events[*last].boot != boot);
        let is_known = || self.cluster.starts.iter().any(|s| (s.member, s.boot) == (member, boot));
        // A member writes its first log before `member.start` ends, and so before its record.
        if before.is_some() || stage == Stage::MemberStart && !is_known() {
            self.cluster.starts.push(Start { member, boot, first: at, before });
        }
    }

    /// The record is written after the process runs again; meanwhile the member may have stepped
    /// down.
    fn stall(&mut self, at: usize, event: &Event) {
        let Some(Standstill { from, to, .. }) = self.stood.get(&at).copied() else { return };
        let lane = (event.member, event.boot);
        let has_led = self.ceased.get(&lane).is_some_and(|ceased| from <= *ceased);
        let is_leader = self.leads.contains_key(&lane) || has_led;
        let stall = Stall { member: event.member, is_leader, led_until: to, from, to, event: at };
        self.cluster.stalls.push(stall);
    }

    /// Notes the members that this event is a sign of.
    fn hear(&mut self, at: usize, event: &Event) {
        let (time, own) = (self.order.times[at], self.member_id(event.member));
        self.cluster.heard.entry(own).or_default().push(time);
        if let Some(term) = self.leads.get(&(event.member, event.boot))
            && let Some(reign) = self.reigns.get_mut(term)
        {
            reign.own = Some((time, at));
        }
        if !matches!(event.stage, Stage::RaftSend | Stage::RaftReceive) || event.kind == Kind::Begin
        {
            return;
        }
        let [peer, term, kind] = fields!(event, RaftSend | RaftReceive: peer, term, type);
        let times = self.cluster.heard.entry(peer).or_default();
        if event.stage == Stage::RaftSend {
            return;
        }
        times.push(time);
        let lane = (event.member, event.boot);
        let known = self.terms.get(&lane).copied().unwrap_or(0);
        let newest = self.later.get(&lane).map_or(known, |(term, _)| known.max(*term));
        if newest < term && moves_on(event) {
            self.later.insert(lane, (term, at));
        }
        // It is in a later term, and does not heed this message.
        if term < known {
            return;
        }
        // An old leader may ask for votes, answer for its own, or follow another.
        if !message::is_of_leader(kind) {
            return;
        }
        self.hears_leader(term, peer, time);
        if let Some(reign) = self.reigns.get_mut(&term).filter(|reign| reign.leader == peer) {
            reign.heard = reign.heard.max(Some((time, at)));
        }
    }

    /// A recording may begin when the leader has long been elected.
    fn leads_still(&mut self, event: &Event) {
        let [role, term] = fields!(event, Keyframe: role, term);
        if role == LEADER {
            self.leads.entry((event.member, event.boot)).or_insert(term);
        }
    }

    /// Notes that this member leads the term.
    fn leader(&mut self, term: u64, leader: u64) {
        if leader != 0 {
            self.reigns.entry(term).or_insert(Reign { leader, ..Reign::default() });
        }
    }

    /// Notes that a member has just heard of this leader of the term.
    fn hears_leader(&mut self, term: u64, leader: u64, time: i128) {
        self.leader(term, leader);
        if let Some(reign) = self.reigns.get_mut(&term).filter(|reign| reign.leader == leader) {
            reign.first.get_or_insert(time);
        }
    }

    /// The member that times out has heard of the leader until then: a recording without heartbeats
    /// has no other sign of it.
    fn timeout(&mut self, at: usize, event: &Event) {
        let [term, leader, silent] = fields!(event, ElectionTimeout: term, leader, silent);
        self.leader(term, leader);
        self.timeouts.insert((event.member, event.boot), (term, silent));
        let time = self.order.times[at];
        let Some(reign) = self.reigns.get_mut(&term) else { return };
        reign.missed.push((time, at));
        reign.noticed.push(time);
        if silent != 0 && leader == reign.leader {
            let heard = time - i128::from(silent);
            reign.measured = reign.measured.max(Some(heard));
            if reign.heard.is_none_or(|(known, _)| known < heard) {
                reign.heard = Some((heard, at));
            }
        }
    }

    fn role(&mut self, at: usize, event: &Event) {
        let [old, new, term_old, term] =
            fields!(event, RaftRole: role_old, role_new, term_old, term_new);
        let [leader_old, leader] = fields!(event, RaftRole: leader_old, leader_new);
        let (own, time) = (self.member_id(event.member), self.order.times[at]);
        self.leader(term_old, leader_old);
        self.hears_leader(term, leader, time);
        self.terms.insert((event.member, event.boot), term);
        if old != LEADER && leader_old != 0 && (leader_old, term_old) != (leader, term) {
            let lane = (event.member, event.boot);
            let timeout = self.timeouts.remove(&lane).filter(|(of, _)| *of == term_old);
            let silent_ns = timeout.map(|(_, silent)| silent).filter(|silent| *silent != 0);
            self.cluster.unled.push(Unled {
                member: event.member,
                leader: leader_old,
                term: term_old,
                term_new: term,
                silent_ns,
                event: at,
            });
        }
        if new == LEADER {
            self.leads.insert((event.member, event.boot), term);
            let reign = self.reigns.entry(term).or_default();
            (reign.leader, reign.began) = (own, Some(at));
        }
        if old == LEADER && new != LEADER {
            self.leads.remove(&(event.member, event.boot));
            self.ceased.insert((event.member, event.boot), time);
            let because = match self.handed.get(&(event.member, term_old)) {
                Some(to) => Because::HandedOver(*to),
                None if term_old < term => Because::LaterTerm(term),
                None => Because::NoMajority,
            };
            let member = event.member;
            let later = self.later.get(&(member, event.boot)).copied();
            let by = later.filter(|(later, _)| because == Because::LaterTerm(*later));
            let by = by.map(|(_, at)| at);
            let step_down = StepDown { member, term: term_old, event: at, because, by };
            self.cluster.step_downs.push(step_down);
            if let Some(reign) = self.reigns.get_mut(&term_old) {
                reign.ended.get_or_insert((time, at));
                reign.missed.push((time, at));
            }
        } else if leader_old != 0
            && leader == 0
            && let Some(reign) = self.reigns.get_mut(&term_old)
        {
            reign.missed.push((time, at));
            reign.noticed.push(time);
        }
    }

    fn finish(mut self) -> Cluster {
        self.cluster.elections = self.elections.finish(&self.cluster.frames);
        let reigns: Vec<(u64, Reign)> = self.reigns.into_iter().collect();
        self.cluster.leaders = reigns.iter().map(|(term, reign)| (*term, reign.leader)).collect();
        for (place, (term, reign)) in reigns.iter().enumerate() {
            // Of a leader whose election was not captured, there is only what others heard later.
            let next = reigns[place + 1..].iter().find_map(|(term, next)| {
                let since = match next.began {
                    Some(at) => self.order.times[at],
                    None => next.first?,
                };
                Some(Next { since, began: next.began, led_by: (next.leader, *term) })
            });
            let beginning = reign.end((self.recording, self.order), &self.cluster.frames, next);
            let Some((from, sign, last)) = beginning else { continue };
            let to = next.map(|next| next.since);
            let shown = reign.missed.iter().find(|(time, _)| from <= *time).map(|(_, at)| *at);
            // Without a successor, somebody must have missed the leader.
            if to.is_none() && shown.is_none() {
                continue;
            }
            let own = reign.own.map(|(_, at)| self.recording.events[at].boot);
            self.cluster.leaderless.push(Leaderless {
                from,
                to,
                asked: reign.asked.iter().find(|(time, _)| from <= *time).map(|(_, at)| *at),
                before: reign.leader,
                boot: own,
                term: *term,
                last,
                shown,
                next: next.and_then(|next| next.began),
                led_by: next.map(|next| next.led_by),
                sign,
            });
        }
        for stall in &mut self.cluster.stalls {
            let own = self.recording.members.get(usize::from(stall.member));
            let own = own.map_or(0, |member| member.member_id);
            let others = reigns.iter().filter(|(_, reign)| reign.leader != own);
            let began = others.filter_map(|(_, reign)| Some(self.order.times[reign.began?]));
            let next = began.filter(|began| stall.from < *began).min();
            stall.led_until = next.map_or(stall.to, |next| next.min(stall.to));
        }
        // A member that sent nothing counts too: without it, a minority would look like a majority.
        let told = self.recording.members.iter().flat_map(|member| &member.members);
        told.for_each(|(id, _)| _ = self.cluster.heard.entry(*id).or_default());
        self.cluster.heard.remove(&0);
        self.cluster.heard.values_mut().for_each(|times| times.sort_unstable());
        self.cluster
    }
}

/// When an event began, on the common axis: the time of a span is that of its end.
pub(super) fn start_time(recording: &Recording, order: &Order, at: usize) -> i128 {
    let event = &recording.events[at];
    let is_at_end = event.kind == Kind::Span && event.stage != Stage::RaftSend;
    order.times[at] - if is_at_end { i128::from(event.took_ns) } else { 0 }
}
