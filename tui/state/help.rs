//! The list of keys while it is open: what was typed to search it, and how far it is scrolled.

use super::steps::Direction;

/// Longest search, in bytes.
const TYPED_MAX: usize = 40;
/// More lines than the list has at any width.
const LINES_MAX: usize = 100;

/// The search in the list of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Help {
    pub(crate) typed: String,
    /// Lines that are scrolled away.
    pub(crate) scrolled: usize,
}

impl Help {
    /// Appends all of a text, or nothing of it if that is too much. Returns whether it did.
    pub(crate) fn append(&mut self, text: &str) -> bool {
        self.scrolled = 0;
        let fits = self.typed.len() + text.len() <= TYPED_MAX;
        if fits {
            self.typed.push_str(text);
        }
        fits
    }

    pub(crate) fn erase(&mut self) {
        self.typed.pop();
        self.scrolled = 0;
    }

    pub(crate) fn scroll(&mut self, direction: Direction) {
        self.scrolled = match direction {
            Direction::Forward => (self.scrolled + 1).min(LINES_MAX),
            Direction::Back => self.scrolled.saturating_sub(1),
        };
    }

    /// Whether the text contains what was typed.
    pub(crate) fn has(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.typed.trim().to_lowercase())
    }
}
