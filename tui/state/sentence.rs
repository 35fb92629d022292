//! One step in a sentence: the event of this record, with its own numbers.
//!
//! A stage's meaning ([`Stage::meaning`]) describes every step of its kind. Where a record gives
//! more, the sentence here describes this one: the message and its content, the reason why a vote
//! was granted or refused, the acknowledgement that completed a majority. A sentence uses the
//! record's fields, and the member's role and vote at that moment, as far as they are known.
//! Unknown parts are left out.

use std::collections::BTreeMap;

use glass_etcd::{
    change, field, fields,
    story::Event,
    trace::{Family, Kind, Stage, message, value::LEADER},
};

use super::{
    lanes::{Lane, name_of},
    voters::Voters,
    watermarks::{Water, Watermarks},
};

mod edge;
mod election;
mod inside;
mod links;
mod vote;

/// What there is to know about a step beside its record.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// The lanes of all members.
    pub(crate) lanes: &'a [Lane],
    /// The member that took the step.
    pub(crate) own: &'a str,
    /// Raft's id of the member whose step it is.
    pub(crate) own_id: u64,
    /// The member's watermarks just before the step.
    pub(crate) before: &'a Watermarks,
    /// The index of the first entry of each term, which is empty, as far as captured.
    pub(crate) openings: &'a BTreeMap<u64, u64>,
    /// Which of the lanes' members vote, as the member knows then; `None` if that is not known.
    pub(crate) voters: Option<&'a Voters>,
}

/// The sentence for a step, or the stage's meaning if the record says no more than that.
pub(crate) fn sentence(event: &Event, around: Around<'_>) -> String {
    let specific = match event.stage {
        Stage::RaftSend => sent(event, around),
        Stage::RaftReceive => received(event, around),
        Stage::RaftCommit => Some(committed(event, around)),
        Stage::ReadWaitApplied => Some(waited_for_apply(event, around)),
        Stage::RaftEntry => election::opened(event),
        Stage::ElectionTimeout => Some(election::timed_out(event)),
        Stage::ElectionCampaign => Some(election::campaigned(event)),
        Stage::ElectionVote => Some(vote::vote(event, around)),
        Stage::ElectionTally => Some(tally(event, around)),
        Stage::WalFsync => fsync(event, around),
        Stage::RaftLink | Stage::RaftDrop => links::sentence(event, around),
        Stage::ProcessStalled | Stage::CpuWait => edge::sentence(event, around.own),
        stage if stage.is_at_edge() => edge::sentence(event, around.own),
        stage if stage.family() == Family::Request => inside::sentence(event, around.own),
        _ => None,
    };
    specific.unwrap_or_else(|| event.stage.meaning().trim().to_owned())
}

/// The parts of a raft message that every type of message gives its own meaning.
struct Content {
    number: u64,
    index: u64,
    last: u64,
    commit: u64,
    term: u64,
    is_rejection: bool,
}

impl Content {
    fn of(event: &Event) -> Content {
        let [number, index, last, commit, term, reject] =
            fields!(event, RaftSend | RaftReceive: type, index, last, commit, term, reject);
        Content { number, index, last, commit, term, is_rejection: reject != 0 }
    }

    /// What `from` says to `to`.
    fn words(&self, from: &str, to: &str) -> Option<String> {
        let Content { index, last, commit, term, .. } = *self;
        Some(match self.number {
            message::PROP => {
                format!(
                    "{from} forwards a client's proposal to {to}, which it takes for the leader."
                )
            }
            message::APP if index < last => {
                let entries = entries(index + 1, last);
                format!(
                    "{from} sends {to} {entries}, to be put after entry {index}, and says that \
                     everything up to entry {commit} is committed."
                )
            }
            message::APP => format!(
                "{from} sends {to} no entries. The message says that everything up to entry \
                 {commit} is committed."
            ),
            message::APP_RESP if self.is_rejection => format!(
                "The log of {from} does not match at entry {index}, so it refuses the entries after \
                 it. {to} tries again from an earlier entry."
            ),
            message::APP_RESP if index == 0 => {
                format!("{from} answers with its term, {term}, and says nothing about its log.")
            }
            message::APP_RESP => {
                format!("{from} says that everything up to entry {index} is on its disk.")
            }
            message::HEARTBEAT => format!(
                "{from} says that it still leads term {term}. Of the entries that {to} is known to \
                 have, those up to {commit} are committed."
            ),
            message::HEARTBEAT_RESP => format!("{from} says that it still follows {to}."),
            _ => return self.election_words(from, to),
        })
    }

    fn election_words(&self, from: &str, to: &str) -> Option<String> {
        let Content { index, term, .. } = *self;
        let answer = if self.is_rejection { "does not vote" } else { "votes" };
        Some(match self.number {
            message::VOTE => format!(
                "{from} asks {to} for its vote in term {term}. Its own log ends with entry {index}."
            ),
            message::PRE_VOTE => format!(
                "{from} asks whether {to} would vote for it in term {term}. No term has been \
                 raised yet."
            ),
            message::VOTE_RESP => format!("{from} {answer} for {to} in term {term}."),
            message::PRE_VOTE_RESP if self.is_rejection => {
                format!("{from} would not vote for {to}. Its own term is {term}.")
            }
            message::PRE_VOTE_RESP => format!("{from} would vote for {to} in term {term}."),
            message::SNAP => format!("{from} sends {to} a snapshot that ends with entry {index}."),
            message::TIMEOUT_NOW => format!("{from} asks {to} to stand for election at once."),
            message::READ_INDEX => {
                format!(
                    "{from} asks {to}, which it takes for the leader, up to which entry is committed \
                     now."
                )
            }
            message::READ_INDEX_RESP => format!(
                "{from} answers that everything up to entry {index} was committed when it was \
                 asked, and that a majority still followed it then."
            ),
            _ => return None,
        })
    }
}

fn entries(first: u64, last: u64) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

fn sent(event: &Event, around: Around<'_>) -> Option<String> {
    let peer = name_of(around.lanes, field!(event, RaftSend, peer));
    Content::of(event).words(around.own, &peer)
}

fn received(event: &Event, around: Around<'_>) -> Option<String> {
    let peer = field!(event, RaftReceive, peer);
    let content = Content::of(event);
    let said = content.words(&name_of(around.lanes, peer), around.own)?;
    match disks(&content, peer, around) {
        Some(disks) => Some(format!("{said} {disks}")),
        None => Some(said),
    }
}

/// How many disks have an entry, as far as the leader knows when a member acknowledges it.
fn disks(content: &Content, peer: u64, around: Around<'_>) -> Option<String> {
    let index = content.index;
    let is_ack = content.number == message::APP_RESP && !content.is_rejection && index != 0;
    let is_leader = around.before.get(Water::Role) == Some(LEADER)
        && around.before.get(Water::Term) == Some(content.term);
    if !is_ack || !is_leader {
        return None;
    }
    let is_own = around.before.reaches(Water::Synced, index)?;
    let voters = around.voters?;
    let has = |(at, lane): &(usize, &Lane)| {
        if !voters.votes(*at) {
            return false;
        }
        let id = lane.member_id;
        id == peer
            || (id == around.own_id && is_own)
            || around.before.reaches(Water::Match(id), index) == Some(true)
    };
    let known = around.lanes.iter().enumerate().filter(has).count();
    let of = voters.count();
    let own = if is_own { "With the leader's own disk" } else { "Without the leader's own disk" };
    Some(format!("{own}, that is {known} of {of}, as far as {} knows.", around.own))
}

/// Only a leader decides what is committed; other members learn it.
fn committed(event: &Event, around: Around<'_>) -> String {
    let [old, new] = change!(event, RaftCommit, commit);
    let [by, from] = fields!(event, RaftCommit: completed_by, learned_from);
    let what = entries(old + 1, new);
    let verb = if old + 1 == new { "is" } else { "are" };
    let name = name_of(around.lanes, by);
    if from != 0 {
        let from = name_of(around.lanes, from);
        return format!("{} learns from {from} that {what} {verb} committed.", around.own);
    }
    // Recordings of earlier versions do not say on which side the member is.
    match around.before.get(Water::Role) {
        Some(LEADER) if by == around.own_id || by == 0 => format!(
            "With the leader's own disk, a majority of the disks has {what}{}",
            of_term(event, around)
        ),
        Some(LEADER) => format!(
            "The acknowledgement of {name} completed a majority of the disks for {what}{}",
            of_term(event, around)
        ),
        Some(_) if by != 0 && by != around.own_id => {
            format!("{} learns from {name} that {what} {verb} committed.", around.own)
        }
        _ => format!("{} knows from here on that {what} {verb} committed.", around.own),
    }
}

/// A leader commits only up to an entry of its own term (Raft thesis 3.6.2), so it begins its term
/// with an empty one.
fn of_term(event: &Event, around: Around<'_>) -> String {
    let [old, new] = change!(event, RaftCommit, commit);
    let term = field!(event, RaftCommit, term);
    match around.openings.get(&term).copied() {
        Some(empty) if empty == old + 1 && empty == new => format!(
            ", the empty one with which the leader began its term {term}, so it is committed."
        ),
        Some(empty) if old + 1 < empty && empty <= new => format!(
            ". Those before entry {empty} are of earlier terms, and {}.",
            needed(empty, term)
        ),
        _ if old + 1 == new => {
            format!(", which is of the leader's own term {term}, so it is committed.")
        }
        _ => {
            format!(". The last of them is of the leader's own term {term}, so they are committed.")
        }
    }
}

/// Why an entry of an earlier term is committed only with the first of this one.
pub(crate) fn needed(empty: u64, term: u64) -> String {
    format!(
        "no count of disks may commit them: entry {empty} was needed for that, the empty one with \
         which the leader began its term {term}"
    )
}

fn waited_for_apply(event: &Event, around: Around<'_>) -> String {
    let [index, applied] = fields!(event, ReadWaitApplied: index, applied);
    if index <= applied {
        return format!(
            "The read needs everything up to entry {index}. {} had applied entry {applied} \
             already, so there was nothing to wait for.",
            around.own
        );
    }
    let until = if event.kind == Kind::Begin { "waits" } else { "waited" };
    format!(
        "The read needs everything up to entry {index}, and {} had applied only up to entry \
         {applied}. The read {until} for apply.",
        around.own
    )
}

fn tally(event: &Event, around: Around<'_>) -> String {
    let [voter, granted, pre, in_favour, against] =
        fields!(event, ElectionTally: voter, granted, pre, in_favour, against);
    let what = if pre != 0 { "pre-vote" } else { "vote" };
    let how = if granted != 0 { "in favour" } else { "against" };
    format!(
        "{} counts the {what} of {}, {how}: {in_favour} in favour and {against} against so far, \
         with its own.",
        around.own,
        name_of(around.lanes, voter),
    )
}

/// What became durable: entries, or a vote, or only a term.
fn fsync(event: &Event, around: Around<'_>) -> Option<String> {
    let [first, last, term, vote] = fields!(event, WalFsync: first, last, term, vote);
    let own = around.own;
    match (last, vote) {
        (0, 0) if term == 0 => None,
        (0, 0) => Some(format!(
            "The disk of {own} confirms that it has entered term {term}, and has voted for nobody \
             in it."
        )),
        (0, vote) => Some(format!(
            "The disk of {own} confirms its vote for {} in term {term}. Only now may the vote be \
             sent: after a crash {own} must not vote a second time in this term.",
            name_of(around.lanes, vote)
        )),
        (last, _) if event.kind == Kind::Begin => {
            Some(format!("The disk of {own} is asked to make {} durable.", entries(first, last)))
        }
        (last, _) => Some(format!(
            "The disk of {own} confirms {}: from here on a power failure of {own} does not lose \
             {}.",
            entries(first, last),
            if first == last { "it" } else { "them" }
        )),
    }
}

#[cfg(test)]
mod tests;
