//! The storage layer: what a member keeps on disk, and which of it survives a crash.
//!
//! ```text
//!   raft ──entries, votes──▶ wal/      the log: append, fsync, then promise
//!   apply ──keys, values───▶ backend/  the state that the log leads to, a little behind it
//!                              │      ├── redb_file.rs, blocks.rs   how much of it the disk holds
//!                              │      └── snap.rs    from where on the log is needed
//!                              └──────┬──────┘
//!                                  disk.rs    one type for every durable file
//! ```
//!
//! There are two kinds of crash. *The process dies*: the bytes that it has written are still in the
//! operating system's memory, and nothing is lost. *The power fails*: bytes that were not synced
//! may be lost, in whole or sector by sector. Everything here is made for the second kind; the
//! failpoint `disk-lossy` makes the first look like it.
//!
//! **Invariants.** Nothing is acknowledged before the fsync that covers it. An fsync that failed is
//! never tried again: the kernel may have thrown the dirty pages away, and a second call would
//! report success for data that is lost. The member ends instead ([`fatal`]), and says which file
//! and which offset. A damaged file is refused ([`damage`]), never repaired by guessing. The only
//! repair is to cut off a torn tail, which was never acknowledged.
//!
//! Storage knows no request and no key: it receives bytes and indexes.

pub mod backend;
mod blocks;
pub mod damage;
pub mod disk;
pub mod redb_file;
pub mod redb_panic;
pub mod snap;
pub mod wal;

#[cfg(test)]
pub(crate) mod own_process;

use std::{error::Error, io::Write, process, sync::OnceLock};

/// Called by [`fatal`] before the process ends.
static LAST_ACT: OnceLock<fn()> = OnceLock::new();

/// Sets a function to be called by [`fatal`] before the process exits, for the flight recorder.
/// Only the first call has an effect.
pub fn set_last_act(act: fn()) {
    let _ = LAST_ACT.set(act);
}

/// Ends the member, because its disk cannot be trusted any more or an entry of its log cannot be
/// carried out. Logs the error with all its causes, repeats it on standard error, and exits with
/// code 1.
///
/// Nothing is unwound: a destructor that flushes could still acknowledge something.
pub fn fatal(error: &dyn Error) -> ! {
    let message = with_causes(error);
    tracing::error!("{message}");
    if let Some(act) = LAST_ACT.get() {
        act();
    }
    // Standard error may be closed; then there is no other place for the error.
    let _ = writeln!(std::io::stderr(), "fatal: {message}");
    process::exit(1);
}

/// A digest as hex.
pub fn digest_hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The error's text, followed by those of its causes. A cause that an error already includes in its
/// text is not repeated.
pub fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}
