//! Writes an answer into a [`Rope`], field by field and row by row, as far as there is room.
//!
//! It knows the length of the whole, which gRPC wants first. What a row takes is asked of the
//! [`Meter`]; the few bytes around rows are not.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{
    meter::{Meter, Taken},
    room::Share,
    rope::{Parts, Rope, Rows, value_len},
};

/// The longest answer: gRPC in Go, and so etcd, sends no longer one (`math.MaxInt32`).
pub const LONGEST: usize = i32::MAX as usize;
/// What of that is left for the header, which is not written here.
const HEADER: usize = 64;

/// Why an answer was not written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is not small, and there is no room to begin a large one: wait for it, and begin again.
    Full,
    /// It is longer than any answer may be: at least this long.
    TooLong(usize),
}

/// Writes one answer.
#[derive(Debug)]
pub struct Writer {
    parts: Parts,
    meter: Meter,
    stop: Option<Stop>,
}

impl Writer {
    /// An empty answer.
    pub fn new(meter: Meter) -> Writer {
        Writer { parts: Parts::default(), meter, stop: None }
    }

    /// What was written, to add what is not a row.
    pub(crate) fn parts(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Adds a row as one of these, or measures it. Returns whether it was kept.
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

    /// Adds the rows that were measured, if there are any.
    pub fn leave(&mut self, rows: Rows) {
        if !rows.is_empty() {
            self.parts.leave(rows);
        }
    }

    /// Counts bytes that are in memory for a moment, whether there is room for them or not.
    pub fn overdraw(&mut self, bytes: usize) -> ControlFlow<()> {
        match self.meter.overdraw(bytes) {
            Taken::Full => self.break_off(Stop::Full),
            Taken::Kept | Taken::NotKept => ControlFlow::Continue(()),
        }
    }

    /// Counts what the plan takes: at most, before it is made, and then exactly.
    pub fn plan(&mut self, bytes: usize) -> ControlFlow<()> {
        match self.meter.plan(bytes) {
            Taken::Full => self.break_off(Stop::Full),
            Taken::Kept | Taken::NotKept => ControlFlow::Continue(()),
        }
    }

    /// The bytes that were overdrawn are gone.
    pub fn repay(&mut self) {
        self.meter.repay();
    }

    /// The answer, its length, and its place in the ledger if it is not small.
    pub fn finish(self) -> Result<(Rope, usize, Option<Share>), Stop> {
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
