//! The search on a screen whose rows stay: words are typed, and the next row that has them is
//! chosen.
//!
//! What stands around a row is why one looks at it, so no row is left out. `n` and `N` lead to the
//! next row and to the one before, and so does `/` with Enter alone. What the words mean says
//! [`super::search`].

use super::{
    line::{Edit, Line},
    search::{self, Word},
    steps::Direction,
};

/// Longest search, in characters.
const TYPED_MAX: usize = 100;

/// What a search compares of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// All that a word without a kind finds.
    pub(crate) text: String,
    /// Its keys, as screens show them.
    pub(crate) keys: Vec<String>,
    /// The name of its member.
    pub(crate) member: String,
    pub(crate) lease: Option<u64>,
    pub(crate) rpc: String,
    /// The names of the kinds that it is of.
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) took_ns: Option<u64>,
}

impl Told {
    fn has(&self, word: &Word, kinds: &[&str]) -> bool {
        match word {
            Word::Text(text) => self.text.to_lowercase().contains(&text.to_lowercase()),
            Word::Key(part) => self.keys.iter().any(|key| key.contains(part)),
            Word::Member(name) => self.member == *name,
            Word::Lease(id) => self.lease == Some(*id),
            Word::Rpc(part) => self.rpc.to_lowercase().contains(part),
            Word::Is(begun) => match search::kind(kinds, begun) {
                Ok(place) => self.kinds.contains(&kinds[place]),
                Err(_) => false,
            },
            Word::Least(least) => self.took_ns.is_some_and(|took| *least <= took),
            Word::Most(most) => self.took_ns.is_some_and(|took| took <= *most),
            Word::Not(word) => !self.has(word, kinds),
        }
    }
}

/// What the rows of a screen have, beside a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forms {
    /// The forms of words that can find something.
    pub(crate) forms: &'static [&'static str],
    /// The kinds after `is:`.
    pub(crate) kinds: &'static [&'static str],
}

impl Forms {
    /// The forms in one line.
    pub(crate) fn words(self) -> String {
        self.forms.join(" ")
    }

    /// Why a word finds nothing on any row.
    fn lack(self, word: &Word) -> Option<String> {
        let form = word.form()?;
        if !self.forms.contains(&form) {
            return Some(match self.forms {
                [] => format!("no row here has {form}; a word without it searches all text"),
                _ => format!("no row here has {form}; they have {}", self.words()),
            });
        }
        match word {
            Word::Not(word) => self.lack(word),
            Word::Is(begun) => search::kind(self.kinds, begun).err(),
            _ => None,
        }
    }
}

/// What is typed, and what was searched last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seek {
    /// What is typed; `None` while nothing is.
    typed: Option<Line>,
    last: String,
}

impl Seek {
    /// Begins to type.
    pub(crate) fn begin(&mut self) {
        self.typed = Some(Line::new(TYPED_MAX));
    }

    /// The line that is typed.
    pub(crate) fn typed(&self) -> Option<&Line> {
        self.typed.as_ref()
    }

    /// The words that Enter searches if nothing is typed.
    pub(crate) fn last(&self) -> &str {
        &self.last
    }

    /// Does what a key means. Returns why the line is not what was typed, or why nothing happened.
    pub(crate) fn edit(&mut self, edit: Edit) -> Option<String> {
        self.typed.as_mut()?.edit(edit)
    }

    /// Inserts all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        self.typed.as_mut().is_some_and(|line| line.paste(text))
    }

    /// Ends the typing without a search. Returns whether something was typed.
    pub(crate) fn give_up(&mut self) -> bool {
        self.typed.take().is_some()
    }

    /// Ends the typing: what was typed is searched from now on. What means nothing stays, to be
    /// corrected.
    pub(crate) fn enter(&mut self, forms: Forms) -> Result<(), String> {
        let Some(line) = &self.typed else { return Ok(()) };
        if let Some(lack) = line.lack() {
            return Err(lack);
        }
        let typed = line.text().trim().to_owned();
        if !typed.is_empty() {
            check(&typed, forms)?;
            self.last = typed;
        }
        self.typed = None;
        Ok(())
    }

    /// Of these rows, the next one after the chosen row that has the words, or the one before it;
    /// behind the last row comes the first.
    pub(crate) fn find(
        &self,
        (rows, forms): (&[Told], Forms),
        chosen: usize,
        direction: Direction,
    ) -> Result<usize, String> {
        if self.last.is_empty() {
            return Err("nothing was searched yet: / begins a search".to_owned());
        }
        let words = check(&self.last, forms)?;
        let count = rows.len();
        let chosen = chosen.min(count.saturating_sub(1));
        let mut places = (1..=count).map(|far| match direction {
            Direction::Forward => (chosen + far) % count,
            Direction::Back => (chosen + count - far) % count,
        });
        let has = |place: &usize| words.iter().all(|word| rows[*place].has(word, forms.kinds));
        match places.find(has) {
            Some(place) if place == chosen => Err(format!("no other row has {:?}", self.last)),
            Some(place) => Ok(place),
            None => Err(format!("no row has {:?}", self.last)),
        }
    }
}

/// The words of a search on a screen, if each of them can find something there.
fn check(typed: &str, forms: Forms) -> Result<Vec<Word>, String> {
    let words = search::words(typed)?.into_iter().map(|(word, _)| word);
    words.map(|word| forms.lack(&word).map_or(Ok(word), Err)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Back, Forward};

    const FORMS: Forms = Forms { forms: &["k:", "is:"], kinds: &["put", "deletion"] };

    fn rows() -> Vec<Told> {
        let row = |text: &str, key: &str, kind| Told {
            text: text.to_owned(),
            keys: vec![key.to_owned()],
            kinds: vec![kind],
            ..Told::default()
        };
        vec![
            row("41 Put foo", "foo", "put"),
            row("42 Put bar", "bar", "put"),
            row("43 DeleteRange FOO", "FOO", "deletion"),
        ]
    }

    fn type_in(seek: &mut Seek, words: &str) -> Result<(), String> {
        seek.begin();
        words.chars().for_each(|character| _ = seek.edit(Edit::Type(character)));
        seek.enter(FORMS)
    }

    #[test]
    fn the_search_leads_from_row_to_row_and_from_the_last_to_the_first() {
        let (rows, mut seek) = (rows(), Seek::default());
        assert!(
            seek.find((&rows, FORMS), 0, Forward).unwrap_err().contains("nothing was searched")
        );
        type_in(&mut seek, "foo").unwrap();
        assert_eq!(Ok(2), seek.find((&rows, FORMS), 0, Forward));
        assert_eq!(Ok(0), seek.find((&rows, FORMS), 2, Forward));
        assert_eq!(Ok(2), seek.find((&rows, FORMS), 0, Back));
        type_in(&mut seek, "").unwrap();
        assert_eq!(Ok(2), seek.find((&rows, FORMS), 1, Forward), "the same words again");
        type_in(&mut seek, "bar").unwrap();
        let none = "no other row has \"bar\"".to_owned();
        assert_eq!(Err(none), seek.find((&rows, FORMS), 1, Forward));
        type_in(&mut seek, "baz").unwrap();
        assert_eq!(Err("no row has \"baz\"".to_owned()), seek.find((&rows, FORMS), 1, Forward));
        assert!(seek.find((&[], FORMS), 0, Forward).is_err(), "there are no rows");
    }

    #[test]
    fn all_words_hold_and_one_that_no_row_can_have_is_refused() {
        let (rows, mut seek) = (rows(), Seek::default());
        type_in(&mut seek, "is:del foo").unwrap();
        assert_eq!(Ok(2), seek.find((&rows, FORMS), 0, Forward));
        type_in(&mut seek, "k:foo is:put").unwrap();
        assert_eq!(Ok(0), seek.find((&rows, FORMS), 1, Forward), "keys have their case");
        type_in(&mut seek, "!is:put").unwrap();
        assert_eq!(Ok(2), seek.find((&rows, FORMS), 0, Forward));
        assert!(type_in(&mut seek, "!m:etcd-01").unwrap_err().contains("no row here has m:"));
        seek.give_up();
        type_in(&mut seek, "k:foo is:put").unwrap();
        let refused = type_in(&mut seek, "m:etcd-01").unwrap_err();
        assert_eq!("no row here has m:; they have k: is:", refused);
        assert!(seek.typed().is_some(), "it can be corrected");
        assert!(type_in(&mut seek, "is:odd").unwrap_err().contains("put, deletion"));
        assert_eq!("k:foo is:put", seek.last(), "what was refused is not searched");
    }

    #[test]
    fn a_search_without_room_for_all_words_searches_nothing() {
        let mut seek = Seek::default();
        assert!(type_in(&mut seek, &"x".repeat(TYPED_MAX + 1)).unwrap_err().contains("fit"));
        assert!(!seek.paste("x"));
        _ = seek.edit(Edit::Erase);
        assert_eq!(Ok(()), seek.enter(FORMS));
    }
}
