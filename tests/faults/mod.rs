//! Faults: what was acknowledged is still there after them, and a member that must not run does
//! not run.

mod bad_start;
mod disk;
mod leader;
mod ledger;
mod locks;
mod wal_tail;

mod full;
mod silent_client;
mod stopped_leader;
mod unknown_entry;
mod unread_answers;
