//! A page of text over the screen: what was computed elsewhere, to be read and closed.

use super::steps::Direction;

/// The page, and how far it is scrolled.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
    /// Lines that are scrolled away.
    pub(crate) scrolled: usize,
}

impl Compared {
    /// Scrolls by lines. Returns whether that was possible.
    pub(crate) fn scroll(&mut self, direction: Direction, lines: usize) -> bool {
        let before = self.scrolled;
        let last = self.lines.len().saturating_sub(1);
        self.scrolled = match direction {
            Direction::Forward => before.saturating_add(lines).min(last),
            Direction::Back => before.saturating_sub(lines),
        };
        self.scrolled != before
    }
}
