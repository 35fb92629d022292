//! Who reaches whom, when links are cut, and what follows from it.
//!
//! Raft forwards no message for another member, so a member reaches those to which its own links
//! are whole. A leader that does not hear from a majority within an election timeout steps down. A
//! member that hears of no leader campaigns, and wins only with a majority of votes; members that
//! hear a leader refuse theirs.

use super::Facts;

/// The cluster after `facts` have come true, in sentences: who leads, and who is left behind.
pub(super) fn outlook(facts: &Facts) -> Vec<String> {
    let running = members(facts, |at| facts.runs(at));
    let Some(leader) = facts.leader.filter(|leader| running.contains(leader)) else {
        return vec![without_leader(facts, &running)];
    };
    if has_quorum(facts, leader) {
        let mut said = vec![format!(
            "{} reaches {}, a quorum: it goes on to lead, and writes go on.",
            facts.name(leader),
            count(facts, leader)
        )];
        let behind: Vec<usize> =
            running.into_iter().filter(|at| facts.is_cut(*at, leader)).collect();
        if !behind.is_empty() {
            said.push(format!(
                "{} does not hear it: writes and linearizable reads there wait, and serializable \
                 reads are answered with what it has.",
                facts.names(&behind, "or")
            ));
        }
        return said;
    }
    let others: Vec<usize> = running.into_iter().filter(|at| *at != leader).collect();
    vec![
        format!(
            "{} reaches {}, no quorum: it steps down within two election timeouts.",
            facts.name(leader),
            count(facts, leader)
        ),
        without_leader(facts, &others),
    ]
}

/// What these members can do without the present leader.
fn without_leader(facts: &Facts, members: &[usize]) -> String {
    let votes = members.iter().copied().filter(|at| facts.voters.votes(*at));
    let able: Vec<usize> = votes.filter(|at| has_quorum(facts, *at)).collect();
    match able.as_slice() {
        [] => {
            "No member reaches a quorum, so none is elected: writes and linearizable reads wait; \
               serializable reads are still answered."
                .to_owned()
        }
        [one] => format!(
            "{} reaches {}, a quorum: it can be elected, and then writes go on there.",
            facts.name(*one),
            count(facts, *one)
        ),
        able => format!(
            "Each of {} reaches a quorum: one of them can be elected, and then writes go on there.",
            facts.names(able, "and")
        ),
    }
}

/// The voters that a running member reaches, with itself: `2 of 3`.
fn count(facts: &Facts, at: usize) -> String {
    format!("{} of {}", reached(facts, at), facts.voters.count())
}

fn has_quorum(facts: &Facts, at: usize) -> bool {
    facts.quorum() <= reached(facts, at)
}

/// How many running voters a member reaches, itself included if it votes.
pub(super) fn reached(facts: &Facts, at: usize) -> usize {
    let is_reached =
        |other| facts.runs(other) && facts.voters.votes(other) && !facts.is_cut(at, other);
    members(facts, is_reached).len()
}

fn members(facts: &Facts, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..facts.members.len()).filter(|at| is_meant(*at)).collect()
}
