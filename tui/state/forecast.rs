//! What stopping or starting a member will do, said before it is done.
//!
//! Everything is computed from who runs now, and who leads: a majority of all members can elect a
//! leader and commit; a minority cannot. A member whose fate is not known (it is silent) does not
//! count as one that runs, and is named.

use crate::up::api::Action;

/// Who runs, and who leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The members: their names, and whether each runs.
    pub(crate) members: Vec<(String, Runs)>,
    /// The leader, by position.
    pub(crate) leader: Option<usize>,
}

/// Whether a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    Yes,
    No,
    /// It sends no records, and nothing says why.
    Unknown,
}

impl Facts {
    /// How many members a majority has.
    pub(crate) fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// How many members run for certain.
    pub(crate) fn running(&self) -> usize {
        self.members.iter().filter(|(_, runs)| *runs == Runs::Yes).count()
    }
}

/// The word for an action, before the name of a member.
pub(crate) fn verb(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Restart => "restart",
        Action::Kill => "kill",
        Action::Pause => "pause",
        Action::Resume => "resume",
        Action::Status => "ask",
    }
}

/// What the action on this member will do: to its process, then to the cluster.
pub(crate) fn forecast(action: Action, member: usize, facts: &Facts) -> Vec<String> {
    let is_leader = facts.leader == Some(member);
    let mut said = vec![to_process(action, is_leader).to_owned()];
    let total = facts.members.len();
    let others: Vec<usize> = (0..total).filter(|at| *at != member).collect();
    let left = others.iter().filter(|at| facts.members[**at].1 == Runs::Yes).count();
    let leader = facts.leader.filter(|leader| *leader != member);
    said.push(match action {
        Action::Status => return Vec::new(),
        Action::Start | Action::Resume => with_it(left + 1, facts),
        Action::Stop | Action::Kill | Action::Pause | Action::Restart => {
            without_it(left, is_leader, leader, facts)
        }
    });
    let unknown: Vec<&str> = others
        .iter()
        .filter(|at| facts.members[**at].1 == Runs::Unknown)
        .map(|at| facts.members[*at].0.as_str())
        .collect();
    if !unknown.is_empty() {
        said.push(format!("Not counted, because it is not known to run: {}.", unknown.join(", ")));
    }
    said
}

fn to_process(action: Action, is_leader: bool) -> &'static str {
    match action {
        Action::Stop if is_leader => {
            "SIGTERM: it asks another member to campaign at once, and ends in order."
        }
        Action::Stop => "SIGTERM: it ends in order.",
        Action::Kill => "SIGKILL: it ends at once, like a crash; what its log has synced stays.",
        Action::Pause => {
            "SIGSTOP: it stands still; its connections stay open, so its clients wait."
        }
        Action::Resume => "SIGCONT: it goes on where it stood.",
        Action::Restart => "SIGTERM, and when it has ended, a new start on the same data.",
        Action::Start => "It starts on the data that it has, and catches up with the leader.",
        Action::Status => "",
    }
}

/// The cluster while the member does not take part.
fn without_it(left: usize, is_leader: bool, leader: Option<usize>, facts: &Facts) -> String {
    let total = facts.members.len();
    let remain = if left == 1 { "remains" } else { "remain" };
    if left == 0 {
        return format!("None of {total} {remain}: no request is answered.");
    }
    if left < facts.quorum() {
        return format!(
            "{left} of {total} {remain}, no quorum: writes and linearizable reads will wait; \
             serializable reads are still answered."
        );
    }
    let then = match leader {
        Some(leader) => format!("writes go on, {} leads.", facts.members[leader].0),
        None if is_leader => {
            "writes and linearizable reads wait for an election, then go on.".to_owned()
        }
        None => "but no leader is known now.".to_owned(),
    };
    format!("{left} of {total} {remain}, a quorum: {then}")
}

/// The cluster when the member takes part again.
fn with_it(then: usize, facts: &Facts) -> String {
    let total = facts.members.len();
    let run = if then == 1 { "runs" } else { "run" };
    if then < facts.quorum() {
        return format!("{then} of {total} {run} then, still no quorum.");
    }
    match facts.leader {
        Some(leader) => {
            format!("{then} of {total} {run} then; {} leads.", facts.members[leader].0)
        }
        None => format!("{then} of {total} {run} then, a quorum: it elects a leader."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(runs: &[Runs], leader: Option<usize>) -> Facts {
        let named = runs.iter().zip(1..).map(|(runs, number)| (format!("etcd-0{number}"), *runs));
        Facts { members: named.collect(), leader }
    }

    fn said(action: Action, member: usize, facts: &Facts) -> String {
        forecast(action, member, facts)[1..].join(" ")
    }

    #[test]
    fn what_remains_decides_and_not_what_is_stopped() {
        use Runs::{No, Yes};
        let all = facts(&[Yes, Yes, Yes], Some(0));
        assert_eq!(
            said(Action::Kill, 0, &all),
            "2 of 3 remain, a quorum: writes and linearizable reads wait for an election, then \
             go on."
        );
        assert_eq!(
            said(Action::Pause, 1, &all),
            "2 of 3 remain, a quorum: writes go on, etcd-01 leads."
        );
        let two = facts(&[Yes, Yes, No], Some(0));
        assert_eq!(
            said(Action::Stop, 1, &two),
            "1 of 3 remains, no quorum: writes and linearizable reads will wait; serializable \
             reads are still answered."
        );
        let one = facts(&[Yes, No, No], None);
        assert_eq!(said(Action::Kill, 0, &one), "None of 3 remain: no request is answered.");
        assert_eq!(said(Action::Start, 1, &one), "2 of 3 run then, a quorum: it elects a leader.");
        let none = facts(&[No, No, No], None);
        assert_eq!(said(Action::Start, 1, &none), "1 of 3 runs then, still no quorum.");
        assert_eq!(said(Action::Resume, 2, &two), "3 of 3 run then; etcd-01 leads.");
    }

    #[test]
    fn a_silent_member_is_named_and_not_counted() {
        let silent = facts(&[Runs::Yes, Runs::Unknown, Runs::Yes], Some(0));
        assert_eq!(
            said(Action::Kill, 2, &silent),
            "1 of 3 remains, no quorum: writes and linearizable reads will wait; serializable \
             reads are still answered. Not counted, because it is not known to run: etcd-02."
        );
    }

    #[test]
    fn a_leader_that_is_stopped_hands_over_and_one_that_is_killed_cannot() {
        let all = facts(&[Runs::Yes; 3], Some(0));
        assert!(forecast(Action::Stop, 0, &all)[0].contains("asks another member to campaign"));
        assert!(!forecast(Action::Stop, 1, &all)[0].contains("campaign"));
        assert!(!forecast(Action::Kill, 0, &all)[0].contains("campaign"));
    }
}
