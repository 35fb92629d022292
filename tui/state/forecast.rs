//! What stopping or starting a member, or cutting a link, will do, said before it is done.
//!
//! Everything is computed from who runs now, and who leads: a majority of all members can elect a
//! leader and commit; a minority cannot. A member whose fate is not known (it is silent) does not
//! count as one that runs, and is named. While links are cut, see `reach`.

mod reach;

use super::voters::Voters;
use crate::up::api::{Action, Command};

/// Who runs, and who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The members: their names, and whether each runs.
    pub(crate) members: Vec<(String, Runs)>,
    /// Which of them vote.
    pub(crate) voters: Voters,
    /// The leader, by position.
    pub(crate) leader: Option<usize>,
    /// The links that are cut, as pairs of positions, the lower one first.
    pub(crate) cut: Vec<(usize, usize)>,
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
        self.voters.needed()
    }

    /// How many voters run for certain.
    pub(crate) fn running(&self) -> usize {
        self.running_voters().count()
    }

    fn running_voters(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|at| self.runs(*at) && self.voters.votes(*at))
    }

    fn runs(&self, at: usize) -> bool {
        self.members[at].1 == Runs::Yes
    }

    /// How many running voters the one that reaches most of them reaches, itself included.
    pub(crate) fn together(&self) -> usize {
        self.running_voters().map(|at| reach::reached(self, at)).max().unwrap_or(0)
    }

    /// Whether the link between two members is cut.
    pub(crate) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// The links of this member: the one to the other, or all.
    pub(crate) fn links(&self, member: usize, other: Option<usize>) -> Vec<(usize, usize)> {
        let others = (0..self.members.len()).filter(|at| *at != member);
        let meant = others.filter(|at| other.is_none_or(|other| other == *at));
        meant.map(|at| (at.min(member), at.max(member))).collect()
    }

    fn name(&self, at: usize) -> &str {
        &self.members[at].0
    }

    /// Several names in one phrase, with this word before the last.
    fn names(&self, members: &[usize], word: &str) -> String {
        let names: Vec<&str> = members.iter().map(|at| self.name(*at)).collect();
        match names.as_slice() {
            [first @ .., last] if !first.is_empty() => {
                format!("{} {word} {last}", first.join(", "))
            }
            names => names.concat(),
        }
    }

    /// A sentence about members that are not counted, if there are any beside this one.
    fn uncounted(&self, but: Option<usize>) -> Option<String> {
        let is_unknown = |at: &usize| {
            Some(*at) != but && self.voters.votes(*at) && self.members[*at].1 == Runs::Unknown
        };
        let unknown: Vec<&str> =
            (0..self.members.len()).filter(is_unknown).map(|at| self.name(at)).collect();
        (!unknown.is_empty()).then(|| {
            format!("Not counted, because it is not known to run: {}.", unknown.join(", "))
        })
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
        Action::Cut => "cut",
        Action::Heal => "heal",
        Action::Status | Action::Release | Action::Adopt => "ask",
        Action::Down => "stop",
    }
}

/// A command in words: what, and to whom.
pub(crate) fn named(command: &Command) -> String {
    let verb = verb(command.action);
    let name = command.name.as_deref().unwrap_or("all");
    match (&command.peer, command.action) {
        (Some(peer), _) => format!("{verb} the link {name} ╳ {peer}"),
        (None, Action::Cut | Action::Heal) => format!("{verb} all links of {name}"),
        (None, _) => format!("{verb} {name}"),
    }
}

/// What the action on this member will do: to its process, then to the cluster.
pub(crate) fn forecast(action: Action, member: usize, facts: &Facts) -> Vec<String> {
    let is_leader = facts.leader == Some(member);
    let mut said = vec![to_process(action, is_leader).to_owned()];
    let left = facts.running_voters().filter(|at| *at != member).count();
    let leader = facts.leader.filter(|leader| *leader != member);
    let starts = matches!(action, Action::Start | Action::Resume);
    if !facts.cut.is_empty() {
        let mut after = Facts { leader, ..facts.clone() };
        after.members[member].1 = if starts { Runs::Yes } else { Runs::No };
        said.extend(reach::outlook(&after));
        said.extend(facts.uncounted(Some(member)));
        return said;
    }
    if let Some(word) = facts.voters.standing(member).word() {
        let (running, total) = (facts.running(), facts.voters.count());
        said.push(format!("It does not vote ({word}): still {running} of {total} voters run."));
        return said;
    }
    said.push(match action {
        // These have no member alone.
        Action::Status
        | Action::Cut
        | Action::Heal
        | Action::Down
        | Action::Release
        | Action::Adopt => return Vec::new(),
        Action::Start | Action::Resume => with_it(left + 1, facts),
        Action::Stop | Action::Kill | Action::Pause | Action::Restart => {
            without_it(left, is_leader, leader, facts)
        }
    });
    said.extend(facts.uncounted(Some(member)));
    said
}

/// What cutting or healing the link between these two, or all links of the first, will do.
pub(crate) fn of_links(
    action: Action,
    (member, other): (usize, Option<usize>),
    facts: &Facts,
) -> Vec<String> {
    let meant = facts.links(member, other);
    let mut after = facts.clone();
    after.cut.retain(|link| !meant.contains(link));
    let mut said = if action == Action::Cut {
        after.cut.extend(&meant);
        vec!["What these members send each other is dropped; their processes run on.".to_owned()]
    } else {
        vec!["They reach each other again, and the one that is behind catches up.".to_owned()]
    };
    said.extend(reach::outlook(&after));
    said.extend(facts.uncounted(None));
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
        Action::Status
        | Action::Cut
        | Action::Heal
        | Action::Down
        | Action::Release
        | Action::Adopt => "",
    }
}

/// The cluster while the member does not take part.
fn without_it(left: usize, is_leader: bool, leader: Option<usize>, facts: &Facts) -> String {
    let total = facts.voters.count();
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
    let total = facts.voters.count();
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
        let voters = Voters::all(runs.len());
        Facts { members: named.collect(), voters, leader, cut: Vec::new() }
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
    fn a_leader_that_is_cut_off_steps_down_and_the_others_elect_one() {
        let all = facts(&[Runs::Yes; 3], Some(0));
        let said = of_links(Action::Cut, (0, None), &all)[1..].join(" ");
        assert_eq!(
            said,
            "etcd-01 reaches 1 of 3, no quorum: it steps down within two election timeouts. Each \
             of etcd-02 and etcd-03 reaches a quorum: one of them can be elected, and then writes \
             go on there."
        );
    }

    #[test]
    fn a_follower_without_its_link_to_the_leader_is_left_behind() {
        let all = facts(&[Runs::Yes; 3], Some(2));
        let said = of_links(Action::Cut, (0, Some(2)), &all)[1..].join(" ");
        assert_eq!(
            said,
            "etcd-03 reaches 2 of 3, a quorum: it goes on to lead, and writes go on. etcd-01 does \
             not hear it: writes and linearizable reads there wait, and serializable reads are \
             answered with what it has."
        );
        let healed = of_links(Action::Heal, (0, Some(2)), &Facts { cut: vec![(0, 2)], ..all });
        assert_eq!(
            healed[1..],
            ["etcd-03 reaches 3 of 3, a quorum: it goes on to lead, and writes go on."]
        );
    }

    #[test]
    fn what_a_stop_does_depends_on_the_links_that_are_cut() {
        use Runs::Yes;
        let cut = |links: &[(usize, usize)], leader| Facts {
            cut: links.to_vec(),
            ..facts(&[Yes; 3], leader)
        };
        let said = |member, facts: &Facts| forecast(Action::Kill, member, facts)[1..].join(" ");
        assert_eq!(
            said(1, &cut(&[(0, 2)], Some(1))),
            "No member reaches a quorum, so none is elected: writes and linearizable reads wait; \
             serializable reads are still answered."
        );
        assert_eq!(
            said(2, &cut(&[(0, 2)], Some(1))),
            "etcd-02 reaches 2 of 3, a quorum: it goes on to lead, and writes go on."
        );
        assert_eq!(cut(&[(0, 2)], None).together(), 3, "the one between them reaches both");
        assert_eq!(cut(&[(0, 1), (0, 2)], None).together(), 2);
        assert_eq!(cut(&[(0, 1), (0, 2), (1, 2)], None).together(), 1);
    }

    #[test]
    fn a_leader_that_is_stopped_hands_over_and_one_that_is_killed_cannot() {
        let all = facts(&[Runs::Yes; 3], Some(0));
        assert!(forecast(Action::Stop, 0, &all)[0].contains("asks another member to campaign"));
        assert!(!forecast(Action::Stop, 1, &all)[0].contains("campaign"));
        assert!(!forecast(Action::Kill, 0, &all)[0].contains("campaign"));
    }
}
