//! What the list of requests is narrowed to: the stories about a key, a lease or a member, and the
//! rows of some kind.
//!
//! The user types words after `/`: a key, `m:` and a member's name, `l:` and a lease's id in hex,
//! and the words of [`Only`]. There may be one of each, and all of them must hold, as with the
//! options of `glass trace list`. A key that looks like another word is typed after `k:`.

use super::only::Only;
use glass_etcd::story::{
    Recording,
    query::find::{Wanted, is_redacted},
};

/// Why no key can be found.
pub(crate) const REDACTED: &str = "the members leave out the text of keys (--trace-redact-keys)";

/// The search of the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Find {
    /// What is being typed; `None` while nothing is.
    pub(crate) typed: Option<String>,
    /// How many characters were typed last and found no room.
    missed: usize,
    /// Why what was typed means nothing.
    pub(crate) mistake: Option<String>,
    /// The words that hold; empty if all stories are shown.
    pub(crate) words: String,
    /// What they mean.
    pub(crate) wanted: Wanted,
    /// What rows have to be beside that.
    pub(crate) only: Only,
}

/// The longest search, in bytes.
const TYPED_MAX: usize = 200;

impl Find {
    /// Whether some stories are left out.
    pub(crate) fn is_narrow(&self) -> bool {
        self.wanted != Wanted::default() || !self.only.is_empty()
    }

    /// Begins to type.
    pub(crate) fn begin(&mut self) {
        (self.typed, self.mistake, self.missed) = (Some(String::new()), None, 0);
    }

    /// Appends a character.
    pub(crate) fn append(&mut self, character: char) {
        if !self.paste(character.encode_utf8(&mut [0; 4])) {
            self.missed += 1;
        }
        self.mistake = self.lack();
    }

    /// Appends all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        self.mistake = None;
        let has_room = |typed: &&mut String| typed.len() + text.len() <= TYPED_MAX;
        self.typed.as_mut().filter(has_room).map(|typed| typed.push_str(text)).is_some()
    }

    /// Why the search is not what was typed, if that is so.
    fn lack(&self) -> Option<String> {
        let missed = self.missed;
        (0 < missed).then(|| format!("the search is full, and {missed} more were typed"))
    }

    /// Takes back a character.
    pub(crate) fn erase(&mut self) {
        match self.missed.checked_sub(1) {
            Some(missed) => self.missed = missed,
            None => self.typed.iter_mut().for_each(|typed| _ = typed.pop()),
        }
        self.mistake = self.lack();
    }

    /// Narrows the list to what was typed, if that means something.
    pub(crate) fn apply(&mut self, recording: &Recording) {
        let Some(typed) = &self.typed else { return };
        if let Some(lack) = self.lack() {
            self.mistake = Some(lack);
            return;
        }
        match meaning(recording, typed) {
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
    for word in typed.split_whitespace() {
        let is_second = if let Some(name) = word.strip_prefix("m:") {
            wanted.member.replace(place_of(recording, name)?).is_some()
        } else if let Some(id) = word.strip_prefix("l:") {
            wanted.lease.replace(lease(id)?).is_some()
        } else if let Some(taken) = only.take(word) {
            !taken?
        } else if is_redacted(recording) {
            return Err(REDACTED.to_owned());
        } else {
            let key = word.strip_prefix("k:").unwrap_or(word);
            wanted.key.replace(key.as_bytes().to_vec()).is_some()
        };
        if is_second {
            return Err(format!("one word of a kind at most: {word:?} is too many"));
        }
    }
    Ok((wanted, only))
}

/// A lease id in hex, as etcdctl shows it.
pub(crate) fn lease(text: &str) -> Result<u64, String> {
    let number = u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let number = number.ok().filter(|number| *number != 0);
    number.ok_or_else(|| format!("{text:?} is not a lease id in hex"))
}

/// The position of a member, by its name or by raft's id of 16 hex digits.
pub(crate) fn place_of(recording: &Recording, name: &str) -> Result<u8, String> {
    let id = u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16);
    let members = &recording.members;
    let known = members.iter().position(|known| known.name == name);
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
        find.append('x');
        assert!(find.mistake.as_ref().is_some_and(|why| why.contains("full")));
        find.mistake = None;
        find.apply(&Recording::default());
        assert!(find.mistake.is_some() && find.typed.is_some());
        find.erase();
        find.apply(&Recording::default());
        assert_eq!((None, None), (find.mistake, find.typed));
    }
}
