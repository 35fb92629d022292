//! The requests of Maintenance that do something to the member: its file is defragmented or copied,
//! its leadership is moved.
//!
//! They concern this member alone, so nothing of them goes through the log. The two that copy the
//! file run on blocking threads, and hold one of few permits ([`super::long_reads`]): each reads
//! the whole file, and needs as much room on the disk again. A copy that is sent holds its permit
//! until it is closed, because until then it takes that room.
//!
//! Left out: what a copy is sent in ([`crate::api`]), and how it is made
//! ([`crate::storage::backend`]).

use std::{io, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{Error, Server, blocking, error::note, wait_step::WaitStep};
use crate::{
    raft::inbox::Input,
    set, stage,
    storage::{self, backend},
};

/// A copy of the database file that is sent to a client.
pub(crate) struct Snapshot {
    pub(crate) copy: backend::FileCopy,
    /// Until it is dropped, the copy counts.
    _permit: OwnedSemaphorePermit,
}

impl Server {
    /// Maintenance.Defragment: gives the room of free pages back to the disk. Reads and writes go
    /// on; a defragmentation that has begun runs to its end, even if its caller is gone.
    pub(crate) async fn defragment(&self, id: u64) -> Result<(), Error> {
        let backend = Arc::clone(&self.backend);
        tracing::info!("starting defragment");
        let done = self.long_reads.copy(id, move || {
            let mut span =
                stage!(BackendDefrag, id, size_old = backend.size(), size_new = backend.size());
            let done = note(&mut span, backend.defragment().map_err(|why| refused(&why)));
            if let Ok(done) = done {
                set!(span, BackendDefrag, size_old = done.before, size_new = done.after);
            }
            done
        });
        let (done, _) = done.await?;
        let done = done?;
        tracing::info!(before = done.before, after = done.after, "finished defragment");
        Ok(())
    }

    /// Maintenance.Snapshot: a copy of the file as it is now, with everything that this member has
    /// applied.
    pub(crate) async fn snapshot(&self, id: u64) -> Result<Snapshot, Error> {
        let backend = Arc::clone(&self.backend);
        let copy = move || {
            let mut span = stage!(BackendSnapshot, id);
            let copy = note(&mut span, backend.copy().map_err(|error| not_copied(&error)))?;
            let (committed, rows) = (copy.committed, copy.copied.rows);
            set!(span, BackendSnapshot, index = committed.index, rows = rows);
            set!(span, BackendSnapshot, revision = committed.revision, size = copy.len());
            Ok(copy)
        };
        let (copy, permit) = self.long_reads.copy(id, copy).await?;
        Ok(Snapshot { copy: copy?, _permit: permit })
    }

    /// Reads at most this many bytes of a copy, from an offset below its length on. Returns them
    /// with the hash of everything up to them, if `hash` is that of everything before.
    pub(crate) async fn read_copy(
        &self,
        id: u64,
        snapshot: Arc<Snapshot>,
        (offset, len): (u64, usize),
        mut hash: Sha256,
    ) -> Result<(Bytes, Sha256), Error> {
        let read = move |_| {
            let mut bytes = vec![0; len];
            let len = snapshot.copy.read_at(&mut bytes, offset)?;
            bytes.truncate(len);
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hash.update(&bytes);
            Ok((Bytes::from(bytes), hash))
        };
        blocking::run(id, read).await?.map_err(|error: io::Error| {
            tracing::warn!(%error, "failed to read the copy of the database file");
            Error::NotCopied
        })
    }

    /// Maintenance.MoveLeader: returns when the voter `to` leads, as far as this member knows. Raft
    /// gives the transfer up if that voter has not been elected within an election timeout. As in
    /// etcd, the call keeps waiting then, here up to the request timeout.
    pub(crate) async fn move_leader(&self, id: u64, to: u64) -> Result<(), Error> {
        if self.status.leader() != self.member_id {
            return Err(Error::NotLeader);
        }
        let is_voter = self.members.get(to).is_some_and(|member| !member.is_learner);
        if !is_voter {
            return Err(Error::BadLeaderTransferee);
        }
        let mut step = WaitStep::begin(stage!(LeaderMove, id, to = to, leader = self.member_id));
        let moved = self.hand_over(to).await;
        set!(step.span, LeaderMove, leader = self.status.leader());
        step.end(moved)
    }

    async fn hand_over(&self, to: u64) -> Result<(), Error> {
        let mut leadership = self.status.leadership();
        let order = Input::HandOver { to: Some(to) };
        self.proposer.inbox.offer(order).map_err(|_| Error::TooManyRequests)?;
        let moved = leadership.wait_for(|now| now.leader == to);
        match tokio::time::timeout(self.settings.request_timeout, moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimeoutLeaderTransfer),
        }
    }
}

fn refused(why: &backend::Refused) -> Error {
    match why {
        backend::Refused::Stopped => Error::Stopped,
        backend::Refused::NotCopied(why) => {
            tracing::warn!(why, "failed to defragment");
            Error::NotCopied
        }
    }
}

fn not_copied(error: &backend::Error) -> Error {
    tracing::warn!(why = storage::with_causes(error), "failed to copy the database file");
    Error::NotCopied
}
