//! A page of text over the screen: what was computed elsewhere, to be read and closed.

/// The page, and how far it is scrolled.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
    /// Lines that are scrolled away.
    pub(crate) scrolled: usize,
}

impl Compared {
    /// Scrolls by lines, down when positive. Returns whether that was possible.
    pub(crate) fn scroll(&mut self, lines: isize) -> bool {
        let before = self.scrolled;
        let last = self.lines.len().saturating_sub(1);
        self.scrolled = before.saturating_add_signed(lines).min(last);
        self.scrolled != before
    }
}
