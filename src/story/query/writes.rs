//! Which write of a member's log, and which fsync, put an entry on its disk.
//!
//! ```text
//!   raft   entry 2/10 ─────── entry 3/10, which replaces it ──
//!   wal          └─ waits ─▶ ├ write of 10, written 9→10 ┤├ write of 10, written 10→13 ┤
//!                             that of 2/10                  that of 3/10
//! ```
//!
//! The records of the wal thread name indexes and no terms, and the thread may still write an entry
//! when the raft thread has replaced it. But it writes in the order of the log. So the write of an
//! entry begins after its append, and the write of one that replaces another goes back: its range
//! begins at or below the index up to which the log was written before.
//!
//! Left out: two entries of one index in one group. Both share that write.

use super::{Finder, joins::Life, ranges::Named, ranges::Ranges};
use crate::{
    change,
    story::Event,
    trace::{record::Kind, stage::Stage},
};

/// Whether a write or an fsync replaces what the log had at this index.
fn goes_back(event: &Event, index: u64) -> bool {
    let before = match event.stage {
        Stage::WalWrite => change!(event, WalWrite, written)[0],
        Stage::WalFsync => change!(event, WalFsync, synced)[0],
        _ => 0,
    };
    index <= before
}

impl Finder<'_> {
    /// The first of these writes, or fsyncs, of a member that has the entry with this index, whose
    /// time on the member is `life`.
    pub(super) fn write_of<'r>(
        &self,
        ranges: &'r Ranges,
        index: u64,
        life: &Life,
    ) -> Option<&'r Named> {
        let is_end = |named: &Named| self.event(named.event).kind != Kind::Begin;
        let goes_back = |named: &&Named| goes_back(self.event(named.event), index);
        let Some((boot, clock)) = life.appended else {
            let until = life.replaced.min(life.applied);
            let all = ranges.all(life.start..until, index, is_end);
            let mut all = all.filter(|named| !life.is_second || goes_back(named));
            // What was applied is not written again; what came before may be an older entry's.
            return if life.applied == usize::MAX { all.next() } else { all.last() };
        };
        let is_later = |named: &Named| {
            let event = self.event(named.event);
            is_end(named) && event.boot == boot && clock < event.clock
        };
        let later = || ranges.all(0..usize::MAX, index, is_later);
        if !life.is_second {
            return later().find(|named| !goes_back(named));
        }
        let mut own = later().filter(goes_back);
        let Some(first) = own.next() else { return later().next() };
        // The write of the next entry at this index goes back as well.
        let is_before = |next: (u16, u64)| (boot, self.event(first.event).clock) < next;
        let is_sure = life.next.is_none_or(is_before) || own.next().is_some();
        is_sure.then_some(first)
    }
}
