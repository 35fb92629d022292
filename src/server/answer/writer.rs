//! Writes an answer into a [`Rope`], field by field and row by row, as far as there is room.
//!
//! It knows the length of the whole, which gRPC wants first. The [`Meter`] decides about each row;
//! the few bytes around rows are always kept.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{
    meter::{Meter, Taken},
    room::Seat,
    rope::{Parts, Rope, Rows, value_len},
};

/// The longest answer in bytes: gRPC in Go, and so etcd, sends none that is longer
/// (`math.MaxInt32`).
pub const LONGEST: usize = i32::MAX as usize;
/// Bytes of that for the header, which is not written here.
const HEADER: usize = 64;

/// The reason why an answer was not written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is not small, and there is no room to begin a large one. After a wait for room it can
    /// begin again.
    Full,
    /// It is longer than [`LONGEST`]: at least this many bytes.
    TooLong(usize),
}

/// Encodes one answer, and keeps its rows or only measures them.
#[derive(Debug)]
pub struct Writer {
    parts: Parts,
    meter: Meter,
    stop: Option<Stop>,
}

impl Writer {
    /// A writer that has encoded nothing yet.
    pub fn new(meter: Meter) -> Writer {
        Writer { parts: Parts::default(), meter, stop: None }
    }

    /// What was written, to add what is not a row.
    pub(crate) fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Adds a row as one of `rows`, or only measures it. Returns whether it was kept.
    pub fn row(&mut self, rows: &Rows, row: Bytes) -> ControlFlow<(), bool> {
        let (tag, row) = (rows.tag(), rows.returned(row));
        let len = value_len(tag, row.len());
        let total = self.parts.len() + len;
        if LONGEST < HEADER + total {
            return self.break_off(Stop::TooLong(total));
        }
        let is_kept = match self.meter.take(len) {
            Taken::Kept => true,
            Taken::NotKept => false,
            Taken::Full => return self.break_off(Stop::Full),
        };
        if is_kept {
            self.parts.push(tag, &row);
        } else {
            self.parts.skip(tag, row.len());
        }
        ControlFlow::Continue(is_kept)
    }

    fn break_off<T>(&mut self, stop: Stop) -> ControlFlow<(), T> {
        self.stop = Some(stop);
        ControlFlow::Break(())
    }

    /// Adds the rows that were only measured, to be read again.
    pub fn leave(&mut self, rows: Rows) {
        if !rows.is_empty() {
            self.parts.leave(rows);
        }
    }

    /// Counts bytes that are in memory temporarily, whether there is room for them or not.
    pub fn overdraw(&mut self, bytes: usize) -> ControlFlow<()> {
        match self.meter.overdraw(bytes) {
            Taken::Full => self.break_off(Stop::Full),
            Taken::Kept | Taken::NotKept => ControlFlow::Continue(()),
        }
    }

    /// Counts the plan: as an upper limit before it is made, and then exactly.
    pub fn plan(&mut self, bytes: usize) -> ControlFlow<()> {
        match self.meter.plan(bytes) {
            Taken::Full => self.break_off(Stop::Full),
            Taken::Kept | Taken::NotKept => ControlFlow::Continue(()),
        }
    }

    /// Whether the answer has stopped and can begin again after a wait for room.
    pub fn begins_again(&self) -> bool {
        self.stop == Some(Stop::Full)
    }

    /// Gives back the overdrawn bytes.
    pub fn repay(&mut self) {
        self.meter.repay();
    }

    /// Returns the answer, its length, and its place in the ledger if it is not small.
    pub fn finish(self) -> Result<(Rope, usize, Option<Seat>), Stop> {
        if let Some(stop) = self.stop {
            return Err(stop);
        }
        let len = self.parts.len();
        if LONGEST < HEADER + len {
            return Err(Stop::TooLong(len));
        }
        Ok((Rope::new(self.parts), len, self.meter.finish()))
    }
}
