//! The one writer's access to the buffer (etcd: `BatchTx`).

use std::{ops::ControlFlow, sync::RwLockWriteGuard};

use bytes::Bytes;

use super::{Applied, Bucket, Buffers, FoundIn, Shared, View};

/// A buffer with this many bytes is full, regardless of its number of rows.
const BYTES_MAX: usize = 64 << 20;

/// The right to write, for one or more whole entries. Readers wait until it is dropped.
#[derive(Debug)]
pub struct WriteGuard<'a> {
    // Dropped in this order: the commit thread is woken when it can have the lock.
    buffers: RwLockWriteGuard<'a, Buffers>,
    bell: Bell<'a>,
    id: u64,
}

/// Wakes the commit thread when it is dropped, if the buffer was found full.
#[derive(Debug)]
struct Bell<'a> {
    shared: &'a Shared,
    ring: bool,
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        if self.ring {
            self.shared.wake.notify_one();
        }
    }
}

impl<'a> WriteGuard<'a> {
    pub(super) fn new(shared: &'a Shared) -> WriteGuard<'a> {
        WriteGuard { buffers: shared.lock(), bell: Bell { shared, ring: false }, id: 0 }
    }

    /// Sets the request to which the trace attributes the following writes.
    pub fn set_request(&mut self, id: u64) {
        self.id = id;
    }

    /// Sets `key` to `value`. The value is kept as it is: it should not be a slice of something
    /// much larger.
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        self.buffers.active.put(self.id, bucket, key, value);
    }

    /// Deletes `key`; it need not exist.
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        self.buffers.active.delete(bucket, key);
    }

    /// Returns the value under `key`, own writes included.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Option<(Bytes, FoundIn)> {
        if let Some((entry, place)) = self.buffers.buffered(bucket, key) {
            return entry.value().map(|value| (value.clone(), place));
        }
        let value = self.bell.shared.sure(self.buffers.file.get(bucket, key));
        value.map(|value| (value, FoundIn::File))
    }

    /// Returns rows as [`super::Backend::range`] does, own writes included.
    pub fn range(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        self.buffers.cut(bucket, from, to, limit).first(self.bell.shared, limit)
    }

    /// Takes a view as [`super::Backend::view`] does, own writes included.
    pub fn view(&self, id: u64, keys: &[[u8; 17]]) -> View {
        self.buffers.view(id, keys)
    }

    /// Reads the rows of a view; see [`super::Backend::each_row`].
    pub fn each_row(
        &self,
        view: &mut View,
        keys: &[[u8; 17]],
        row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.bell.shared.each_row(view, keys, row)
    }

    /// Ends the member; see [`super::Backend::malformed`].
    pub fn malformed(&self, row: &'static str) -> ! {
        self.bell.shared.damaged(row)
    }

    /// Notes that the entry at `index` of `term` is applied, and at which revision the key space
    /// stands. Called once for each entry, after its writes.
    pub fn set_applied(&mut self, index: u64, term: u64, revision: i64) {
        self.buffers.applied = Applied { index, term, revision };
    }

    /// Notes the cluster's configuration as of the entry that is being applied.
    pub fn set_conf_state(&mut self, conf_state: Bytes) {
        self.buffers.conf_state = Some(conf_state);
        self.buffers.conf_state_changed = true;
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        crate::trace::watermarks()
            .active
            .store(self.buffers.active.len() as u64, std::sync::atomic::Ordering::Relaxed);
        if let Some(frozen) = &self.buffers.frozen {
            let bytes = frozen.buffer.bytes() + self.buffers.active.bytes();
            self.bell.shared.sizes.note_writing(bytes);
        }
        let (active, limit) = (&self.buffers.active, self.bell.shared.options.batch_limit);
        if limit <= active.len() || BYTES_MAX <= active.bytes() {
            // Set while the buffers are locked. If it were set later, the commit thread could
            // freeze the buffer in between, and the new, empty one would count as full for ever.
            self.bell.shared.control().full = true;
            self.bell.ring = true;
        }
    }
}
