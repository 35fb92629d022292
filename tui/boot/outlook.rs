//! What members on these logs will do: computed from the logs, before they start.
//!
//! A member can be elected if a majority, itself included, has no newer log: no last entry of a
//! later term, or of the same term with a higher index. The one that is elected keeps its own log,
//! and the others take it over. So what all that can be elected have in common survives, and what
//! none of them has is lost. (Raft thesis 3.6.1)

use glass_etcd::member::moment::Copied;

/// A member's name and its log.
pub(crate) type Log = (String, Copied);

/// What will survive, in sentences.
pub(crate) fn outlook(logs: &[Log]) -> Vec<String> {
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
            said.push(format!("{} of {name} are lost.", entries(kept + 1, log.last_index)));
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
        outlook(logs).join(" ")
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
        let logs = [
            log("a", 12, &[(1, 1)]),
            log("b", 11, &[(1, 1), (11, 2)]),
            log("c", 11, &[(1, 1), (11, 2)]),
        ];
        assert_eq!(
            said(&logs),
            "b, c can be elected, and have entries up to 11 in common: these survive. Entries 11 \
             to 12 of a are lost."
        );
        assert_eq!(said(&[]), "");
    }
}
