//! The sentence for a vote, with the rule by which it was refused.

use glass_etcd::{fields, story::Event, trace::Reason};

use super::Around;
use crate::state::{lanes::name_of, watermarks::Water};

/// Why a vote was given or refused.
pub(super) fn vote(event: &Event, around: Around<'_>) -> String {
    let [candidate, granted, pre, term] =
        fields!(event, ElectionVote: candidate, granted, pre, term);
    let [last_term, last, own_last_term, own_last] =
        fields!(event, ElectionVote: last_term, last, own_last_term, own_last);
    let (own, candidate) = (around.own, name_of(around.lanes, candidate));
    let logs = format!(
        "the candidate's log ends with entry {last} of term {last_term}, {own}'s own with entry \
         {own_last} of term {own_last_term}"
    );
    let (would, votes) =
        if pre != 0 { ("would vote", "would not vote") } else { ("votes", "does not vote") };
    if granted != 0 {
        return format!("{own} {would} for {candidate} in term {term}: {logs}.");
    }
    let named = |water| around.before.get(water).filter(|id| *id != 0);
    let name = |water, other: &str| {
        named(water).map_or_else(|| other.to_owned(), |id| name_of(around.lanes, id))
    };
    let reason = match event.reason.or_else(|| refusal(event, around)) {
        Some(Reason::VoteOldTerm) => format!("{own} is in a later term already"),
        Some(Reason::VoteOldLog) => format!("{logs}, which is newer"),
        Some(Reason::VoteLeads) => format!("{own} leads, so it ignores candidates"),
        Some(Reason::VoteGiven) => {
            let other = name(Water::Vote, "another member");
            format!("it has given its vote in this term to {other}")
        }
        Some(Reason::VoteFollows) => {
            let leader = name(Water::Leader, "a leader");
            format!("it follows {leader} in this term")
        }
        Some(Reason::VoteLeaderHeard) => {
            let leader = match named(Water::Leader) {
                Some(id) => format!("the leader {}", name_of(around.lanes, id)),
                None => "a leader".to_owned(),
            };
            format!(
                "it received a message from {leader} within the last election timeout, so it \
                 ignores candidates"
            )
        }
        Some(other) => other.text().to_owned(),
        None => "the record does not say why".to_owned(),
    };
    format!("{own} {votes} for {candidate} in term {term}: {reason}.")
}

/// Why a vote was refused, as far as the member's state before tells: recordings of earlier
/// versions have no reason.
fn refusal(event: &Event, around: Around<'_>) -> Option<Reason> {
    let [pre, term] = fields!(event, ElectionVote: pre, term);
    let [last_term, last, own_last_term, own_last] =
        fields!(event, ElectionVote: last_term, last, own_last_term, own_last);
    let own_term = around.before.get(Water::Term);
    let has = |water| around.before.get(water).is_some_and(|id| id != 0);
    let is_of_term = own_term == Some(term);
    if (last_term, last) < (own_last_term, own_last) {
        Some(Reason::VoteOldLog)
    } else if own_term.is_some_and(|own_term| term < own_term) {
        Some(Reason::VoteOldTerm)
    } else if pre == 0 && is_of_term && has(Water::Vote) {
        Some(Reason::VoteGiven)
    } else {
        let follows = if is_of_term { Reason::VoteFollows } else { Reason::VoteLeaderHeard };
        has(Water::Leader).then_some(follows)
    }
}
