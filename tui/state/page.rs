//! A page of text to read beside a step: its source, or what the book says of it.

/// The role of a line, which determines its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Plain,
    Heading,
    /// Code, and everything else that is not wrapped.
    Code,
    /// A comment in code, or a remark of the player.
    Remark,
    /// The lines that the page is opened for.
    Marked,
}

/// A line of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The number of a source line; `None` in the book.
    pub(crate) number: Option<usize>,
    pub(crate) role: Role,
    pub(crate) text: String,
}

impl Line {
    /// A line of text.
    pub(crate) fn new(role: Role, text: impl Into<String>) -> Line {
        Line { number: None, role, text: text.into() }
    }
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// The source of the step.
    Source,
    /// The section of the book.
    Book,
}

/// A text that covers the step view, and how far it was scrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) text: Text,
    /// Lines below the position at which the page opens.
    pub(crate) scrolled: isize,
}

/// A page, and where it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// What it is.
    pub(crate) title: String,
    /// Where else to read it.
    pub(crate) address: String,
    pub(crate) lines: Vec<Line>,
    /// The line that has to be visible when it opens.
    pub(crate) at: usize,
}

impl Page {
    /// The first line to show in `height` rows, of which a line takes as many as `rows` says. The
    /// line of interest stands a third below the top.
    pub(crate) fn first(
        &self,
        scrolled: isize,
        height: usize,
        rows: impl Fn(&Line) -> usize,
    ) -> usize {
        // The first of the lines before `end` that fit into this many rows together.
        let fitting = |end: usize, room: usize| {
            let mut used = 0;
            let fits = |line: &&Line| {
                used += rows(line);
                used <= room
            };
            end - self.lines[..end].iter().rev().take_while(fits).count()
        };
        let last = fitting(self.lines.len(), height);
        let opened = fitting(self.at.min(self.lines.len()), height / 3).min(last);
        opened.saturating_add_signed(scrolled).min(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_opens_at_its_line_and_scrolls_to_its_ends_only() {
        let lines = vec![Line::new(Role::Plain, ""); 100];
        let page = Page { title: String::new(), address: String::new(), lines, at: 50 };
        let one = |_: &Line| 1;
        assert_eq!(40, page.first(0, 30, one));
        assert_eq!(0, page.first(-1_000, 30, one));
        assert_eq!(70, page.first(1_000, 30, one));
        assert_eq!(0, page.first(5, 200, one));
        assert_eq!((45, 85), (page.first(0, 30, |_| 2), page.first(1_000, 30, |_| 2)));
    }
}
