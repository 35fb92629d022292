//! The storage layer: what a member keeps on its disk, and what that is worth after a crash.
//!
//! ```text
//!   raft ──entries, votes──▶ wal/      the log: append, fsync, then promise
//!   apply ──keys, values───▶ backend/  the state that the log leads to, a little behind it
//!                              │      └── redb_file.rs, blocks.rs   how much of it the disk holds
//!                              └──────┬──────┘
//!                                  disk.rs    one type for every durable file
//! ```
//!
//! Two things can happen to a member, and they are not the same. *The process dies*: what it has
//! written is still in the operating system's memory, and nothing is lost. *The power fails*: what
//! was not synced may be gone, in whole or sector by sector. Everything here is made for the
//! second case; the failpoint `disk-lossy` makes the first look like it.
//!
//! **Invariants.** Nothing is acknowledged before the fsync that covers it. An fsync that failed
//! is never tried again: the kernel may have thrown the dirty pages away, and a second call would
//! report success for data that is lost. The member ends instead ([`fatal`]), and says which file
//! and which offset. A damaged file is refused, never repaired by guessing; the one thing that is
//! repaired is a tail that a crash tore off before anybody was promised anything.
//!
//! Storage knows no request and no key: it is handed bytes and indexes.

pub mod backend;
mod blocks;
pub mod disk;
pub mod redb_file;
pub mod redb_panic;
pub mod wal;

#[cfg(test)]
pub(crate) mod alone;

use std::{error::Error, io::Write, process, sync::OnceLock};

/// What [`fatal`] still does before the process ends.
static LAST_ACT: OnceLock<fn()> = OnceLock::new();

/// Has `act` run when the disk ends the member, before it exits: the flight recorder writes what it
/// has. The first call counts.
pub fn set_last_act(act: fn()) {
    let _ = LAST_ACT.set(act);
}

/// Ends the member because its disk cannot be trusted any more, or what stands in its log cannot be
/// carried out: logs the error with all its
/// causes, repeats it on standard error, and exits with code 1.
///
/// Nothing is unwound on the way out: a destructor that flushes could still acknowledge something.
pub fn fatal(error: &dyn Error) -> ! {
    let message = with_causes(error);
    tracing::error!("{message}");
    if let Some(act) = LAST_ACT.get() {
        act();
    }
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "fatal: {message}");
    process::exit(1);
}

/// The error's text, followed by those of its causes. Some say their cause themselves; it is not
/// repeated.
pub(crate) fn with_causes(error: &dyn Error) -> String {
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
