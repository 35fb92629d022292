//! The order to stop, for calls and streams that could outlast the member.
//!
//! Most requests are answered within milliseconds, and a member that stops waits for them. A
//! stream, and a call that waits for a lock or for a compaction, may take days. The order ends them
//! with "server stopped" (etcd: ErrStopped).

use tokio::sync::watch;

/// The order to stop, which is given once and never taken back. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopping {
    is_given: watch::Sender<bool>,
}

impl Stopping {
    /// Gives the order. Calls that begin to wait later end at once.
    pub(crate) fn give(&self) {
        self.is_given.send_replace(true);
    }

    /// Whether the order is given, now and later.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.is_given.subscribe()
    }

    /// Returns when the order is given.
    pub(super) async fn given(&self) {
        // This sender keeps the channel open.
        let _ = self.watch().wait_for(|is_given| *is_given).await;
    }
}
