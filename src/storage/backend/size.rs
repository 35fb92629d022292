//! The size of the file, and the part of it that counts against the quota.
//!
//! ```text
//!   size      ├──────── in use ────────┤┄┄┄┄ free ┄┄┄┄┤   blocks that the disk holds
//!   used      ├────────────────────────┤+ writing         in use, or the size less a step
//!   quota     ├────────────────────────────────┤
//! ```
//!
//! etcd compares the size with the quota, so that what a compaction has freed is room only after a
//! defragmentation. Here it is room at once; but the file outgrows its quota by no more than
//! [`STEP`] because its free pages are too small for what is written.
//!
//! Rows that wait for the next commit do not count, as in etcd, where the next write waits while
//! that commit runs. Here it does not wait, so while a commit runs both buffers count: either way
//! the file outgrows the quota by what is written in one commit interval.
//!
//! The figures are those of the last commit. The commit thread sets them while the buffers are
//! locked, so a writer that holds the lock sees figures that belong together; others may see, for a
//! moment, less than there is.

use std::sync::atomic::{AtomicU64, Ordering};

/// The most bytes of free pages that do not count as used, although they may be too small to be of
/// use. etcd's file grows in steps of this length.
const STEP: u64 = 16 << 20;

/// The sizes of the file after a commit, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// Bytes of keys and values.
    pub(super) stored: u64,
    /// Bytes that the disk holds for the file.
    pub(super) allocated: u64,
    /// The part of these bytes that is in used pages.
    pub(super) in_use: u64,
}

/// The sizes, for other threads to read.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    stored: AtomicU64,
    allocated: AtomicU64,
    in_use: AtomicU64,
    used: AtomicU64,
    writing: AtomicU64,
}

impl Gauge {
    /// Sets the sizes after a commit; no commit is under way then.
    pub(super) fn note(&self, sizes: Sizes) {
        let unusable = sizes.allocated.saturating_sub(STEP);
        // First this: a reader in between must not count the rows twice.
        self.writing.store(0, Ordering::Relaxed);
        self.stored.store(sizes.stored, Ordering::Relaxed);
        self.allocated.store(sizes.allocated, Ordering::Relaxed);
        self.in_use.store(sizes.in_use, Ordering::Relaxed);
        self.used.store(sizes.in_use.max(sizes.stored).max(unusable), Ordering::Release);
    }

    /// Sets the bytes of rows in both buffers, while a commit runs.
    pub(super) fn note_writing(&self, bytes: usize) {
        self.writing.store(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of keys and values.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// See [`super::Backend::size`]. Zeros take no room on the disk, but count.
    pub(super) fn size(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed).max(self.stored())
    }

    /// Bytes of pages in use; see [`super::Backend::size_in_use`].
    pub(super) fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Bytes that count against the quota; see [`super::Backend::used`].
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire) + self.writing.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn used(stored: u64, allocated: u64, in_use: u64) -> u64 {
        let gauge = Gauge::default();
        gauge.note(Sizes { stored, allocated, in_use });
        gauge.used()
    }

    #[test]
    fn free_pages_beyond_a_step_count_as_used() {
        assert_eq!(used(50 * MIB, 100 * MIB, 60 * MIB), 84 * MIB);
        assert_eq!(used(50 * MIB, 70 * MIB, 60 * MIB), 60 * MIB);
        assert_eq!(used(0, 100 << 10, 48 << 10), 48 << 10);
    }

    #[test]
    fn zeros_count_and_so_do_rows_being_written() {
        assert_eq!(used(50 * MIB, MIB, MIB), 50 * MIB);
        let gauge = Gauge::default();
        gauge.note_writing(7);
        assert_eq!(gauge.used(), 7);
        gauge.note(Sizes::default());
        assert_eq!(gauge.used(), 0);
    }
}
