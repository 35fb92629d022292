//! What happened to the cluster while a request ran: the leaders that it lost, the elections that
//! it waited for, the starts, the links that were cut and the dropped messages.
//!
//! ```text
//!   the request        ├──────────────────────────────────────────┤
//!   etcd-03 leads  ────────●                                          fate: it died
//!   silent                 ├───────────────┤                          until somebody asks for votes
//!   no leader                              ├──────────┤               until etcd-02 leads
//!   etcd-02 leads                                     ●────────────
//! ```
//!
//! The critical path is cut at the same times, where the request waited for the cluster: so
//! `why-slow` and `diff` name the same causes (`path`).
//!
//! Invariant: only what overlaps the request's own time is here, and each part names the events
//! that prove it. Not all of it mattered to the request: [`Through::delaying`] is the part for
//! which its path waited.
//!
//! A request whose end was not captured lasts until the newest record of the process that serves
//! it: as long as that runs, until now, and otherwise until its death. One time without a leader
//! is here though it comes later: that which the death of this process began. It ended the request,
//! and what became of its entry is up to the next leader.
//!
//! Of a request of which only others than the serving member tell (`unbegun`) it is not known when
//! it was under way. Nothing else is here of it.

use std::collections::{BTreeMap, BTreeSet};

mod period;

use super::{
    Story,
    address::Address,
    cluster::{Because, Cluster, Leaderless, Stall, Start, StepDown, Unled, start_time},
    silence::Silence,
    unbegun::{Unbegun, Why},
};
use crate::{
    field, fields,
    story::{Event, Recording, links, order::Order},
    trace::{Reason, stage::Stage},
};
use period::Period;

/// What became of the leader that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its process ended without being asked to; this is its next start.
    Died(u16),
    /// It was asked to stop.
    Stopped,
    /// It stepped down.
    SteppedDown(Because),
    /// Its process stood still when it was missed.
    StoodStill,
    /// Its links were cut, and those that were left did not reach a majority.
    CutOff,
    /// No other member heard of it any more.
    FellSilent,
    /// Nobody led before, as far as captured.
    None,
}

/// A time without a leader that the request lived through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Without {
    /// The whole of it.
    pub gap: Leaderless,
    /// When it began for the request, on the common axis in nanoseconds.
    pub from: i128,
    /// When it ended for the request.
    pub to: i128,
    /// When the first member asked for votes, if one did.
    pub asked: Option<i128>,
    /// What became of the leader before.
    pub fate: Fate,
    /// The next leader, by raft's id, and its term; since `gap.to` at the latest.
    pub next: Option<(u64, u64)>,
    /// The election that the request waited for, if one began.
    pub election: Option<Address>,
    /// Position of the first commit of the next leader's term, if that was captured.
    pub committed: Option<usize>,
    /// Whether the process that was lost as the leader served the request: it did not wait for
    /// another leader.
    pub is_its_end: bool,
}

/// The end of the process that served a request, before the request had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The member, by position.
    pub member: u8,
    /// The number of the start that followed.
    pub next: u16,
    /// When the process wrote its newest record, on the common axis in nanoseconds.
    pub at: i128,
}

/// How the serving member lost its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The member ceased to follow.
    Unled(Unled),
    /// The member ceased to lead.
    SteppedDown(StepDown),
}

impl Loss {
    /// Position of the `raft.role`.
    pub fn event(self) -> usize {
        match self {
            Loss::Unled(one) => one.event,
            Loss::SteppedDown(one) => one.event,
        }
    }
}

/// The serving member had no leader when the request began, though others may have had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostBefore {
    /// The serving member, by position.
    pub member: u8,
    /// How it had lost its leader, and for how long the request had not begun then, in
    /// nanoseconds; `None` if that was not captured.
    pub loss: Option<(Loss, i128)>,
}

/// Messages of one type that a member dropped instead of sending or taking them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The member that dropped them, by position.
    pub member: u8,
    /// The member at the other end, by raft's id.
    pub peer: u64,
    /// Their type.
    pub kind: u64,
    /// How many.
    pub messages: u64,
}

/// A standstill of a process, and how much of it the request lived through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoodStill {
    /// The standstill.
    pub stall: Stall,
    /// Whether that member serves the request.
    pub is_serving: bool,
    /// How much of it was before the rpc, while its first bytes waited to be read and taken; in
    /// nanoseconds. 0 on a member that does not serve the request, as the next but one.
    pub before_ns: u64,
    /// How much of it was during the rpc.
    pub during_ns: u64,
    /// How much of it was after the rpc, while the answer was written.
    pub after_ns: u64,
}

/// What happened to the cluster during a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Through {
    /// When the request began, on the common axis in nanoseconds. What happened while it still
    /// waited in the socket is here too. If its beginning was not captured, when its first captured
    /// step began.
    pub from: i128,
    /// When it ended; without a captured end, the newest record of the process that serves it.
    pub to: i128,
    /// Set if that process ended first.
    pub ended: Option<Ended>,
    /// Set if that process was not heard of any more, and nobody knows whether it ended.
    pub silence: Option<Silence>,
    /// Set if only others than the serving member tell of the request.
    pub unbegun: Option<Unbegun>,
    /// The times without a leader.
    pub without: Vec<Without>,
    /// The leaders that stepped down.
    pub step_downs: Vec<StepDown>,
    /// The leaders that the serving member ceased to follow, other than those that were lost to all
    /// (`without`), and the one with whose loss the request ended.
    pub unled: Vec<Unled>,
    /// Set if the request needed a leader, and the serving member had none when it began, unless
    /// `without` tells of that.
    pub lost_before: Option<LostBefore>,
    /// Set if the request ended because the serving member lost its leader: with `leader changed`.
    pub ended_by: Option<Loss>,
    /// The members that started.
    pub starts: Vec<Start>,
    /// The standstills of processes, also those before the rpc and after it.
    pub stalls: Vec<StoodStill>,
    /// The links that were cut: a member by position, and the other by raft's id.
    pub cut: Vec<(u8, u64)>,
    /// The messages that were dropped.
    pub dropped: Vec<Dropped>,
    /// The members, by raft's id, that were heard of since the request has been without a leader;
    /// empty if it never was.
    pub alive: Vec<u64>,
    /// How many members are known.
    pub members: usize,
}

impl Through {
    /// Collects what happened during this request.
    pub fn of(recording: &Recording, order: &Order, cluster: &Cluster, story: &Story) -> Through {
        if let Some(unbegun) = Unbegun::of(recording, story) {
            return Through::of_unbegun(recording, order, cluster, (story, unbegun));
        }
        let Some(period) = Period::of(recording, order, story) else { return Through::default() };
        let Period { from, to, ended, silence, .. } = period;
        let mut through = Through { from, to, ended, silence, ..Through::default() };
        let its_end = period.its_end(recording, order, cluster);
        let from = arrived(recording, order, story).map_or(from, |arrived| arrived.min(from));
        let is_in = |at: usize| (from..=to).contains(&order.times[at]);
        through.without = cluster
            .leaderless
            .iter()
            .map(|gap| {
                let known = without(recording, order, cluster, *gap, (from, to));
                match its_end == Some(gap) {
                    // It ended with its leader, and was never without one.
                    true => Without { is_its_end: true, from: to, to, ..known },
                    false => known,
                }
            })
            .filter(|known| known.is_its_end || known.is_met(order, to))
            .collect();
        through.step_downs =
            cluster.step_downs.iter().filter(|one| is_in(one.event)).copied().collect();
        let serving = rpc_of(recording, story).map(|at| recording.events[at].member);
        let is_own = |member: u8| serving == Some(member);
        let unled = || cluster.unled.iter().filter(|one| is_own(one.member) && is_in(one.event));
        if has_lost_leader(recording, story) {
            let downs = through.step_downs.iter().filter(|one| is_own(one.member));
            let downs = downs.map(|one| Loss::SteppedDown(*one));
            let losses = unled().map(|one| Loss::Unled(*one)).chain(downs);
            through.ended_by = losses.max_by_key(|one| order.times[one.event()]);
        }
        let is_lost_to_all =
            |one: &&Unled| through.without.iter().any(|without| without.gap.term == one.term);
        let is_end = |one: &&Unled| through.ended_by == Some(Loss::Unled(**one));
        through.unled =
            unled().filter(|one| is_end(one) || !is_lost_to_all(one)).copied().collect();
        let is_told = |one: &Without| one.gap.from <= from && one.gap.to.is_none_or(|to| from < to);
        let lost_before = lost_before(recording, order, cluster, (story, from));
        through.lost_before = lost_before.filter(|_| !through.without.iter().any(is_told));
        through.starts = cluster.starts.iter().filter(|one| is_in(one.first)).copied().collect();
        through.stalls = stood_still(recording, order, cluster, story);
        through.cut = cut(recording, order, (from, to));
        through.dropped = dropped(recording, order, (from, to));
        // A request that ended with its leader never was without one.
        if let Some(last) = through.without.last().filter(|last| !last.is_its_end) {
            // A member that dies together with the leader has just been heard of.
            let since = last.to.min(last.from + GRACE_NS).max(through.from);
            let (alive, members) = cluster.alive(since, last.to.max(since));
            (through.alive, through.members) = (alive, members);
        }
        through
    }

    /// What is known of a request whose beginning was not captured: the loss of the leader that
    /// served it.
    fn of_unbegun(
        recording: &Recording,
        order: &Order,
        cluster: &Cluster,
        (story, unbegun): (&Story, Unbegun),
    ) -> Through {
        let starts = story.steps.iter().map(|step| start_time(recording, order, step.event));
        let from = starts.min().unwrap_or(0);
        let is_its_own = |gap: &&Leaderless| {
            let is_of_process = match unbegun.why {
                Why::Ended(next) => gap.boot.is_none_or(|boot| boot < next),
                Why::Silent => gap.boot.is_none(),
                Why::Lost => false,
            };
            gap.before == unbegun.server
                && is_of_process
                && gap.to.is_none_or(|to| from < to)
                && !cluster.step_downs.iter().any(|known| known.term == gap.term)
        };
        let its_end = cluster.leaderless.iter().find(is_its_own);
        let without = its_end.map(|gap| {
            let known = without(recording, order, cluster, *gap, (from, from));
            Without { is_its_end: true, ..known }
        });
        let without = without.into_iter().collect();
        Through { from, to: from, unbegun: Some(unbegun), without, ..Through::default() }
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.ended.is_none()
            && self.silence.is_none()
            && self.unbegun.is_none()
            && self.without.is_empty()
            && self.step_downs.is_empty()
            && self.unled.is_empty()
            && self.lost_before.is_none()
            && self.starts.is_empty()
            && self.stalls.is_empty()
            && self.cut.is_empty()
            && self.dropped.is_empty()
    }
}

/// The shortest time that has a sentence, in nanoseconds: screens do not show it as zero.
const TOLD_NS: u64 = 1_000;

/// How long after the last sign of a leader another member may still send what it had begun.
const GRACE_NS: i128 = 300_000_000;

/// Position of the first event of the request's rpc.
fn rpc_of(recording: &Recording, story: &Story) -> Option<usize> {
    let mut steps = story.steps.iter().map(|step| step.event);
    steps.find(|at| {
        let event = &recording.events[*at];
        (event.stage, event.id) == (Stage::Rpc, story.id)
    })
}

/// How the member that serves a request, which began at this time and needs a leader, had lost its
/// own before.
fn lost_before(
    recording: &Recording,
    order: &Order,
    cluster: &Cluster,
    (story, from): (&Story, i128),
) -> Option<LostBefore> {
    let rpc = &recording.events[rpc_of(recording, story)?];
    let needs_leader = story.steps.iter().map(|step| &recording.events[step.event]).any(|event| {
        let stages = [Stage::RaftPropose, Stage::ReadIndexWait, Stage::LeaseForward];
        event.id == story.id && stages.contains(&event.stage)
    });
    let is_before = |at: usize| {
        let event = &recording.events[at];
        (event.member, event.boot) == (rpc.member, rpc.boot) && order.times[at] < from
    };
    let leader = |at: usize| match recording.events[at].stage {
        Stage::RaftRole => Some(field!(recording.events[at], RaftRole, leader_new)),
        Stage::Keyframe => Some(field!(recording.events[at], Keyframe, leader)),
        _ => None,
    };
    let rows = order.rows.iter().copied().filter(|at| is_before(*at));
    let newest = rows.filter_map(leader).next_back().filter(|_| needs_leader)?;
    if newest != 0 {
        return None;
    }
    let unled = cluster.unled.iter().map(|one| Loss::Unled(*one));
    let downs = cluster.step_downs.iter().map(|one| Loss::SteppedDown(*one));
    let losses = unled.chain(downs).filter(|loss| is_before(loss.event()));
    let loss = losses.max_by_key(|loss| order.times[loss.event()]);
    let loss = loss.map(|loss| (loss, from - order.times[loss.event()]));
    Some(LostBefore { member: rpc.member, loss })
}

/// Whether the request ended because its member lost its leader.
fn has_lost_leader(recording: &Recording, story: &Story) -> bool {
    let own = story.steps.iter().map(|step| &recording.events[step.event]);
    let mut own = own.filter(|event| (event.stage, event.id) == (Stage::Rpc, story.id));
    own.any(|event| event.reason == Some(Reason::LeaderChanged))
}

/// The standstills that the request lived through, in order.
fn stood_still(
    recording: &Recording,
    order: &Order,
    cluster: &Cluster,
    story: &Story,
) -> Vec<StoodStill> {
    let Some(Period { from, to, .. }) = Period::of(recording, order, story) else {
        return Vec::new();
    };
    let events = || story.steps.iter().map(|step| step.event);
    let serving = rpc_of(recording, story).map(|at| recording.events[at].member);
    let extent = |at: usize| (start_time(recording, order, at), order.times[at]);
    let is_own = |at: &usize| recording.events[*at].id == story.id;
    let edges = events().filter(|at| recording.events[*at].stage.is_at_edge() && is_own(at));
    let edges: Vec<(u8, (i128, i128))> =
        edges.map(|at| (recording.events[at].member, extent(at))).collect();
    let stood = cluster.stalls.iter().map(|stall| {
        let shared = |(begin, end): (i128, i128)| {
            u64::try_from(end.min(stall.to) - begin.max(stall.from)).unwrap_or(0)
        };
        let sum = |is_before: bool| {
            let own = edges.iter().filter(|(member, (begin, _))| {
                *member == stall.member && (*begin < from) == is_before
            });
            own.map(|(_, extent)| shared(*extent)).fold(0, u64::saturating_add)
        };
        let (before_ns, during_ns, after_ns) = (sum(true), shared((from, to)), sum(false));
        let is_leader = stall.is_leader && from < stall.led_until;
        let is_serving = serving == Some(stall.member);
        let stall = Stall { is_leader, ..*stall };
        StoodStill { stall, is_serving, before_ns, during_ns, after_ns }
    });
    let is_met = |one: &StoodStill| {
        [one.before_ns, one.during_ns, one.after_ns].into_iter().any(|ns| TOLD_NS <= ns)
    };
    stood.filter(is_met).collect()
}

/// When the request began to wait for its member, if that was captured.
fn arrived(recording: &Recording, order: &Order, story: &Story) -> Option<i128> {
    let steps = story.steps.iter().map(|step| step.event);
    let is_edge = |at: &usize| {
        let event = &recording.events[*at];
        let stages = [Stage::ConnectionAccept, Stage::SocketQueue, Stage::RpcReceive];
        event.id == story.id && stages.contains(&event.stage)
    };
    steps.filter(is_edge).map(|at| start_time(recording, order, at)).min()
}

impl Without {
    /// Whether the request, which lasted until `to`, met it. A leader that nobody had missed by
    /// then was not missing to the request.
    fn is_met(&self, order: &Order, to: i128) -> bool {
        let missed = self.gap.shown.map_or(self.gap.to, |at| Some(order.times[at]));
        i128::from(TOLD_NS) <= self.to - self.from
            && (self.gap.to.is_some() || missed.is_some_and(|missed| missed <= to))
    }
}

/// What of a time without a leader was in the time of the request.
fn without(
    recording: &Recording,
    order: &Order,
    cluster: &Cluster,
    gap: Leaderless,
    (from, to): (i128, i128),
) -> Without {
    let (start, end) = (gap.from.max(from), gap.to.unwrap_or(to).min(to));
    let is_of_gap = |at: usize| {
        let time = order.times[at];
        gap.from <= time && gap.to.is_none_or(|to| time <= to)
    };
    let election = cluster.elections.iter().find(|known| match gap.led_by {
        Some((_, term)) => known.term == term && known.winner.is_some(),
        None => gap.term < known.term && is_of_gap(known.first()),
    });
    Without {
        gap,
        from: start.min(end),
        to: end,
        asked: gap.asked.map(|at| order.times[at]),
        fate: fate(recording, order, cluster, &gap),
        next: gap.led_by,
        election: election.map(|known| known.address(recording)),
        committed: election.and_then(|known| known.committed),
        is_its_end: false,
    }
}

/// What became of the leader before.
fn fate(recording: &Recording, order: &Order, cluster: &Cluster, gap: &Leaderless) -> Fate {
    if gap.before == 0 {
        return Fate::None;
    }
    let is_before_next = |at: usize| gap.to.is_none_or(|to| order.times[at] <= to);
    let step_down = cluster.step_downs.iter().find(|known| known.term == gap.term);
    if let Some(known) = step_down.filter(|known| is_before_next(known.event)) {
        return Fate::SteppedDown(known.because);
    }
    let is_leader = |start: &&Start| {
        let member = recording.members.get(usize::from(start.member));
        member.is_some_and(|known| known.member_id == gap.before)
    };
    let mut starts = cluster.starts.iter().filter(is_leader);
    let next = starts.find(|start| gap.from < order.times[start.first]);
    match next.map(|start| (start, start.before)) {
        Some((_, Some(last))) if recording.events[last].stage == Stage::MemberStop => Fate::Stopped,
        Some((start, Some(last))) if is_before_next(last) => Fate::Died(start.boot),
        _ if stood_still_when_missed(recording, order, cluster, gap) => Fate::StoodStill,
        _ if was_cut_off(recording, order, cluster, gap) => Fate::CutOff,
        Some((start, None)) if was_never_heard_again(order, cluster, (gap, start)) => {
            Fate::Died(start.boot)
        }
        _ => Fate::FellSilent,
    }
}

/// Whether a leader that has lost its records started again without having been heard of since the
/// others missed it: its last record would have been older than the next leader, too.
fn was_never_heard_again(
    order: &Order,
    cluster: &Cluster,
    (gap, start): (&Leaderless, &Start),
) -> bool {
    let until = order.times[start.first];
    let since = gap.to.unwrap_or(gap.from).max(gap.from + GRACE_NS).min(until);
    let is_later = gap.boot.is_none_or(|boot| boot < start.boot);
    is_later && 1 < start.boot && !cluster.is_heard(gap.before, (since, until - 1))
}

/// The links that were cut at some time of this, each once although both ends say so.
fn cut(recording: &Recording, order: &Order, time: (i128, i128)) -> Vec<(u8, u64)> {
    let id = |place: u8| recording.members.get(usize::from(place)).map(|known| known.member_id);
    let mut cut: Vec<(u8, u64)> = Vec::new();
    for at in links::cut_during(recording, order, time) {
        let event = &recording.events[at];
        let (one, other) = (event.member, links::peer(event));
        let is_same = |known: &(u8, u64)| {
            *known == (one, other) || (id(known.0), Some(known.1)) == (Some(other), id(one))
        };
        if !cut.iter().any(is_same) {
            cut.push((one, other));
        }
    }
    cut
}

/// Whether the leader's process stood still when the first of the others missed it.
fn stood_still_when_missed(
    recording: &Recording,
    order: &Order,
    cluster: &Cluster,
    gap: &Leaderless,
) -> bool {
    let missed = gap.shown.or(gap.asked).map(|at| order.times[at]);
    cluster.stalls.iter().any(|stall| {
        let own = recording.members.get(usize::from(stall.member));
        own.is_some_and(|own| own.member_id == gap.before)
            && missed.is_some_and(|missed| stall.from < missed && missed < stall.to)
    })
}

/// Whether the leader's links, when the first of the others missed it, left it no majority. Both
/// ends record a cut, and what they drop because of one that came before the records.
fn was_cut_off(recording: &Recording, order: &Order, cluster: &Cluster, gap: &Leaderless) -> bool {
    let Some(missed) = gap.shown.or(gap.asked).map(|at| order.times[at]) else { return false };
    let cuts = links::cut_during(recording, order, (missed, missed)).into_iter().map(|at| {
        let event = &recording.events[at];
        (event.member, links::peer(event))
    });
    let id = |place: u8| recording.members.get(usize::from(place)).map(|known| known.member_id);
    let far = cuts.filter_map(|(place, peer)| match id(place)? {
        own if own == gap.before => Some(peer),
        own if peer == gap.before => Some(own),
        _ => None,
    });
    let (members, far) = (cluster.alive(0, 0).1, far.collect::<BTreeSet<u64>>().len());
    members.saturating_sub(far) < members / 2 + 1
}

/// The messages that were dropped in this time, by member, peer and type.
fn dropped(recording: &Recording, order: &Order, (from, to): (i128, i128)) -> Vec<Dropped> {
    let mut counts: BTreeMap<(u8, u64, u64), u64> = BTreeMap::new();
    let is_meant = |(event, time): &(&Event, &i128)| {
        event.stage == Stage::RaftDrop && (from..=to).contains(*time)
    };
    for (event, _) in recording.events.iter().zip(&order.times).filter(is_meant) {
        let [peer, kind, messages] = fields!(event, RaftDrop: peer, type, messages);
        let count = counts.entry((event.member, peer, kind)).or_default();
        *count = count.saturating_add(messages);
    }
    let dropped = |((member, peer, kind), messages)| Dropped { member, peer, kind, messages };
    counts.into_iter().map(dropped).collect()
}
