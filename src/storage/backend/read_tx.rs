//! Reading: the buffers first, then the file as of the same moment (etcd: `concurrentReadTx`).
//!
//! Under the lock a reader only searches the active buffer and takes two references: to the frozen
//! buffer, which is never changed, and to the file's read transaction, which is a snapshot. The
//! slow part happens without the lock. Even if rows are written, committed or compacted meanwhile,
//! the reader sees the state at which it began.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;

use super::{
    Bucket, Buffers, Shared,
    buffer::{Entry, Frozen, Row, merge},
    file::FileRead,
};
use crate::{metrics::recorded, trace::Span};

/// The result of a search of the buffers, and the state of the file that has the rest.
///
/// A view is made under the buffers' lock and read without it. In between it can be settled, which
/// closes its step of the trace and lets go of the frozen buffer: only a settled view may cross to
/// another thread, or wait.
#[derive(Debug)]
pub struct View {
    /// The rows in the buffers, with the places of their keys, in order.
    hits: Vec<(usize, Bytes)>,
    active: usize,
    frozen: Option<Arc<Frozen>>,
    file: Arc<FileRead>,
    id: u64,
    /// `None` as soon as the view is settled.
    span: Option<Span>,
}

impl View {
    /// Records how often the read had begun before; to be called before the view is settled.
    pub fn set_again(&mut self, times: u64) {
        if let Some(span) = &mut self.span {
            crate::set!(span, BufferGet, again = times);
        }
    }

    /// Copies the view's rows from the frozen buffer, and drops the reference to it.
    pub fn settle(&mut self, keys: &[[u8; 17]]) {
        let Some(mut span) = self.span.take() else { return };
        if let Some(frozen) = self.frozen.take() {
            let mut active = std::mem::take(&mut self.hits).into_iter().peekable();
            let oldest = frozen.buffer.first(Bucket::Key);
            for (place, key) in keys.iter().enumerate() {
                if let Some(hit) = active.next_if(|hit| hit.0 == place) {
                    self.hits.push(hit);
                } else if oldest.is_some_and(|oldest| oldest <= key.as_slice())
                    && let Some(row) = frozen.buffer.get(Bucket::Key, key).and_then(Entry::value)
                {
                    self.hits.push((place, row.clone()));
                }
            }
        }
        // A plan may wait for long.
        self.hits.shrink_to_fit();
        let (active, frozen) = (self.active, self.hits.len() - self.active);
        let misses = keys.len() - self.hits.len();
        crate::set!(span, BufferGet, active = active, frozen = frozen, misses = misses);
    }

    /// The memory that the view takes beside the rows, which it shares with the buffers.
    pub fn bytes(&self) -> usize {
        self.hits.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Reorders the view's rows along with its keys: place `n` gets what was at `places[n]`.
    pub fn rearrange(&mut self, places: &[usize]) {
        let hits = std::mem::take(&mut self.hits);
        if hits.is_empty() {
            return;
        }
        let hit = |(new, old): (usize, &usize)| {
            let at = hits.binary_search_by_key(old, |hit| hit.0).ok()?;
            Some((new, hits[at].1.clone()))
        };
        self.hits = places.iter().enumerate().filter_map(hit).collect();
    }
}

/// A part of a bucket as of one moment.
#[derive(Debug)]
pub struct Cut {
    bucket: Bucket,
    from: Bytes,
    to: Option<Bytes>,
    active: Vec<Row>,
    frozen: Option<Arc<Frozen>>,
    file: Arc<FileRead>,
}

impl Buffers {
    // ANCHOR: view
    /// Copies the rows of `keys` that the active buffer has.
    pub(super) fn view(&self, id: u64, keys: &[[u8; 17]]) -> View {
        let span = Some(crate::stage!(BufferGet, id));
        // Revisions grow, so one look shows that most keys are not there.
        let oldest = self.active.first(Bucket::Key);
        let of_active = |(place, key): (usize, &[u8; 17])| {
            oldest.filter(|oldest| *oldest <= key.as_slice())?;
            Some((place, self.active.get(Bucket::Key, key)?.value()?.clone()))
        };
        let hits: Vec<_> = keys.iter().enumerate().filter_map(of_active).collect();
        let active = hits.len();
        let (frozen, file) = (self.frozen.clone(), self.file.clone());
        View { hits, active, frozen, file, id, span }
    }
    // ANCHOR_END: view

    /// Copies a range from the active buffer; with a limit, no more rows than can be needed.
    pub(super) fn cut(&self, bucket: Bucket, from: &[u8], to: Option<&[u8]>, limit: usize) -> Cut {
        let most = if limit == 0 { usize::MAX } else { limit };
        let mut puts = 0;
        // No row behind the one that reaches the limit can be needed: the active buffer's puts are
        // rows of the answer, regardless of the frozen buffer and the file.
        let wanted = self.active.range(bucket, from, to).take_while(|(_, entry)| {
            let wanted = puts < most;
            puts += usize::from(entry.value().is_some());
            wanted
        });
        Cut {
            bucket,
            active: wanted.collect(),
            from: Bytes::copy_from_slice(from),
            to: to.map(Bytes::copy_from_slice),
            frozen: self.frozen.clone(),
            file: self.file.clone(),
        }
    }
}

impl Cut {
    /// The first `limit` rows in the order of their keys; all rows if it is 0.
    pub(super) fn first(&self, shared: &Shared, limit: usize) -> Vec<(Bytes, Bytes)> {
        self.rows(shared).take(if limit == 0 { usize::MAX } else { limit }).collect()
    }

    /// Goes through the rows in the order of their keys.
    pub(super) fn rows<'a>(
        &'a self,
        shared: &'a Shared,
    ) -> impl Iterator<Item = (Bytes, Bytes)> + 'a {
        let to = self.to.as_deref();
        let frozen = self.frozen.iter();
        let frozen = frozen.flat_map(move |it| it.buffer.range(self.bucket, &self.from, to));
        let file = shared.sure(self.file.range(self.bucket, &self.from, to));
        let file = file.map(|row| shared.sure(row));
        let rows = merge(self.active.iter().cloned(), merge(frozen, file));
        rows.filter_map(|(key, entry)| Some((key, entry.value()?.clone())))
    }
}

impl Shared {
    /// Calls `row` with the rows that a view was taken for, in its order and one after the other,
    /// until it breaks. At most one row from the file is in memory at a time.
    pub(super) fn each_row(
        &self,
        view: &mut View,
        keys: &[[u8; 17]],
        mut row: impl FnMut(Bytes) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.find_rows(view, keys, |found| {
            // The index in memory says that it is there.
            row(found
                .unwrap_or_else(|| self.damaged("table key: a revision of the index has no row")))
        })
    }

    /// The same, for rows that may be gone.
    pub(super) fn find_rows(
        &self,
        view: &mut View,
        keys: &[[u8; 17]],
        mut row: impl FnMut(Option<Bytes>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        fail::fail_point!("backend-resolve");
        let _in_progress = recorded::READS_IN_PROGRESS.during();
        view.settle(keys);
        let mut span: Option<Span> = None;
        let mut in_file = 0_usize;
        let mut hits = view.hits.iter().peekable();
        for (place, key) in keys.iter().enumerate() {
            let bytes = match hits.next_if(|hit| hit.0 == place) {
                Some((_, bytes)) => Some(bytes.clone()),
                None => {
                    in_file += 1;
                    let span = span.get_or_insert_with(|| crate::stage!(BackendGet, view.id));
                    crate::set!(span, BackendGet, file = in_file);
                    self.sure(view.file.get(Bucket::Key, key))
                }
            };
            row(bytes)?;
        }
        ControlFlow::Continue(())
    }
}
