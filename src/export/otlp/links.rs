//! Links from the steps of requests to the loops' steps that served them.
//!
//! | from              | to                                                   | why     |
//! |-------------------|------------------------------------------------------|---------|
//! | `raft.entry`      | the first `wal.fsync` that holds its index           | batch   |
//! | `apply.entry`     | the first `backend.commit` that encloses it          | batch   |
//! | `read_index.wait` | its `read_index.round`                               | round   |
//! | `raft.entry`      | the first `raft.commit` that encloses its index      | commit  |
//! | `raft.entry`      | each first MsgApp that carries it to a peer, or here | message |
//! | `raft.propose`, `raft.entry` | a MsgProp with its id                     | message |
//! | `read_index.round` | the messages of the round                           | message |
//! | `raft.propose`    | the step of another call, or of a loop, that made the request | request |
//!
//! The first three are the arrows of the other export as well ([`flows`](super::super::flows)).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::flows::{batches, rounds};
use crate::{
    change, field, fields,
    story::{Event, Recording, order::Order},
    trace::{
        message::{APP, PROP},
        record::Kind,
        stage::Stage,
    },
};

type Links = HashMap<usize, Vec<(usize, &'static str)>>;

/// All links, by the position of the step from which they lead.
pub(super) fn links(recording: &Recording, order: &Order) -> Links {
    let mut links = Links::new();
    for flow in batches(recording, order) {
        links.entry(flow.from).or_default().push((flow.to, "batch"));
    }
    for flow in rounds(recording, order) {
        links.entry(flow.from).or_default().push((flow.to, "round"));
    }
    Walk { recording, lanes: HashMap::new(), links: &mut links }.run(order);
    for (from, to) in makers(recording) {
        links.entry(from).or_default().push((to, "request"));
    }
    links
}

/// From the proposals that a member makes within a call of Lock or Election, or because a lease has
/// expired, to the step that made them.
fn makers(recording: &Recording) -> Vec<(usize, usize)> {
    let mut makers: HashMap<(u8, u64), usize> = HashMap::new();
    let ended = || recording.events.iter().enumerate().filter(|(_, e)| e.kind != Kind::Begin);
    for (at, event) in ended() {
        let request = match event.stage {
            Stage::SessionGrant => field!(event, SessionGrant, request),
            Stage::LockRelease => field!(event, LockRelease, request),
            Stage::CampaignProclaim => field!(event, CampaignProclaim, request),
            Stage::LeaseExpire => field!(event, LeaseExpire, request),
            _ => continue,
        };
        makers.insert((event.member, request), at);
    }
    let proposals = ended().filter(|(_, event)| event.stage == Stage::RaftPropose);
    let made = |(at, event): (usize, &Event)| Some((at, *makers.get(&(event.member, event.id))?));
    proposals.filter_map(made).collect()
}

/// State of one start of a member, in playback order.
#[derive(Default)]
struct Lane {
    /// Entries that are not yet known to be committed, by index.
    entries: BTreeMap<u64, usize>,
    /// Messages with entries that have arrived, newest last: the index before their first entry,
    /// their last index, and the message.
    arrived: Vec<(u64, u64, usize)>,
    /// Position of each request or round of this member that messages may name.
    named: HashMap<u64, usize>,
    /// Messages sent before the step that they belong to had ended, by id.
    early: HashMap<u64, Vec<usize>>,
    /// Proposals that have arrived, by id.
    proposed: HashMap<u64, usize>,
    /// Entries that have been sent, and the peer of each.
    carried: HashSet<(u64, usize)>,
}

/// How many messages may arrive before the entries that they bring are in the log.
const ARRIVED_MAX: usize = 64;

struct Walk<'a, 'b> {
    recording: &'a Recording,
    lanes: HashMap<(u8, u16), Lane>,
    links: &'b mut Links,
}

impl Walk<'_, '_> {
    fn run(mut self, order: &Order) {
        for at in &order.rows {
            let event = &self.recording.events[*at];
            let lane = self.lanes.entry((event.member, event.boot)).or_default();
            let links = &mut *self.links;
            match event.stage {
                Stage::RaftPropose | Stage::ReadIndexRound => lane.name(event, *at, links),
                _ if event.kind == Kind::Begin => (),
                Stage::RaftEntry => lane.entry(event, *at, links),
                Stage::RaftCommit => lane.commit(event, *at, links),
                Stage::RaftSend => lane.send(event, *at, links),
                Stage::RaftReceive => lane.receive(event, *at),
                _ => (),
            }
        }
    }
}

/// The indexes of a MsgApp's entries, from (excluded) and to.
fn carried(event: &Event) -> Option<(u64, u64)> {
    let [kind, before, last] = fields!(event, RaftSend | RaftReceive: type, index, last);
    (kind == APP && before < last).then_some((before, last))
}

fn add(links: &mut Links, from: usize, to: usize) {
    let all = links.entry(from).or_default();
    if !all.iter().any(|(known, _)| *known == to) {
        all.push((to, "message"));
    }
}

impl Lane {
    /// Records a step that messages name by its id. The end replaces the beginning, and takes over
    /// its links.
    fn name(&mut self, event: &Event, at: usize, links: &mut Links) {
        if let Some(begun) = self.named.insert(event.id, at)
            && let Some(known) = links.remove(&begun)
        {
            links.entry(at).or_default().extend(known);
        }
        for message in self.early.remove(&event.id).unwrap_or_default() {
            add(links, at, message);
        }
    }

    fn entry(&mut self, event: &Event, at: usize, links: &mut Links) {
        let index = field!(event, RaftEntry, index);
        self.entries.insert(index, at);
        let brings = |(before, last, _): &&(u64, u64, usize)| *before < index && index <= *last;
        if let Some((_, _, message)) = self.arrived.iter().rev().find(brings) {
            add(links, at, *message);
        }
        if let Some(message) = self.proposed.remove(&event.id) {
            add(links, at, message);
        }
    }

    fn commit(&mut self, event: &Event, at: usize, links: &mut Links) {
        let [old, new] = change!(event, RaftCommit, commit);
        if new <= old {
            return;
        }
        let done: Vec<u64> = self.entries.range(old + 1..=new).map(|(index, _)| *index).collect();
        for index in done {
            let from = self.entries.get(&index).copied();
            links.entry(from.unwrap_or(at)).or_default().push((at, "commit"));
        }
        // An entry may still have to be sent to slow followers; a thousand entries are enough.
        while 1000 < self.entries.len() {
            self.entries.pop_first();
        }
    }

    fn send(&mut self, event: &Event, at: usize, links: &mut Links) {
        if let Some((before, last)) = carried(event) {
            let peer = field!(event, RaftSend, peer);
            for (_, entry) in self.entries.range(before + 1..=last) {
                if self.carried.insert((peer, *entry)) {
                    add(links, *entry, at);
                }
            }
        } else if event.id != 0 {
            match self.named.get(&event.id) {
                Some(from) => add(links, *from, at),
                None => self.early.entry(event.id).or_default().push(at),
            }
        }
    }

    fn receive(&mut self, event: &Event, at: usize) {
        if let Some((before, last)) = carried(event) {
            if ARRIVED_MAX <= self.arrived.len() {
                self.arrived.remove(0);
            }
            self.arrived.push((before, last, at));
        } else if event.id != 0 && field!(event, RaftReceive, type) == PROP {
            self.proposed.insert(event.id, at);
        }
    }
}
