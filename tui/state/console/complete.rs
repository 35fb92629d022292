//! Completion: what the word before the cursor may become.

use super::request::{begun_by, command_of, member_of};

/// What may complete a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    /// How many characters before the cursor are replaced.
    pub(crate) length: usize,
    /// What replaces them: the longest text that all candidates begin with, and a blank if there is
    /// only one.
    pub(crate) text: String,
    /// All candidates, if there are several.
    pub(crate) candidates: Vec<String>,
}

/// Completes the end of `before`, what is before the cursor. `members` and `keys` are those that
/// are known.
pub(crate) fn complete(before: &str, members: &[String], keys: &[String]) -> Option<Completion> {
    let blank = before.char_indices().rfind(|(_, character)| character.is_whitespace());
    let start = blank.map_or(0, |(at, blank)| at + blank.len_utf8());
    let word = &before[start..];
    if let Some(name) = word.strip_prefix('@').filter(|_| before[..start].trim().is_empty()) {
        return among(name, members.iter().cloned());
    }
    let line = member_of(before).1;
    let Some(command) = command_of(line).filter(|command| command.name.len() < line.len()) else {
        return among(line, begun_by(line).into_iter().map(|command| command.name.to_owned()));
    };
    if word.starts_with('-') {
        let names = command.flags.iter().filter_map(|flag| flag.split(' ').next());
        return among(word, names.map(str::to_owned));
    }
    let takes_key = command.form.contains("KEY") || command.form.contains("NAME");
    among(word, keys.iter().filter(|_| takes_key).cloned())
}

fn among(begun: &str, all: impl Iterator<Item = String>) -> Option<Completion> {
    let mut candidates: Vec<String> = all.filter(|one| one.starts_with(begun)).collect();
    candidates.sort();
    candidates.dedup();
    let length = begun.chars().count();
    let (first, last) = (candidates.first()?, candidates.last()?);
    if first == last {
        return Some(Completion { length, text: first.clone() + " ", candidates: Vec::new() });
    }
    // Sorted, so what the first and the last have in common, all have.
    let shared = first.chars().zip(last.chars()).take_while(|(a, b)| a == b);
    Some(Completion { length, text: shared.map(|(a, _)| a).collect(), candidates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(before: &str) -> (String, Vec<String>) {
        let members = ["etcd-01", "etcd-02"].map(str::to_owned);
        let keys = ["config/a", "config/b", "x"].map(str::to_owned);
        match complete(before, &members, &keys) {
            Some(Completion { length, text, candidates }) => {
                let kept = before.chars().count() - length;
                (before.chars().take(kept).collect::<String>() + &text, candidates)
            }
            None => (before.to_owned(), Vec::new()),
        }
    }

    #[test]
    fn commands_members_flags_and_keys_are_completed() {
        for (before, after) in [
            ("pu", "put "),
            ("lease g", "lease grant "),
            ("@etcd-02", "@etcd-02 "),
            ("@2 st", "@2 status "),
            ("get x --pre", "get x --prefix "),
            ("get c", "get config/"),
            ("watch x", "watch x "),
            ("lease revoke x", "lease revoke x"),
            ("nothing", "nothing"),
            ("get\u{3000}c", "get\u{3000}config/"),
            ("put\u{a0}", "put\u{a0}"),
        ] {
            assert_eq!(after, completed(before).0, "{before:?}");
        }
    }

    #[test]
    fn several_candidates_are_named_and_share_their_beginning() {
        assert_eq!(vec!["etcd-01", "etcd-02"], completed("@e").1);
        assert_eq!("@etcd-0", completed("@e").0);
        assert_eq!(vec!["config/a", "config/b"], completed("del config/").1);
        assert_eq!(begun_by("").len(), completed("").1.len());
        assert_eq!("lock ", completed("loc").0);
    }
}
