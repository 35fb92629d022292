//! Finds room for one answer while it is read, without waiting for it.
//!
//! A reader runs on a thread that must not wait for a client. So the meter decides for each row
//! whether there is room to keep it, and the reader continues in either case. Only the step from a
//! small answer to a large one may fail: then everything is dropped, and the answer begins again
//! after it has waited for its place.

use std::sync::Arc;

use super::room::{Connection, Seat};

/// Bytes that an answer asks for at a time when it keeps more rows.
const STEP: usize = 1 << 20;
/// Bytes that are noted of a row that is not kept: its key in the file.
const NOTE: usize = 17;

/// The decision about some bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There is room for them.
    Kept,
    /// There is none, and none for the rows that follow.
    NotKept,
    /// The answer is too long to be small, and there is no room to begin a large one.
    Full,
}

/// See the module's text.
#[derive(Debug)]
pub struct Meter {
    connection: Arc<Connection>,
    /// The place in the ledger, once the answer is not small.
    seat: Option<Seat>,
    /// Bytes that the answer keeps, and for how many of them the seat has room.
    kept: usize,
    granted: usize,
    /// Bytes that it holds temporarily.
    overdrawn: usize,
    /// Bytes of its plan.
    plan: usize,
    /// Bytes of the rows that it has noted, the part of its plan that outlives reading.
    noted: usize,
    is_over: bool,
}

impl Meter {
    /// Measures an answer on this connection. `seat` is the place that it has waited for.
    pub fn new(connection: &Arc<Connection>, seat: Option<Seat>) -> Meter {
        let connection = Arc::clone(connection);
        let plan = seat.as_ref().map_or(0, Seat::plan);
        let (kept, granted, overdrawn, noted) = (0, 0, 0, 0);
        Meter { connection, seat, kept, granted, overdrawn, plan, noted, is_over: false }
    }

    /// Counts the plan: as an upper limit before it is made, and then exactly.
    pub fn plan(&mut self, bytes: usize) -> Taken {
        let more = bytes.saturating_sub(self.plan);
        if !self.is_small(more) {
            let Some(seat) = self.seat() else { return Taken::Full };
            seat.overdraw(more);
        }
        if let Some(seat) = &self.seat {
            seat.give_back(self.plan.saturating_sub(bytes));
        }
        self.plan = bytes;
        Taken::Kept
    }

    /// The connection of the client that asked.
    pub fn client(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Whether the answer has a place in the ledger.
    pub fn has_place(&self) -> bool {
        self.seat.is_some()
    }

    /// Counts bytes that the answer keeps if there is room.
    pub fn take(&mut self, bytes: usize) -> Taken {
        if self.is_over {
            self.note();
            return Taken::NotKept;
        }
        if self.is_small(bytes) {
            self.kept += bytes;
            return Taken::Kept;
        }
        if self.seat().is_none() {
            return Taken::Full;
        }
        let Some(seat) = &self.seat else { return Taken::Full };
        let more = (self.kept + bytes).saturating_sub(self.granted);
        let steps = if more == 0 { [0, 0] } else { [more.max(STEP), more] };
        match steps.into_iter().find(|step| *step == 0 || seat.keep(*step)) {
            Some(step) => {
                self.granted += step;
                self.kept += bytes;
                Taken::Kept
            }
            None => {
                self.is_over = true;
                self.note();
                Taken::NotKept
            }
        }
    }

    /// Counts bytes that are in memory temporarily, whether there is room for them or not.
    pub fn overdraw(&mut self, bytes: usize) -> Taken {
        if !self.is_small(bytes) {
            let Some(seat) = self.seat() else { return Taken::Full };
            seat.overdraw(bytes);
        }
        self.overdrawn += bytes;
        Taken::Kept
    }

    /// Gives back the overdrawn bytes.
    pub fn repay(&mut self) {
        if let Some(seat) = &self.seat {
            seat.give_back(self.overdrawn);
        }
        self.overdrawn = 0;
    }

    /// Whether the answer would still be small with `bytes` more.
    fn is_small(&self, bytes: usize) -> bool {
        let held = self.kept + self.overdrawn + self.plan;
        self.seat.is_none() && held + bytes <= self.connection.small()
    }

    /// The place in the ledger. An answer that gets it now has its small part counted there.
    fn seat(&mut self) -> Option<&Seat> {
        if self.seat.is_none() {
            let seat = self.connection.try_enter()?;
            seat.overdraw(self.kept + self.overdrawn + self.plan);
            self.granted = self.kept;
            self.seat = Some(seat);
        }
        self.seat.as_ref()
    }

    /// Its memory is counted as part of the plan until the answer is read.
    fn note(&mut self) {
        self.noted += NOTE;
    }

    /// The answer is read. Returns its place if it is not small, without the window if all of it is
    /// kept.
    pub fn finish(self) -> Option<Seat> {
        if let Some(seat) = &self.seat {
            seat.overdraw(self.noted);
            seat.give_back(self.plan);
            let window = if self.is_over { 0 } else { seat.window() };
            seat.give_back(self.granted - self.kept + window);
        }
        self.seat
    }
}
