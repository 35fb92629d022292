//! The checks whether this member has the same keys as the others, and when they are made.
//!
//! [`corruption`](crate::server::corruption) has the checks themselves.

use std::sync::Arc;

use super::{Error, assemble, data::Data};
use crate::{
    config::{CorruptCheck, ServerConfig},
    server::{
        Server,
        corruption::{self, Checker, Watch},
        ids::RequestIds,
        long_reads::LongReads,
        members::Members,
    },
    storage::damage,
};

/// Compares the keys with those of the other members, if that was asked for. To be called before
/// the member opens a port. A member whose log is new has nothing to compare.
pub(super) fn initial(
    config: &ServerConfig,
    data: &Data,
    (members, long_reads, ids): (&Arc<Members>, &Arc<LongReads>, &RequestIds),
) -> Result<(), Error> {
    if !config.corrupt_check.initial || data.replayed == 0 {
        return Ok(());
    }
    let checker = Checker {
        member_id: data.member_id,
        members: Arc::clone(members),
        long_reads: Arc::clone(long_reads),
        patience: assemble::request_timeout(config),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(checker.initial(ids.of_client(0, b"", true)));
    // A pending name lookup must not delay the start.
    runtime.shutdown_background();
    Ok(checked?)
}

/// Starts the checks of the leader that were asked for.
pub(super) fn start(config: &ServerConfig, server: &Server) {
    let CorruptCheck { period, compaction, .. } = config.corrupt_check;
    let checker = Checker {
        member_id: server.member_id,
        members: Arc::clone(&server.members),
        long_reads: Arc::clone(&server.long_reads),
        patience: server.settings.request_timeout,
    };
    let watch = Watch {
        checker,
        proposer: Arc::clone(&server.proposer),
        reads: Arc::clone(&server.reads),
        store: Arc::clone(&server.store),
    };
    corruption::start(&Arc::new(watch), period, compaction);
}

/// From now on, if the database turns out to be damaged, the alarm is raised before the member
/// ends.
pub(super) fn raise_at_damage(server: &Server) {
    // A stopped member closes its database, and must not be kept from it.
    let proposer = Arc::downgrade(&server.proposer);
    damage::set_alarm(move || {
        if let Some(proposer) = proposer.upgrade() {
            corruption::raise_own(&proposer);
        }
    });
}
