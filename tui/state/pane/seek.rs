//! The search in a view: words are typed, and the next row that contains them is chosen.
//!
//! The rows stay: what stands around a row is why one looks at it. Without new words the last ones
//! are searched again, so `/` and Enter lead from row to row.

/// Longest search, in bytes.
const TYPED_MAX: usize = 100;

/// What is typed, and what was searched last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seek {
    /// What is typed; `None` while nothing is.
    typed: Option<String>,
    /// Characters that were typed beyond the room: Enter refuses what lacks them.
    missed: usize,
    last: String,
}

impl Seek {
    /// Begins to type.
    pub(crate) fn begin(&mut self) {
        (self.typed, self.missed) = (Some(String::new()), 0);
    }

    /// Whether a search is typed.
    pub(crate) fn is_typed(&self) -> bool {
        self.typed.is_some()
    }

    /// What is typed, and the words that Enter searches if that is nothing.
    pub(crate) fn words(&self) -> (&str, &str) {
        (self.typed.as_deref().unwrap_or_default(), &self.last)
    }

    /// Appends a character.
    pub(crate) fn append(&mut self, character: char) {
        if !self.paste(character.encode_utf8(&mut [0; 4])) {
            self.missed += 1;
        }
    }

    /// Appends all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        let has_room = |typed: &&mut String| typed.len() + text.len() <= TYPED_MAX;
        self.typed.as_mut().filter(has_room).map(|typed| typed.push_str(text)).is_some()
    }

    /// Takes back a character.
    pub(crate) fn erase(&mut self) {
        match self.missed.checked_sub(1) {
            Some(missed) => self.missed = missed,
            None => self.typed.iter_mut().for_each(|typed| _ = typed.pop()),
        }
    }

    /// Ends the typing without a search. Returns whether something was typed.
    pub(crate) fn give_up(&mut self) -> bool {
        self.typed.take().is_some()
    }

    /// Ends the typing. Of rows with these texts, the next one after the chosen row that contains
    /// the words, in whichever case they are; behind the last row comes the first.
    pub(crate) fn next(&mut self, rows: &[String], chosen: usize) -> Result<usize, String> {
        if self.missed != 0 {
            return Err(format!("the search is full, and {} more were typed", self.missed));
        }
        let typed = self.typed.take().unwrap_or_default();
        if !typed.trim().is_empty() {
            self.last = typed.trim().to_owned();
        }
        if self.last.is_empty() {
            return Err("nothing was typed, and nothing was searched before".to_owned());
        }
        let wanted = self.last.to_lowercase();
        let places = (chosen + 1..rows.len()).chain(0..rows.len().min(chosen + 1));
        let mut found = places.filter(|place| rows[*place].to_lowercase().contains(&wanted));
        match found.next() {
            Some(place) if place == chosen => Err(format!("no other row has {:?}", self.last)),
            Some(place) => Ok(place),
            None => Err(format!("no row has {:?}", self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_leads_from_row_to_row_and_from_the_last_to_the_first() {
        let rows = ["Put foo", "Put bar", "DeleteRange FOO"].map(str::to_owned);
        let mut seek = Seek::default();
        assert!(seek.next(&rows, 0).unwrap_err().contains("nothing was typed"));
        let mut type_in = |words: &str, chosen| {
            seek.begin();
            words.chars().for_each(|character| seek.append(character));
            seek.next(&rows, chosen)
        };
        assert_eq!(Ok(2), type_in("foo", 0));
        assert_eq!(Ok(0), type_in("", 2), "the same words again");
        assert_eq!(Err("no other row has \"bar\"".to_owned()), type_in("bar", 1));
        assert_eq!(Err("no row has \"baz\"".to_owned()), type_in("baz", 1));
    }

    #[test]
    fn a_search_without_room_for_all_words_searches_nothing() {
        let rows = vec!["x".repeat(TYPED_MAX)];
        let mut seek = Seek::default();
        seek.begin();
        (0..=TYPED_MAX).for_each(|_| seek.append('x'));
        assert!(seek.next(&rows, 0).unwrap_err().contains("full"));
        assert!(!seek.paste("x"));
        seek.erase();
        assert!(seek.next(&rows, 0).unwrap_err().contains("no other row"));
    }
}
