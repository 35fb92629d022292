//! The header that every response carries (etcd: `header.fill`).

use crate::{
    pb::etcdserverpb::ResponseHeader,
    server::{Error, Server},
};

/// Fills in cluster, member, term and, unless the handler has set one, the revision.
pub fn fill(header: &mut Option<ResponseHeader>, server: &Server) {
    let header = header.get_or_insert_default();
    header.cluster_id = server.members.cluster_id();
    header.member_id = server.member_id;
    header.raft_term = server.status.term();
    if header.revision == 0 {
        header.revision = server.store.revision();
    }
}

/// Fills in the header of a successful answer. Returns the revision in it.
pub fn fill_in<A>(
    result: &mut Result<A, Error>,
    server: &Server,
    header: impl FnOnce(&mut A) -> &mut Option<ResponseHeader>,
) -> i64 {
    let Ok(response) = result else { return 0 };
    let header = header(response);
    fill(header, server);
    header.as_ref().map_or(0, |header| header.revision)
}

/// The header of the Cluster service, which has no revision.
pub fn without_revision(server: &Server) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: server.members.cluster_id(),
        member_id: server.member_id,
        revision: 0,
        raft_term: server.status.term(),
    })
}
