//! The stream of Maintenance.Snapshot: the bytes of a copy, and their SHA-256 at the end.
//!
//! ```text
//!   copy ──1 MiB──▶ read and hashed on a ──32 KiB──▶ message, message … ──▶ SHA-256, 32 bytes
//!                   blocking thread
//! ```
//!
//! As in etcd, a message has 32 KiB and says how many bytes remain, and the last one is the hash,
//! which clients store behind the bytes. HTTP/2 asks for the next message when the client has read
//! enough, so a slow client costs a megabyte of memory, and the copy's room on the disk until it
//! goes.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::{
    api::{flow::Flow, interceptor::Call},
    pb::etcdserverpb::SnapshotResponse,
    server::{Error, Server, maintenance::Snapshot},
};

/// The bytes of a message (etcd: snapshotSendBufferSize).
const MESSAGE: usize = 32 << 10;
/// The bytes that are read at a time.
const READ: usize = 1 << 20;

/// The messages of a snapshot.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

/// One Snapshot call: its rpc lasts as long as its stream.
pub(super) struct Sender {
    /// The request's id.
    id: u64,
    flow: Flow,
    server: Arc<Server>,
    /// Present until the drop.
    copy: Option<Arc<Snapshot>>,
    /// Its bytes, and its revision.
    len: u64,
    revision: i64,
    /// What has been read and not sent.
    read: VecDeque<Bytes>,
    /// How many bytes have been read, and sent.
    offset: u64,
    sent: u64,
    hash: Sha256,
    is_hash_sent: bool,
}

impl Sender {
    /// Sends this copy.
    pub(super) fn new(server: Arc<Server>, call: Call, snapshot: Snapshot) -> Sender {
        let (len, revision) = (snapshot.copy.len(), snapshot.copy.committed.revision);
        Sender {
            len,
            revision,
            id: call.id(),
            flow: Flow::of(call),
            server,
            copy: Some(Arc::new(snapshot)),
            read: VecDeque::new(),
            offset: 0,
            sent: 0,
            hash: Sha256::new(),
            is_hash_sent: false,
        }
    }

    /// The stream of the messages.
    pub(super) fn stream(self) -> Messages {
        Box::pin(unfold(Some(self), Sender::next))
    }

    async fn next(
        sender: Option<Sender>,
    ) -> Option<(Result<SnapshotResponse, Status>, Option<Sender>)> {
        let mut sender = sender?;
        match sender.message().await {
            Ok(Some(message)) => {
                sender.flow.sent(message.encoded_len());
                Some((Ok(message), Some(sender)))
            }
            Ok(None) => {
                let revision = sender.revision;
                // An end without an error has no status to send.
                sender.flow.end(Ok(()), revision).err().map(|status| (Err(status), None))
            }
            Err(error) => {
                let revision = sender.revision;
                sender.flow.end(Err(error), revision).err().map(|status| (Err(status), None))
            }
        }
    }

    /// The next message; `None` after the hash.
    async fn message(&mut self) -> Result<Option<SnapshotResponse>, Error> {
        if self.read.is_empty() && self.offset < self.len {
            self.read_on().await?;
        }
        if let Some(blob) = self.read.pop_front() {
            self.sent += blob.len() as u64;
            let remaining_bytes = self.len - self.sent;
            return Ok(Some(SnapshotResponse { remaining_bytes, blob, ..Default::default() }));
        }
        if std::mem::replace(&mut self.is_hash_sent, true) {
            return Ok(None);
        }
        let blob = Bytes::copy_from_slice(&self.hash.clone().finalize());
        Ok(Some(SnapshotResponse { blob, ..Default::default() }))
    }

    async fn read_on(&mut self) -> Result<(), Error> {
        let Some(copy) = self.copy.clone() else { return Err(Error::NotCopied) };
        let part = (self.offset, READ);
        let read = self.server.read_copy(self.id, copy, part, self.hash.clone());
        let (mut bytes, hash) = read.await?;
        self.offset += bytes.len() as u64;
        self.hash = hash;
        while !bytes.is_empty() {
            self.read.push_back(bytes.split_to(bytes.len().min(MESSAGE)));
        }
        Ok(())
    }
}

impl Drop for Sender {
    /// The file has no name any more, so closing it frees its blocks, which takes a while.
    fn drop(&mut self) {
        let copy = self.copy.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(copy));
        }
    }
}
