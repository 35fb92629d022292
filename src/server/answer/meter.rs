//! Finds room for one answer while it is read, without waiting for it.
//!
//! A reader runs on a thread that must not wait for a client. So it is told of each row whether
//! there is room to keep it, and goes on in either case. Only the first step from a small answer to
//! a large one may fail: then everything is dropped, and the answer begins again when it has waited
//! for its place.

use std::sync::Arc;

use super::room::{Connection, Share};

/// What an answer asks for when it keeps more.
const STEP: usize = 1 << 20;
/// What is noted of a row that is not kept: the key of the row.
const NOTE: usize = 17;

/// What became of some bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There is room for them.
    Kept,
    /// There is none, nor for what follows.
    NotKept,
    /// The answer is not small any more, and there is no room to begin a large one.
    Full,
}

/// See the module's text.
#[derive(Debug)]
pub struct Meter {
    connection: Arc<Connection>,
    /// As soon as the answer is not small.
    share: Option<Share>,
    /// What the answer keeps, and how much of it the share has room for.
    kept: usize,
    granted: usize,
    /// What it holds for a moment.
    overdrawn: usize,
    /// What its plan takes.
    plan: usize,
    /// What it has noted: the part of its plan that is left when it is read.
    noted: usize,
    is_over: bool,
}

impl Meter {
    /// For an answer to a client of this connection; `share` if it has waited for a place.
    pub fn new(connection: &Arc<Connection>, share: Option<Share>) -> Meter {
        let connection = Arc::clone(connection);
        let plan = share.as_ref().map_or(0, Share::plan);
        let (kept, granted, overdrawn, noted) = (0, 0, 0, 0);
        Meter { connection, share, kept, granted, overdrawn, plan, noted, is_over: false }
    }

    /// The plan takes so many bytes: at most, before it is made, and then exactly.
    pub fn plan(&mut self, bytes: usize) -> Taken {
        let more = bytes.saturating_sub(self.plan);
        if !self.is_small(more) {
            let Some(share) = self.share() else { return Taken::Full };
            share.overdraw(more);
        }
        if let Some(share) = &self.share {
            share.give_back(self.plan.saturating_sub(bytes));
        }
        self.plan = bytes;
        Taken::Kept
    }

    /// The connection of the client that asked.
    pub fn client(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Counts bytes that the answer would keep.
    pub fn take(&mut self, bytes: usize) -> Taken {
        if self.is_over {
            self.note();
            return Taken::NotKept;
        }
        if self.is_small(bytes) {
            self.kept += bytes;
            return Taken::Kept;
        }
        if self.share().is_none() {
            return Taken::Full;
        }
        let Some(share) = &self.share else { return Taken::Full };
        let more = (self.kept + bytes).saturating_sub(self.granted);
        let steps = if more == 0 { [0, 0] } else { [more.max(STEP), more] };
        match steps.into_iter().find(|step| *step == 0 || share.keep(*step)) {
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

    /// Counts bytes that are in memory for a moment, whether there is room for them or not.
    pub fn overdraw(&mut self, bytes: usize) -> Taken {
        if !self.is_small(bytes) {
            let Some(share) = self.share() else { return Taken::Full };
            share.overdraw(bytes);
        }
        self.overdrawn += bytes;
        Taken::Kept
    }

    /// What was overdrawn is gone.
    pub fn repay(&mut self) {
        if let Some(share) = &self.share {
            share.give_back(self.overdrawn);
        }
        self.overdrawn = 0;
    }

    /// Whether the answer is small, with so many bytes more.
    fn is_small(&self, bytes: usize) -> bool {
        let held = self.kept + self.overdrawn + self.plan;
        self.share.is_none() && held + bytes <= self.connection.small()
    }

    /// The place in the ledger. Whoever gets it now brings along what was small.
    fn share(&mut self) -> Option<&Share> {
        if self.share.is_none() {
            let share = self.connection.try_enter()?;
            share.overdraw(self.kept + self.overdrawn + self.plan);
            self.granted = self.kept;
            self.share = Some(share);
        }
        self.share.as_ref()
    }

    /// The plan's memory goes over to the answer, so it is counted already.
    fn note(&mut self) {
        self.noted += NOTE;
    }

    /// The answer is read. Returns its place, if it is not small. If all of it is kept, it needs no
    /// window any more.
    pub fn finish(self) -> Option<Share> {
        if let Some(share) = &self.share {
            share.overdraw(self.noted);
            share.give_back(self.plan);
            let window = if self.is_over { 0 } else { share.window() };
            share.give_back(self.granted - self.kept + window);
        }
        self.share
    }
}
