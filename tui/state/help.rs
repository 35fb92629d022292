//! The list of keys while it is open: what was typed to search it, and how far it is scrolled.

use super::{
    line::{Edit, Line},
    steps::Direction,
};

/// Longest search, in characters.
const TYPED_MAX: usize = 40;
/// More lines than the list has at any width.
const LINES_MAX: usize = 100;

/// The search in the list of keys.
#[derive(Clone, Debug)]
pub(crate) struct Help {
    pub(crate) typed: Line,
    /// Lines that are scrolled away.
    pub(crate) scrolled: usize,
}

impl Default for Help {
    fn default() -> Help {
        Help { typed: Line::new(TYPED_MAX), scrolled: 0 }
    }
}

impl Help {
    /// Appends all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn paste(&mut self, text: &str) -> bool {
        self.scrolled = 0;
        self.typed.paste(text)
    }

    /// Does what a key means. Returns why the line is not what was typed, or why nothing happened.
    pub(crate) fn edit(&mut self, edit: Edit) -> Option<String> {
        self.scrolled = 0;
        self.typed.edit(edit)
    }

    pub(crate) fn scroll(&mut self, direction: Direction) {
        self.scrolled = match direction {
            Direction::Forward => (self.scrolled + 1).min(LINES_MAX),
            Direction::Back => self.scrolled.saturating_sub(1),
        };
    }

    /// Whether the text contains what was typed.
    pub(crate) fn has(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.typed.text().trim().to_lowercase())
    }
}
