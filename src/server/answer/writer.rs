//! Writes an answer into a [`Rope`], field by field and row by row, as far as there is room.
//!
//! It knows the length of the whole, which gRPC wants first, and so also of the messages inside it.
//! The [`Meter`] decides about each row; the few bytes around rows are always kept.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::{
    meter::{Meter, Taken},
    room::Share,
    rope::{Part, Parts, Rope, Rows, prefix, put_prefix},
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

/// Writes one answer.
#[derive(Debug)]
pub struct Writer {
    parts: Parts,
    len: usize,
    meter: Meter,
    stop: Option<Stop>,
}

/// The place of a message inside the answer, whose length is not known yet.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    place: usize,
    len: usize,
}

impl Writer {
    /// An empty answer.
    pub fn new(meter: Meter) -> Writer {
        Writer { parts: Parts::default(), len: 0, meter, stop: None }
    }

    /// Adds the fields of a message that are set.
    pub fn fields(&mut self, message: &impl Message) {
        let len = message.encoded_len();
        let room = self.parts.room(len);
        message.encode(room).expect("BytesMut grows");
        self.len += len;
    }

    /// Begins a message inside the answer.
    pub fn begin(&mut self) -> Begun {
        self.parts.cut();
        self.parts.list.push_back(Part::Bytes(Bytes::new(), true));
        Begun { place: self.parts.list.len() - 1, len: self.len }
    }

    /// Ends it, as the value of the field `tag` (1 to 15).
    pub fn end(&mut self, begun: Begun, tag: u8) {
        self.parts.cut();
        let len = self.len - begun.len;
        put_prefix(tag, len, self.parts.room(prefix(tag, len)));
        self.len += prefix(tag, len);
        self.parts.list[begun.place] = Part::Bytes(self.parts.shared.split().freeze(), true);
    }

    /// Adds a row as one of `rows`, or only measures it. Returns whether it was kept.
    pub fn row(&mut self, rows: &Rows, row: Bytes) -> ControlFlow<(), bool> {
        let (tag, row) = (rows.tag(), rows.returned(row));
        let len = prefix(tag, row.len()) + row.len();
        if LONGEST < HEADER + self.len + len {
            return self.break_off(Stop::TooLong(self.len + len));
        }
        let is_kept = match self.meter.take(len) {
            Taken::Kept => true,
            Taken::NotKept => false,
            Taken::Full => return self.break_off(Stop::Full),
        };
        self.len += len;
        if is_kept {
            self.parts.push(tag, &row);
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
            self.parts.cut();
            self.parts.list.push_back(Part::Rows(rows));
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

    /// Gives back the overdrawn bytes.
    pub fn repay(&mut self) {
        self.meter.repay();
    }

    /// Returns the answer, its length, and its place in the ledger if it is not small.
    pub fn finish(self) -> Result<(Rope, usize, Option<Share>), Stop> {
        if let Some(stop) = self.stop {
            return Err(stop);
        }
        if LONGEST < HEADER + self.len {
            return Err(Stop::TooLong(self.len));
        }
        Ok((Rope::new(self.parts), self.len, self.meter.finish()))
    }
}
