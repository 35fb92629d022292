//! The line that is typed, with a cursor in it.
//!
//! It has a bound. A line that had to leave something out is not sent: what was typed is not what
//! it says.

/// The most characters of a line. More than anybody types, and little enough to be drawn at each
/// key.
const LENGTH_MAX: usize = 1 << 16;

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    characters: Vec<char>,
    /// The number of characters before the cursor.
    at: usize,
    /// How many characters were typed last and found no room.
    missed: usize,
}

impl Line {
    /// A line with the cursor at its end.
    pub(crate) fn of(text: &str) -> Line {
        let characters: Vec<char> = text.chars().take(LENGTH_MAX).collect();
        Line { at: characters.len(), characters, missed: 0 }
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
    pub(crate) fn insert(&mut self, character: char) {
        if character.is_control() {
            return;
        }
        if self.characters.len() < LENGTH_MAX {
            self.characters.insert(self.at, character);
            self.at += 1;
        } else {
            self.missed += 1;
        }
    }

    /// Inserts all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        let pasted: Vec<char> = text.chars().collect();
        let fits = self.characters.len() + pasted.len() <= LENGTH_MAX;
        if fits {
            let at = self.at;
            self.at += pasted.len();
            self.characters.splice(at..at, pasted);
        }
        fits
    }

    /// Why the line is not what was typed, if that is so.
    pub(crate) fn lack(&self) -> Option<String> {
        let missed = self.missed;
        (0 < missed).then(|| {
            format!("only {LENGTH_MAX} characters fit, and {missed} more were typed: Ctrl-U empties the line")
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
    pub(crate) fn erase(&mut self) {
        if 0 < self.missed {
            self.missed -= 1;
        } else if let Some(before) = self.at.checked_sub(1) {
            self.characters.remove(before);
            self.at = before;
        }
    }

    /// Takes back the word before the cursor, with the blanks behind it.
    pub(crate) fn erase_word(&mut self) {
        let before = &self.characters[..self.at];
        let blanks = before.iter().rev().take_while(|c| c.is_whitespace()).count();
        let word = before.iter().rev().skip(blanks).take_while(|c| !c.is_whitespace()).count();
        self.replace(blanks + word, "");
        self.missed = 0;
    }

    /// Removes everything from the cursor on.
    pub(crate) fn cut(&mut self) {
        self.characters.truncate(self.at);
        self.missed = 0;
    }

    /// Removes the character at the cursor.
    pub(crate) fn delete(&mut self) {
        if self.at < self.characters.len() {
            self.characters.remove(self.at);
        }
    }

    pub(crate) fn left(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    pub(crate) fn right(&mut self) {
        self.at = (self.at + 1).min(self.characters.len());
    }

    pub(crate) fn home(&mut self) {
        self.at = 0;
    }

    pub(crate) fn end(&mut self) {
        self.at = self.characters.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_changed_at_its_cursor() {
        let mut line = Line::of("put b 1");
        line.home();
        (0..4).for_each(|_| line.right());
        line.insert('a');
        line.delete();
        assert_eq!(("put a".to_owned(), " 1".to_owned()), line.parts());
        line.erase();
        line.left();
        line.replace(3, "get");
        assert_eq!("get  1", line.text());
        line.end();
        line.right();
        line.erase();
        assert_eq!("get  ", line.text());
    }

    #[test]
    fn a_word_and_the_rest_of_a_line_are_removed() {
        let mut line = Line::of("put some/key  漢字 ");
        line.erase_word();
        assert_eq!("put some/key  ", line.text());
        line.left();
        line.left();
        line.left();
        line.cut();
        assert_eq!("put some/ke", line.text());
        line.erase_word();
        line.erase_word();
        line.erase_word();
        assert_eq!("", line.text());
    }

    #[test]
    fn a_line_has_a_bound_and_no_character_that_a_terminal_obeys() {
        let mut line = Line::of(&"a".repeat(LENGTH_MAX - 1));
        line.insert('\x1b');
        line.insert('b');
        assert_eq!(None, line.lack());
        line.insert('c');
        assert!(line.text().ends_with("ab"));
        assert_eq!(LENGTH_MAX, line.text().len());
        assert!(line.lack().is_some_and(|lack| lack.contains("and 1 more")));
        line.erase();
        assert_eq!(None, line.lack(), "what found no room is taken back first");
        assert!(line.text().ends_with("ab"));
    }

    #[test]
    fn a_paste_is_inserted_as_a_whole_or_not_at_all() {
        let mut line = Line::of("put a ");
        line.left();
        assert!(line.paste("bc"));
        assert_eq!("put abc ", line.text());
        assert!(!line.paste(&"x".repeat(LENGTH_MAX)));
        assert_eq!(("put abc ".to_owned(), None), (line.text(), line.lack()));
    }
}
