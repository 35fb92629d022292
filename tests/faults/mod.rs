//! Faults: acknowledged writes survive them, and a member that must not run does not run.

mod bad_start;
mod compacted_answers;
mod corrupt;
mod damaged_pages;
mod departed_leader;
mod disk;
mod leader;
mod ledger;
pub(crate) mod links;
mod locks;
mod moment;
mod wal_tail;

mod deadlines;
mod descriptors;
mod full;
mod full_disk;
mod http2;
mod quota;
mod segments;
mod silent_client;
mod start_errors;
mod starts;
mod stopped_leader;
mod unknown_entry;
mod unread_answers;
mod unread_plans;
mod unread_small;
