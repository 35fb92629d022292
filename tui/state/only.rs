//! What rows of the list have to be, beside what they are about: the RPC, the duration, the kind.
//!
//! ```text
//!   r:put        its RPC has "put" in its name        >10ms   it took longer, or already runs longer
//!   is:error     it failed                            <1ms    it took less
//!   is:read …    it is of this kind             !…      it is not so
//! ```

use super::{
    search::{self, Word},
    story::{Read, RequestSummary, Subject},
};

/// A kind by its name, and whether a row is of it.
type Kind = (&'static str, fn(&RequestSummary) -> bool);

/// The kinds after `is:`.
const KINDS: &[Kind] = &[
    ("error", |row| row.result.is_some_and(|code| code != 0)),
    ("open", |row| row.is_open),
    ("write", |row| row.revision.is_some() && is_write(row)),
    ("read", |row| ["KV/Range", "KV/RangeStream"].contains(&row.method)),
    ("linearizable", |row| row.read == Some(Read::Linearizable)),
    ("serializable", |row| row.read == Some(Read::Serializable)),
    ("watch", |row| row.method.starts_with("Watch/")),
    ("lease", |row| row.method.contains("Lease")),
    ("lock", |row| row.method.starts_with("Lock/") || row.method.starts_with("Election/")),
    ("cluster", |row| matches!(row.subject, Subject::Cluster(_))),
    ("internal", |row| row.method.starts_with("internal/")),
];

fn is_write(row: &RequestSummary) -> bool {
    ["KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact"].contains(&row.method)
}

/// What a row has to be. Without any of these, every row is meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Only {
    /// A part of the RPC's name, in small letters.
    rpc: Option<String>,
    /// The least and the greatest duration, in nanoseconds.
    least_ns: Option<u64>,
    most_ns: Option<u64>,
    /// The kinds, by position in [`KINDS`].
    kinds: Vec<usize>,
    /// A part of its key, and its member by position: only of what is left out, because the list is
    /// narrowed to a key or a member by the whole story ([`super::find`]).
    key: Option<Vec<u8>>,
    member: Option<u8>,
    /// What it must not be, each with one word.
    without: Vec<Only>,
}

impl Only {
    /// Whether no row is left out.
    pub(crate) fn is_empty(&self) -> bool {
        let Only { rpc, least_ns, most_ns, kinds, key, member, without } = self;
        let has_none = rpc.is_none() && least_ns.is_none() && most_ns.is_none();
        has_none && kinds.is_empty() && key.is_none() && member.is_none() && without.is_empty()
    }

    /// Rows with this in their key.
    pub(crate) fn of_key(part: Vec<u8>) -> Only {
        Only { key: Some(part), ..Only::default() }
    }

    /// Rows that this member served.
    pub(crate) fn of_member(place: u8) -> Only {
        Only { member: Some(place), ..Only::default() }
    }

    /// Leaves these rows out.
    pub(crate) fn leave_out(&mut self, rows: Only) {
        self.without.push(rows);
    }

    /// Takes a word of a search. `None` if it is about something else; otherwise whether it is the
    /// first of its kind, or why it means nothing.
    pub(crate) fn take(&mut self, word: &Word) -> Option<Result<bool, String>> {
        Some(Ok(match word {
            Word::Rpc(part) => self.rpc.replace(part.clone()).is_none(),
            Word::Least(ns) => self.least_ns.replace(*ns).is_none(),
            Word::Most(ns) => self.most_ns.replace(*ns).is_none(),
            Word::Is(begun) => {
                let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
                match search::kind(&names, begun) {
                    Ok(place) => self.kinds.push(place),
                    Err(why) => return Some(Err(why)),
                }
                true
            }
            Word::Text(_) | Word::Key(_) | Word::Member(_) | Word::Lease(_) | Word::Not(_) => {
                return None;
            }
        }))
    }

    /// Whether the row is meant.
    pub(crate) fn has(&self, row: &RequestSummary) -> bool {
        let is_slow = |least: u64| row.took_ns.is_some_and(|took| least <= took);
        let is_quick = |most: u64| row.took_ns.is_some_and(|took| took <= most);
        self.rpc.as_ref().is_none_or(|part| row.method.to_lowercase().contains(part))
            && self.least_ns.is_none_or(is_slow)
            && self.most_ns.is_none_or(is_quick)
            && self.kinds.iter().all(|kind| KINDS[*kind].1(row))
            && self.key.as_ref().is_none_or(|part| has_in_key(row, part))
            && self.member.is_none_or(|place| row.member == place)
            && !self.without.iter().any(|one| one.has(row))
    }
}

fn has_in_key(row: &RequestSummary, part: &[u8]) -> bool {
    let key = row.key.as_ref().map_or(&[][..], |key| &key.bytes);
    part.is_empty() || key.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{State, scenes},
        *,
    };

    fn has(words: &str, row: &RequestSummary) -> bool {
        let mut only = Only::default();
        for (word, typed) in search::words(words).unwrap() {
            assert_eq!(Some(Ok(true)), only.take(&word), "{typed}");
        }
        only.has(row)
    }

    #[test]
    fn words_about_rpc_duration_and_kind_leave_rows_out() {
        let put = State::of_recording(scenes::put().recording).list.rows[0].clone();
        let get = State::of_recording(scenes::get().recording).list.rows[0].clone();
        assert!(has("r:put >10ms <1s is:write", &put), "{put:?}");
        assert!(!has("r:range", &put) && !has(">15ms", &put) && !has("is:error", &put));
        assert!(has("is:lin r:range", &get) && !has("is:ser", &get), "{get:?}");
        let failed = RequestSummary { result: Some(14), ..put };
        assert!(has("is:error", &failed));
    }

    #[test]
    fn what_is_left_out_is_every_row_that_has_one_of_the_words() {
        let put = State::of_recording(scenes::put().recording).list.rows[0].clone();
        let without = |one: Only| {
            let mut only = Only::default();
            only.leave_out(one);
            assert!(!only.is_empty());
            only
        };
        let key = put.key.clone().unwrap().bytes;
        assert!(!without(Only::of_key(key[1..].to_vec())).has(&put));
        assert!(without(Only::of_key(b"elsewhere".to_vec())).has(&put));
        assert!(!without(Only::of_member(put.member)).has(&put));
        assert!(without(Only::of_member(put.member + 1)).has(&put));
        let mut both = without(Only::of_key(b"elsewhere".to_vec()));
        both.leave_out(Only::of_member(put.member));
        assert!(!both.has(&put));
    }

    #[test]
    fn a_kind_that_there_is_not_names_those_that_there_are() {
        let mut only = Only::default();
        assert_eq!(None, only.take(&Word::Text("some/key".to_owned())));
        let odd = only.take(&Word::Is("odd".to_owned())).unwrap();
        assert!(odd.unwrap_err().contains("serializable"));
        assert!(only.is_empty());
    }
}
