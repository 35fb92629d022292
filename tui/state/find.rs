//! What the list of requests is narrowed to: the stories about a key, a lease or a member, and the
//! rows of some kind.
//!
//! The user types words after `/` ([`super::search`]). There may be one of each, and all of them
//! must hold, as with the options of `glass trace list`. A word without a kind is a key, of which a
//! part is enough, and which may be typed as the list shows it (`\xe6`).

use super::{
    line::{Edit, Line},
    only::Only,
    search::{self, Word},
    text,
};
use glass_etcd::{
    story::{
        Recording,
        query::{
            find::{Wanted, is_redacted},
            typed as of_user,
        },
    },
    trace::record::KEY_BYTES,
};

/// Why no key can be found.
pub(crate) const REDACTED: &str = "the members leave out the text of keys (--trace-redact-keys)";

/// The search of the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Find {
    /// What is being typed; `None` while nothing is.
    pub(crate) typed: Option<Line>,
    /// Why what was typed means nothing.
    pub(crate) mistake: Option<String>,
    /// The words that hold; empty if all stories are shown.
    pub(crate) words: String,
    /// What they mean.
    pub(crate) wanted: Wanted,
    /// What rows have to be beside that.
    pub(crate) only: Only,
}

/// The longest search, in characters.
const TYPED_MAX: usize = 200;

impl Find {
    /// Whether some stories are left out.
    pub(crate) fn is_narrow(&self) -> bool {
        self.wanted != Wanted::default() || !self.only.is_empty()
    }

    /// Begins to type.
    pub(crate) fn begin(&mut self) {
        (self.typed, self.mistake) = (Some(Line::new(TYPED_MAX)), None);
    }

    /// Does what a key means.
    pub(crate) fn edit(&mut self, edit: Edit) {
        if let Some(line) = &mut self.typed {
            self.mistake = line.edit(edit);
        }
    }

    /// Inserts all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        self.mistake = None;
        self.typed.as_mut().is_some_and(|line| line.paste(text))
    }

    /// Narrows the list to what was typed, if that means something.
    pub(crate) fn apply(&mut self, recording: &Recording) {
        let Some(line) = &self.typed else { return };
        if let Some(lack) = line.lack() {
            self.mistake = Some(lack);
            return;
        }
        let typed = line.text();
        match meaning(recording, &typed) {
            Ok((wanted, only)) => {
                let words = typed.trim().to_owned();
                *self = Find { words, wanted, only, ..Find::default() };
            }
            Err(mistake) => self.mistake = Some(mistake),
        }
    }

    /// Whether something is typed, or stories are left out.
    pub(crate) fn is_in_use(&self) -> bool {
        self.typed.is_some() || self.is_narrow()
    }

    /// What is said where nothing matches.
    pub(crate) fn nothing(&self) -> String {
        let Some(key) = &self.wanted.key else {
            return format!("No captured story matches /{}. Esc shows all.", self.words);
        };
        let others =
            self.wanted.lease.is_some() || self.wanted.member.is_some() || !self.only.is_empty();
        let rest = if others { ", and matches the other words" } else { "" };
        let key = key.escape_ascii();
        format!("No captured request has \"{key}\" in a key{rest}. Esc shows all.")
    }

    /// What is said beside the words while the key that they mean is one that is recorded cut.
    pub(crate) fn doubt(&self) -> &'static str {
        let is_long = |key: &Vec<u8>| KEY_BYTES < key.len();
        match self.wanted.key.as_ref().is_some_and(is_long) {
            true => " (keys are recorded up to 88 bytes: these may be others)",
            false => "",
        }
    }

    /// Gives up what is typed; without that, shows all stories again.
    pub(crate) fn back(&mut self) {
        match self.typed {
            Some(_) => (self.typed, self.mistake) = (None, None),
            None => *self = Find::default(),
        }
    }
}

fn meaning(recording: &Recording, typed: &str) -> Result<(Wanted, Only), String> {
    let (mut wanted, mut only) = (Wanted::default(), Only::default());
    for (word, typed) in search::words(typed)? {
        let is_second = match &word {
            Word::Text(text) | Word::Key(text) => {
                wanted.key.replace(key(recording, text)?).is_some()
            }
            Word::Member(name) => wanted.member.replace(place_of(recording, name)?).is_some(),
            Word::Lease(id) => wanted.lease.replace(*id).is_some(),
            Word::Not(word) => {
                only.leave_out(unwanted(recording, word)?);
                false
            }
            other => !only.take(other).unwrap_or(Ok(true))?,
        };
        if is_second {
            return Err(format!("one word of a kind at most: {typed:?} is too many"));
        }
    }
    wanted.is_part = wanted.key.is_some();
    Ok((wanted, only))
}

/// The rows that a word leaves out. A row does not say which leases it touched.
fn unwanted(recording: &Recording, word: &Word) -> Result<Only, String> {
    let mut rows = Only::default();
    match word {
        Word::Text(text) | Word::Key(text) => return Ok(Only::of_key(key(recording, text)?)),
        Word::Member(name) => return Ok(Only::of_member(place_of(recording, name)?)),
        Word::Lease(_) | Word::Not(_) => {
            return Err("after ! comes a key, k:, m:, r:, is:, > or <".to_owned());
        }
        other => _ = rows.take(other).unwrap_or(Ok(true))?,
    }
    Ok(rows)
}

/// The part of a key that is typed. Fails if the members leave out keys.
fn key(recording: &Recording, text: &str) -> Result<Vec<u8>, String> {
    match is_redacted(recording) {
        true => Err(REDACTED.to_owned()),
        false => Ok(of_user::key(recording, text, true)),
    }
}

/// The position of a member, by its name or by raft's id of 16 hex digits.
pub(crate) fn place_of(recording: &Recording, name: &str) -> Result<u8, String> {
    let id = u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16);
    let members = &recording.members;
    let is_it = |known: &str| known == name || text::clean(known) == text::clean(name);
    let known = members.iter().position(|known| is_it(&known.name));
    let known = known.or_else(|| members.iter().position(|known| Some(known.member_id) == id));
    known.and_then(|place| u8::try_from(place).ok()).ok_or_else(|| {
        let names: Vec<&str> = members.iter().map(|known| &*known.name).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("no member {name:?} has sent records; those that have: {names}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use glass_etcd::{
        story::{Event, KeyText},
        trace::Stage,
    };

    #[test]
    fn words_of_different_kinds_hold_together_and_a_second_one_of_a_kind_is_refused() {
        let mut recording = Recording::default();
        let (wanted, _) = meaning(&recording, "told/before l:7f").unwrap();
        let (odd, _) = meaning(&recording, "k:is:odd").unwrap();
        assert_eq!(Some(b"is:odd".to_vec()), odd.key);
        assert_eq!((Some(b"told/before".to_vec()), Some(0x7f)), (wanted.key, wanted.lease));
        let refused = meaning(&recording, "told/before told/beside").unwrap_err();
        assert_eq!("one word of a kind at most: \"told/beside\" is too many", refused);
        assert!(meaning(&recording, "l:1 l:2").unwrap_err().contains("too many"));
        let key = |typed| meaning(&recording, typed).unwrap().0.key;
        assert_eq!(Some(b"a  b".to_vec()), key("\"a  b\" l:7f"));
        assert_eq!(Some(b"m:\"x".to_vec()), key("k:\"m:\"x\""));
        assert_eq!(Some(b"\"a".to_vec()), key("\"a"), "no quote closes it");
        assert_eq!(Some(b"\xe6\xbc".to_vec()), key("\\xe6\\xbc"));
        let of = |typed: &str| {
            let mut find = Find { typed: Some(Line::of(typed, TYPED_MAX)), ..Find::default() };
            find.apply(&recording);
            find
        };
        let said = "No captured request has \"hangul\" in a key. Esc shows all.";
        assert_eq!((said.to_owned(), ""), (of("hangul").nothing(), of("hangul").doubt()));
        assert_eq!("No captured story matches /l:7f. Esc shows all.", of("l:7f").nothing());
        let (without, only) = meaning(&recording, "!foo !r:put !is:error r:range").unwrap();
        assert!(without.key.is_none() && !only.is_empty());
        assert!(meaning(&recording, "!l:7f").unwrap_err().starts_with("after ! comes"));
        assert!(of(&"k".repeat(89)).doubt().contains("may be others"));
        let key = KeyText { bytes: Vec::new(), length: 11 };
        let event = Event { key: Some(key), ..Event::mark(0, Stage::Key, 1) };
        recording.events.push(event);
        assert_eq!(REDACTED, meaning(&recording, "told/before").unwrap_err());
        assert!(meaning(&recording, "l:7f").is_ok(), "leases are not left out");
    }

    #[test]
    fn a_search_that_is_full_says_so_and_is_not_applied() {
        let mut find = Find::default();
        find.begin();
        assert!(find.paste(&"k".repeat(TYPED_MAX)));
        assert!(!find.paste("x"), "a paste fits as a whole or not at all");
        find.edit(Edit::Type('x'));
        assert!(find.mistake.as_ref().is_some_and(|why| why.contains("1 more")));
        find.mistake = None;
        find.apply(&Recording::default());
        assert!(find.mistake.is_some() && find.typed.is_some());
        find.edit(Edit::Erase);
        find.apply(&Recording::default());
        assert_eq!((None, None), (find.mistake, find.typed));
    }
}
