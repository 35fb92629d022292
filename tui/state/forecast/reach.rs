//! Who reaches whom, when links are cut, and what follows from it.
//!
//! Raft forwards no message for another member, so a member reaches those to which its own links
//! are whole. A leader that does not hear from a majority within an election timeout steps down. A
//! member that hears of no leader campaigns, and wins only with a majority of votes; members that
//! hear a leader refuse theirs.

use super::{Facts, Runs};

/// The cluster after `facts` have come true, in sentences: who leads, and who is left behind.
pub(super) fn outlook(facts: &Facts) -> Vec<String> {
    let running = members(facts, |at| facts.members[at].1 == Runs::Yes);
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
    let able: Vec<usize> = members.iter().copied().filter(|at| has_quorum(facts, *at)).collect();
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

/// The members that a running one reaches, with itself: `2 of 3`.
fn count(facts: &Facts, at: usize) -> String {
    format!("{} of {}", reached(facts, at), facts.members.len())
}

fn has_quorum(facts: &Facts, at: usize) -> bool {
    facts.quorum() <= reached(facts, at)
}

/// How many running members one of them reaches, itself included.
pub(super) fn reached(facts: &Facts, at: usize) -> usize {
    members(facts, |other| facts.members[other].1 == Runs::Yes && !facts.is_cut(at, other)).len()
}

fn members(facts: &Facts, is_meant: impl Fn(usize) -> bool) -> Vec<usize> {
    (0..facts.members.len()).filter(|at| is_meant(*at)).collect()
}
