//! The list of requests: newest at the bottom, one chosen.
//!
//! While the list follows, the newest row is always the chosen one. Moving up stops that, so that
//! the row being read does not scroll away; returning to the bottom resumes it.

use super::story::{RequestSummary, Subject};

/// The state of the list.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// The requests, oldest first.
    pub(crate) rows: Vec<RequestSummary>,
    /// Whether the chosen row is always the newest.
    pub(crate) is_following: bool,
    chosen: Option<Subject>,
}

impl Default for List {
    fn default() -> Self {
        List { rows: Vec::new(), is_following: true, chosen: None }
    }
}

impl List {
    /// Installs a newer list; the chosen row stays chosen.
    pub(crate) fn replace(&mut self, rows: Vec<RequestSummary>) {
        self.rows = rows;
        if self.is_following {
            self.choose(self.rows.len());
        }
    }

    /// The position of the chosen row; 0 if it is gone.
    pub(crate) fn chosen(&self) -> usize {
        let is_chosen = |row: &RequestSummary| Some(row.subject) == self.chosen;
        self.rows.iter().position(is_chosen).unwrap_or(0)
    }

    /// The subject of the chosen row.
    pub(crate) fn subject(&self) -> Option<Subject> {
        self.rows.get(self.chosen()).map(|row| row.subject)
    }

    /// Chooses a row; a position beyond the end means the last row.
    fn choose(&mut self, place: usize) {
        let place = place.min(self.rows.len().saturating_sub(1));
        self.chosen = self.rows.get(place).map(|row| row.subject);
    }

    /// Moves by rows, down when positive.
    pub(crate) fn move_by(&mut self, rows: isize) {
        let place = self.chosen().saturating_add_signed(rows);
        self.choose(place);
        self.is_following = self.rows.len() <= place + 1;
    }

    /// Chooses the oldest row.
    pub(crate) fn first(&mut self) {
        self.choose(0);
        self.is_following = false;
    }

    /// Chooses the newest row, and follows it.
    pub(crate) fn follow(&mut self, follow: bool) {
        self.is_following = follow;
        if follow {
            self.choose(self.rows.len());
        }
    }
}
