//! A line that is typed, with a cursor in it: a request of one's own, or a search.
//!
//! It has a bound. A line that had to leave something out is not used: what was typed is not what
//! it says.

/// What a key does to the line that is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Type(char),
    /// Take back the character before the cursor.
    Erase,
    /// Remove the character at the cursor.
    Delete,
    Left,
    Right,
    Home,
    End,
    /// Empty the line.
    Clear,
    /// Take back the word before the cursor.
    EraseWord,
    /// Remove what is after the cursor.
    Cut,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    characters: Vec<char>,
    /// The number of characters before the cursor.
    at: usize,
    /// How many characters were typed last and found no room.
    missed: usize,
    /// The most characters.
    most: usize,
}

impl Line {
    /// An empty line of at most this many characters.
    pub(crate) fn new(most: usize) -> Line {
        Line { characters: Vec::new(), at: 0, missed: 0, most }
    }

    /// The same with this text, and the cursor at its end.
    pub(crate) fn of(text: &str, most: usize) -> Line {
        let characters: Vec<char> = text.chars().take(most).collect();
        Line { at: characters.len(), characters, ..Line::new(most) }
    }

    /// Does what a key means. Returns why the line is not what was typed, or why nothing happened.
    pub(crate) fn edit(&mut self, edit: Edit) -> Option<String> {
        let state = |line: &Line| (line.characters.len(), line.at, line.missed);
        let before = state(self);
        self.apply(edit);
        let is_still = before == state(self);
        self.lack().or_else(|| is_still.then(|| "the line has nothing there".to_owned()))
    }

    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Type(character) => self.insert(character),
            Edit::Erase => self.erase(),
            Edit::Delete => self.delete(),
            Edit::Left => self.at = self.at.saturating_sub(1),
            Edit::Right => self.at = (self.at + 1).min(self.characters.len()),
            Edit::Home => self.at = 0,
            Edit::End => self.at = self.characters.len(),
            Edit::Clear => *self = Line::new(self.most),
            Edit::EraseWord => self.erase_word(),
            Edit::Cut => self.cut(),
        }
    }

    pub(crate) fn text(&self) -> String {
        self.characters.iter().collect()
    }

    /// What is before the cursor, and what is after it.
    pub(crate) fn parts(&self) -> (String, String) {
        let (before, after) = self.characters.split_at(self.at);
        (before.iter().collect(), after.iter().collect())
    }

    /// Types a character. A control character would be obeyed by the terminal, so it is left out.
    fn insert(&mut self, character: char) {
        if character.is_control() {
            return;
        }
        if self.characters.len() < self.most {
            self.characters.insert(self.at, character);
            self.at += 1;
        } else {
            self.missed += 1;
        }
    }

    /// Inserts all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        let pasted: Vec<char> = text.chars().collect();
        let fits = self.characters.len() + pasted.len() <= self.most;
        if fits {
            let at = self.at;
            self.at += pasted.len();
            self.characters.splice(at..at, pasted);
        }
        fits
    }

    /// Why the line is not what was typed, if that is so.
    pub(crate) fn lack(&self) -> Option<String> {
        let Line { missed, most, .. } = self;
        (0 < *missed).then(|| {
            format!(
                "only {most} characters fit, and {missed} more were typed: Ctrl-U empties the line"
            )
        })
    }

    /// Replaces the last `length` characters before the cursor.
    pub(crate) fn replace(&mut self, length: usize, text: &str) {
        let from = self.at.saturating_sub(length);
        self.characters.drain(from..self.at);
        self.at = from;
        text.chars().for_each(|character| self.insert(character));
    }

    /// Takes back the character before the cursor.
    fn erase(&mut self) {
        if 0 < self.missed {
            self.missed -= 1;
        } else if let Some(before) = self.at.checked_sub(1) {
            self.characters.remove(before);
            self.at = before;
        }
    }

    /// Takes back the word before the cursor, with the blanks behind it.
    fn erase_word(&mut self) {
        let before = &self.characters[..self.at];
        let blanks = before.iter().rev().take_while(|c| c.is_whitespace()).count();
        let word = before.iter().rev().skip(blanks).take_while(|c| !c.is_whitespace()).count();
        self.replace(blanks + word, "");
        self.missed = 0;
    }

    /// Removes everything from the cursor on.
    fn cut(&mut self) {
        self.characters.truncate(self.at);
        self.missed = 0;
    }

    /// Removes the character at the cursor.
    fn delete(&mut self) {
        if self.at < self.characters.len() {
            self.characters.remove(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100;

    #[test]
    fn a_line_is_changed_at_its_cursor() {
        let mut line = Line::of("put b 1", MOST);
        _ = line.edit(Edit::Home);
        (0..4).for_each(|_| _ = line.edit(Edit::Right));
        line.insert('a');
        line.delete();
        assert_eq!(("put a".to_owned(), " 1".to_owned()), line.parts());
        line.erase();
        _ = line.edit(Edit::Left);
        line.replace(3, "get");
        assert_eq!("get  1", line.text());
        _ = line.edit(Edit::End);
        _ = line.edit(Edit::Right);
        line.erase();
        assert_eq!("get  ", line.text());
    }

    #[test]
    fn a_word_and_the_rest_of_a_line_are_removed() {
        let mut line = Line::of("put some/key  漢字 ", MOST);
        line.erase_word();
        assert_eq!("put some/key  ", line.text());
        _ = line.edit(Edit::Left);
        _ = line.edit(Edit::Left);
        _ = line.edit(Edit::Left);
        line.cut();
        assert_eq!("put some/ke", line.text());
        line.erase_word();
        line.erase_word();
        line.erase_word();
        assert_eq!("", line.text());
    }

    #[test]
    fn a_line_has_a_bound_and_no_character_that_a_terminal_obeys() {
        let mut line = Line::of(&"a".repeat(MOST - 1), MOST);
        line.insert('\x1b');
        line.insert('b');
        assert_eq!(None, line.lack());
        line.insert('c');
        assert!(line.text().ends_with("ab"));
        assert_eq!(MOST, line.text().len());
        assert!(line.lack().is_some_and(|lack| lack.contains("and 1 more")));
        line.erase();
        assert_eq!(None, line.lack(), "what found no room is taken back first");
        assert!(line.text().ends_with("ab"));
    }

    #[test]
    fn a_key_that_changes_nothing_says_so() {
        let mut line = Line::new(MOST);
        for edit in [Edit::Left, Edit::Right, Edit::Home, Edit::Delete, Edit::EraseWord] {
            assert!(line.edit(edit).is_some_and(|why| why.contains("nothing")), "{edit:?}");
        }
        assert_eq!((None, None), (line.edit(Edit::Type('a')), line.edit(Edit::Left)));
    }

    #[test]
    fn a_paste_is_inserted_as_a_whole_or_not_at_all() {
        let mut line = Line::of("put a ", MOST);
        _ = line.edit(Edit::Left);
        assert!(line.paste("bc"));
        assert_eq!("put abc ", line.text());
        assert!(!line.paste(&"x".repeat(MOST)));
        assert_eq!(("put abc ".to_owned(), None), (line.text(), line.lack()));
    }
}
