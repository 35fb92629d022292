//! What members on these logs will do: computed from the logs, before they start.
//!
//! A member can be elected if a majority, itself included, has no newer log: no last entry of a
//! later term, or of the same term with a higher index. The one that is elected keeps its own log,
//! and the others take it over. So what all that can be elected have in common survives, and what
//! none of them has is lost. (Raft thesis 3.6.1)
//!
//! A disk of which the records leave open how far it was synced may have had more than the copy:
//! members leave out syncs under load, and records are lost. Then nothing is said to be lost.

use glass_etcd::member::moment::Copied;

use crate::state::disk::Wanted;

/// A member's name and its log.
pub(crate) type Log = (String, Copied);

/// Where the write is that is looked for, and what will survive, in sentences. The disks of the
/// members in `open` may have had more than these logs.
pub(crate) fn told(logs: &[Log], open: &[String], wanted: Option<&Wanted>) -> Vec<String> {
    let wanted = wanted.map(|wanted| place(wanted, logs, open));
    wanted.into_iter().chain(outlook(logs, open)).collect()
}

/// Why a loss is undecided, if these members' disks may have had more; `None` without any.
pub(crate) fn doubt(open: &[String]) -> Option<String> {
    let of = open.join(", ");
    (!open.is_empty()).then(|| format!("no record says how far the disk of {of} was synced then"))
}

/// On whose disks an entry is, and whether it was committed.
fn place(wanted: &Wanted, logs: &[Log], open: &[String]) -> String {
    let Wanted { entry: (term, index), replaced, is_committed, .. } = *wanted;
    let has = |log: &&Log| log.1.term(index) == Some(term);
    let names: Vec<&str> = logs.iter().filter(has).map(|log| &*log.0).collect();
    let disks = match names.as_slice() {
        [] => "no disk".to_owned(),
        [one] => format!("the disk of {one} only"),
        names => format!("the disks of {}", names.join(", ")),
    };
    let others = open.iter().filter(|name| !names.contains(&name.as_str())).cloned();
    let doubt = doubt(&others.collect::<Vec<_>>());
    let doubt = doubt.map_or(String::new(), |doubt| format!(", as far as captured: {doubt}"));
    let fate = match replaced {
        Some(by) if !is_committed => {
            format!("It was never committed: an entry of term {by} replaced it.")
        }
        _ if is_committed => "It was committed, before this moment or after it.".to_owned(),
        _ => "No record says that it was committed.".to_owned(),
    };
    format!("Entry {index} of term {term} is on {disks}{doubt}. {fate}")
}

fn outlook(logs: &[Log], open: &[String]) -> Vec<String> {
    let able: Vec<&Log> = logs.iter().filter(|log| can_win(log, logs)).collect();
    let Some(first) = able.first() else { return Vec::new() };
    let safe = able.iter().map(|log| common(&first.1, &log.1)).min().unwrap_or(0);
    let names: Vec<&str> = able.iter().map(|log| &*log.0).collect();
    let mut said = vec![match names.as_slice() {
        [one] => format!("Only {one} can be elected; entries up to {safe} survive."),
        names => format!(
            "{} can be elected, and have entries up to {safe} in common: these survive.",
            names.join(", ")
        ),
    }];
    for (name, log) in logs {
        let own = able.iter().any(|able| able.0 == *name);
        if own && safe < log.last_index {
            let more = entries(safe + 1, log.last_index);
            said.push(format!("{more} of {name} survive if it is elected."));
        }
        let kept = able.iter().map(|able| common(log, &able.1)).max().unwrap_or(0);
        if !own && kept < log.last_index {
            let lost = entries(kept + 1, log.last_index);
            said.push(match doubt(open) {
                None => format!("{lost} of {name} are lost."),
                Some(doubt) => format!("{lost} of {name}: undecided, because {doubt}."),
            });
        }
    }
    said
}

fn entries(first: u64, last: u64) -> String {
    format!("Entries {first} to {last}")
}

/// Whether a majority would vote for the owner of this log.
fn can_win(log: &Log, logs: &[Log]) -> bool {
    let newness = |log: &Log| (log.1.last_term, log.1.last_index);
    let votes = logs.iter().filter(|other| newness(other) <= newness(log)).count();
    logs.len() / 2 < votes
}

/// Up to which index two logs are the same: entries of one index and one term are, and so are all
/// before them.
fn common(one: &Copied, other: &Copied) -> u64 {
    let last = one.last_index.min(other.last_index);
    (1..=last).rev().find(|index| one.term(*index) == other.term(*index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log whose terms begin at these indexes.
    fn log(name: &str, last_index: u64, terms: &[(u64, u64)]) -> Log {
        let last_term = terms.last().map_or(0, |(_, term)| *term);
        let copied = Copied { last_index, last_term, terms: terms.to_vec(), ..Copied::default() };
        (name.to_owned(), copied)
    }

    fn said(logs: &[Log]) -> String {
        outlook(logs, &[]).join(" ")
    }

    /// The logs of a leader that was cut off, and of the others, which have elected another.
    fn cut_off() -> [Log; 3] {
        [
            log("a", 12, &[(1, 1)]),
            log("b", 11, &[(1, 1), (11, 2)]),
            log("c", 11, &[(1, 1), (11, 2)]),
        ]
    }

    #[test]
    fn nothing_is_said_to_be_lost_if_a_disk_may_have_had_more() {
        let said = outlook(&cut_off(), &["b".to_owned()]);
        assert_eq!(
            said[1],
            "Entries 11 to 12 of a: undecided, because no record says how far the disk of b was \
             synced then."
        );
    }

    #[test]
    fn an_entry_is_said_to_be_on_the_disks_that_have_its_term_at_its_index() {
        let wanted = Wanted { entry: (1, 11), replaced: Some(2), ..Wanted::default() };
        let never = "It was never committed: an entry of term 2 replaced it.";
        let on = |wanted: &Wanted, open: &[String]| place(wanted, &cut_off(), open);
        assert_eq!(
            on(&wanted, &[]),
            format!("Entry 11 of term 1 is on the disk of a only. {never}")
        );
        let committed = Wanted { entry: (2, 11), is_committed: true, ..Wanted::default() };
        assert_eq!(
            on(&committed, &[]),
            "Entry 11 of term 2 is on the disks of b, c. It was committed, before this moment or \
             after it."
        );
        let unknown = Wanted { entry: (2, 12), ..Wanted::default() };
        assert_eq!(
            on(&unknown, &["c".to_owned()]),
            "Entry 12 of term 2 is on no disk, as far as captured: no record says how far the disk \
             of c was synced then. No record says that it was committed."
        );
    }

    #[test]
    fn what_all_that_can_be_elected_have_survives() {
        let all = [log("a", 41, &[(1, 1)]), log("b", 41, &[(1, 1)]), log("c", 40, &[(1, 1)])];
        assert_eq!(
            said(&all),
            "a, b can be elected, and have entries up to 41 in common: these survive."
        );
        let one = [log("a", 42, &[(1, 1)]), log("b", 41, &[(1, 1)]), log("c", 41, &[(1, 1)])];
        assert_eq!(
            said(&one),
            "a, b, c can be elected, and have entries up to 41 in common: these survive. Entries \
             42 to 42 of a survive if it is elected."
        );
    }

    #[test]
    fn a_majority_that_has_an_entry_does_not_save_it_from_a_later_term() {
        // Figure 3.7 of the thesis: the entry of term 2 is on two disks, and is not safe.
        let logs = [
            log("a", 2, &[(1, 1), (2, 2)]),
            log("b", 2, &[(1, 1), (2, 2)]),
            log("c", 2, &[(1, 1), (2, 3)]),
        ];
        assert_eq!(
            said(&logs),
            "a, b, c can be elected, and have entries up to 1 in common: these survive. Entries 2 \
             to 2 of a survive if it is elected. Entries 2 to 2 of b survive if it is elected. \
             Entries 2 to 2 of c survive if it is elected."
        );
    }

    #[test]
    fn what_a_leader_wrote_while_it_was_cut_off_is_lost() {
        assert_eq!(
            said(&cut_off()),
            "b, c can be elected, and have entries up to 11 in common: these survive. Entries 11 \
             to 12 of a are lost."
        );
        assert_eq!(said(&[]), "");
    }
}
