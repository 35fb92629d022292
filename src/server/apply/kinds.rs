//! What an entry's data turns out to be, and whether this version can carry it out.
//!
//! ```text
//!   data ──▶ InternalRaftRequest? ──▶ a kind that apply knows          ──▶ apply
//!        │                        ├─▶ one that changes nothing here    ──▶ left out
//!        │                        └─▶ any other, of today or later     ──▶ the member ends
//!        ├─▶ Request (v2)?        ──▶ attributes, cluster version      ──▶ apply
//!        └─▶ neither              ──▶ the member ends
//! ```
//!
//! In a cluster with etcd members the log may hold what this version cannot do: that auth is on from
//! now on, for example. Whoever passes over such an entry goes on serving, and is no longer the same
//! as the others: this member would let everybody in. So it ends before the entry is applied, says
//! which one it was, and ends there again when it is started again (etcd: panics).
//!
//! Left out may be what reads only, and what does nothing while auth is off. One kind is left out that
//! etcd does persist: `DowngradeInfoSet` (1302). It says whether a downgrade is under way and to which
//! version, in the key `downgrade` of the bucket `cluster`. No answer about keys, leases or members
//! and no hash comes from it: etcd's monitors, its check of its own version at start and what it says
//! of a downgrade read it. Here nothing does: this version begins no downgrade. What follows from it
//! on an etcd leader, a lower cluster version, is an entry of its own, 1300, and is applied.

use prost::Message as _;
use raft::eraftpb::Entry;

use crate::{
    pb::{
        self,
        etcdserverpb::{InternalRaftRequest, Request},
    },
    server::txn::Txn,
};

/// What an entry's data turns out to be.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A leader's first entry, or a change that raft has emptied, or nothing that has an effect.
    Empty,
    /// A request of v3. Its transaction, if it has one, stands beside it.
    V3(Box<InternalRaftRequest>, Option<Txn>),
    /// A request of v2, which travels unwrapped.
    V2(Request),
}

/// Why a member cannot apply an entry, and must not go on without it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misfit {
    #[error(
        "entry {index} of the log is {name} (kind {kind}), which this version cannot carry out: \
         a member that left it out would serve what the others do not. Run this cluster without \
         this member, or without what an etcd member was asked to do"
    )]
    Kind { index: u64, kind: u64, name: &'static str },
    #[error("entry {index} of the log does not decode: {source}")]
    Damaged { index: u64, source: prost::DecodeError },
}

/// The field of `InternalRaftRequest` that every request has, and that of its older form.
const HEADERS: [u64; 2] = [1, 100];

/// v2 in the wrapping; range to lease checkpoint; cluster version and a member's attributes.
const APPLIED: [std::ops::RangeInclusive<u64>; 2] = [2..=11, 1300..=1301];

/// They read, or change nothing while auth is off, or concern a downgrade, which nothing here looks
/// at (see above): auth disable, authenticate, auth status, user get and list, role get and list,
/// downgrade info, and a test of downgrades.
const LEFT_OUT: [u64; 9] = [1011, 1012, 1013, 1102, 1106, 1107, 1202, 1302, 9900];

fn name(kind: u64) -> &'static str {
    match kind {
        1000 => "AuthEnable",
        1100 => "AuthUserAdd",
        1101 => "AuthUserDelete",
        1103 => "AuthUserChangePassword",
        1104 => "AuthUserGrantRole",
        1105 => "AuthUserRevokeRole",
        1200 => "AuthRoleAdd",
        1201 => "AuthRoleDelete",
        1203 => "AuthRoleGrantPermission",
        1204 => "AuthRoleRevokePermission",
        _ => "a request of a newer etcd",
    }
}

impl Decoded {
    /// The request's id; 0 for none.
    pub(super) fn id(&self) -> u64 {
        match self {
            Decoded::Empty => 0,
            Decoded::V3(request, _) => match &request.header {
                Some(header) if request.id == 0 => header.id,
                _ => request.id,
            },
            Decoded::V2(request) => request.id(),
        }
    }
}

/// v3 first: the bytes of a v2 request never parse as one, because of the letters of its method.
pub(super) fn decode(entry: &Entry) -> Result<Decoded, Misfit> {
    if entry.data.is_empty() {
        return Ok(Decoded::Empty);
    }
    let damaged = |source| Misfit::Damaged { index: entry.index, source };
    let Ok(mut request) = InternalRaftRequest::decode(entry.data.clone()) else {
        let request = Request::decode(entry.data.clone());
        return request.map(Decoded::V2).map_err(damaged);
    };
    // The generated code drops fields that it does not know, so it is not asked.
    let kind = pb::fields(&entry.data).find(|field| !HEADERS.contains(field));
    match kind {
        None => Ok(Decoded::Empty),
        Some(kind) if LEFT_OUT.contains(&kind) => {
            tracing::info!(index = entry.index, kind, "an entry that changes nothing was left out");
            Ok(Decoded::Empty)
        }
        Some(kind) if APPLIED.iter().any(|kinds| kinds.contains(&kind)) => {
            if let Some(request) = request.v2 {
                return Ok(Decoded::V2(request));
            }
            // The member that proposed it has counted its operations, perhaps with another limit.
            let expand = |txn| Txn::expand(txn, usize::MAX);
            let txn = request.txn.take().map(expand).transpose().map_err(damaged)?;
            Ok(Decoded::V3(Box::new(request), txn))
        }
        Some(kind) => Err(Misfit::Kind { index: entry.index, kind, name: name(kind) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::{
        AuthEnableRequest, AuthStatusRequest, AuthUserAddRequest, LeaseCheckpointRequest,
        PutRequest, RequestHeader, RequestOp, TxnRequest, request_op::Request as Operation,
    };

    fn entry(data: Vec<u8>) -> Entry {
        Entry { index: 17, data: data.into(), ..Entry::default() }
    }

    fn v3(change: impl FnOnce(&mut InternalRaftRequest)) -> Entry {
        let header = Some(RequestHeader { id: 5, ..RequestHeader::default() });
        let mut request = InternalRaftRequest { header, ..InternalRaftRequest::default() };
        change(&mut request);
        entry(request.encode_to_vec())
    }

    fn refusal(entry: &Entry) -> String {
        decode(entry).unwrap_err().to_string()
    }

    #[test]
    fn what_is_known_is_applied_also_when_it_is_empty() {
        for entry in [
            v3(|request| request.put = Some(PutRequest::default())),
            v3(|request| request.lease_checkpoint = Some(LeaseCheckpointRequest::default())),
            v3(|request| request.cluster_version_set = Some(Default::default())),
            v3(|request| request.cluster_member_attr_set = Some(Default::default())),
        ] {
            let decoded = decode(&entry).unwrap();
            assert!(matches!(decoded, Decoded::V3(..)) && decoded.id() == 5, "{decoded:?}");
        }
    }

    #[test]
    fn what_etcd_members_of_every_version_send_by_themselves_is_no_obstacle() {
        let publish = Request {
            id: Some(5),
            method: Some("PUT".to_owned()),
            path: Some("/0/members/1/attributes".to_owned()),
            ..Request::default()
        };
        let bare = entry(publish.encode_to_vec());
        let wrapped = v3(|request| request.v2 = Some(publish));
        for entry in [bare, wrapped] {
            assert!(matches!(decode(&entry), Ok(Decoded::V2(request)) if request.id() == 5));
        }
        for entry in [
            entry(Vec::new()),
            v3(|_| ()),
            v3(|request| request.auth_status = Some(AuthStatusRequest::default())),
            v3(|request| request.auth_role_list = Some(Default::default())),
            v3(|request| request.downgrade_info_set = Some(Default::default())),
            v3(|request| request.downgrade_version_test = Some(Default::default())),
        ] {
            assert!(matches!(decode(&entry), Ok(Decoded::Empty)), "{entry:?}");
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_by_index_and_name() {
        let enable = v3(|request| request.auth_enable = Some(AuthEnableRequest::default()));
        assert!(refusal(&enable).starts_with("entry 17 of the log is AuthEnable (kind 1000)"));
        let add = v3(|request| request.auth_user_add = Some(AuthUserAddRequest::default()));
        assert!(refusal(&add).contains("AuthUserAdd"));
    }

    #[test]
    fn a_kind_that_nobody_knows_yet_is_refused_though_the_generated_code_drops_it() {
        let mut later = v3(|_| ()).data.to_vec();
        // Field 2000, a message of length 0.
        prost::encoding::encode_varint(2000 << 3 | 2, &mut later);
        later.push(0);
        assert!(refusal(&entry(later)).contains("a request of a newer etcd (kind 2000)"));
    }

    #[test]
    fn what_does_not_decode_is_refused_by_index() {
        let nested = Some(Operation::RequestTxn(vec![0xff; 3].into()));
        let success = vec![RequestOp { request: nested }];
        let txn = Some(TxnRequest { success, ..TxnRequest::default() });
        for entry in [entry(vec![0xff; 3]), v3(|request| request.txn = txn)] {
            let text = refusal(&entry);
            assert!(text.starts_with("entry 17 of the log does not decode: "), "{text}");
        }
    }
}
