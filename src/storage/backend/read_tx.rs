//! Reading: the buffers first, then the file as of the same moment (etcd: `concurrentReadTx`).
//!
//! Under the lock a reader only looks into the active buffer and takes two references: to the
//! frozen buffer, which nobody changes any more, and to the file's read transaction, which is a
//! snapshot. The slow part happens after the lock is gone, and whatever is written, committed
//! or compacted meanwhile, the reader still sees the moment at which it began.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Bucket, Buffers, Error, Shared,
    buffer::{Entry, Frozen, Row, merge},
    file::FileRead,
};
use crate::trace::Span;

/// What one look into the buffers has found, and where to look for the rest.
#[derive(Debug)]
pub struct View {
    hits: Vec<Option<Bytes>>,
    active: usize,
    frozen: Option<Arc<Frozen>>,
    file: Arc<FileRead>,
    id: u64,
    span: Span,
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
    /// Copies what the active buffer has of `keys`.
    pub(super) fn view(&self, id: u64, keys: &[[u8; 17]]) -> View {
        let span = crate::stage!(BufferGet, id);
        let of_active = |key: &[u8; 17]| self.active.get(Bucket::Key, key)?.value().cloned();
        let hits: Vec<_> = keys.iter().map(of_active).collect();
        let active = hits.iter().flatten().count();
        let (frozen, file) = (self.frozen.clone(), self.file.clone());
        View { hits, active, frozen, file, id, span }
    }

    /// Copies what the active buffer has of a range; with a limit, no more than can be needed.
    pub(super) fn cut(&self, bucket: Bucket, from: &[u8], to: Option<&[u8]>, limit: usize) -> Cut {
        let most = if limit == 0 { usize::MAX } else { limit };
        let mut puts = 0;
        // Behind the row that makes the limit full, no row can be wanted: the active buffer's
        // puts are rows of the answer, whatever the frozen buffer and the file say.
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
    /// Completes a view from the frozen buffer and the file.
    pub(super) fn resolve(&self, mut view: View, keys: &[[u8; 17]]) -> Vec<Bytes> {
        fail::fail_point!("backend-resolve");
        let mut in_frozen = 0;
        if let Some(frozen) = &view.frozen {
            for (hit, key) in view.hits.iter_mut().zip(keys).filter(|(hit, _)| hit.is_none()) {
                *hit = frozen.buffer.get(Bucket::Key, key).and_then(Entry::value).cloned();
                in_frozen += usize::from(hit.is_some());
            }
        }
        let misses = keys.len() - view.active - in_frozen;
        crate::set!(
            view.span,
            BufferGet,
            active = view.active,
            frozen = in_frozen,
            misses = misses
        );
        drop(view.span);
        if misses > 0 {
            let _span = crate::stage!(BackendGet, view.id, file = misses);
            for (hit, key) in view.hits.iter_mut().zip(keys).filter(|(hit, _)| hit.is_none()) {
                *hit = self.sure(view.file.get(Bucket::Key, key));
            }
        }
        let rows: Vec<Bytes> = view.hits.into_iter().flatten().collect();
        if rows.len() != keys.len() {
            let row = "key bucket: a revision of the index has no row";
            self.fatal(&Error::Malformed { path: self.path.clone(), row });
        }
        rows
    }
}
