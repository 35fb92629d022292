//! The order to stop, for those who would otherwise wait longer than the member lives.
//!
//! Most requests are answered within milliseconds, and a member that stops waits for them. A call
//! that waits for a lock, and a stream, may wait for days: they hear of the order here, and end with
//! "server stopped" (etcd: ErrStopped).

use tokio::sync::watch;

use super::Server;

impl Server {
    /// Gives the order. It is never taken back.
    pub fn stop_serving(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether it was given, now and later.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Returns when it is given.
    pub(crate) async fn stopped(&self) {
        // The sender is a part of the server, so the channel does not close.
        let _ = self.stopping().wait_for(|is_stopping| *is_stopping).await;
    }
}
