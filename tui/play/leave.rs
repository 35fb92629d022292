//! Ends a player whose terminal nobody reads.
//!
//! Such a terminal takes some thousand bytes, and then every drawing waits, and with it the loop
//! that would see a signal. A thread of its own waits for the same signals. If the player is still
//! there some time after one, the thread ends the process; the pipe to the members' `glass up`
//! closes with it, and that stops them.

use std::{io, thread, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// How long the player may take to give the terminal back by itself.
const GRACE: Duration = Duration::from_secs(2);
/// What a shell adds to a signal's number.
const BY_SIGNAL: i32 = 128;

/// See the module's text. Its drop says that the terminal was given back.
pub(super) struct Leaver {
    _done: oneshot::Sender<()>,
}

impl Leaver {
    pub(super) fn open() -> io::Result<Leaver> {
        let (done, is_done) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let leaver = thread::Builder::new().name("leaver".to_owned());
        leaver.spawn(move || runtime.block_on(watch(is_done)))?;
        Ok(Leaver { _done: done })
    }
}

async fn watch(mut is_done: oneshot::Receiver<()>) {
    let kinds = (SignalKind::terminate(), SignalKind::hangup());
    let (Ok(mut terminate), Ok(mut hang_up)) = (signal(kinds.0), signal(kinds.1)) else { return };
    let kind = tokio::select! {
        // The sender is dropped.
        _ = &mut is_done => return,
        _ = terminate.recv() => kinds.0,
        _ = hang_up.recv() => kinds.1,
    };
    if tokio::time::timeout(GRACE, is_done).await.is_err() {
        // This does not wait for the terminal; a sequence for the screen would.
        let _ = crossterm::terminal::disable_raw_mode();
        std::process::exit(BY_SIGNAL + kind.as_raw_value());
    }
}
