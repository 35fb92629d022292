//! The views beside the stories: what the members have, not what they did.
//!
//! ```text
//!   records ──▶ facts of a view      read once, whenever records have arrived
//!   cursor ───▶ board, cuts ──▶ what each member had at the step that is looked at, or now
//! ```
//!
//! A story says what happened to one request; such a view says how a part of all members stands:
//! their logs, keys, waiting clients, and what they print. All views look at the one cursor of the
//! player. They have only a chosen row of their own, which moves nobody in time.
//!
//! Invariant: a view says of a moment only what records up to that moment say, each member by its
//! own clock. What no record says is unknown, and is shown as unknown.

pub(crate) mod keys;
pub(crate) mod lines;
pub(crate) mod log;
pub(crate) mod waits;

use super::{room::Board, watermarks::Moment};

/// The views beside the stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The members' raft logs.
    Log,
    /// The key space.
    Keys,
    /// Watchers, leases and locks.
    Waits,
    /// What the members print.
    Lines,
}

/// The state of these views.
#[derive(Debug, Default)]
pub(crate) struct Panes {
    /// The view that covers the screen; `None` for none.
    pub(crate) shown: Option<View>,
    pub(crate) log: log::Pane,
    pub(crate) keys: keys::Pane,
    pub(crate) waits: waits::Pane,
    pub(crate) lines: lines::Pane,
}

/// The moment that a view shows.
#[derive(Debug)]
pub(crate) struct Sight {
    /// The members at that moment.
    pub(crate) board: Board,
    /// For each of them, how far it had come by its own clock; `None` if nothing was recorded of it
    /// until then.
    pub(crate) cuts: Vec<Option<Moment>>,
}

impl Sight {
    /// The member in this column: its position in the recording, and how far it had come.
    pub(crate) fn member(&self, column: usize) -> Option<(u8, Moment)> {
        self.board.columns.get(column)?.place.zip(*self.cuts.get(column)?)
    }

    /// All members of which something was recorded.
    pub(crate) fn members(&self) -> impl Iterator<Item = (u8, Moment)> {
        (0..self.cuts.len()).filter_map(|column| self.member(column))
    }
}
