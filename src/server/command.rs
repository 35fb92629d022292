//! What an entry of the log asks every member to do, and how that is written there.
//!
//! ```text
//!   Command ──encode──▶ data ──▶ InternalRaftRequest? ──▶ a kind that apply knows       ──▶ Command
//!                            │                        ├─▶ one that changes nothing      ──▶ Nothing
//!                            │                        └─▶ any other, also a later one   ──▶ the end
//!                            ├─▶ Request (v2)?        ──▶ attributes, cluster version   ──▶ Command
//!                            └─▶ neither                                                ──▶ the end
//! ```
//!
//! The same attributes and the same version come in two forms: etcd 3.5 proposes them as v2
//! requests, which every 3.5 member understands, and so does this member; later ones use the v3 form.
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

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::Entry;

use super::{
    members::{Attributes, hex},
    txn::Txn,
};
use crate::pb::{
    self,
    etcdserverpb::{
        AlarmRequest, CompactionRequest, DeleteRangeRequest, InternalRaftRequest,
        LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
        Request, RequestHeader,
    },
    membershippb::ClusterMemberAttrSetRequest,
};

/// What every member is to do. See the module's text.
#[derive(Debug)]
pub(crate) enum Command {
    /// A leader's first entry, or a change that raft has emptied, or nothing that has an effect.
    Nothing,
    /// Reading through the log; nobody proposes it today, but old entries may have it.
    Range(RangeRequest),
    /// See [`PutRequest`].
    Put(PutRequest),
    /// See [`DeleteRangeRequest`].
    DeleteRange(DeleteRangeRequest),
    /// A transaction, with those in it.
    Txn(Txn),
    /// See [`CompactionRequest`].
    Compact(CompactionRequest),
    /// See [`LeaseGrantRequest`]; its id is not 0.
    LeaseGrant(LeaseGrantRequest),
    /// See [`LeaseRevokeRequest`].
    LeaseRevoke(LeaseRevokeRequest),
    /// How long leases have still to live.
    LeaseCheckpoint(LeaseCheckpointRequest),
    /// See [`AlarmRequest`].
    Alarm(AlarmRequest),
    /// The cluster has this version.
    SetVersion(String),
    /// The member of this id has published these.
    SetAttributes(u64, Attributes),
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

impl Command {
    /// The data of an entry that proposes it under the id of this header.
    pub(super) fn encode(self, header: RequestHeader) -> Bytes {
        let id = header.id;
        let header = Some(header);
        let mut request = InternalRaftRequest { header, ..InternalRaftRequest::default() };
        match self {
            Command::Nothing => {}
            Command::Range(range) => request.range = Some(range),
            Command::Put(put) => request.put = Some(put),
            Command::DeleteRange(delete_range) => request.delete_range = Some(delete_range),
            Command::Txn(txn) => request.txn = Some(txn.into_request()),
            Command::Compact(compaction) => request.compaction = Some(compaction),
            Command::LeaseGrant(grant) => request.lease_grant = Some(grant),
            Command::LeaseRevoke(revoke) => request.lease_revoke = Some(revoke),
            Command::LeaseCheckpoint(checkpoint) => request.lease_checkpoint = Some(checkpoint),
            Command::Alarm(alarm) => request.alarm = Some(alarm),
            Command::SetVersion(version) => return v2(id, VERSION.to_owned(), version),
            Command::SetAttributes(member, attributes) => {
                let attributes = serde_json::to_string(&attributes);
                let attributes = attributes.expect("attributes are plain data");
                return v2(id, format!("{MEMBERS}{}{ATTRIBUTES}", hex(member)), attributes);
            }
        }
        request.encode_to_vec().into()
    }
}

/// Where a v2 request sets the cluster's version.
const VERSION: &str = "/0/version";
/// Where it sets a member's attributes: between these stands the member's id in hex.
const MEMBERS: &str = "/0/members/";
const ATTRIBUTES: &str = "/attributes";

fn v2(id: u64, path: String, val: String) -> Bytes {
    let (method, path, val) = (Some("PUT".to_owned()), Some(path), Some(val));
    Request { id: Some(id), method, path, val, ..Request::default() }.encode_to_vec().into()
}

fn of_v2(request: &Request) -> Command {
    let path = request.path();
    if path == VERSION {
        return Command::SetVersion(request.val().to_owned());
    }
    let member = path.strip_prefix(MEMBERS).and_then(|rest| rest.strip_suffix(ATTRIBUTES));
    let Some(member) = member.and_then(|id| u64::from_str_radix(id, 16).ok()) else {
        return Command::Nothing;
    };
    match serde_json::from_str(request.val()) {
        Ok(attributes) => Command::SetAttributes(member, attributes),
        Err(error) => {
            tracing::warn!(%error, member = %hex(member), "attributes were not understood");
            Command::Nothing
        }
    }
}

fn set_attributes(set: ClusterMemberAttrSetRequest) -> Command {
    let attributes = set.member_attributes.unwrap_or_default();
    let attributes = Attributes { name: attributes.name, client_urls: attributes.client_urls };
    Command::SetAttributes(set.member_id, attributes)
}

/// What an entry asks for, and the request's id; 0 for none.
///
/// v3 first: the bytes of a v2 request never parse as one, because of the letters of its method.
pub(super) fn decode(entry: &Entry) -> Result<(u64, Command), Misfit> {
    let nothing = (0, Command::Nothing);
    if entry.data.is_empty() {
        return Ok(nothing);
    }
    let damaged = |source| Misfit::Damaged { index: entry.index, source };
    let Ok(request) = InternalRaftRequest::decode(entry.data.clone()) else {
        let request = Request::decode(entry.data.clone()).map_err(damaged)?;
        return Ok((request.id(), of_v2(&request)));
    };
    // The generated code drops fields that it does not know, so it is not asked.
    let kind = pb::fields(&entry.data).find(|field| !HEADERS.contains(field));
    let Some(kind) = kind else { return Ok(nothing) };
    if LEFT_OUT.contains(&kind) {
        tracing::info!(index = entry.index, kind, "an entry that changes nothing was left out");
        return Ok(nothing);
    }
    let id = match &request.header {
        Some(header) if request.id == 0 => header.id,
        _ => request.id,
    };
    let command = match kind {
        2 => return Ok(request.v2.map_or(nothing, |request| (request.id(), of_v2(&request)))),
        3 => request.range.map(Command::Range),
        4 => request.put.map(Command::Put),
        5 => request.delete_range.map(Command::DeleteRange),
        6 => {
            // The member that proposed it has counted its operations, perhaps with another limit.
            let expand = |txn| Txn::expand(txn, usize::MAX);
            request.txn.map(expand).transpose().map_err(damaged)?.map(Command::Txn)
        }
        7 => request.compaction.map(Command::Compact),
        8 => request.lease_grant.map(Command::LeaseGrant),
        9 => request.lease_revoke.map(Command::LeaseRevoke),
        10 => request.alarm.map(Command::Alarm),
        11 => request.lease_checkpoint.map(Command::LeaseCheckpoint),
        1300 => request.cluster_version_set.map(|set| Command::SetVersion(set.ver)),
        1301 => request.cluster_member_attr_set.map(set_attributes),
        kind => return Err(Misfit::Kind { index: entry.index, kind, name: name(kind) }),
    };
    // The field is there: that is how its number was found.
    Ok((id, command.unwrap_or(Command::Nothing)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::etcdserverpb::{
        AuthEnableRequest, AuthStatusRequest, AuthUserAddRequest, RequestOp, TxnRequest,
        request_op::Request as Operation,
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
            let (id, command) = decode(&entry).unwrap();
            assert!(!matches!(command, Command::Nothing) && id == 5, "{command:?}");
        }
    }

    #[test]
    fn what_etcd_members_of_every_version_send_by_themselves_is_no_obstacle() {
        let publish = Request {
            id: Some(5),
            method: Some("PUT".to_owned()),
            path: Some("/0/members/1/attributes".to_owned()),
            val: Some(r#"{"name":"a"}"#.to_owned()),
            ..Request::default()
        };
        let bare = entry(publish.encode_to_vec());
        let wrapped = v3(|request| request.v2 = Some(publish));
        for entry in [bare, wrapped] {
            let Ok((5, Command::SetAttributes(1, attributes))) = decode(&entry) else { panic!() };
            assert_eq!(attributes.name, "a");
        }
        for entry in [
            entry(Vec::new()),
            v3(|_| ()),
            v3(|request| request.auth_status = Some(AuthStatusRequest::default())),
            v3(|request| request.auth_role_list = Some(Default::default())),
            v3(|request| request.downgrade_info_set = Some(Default::default())),
            v3(|request| request.downgrade_version_test = Some(Default::default())),
        ] {
            assert!(matches!(decode(&entry), Ok((0, Command::Nothing))), "{entry:?}");
        }
    }

    #[test]
    fn what_is_proposed_comes_out_of_the_log_as_it_was() {
        let attributes =
            Attributes { name: "a".to_owned(), client_urls: vec!["http://a".to_owned()] };
        let success =
            vec![RequestOp { request: Some(Operation::RequestPut(PutRequest::default())) }];
        let txn = TxnRequest { success, ..TxnRequest::default() };
        let commands = || {
            [
                Command::Range(RangeRequest { limit: 3, ..RangeRequest::default() }),
                Command::Put(PutRequest { lease: 4, ..PutRequest::default() }),
                Command::DeleteRange(DeleteRangeRequest { prev_kv: true, ..Default::default() }),
                Command::Txn(Txn::expand(txn.clone(), 1).unwrap()),
                Command::Compact(CompactionRequest { revision: 6, physical: true }),
                Command::LeaseGrant(LeaseGrantRequest { ttl: 7, id: 8 }),
                Command::LeaseRevoke(LeaseRevokeRequest { id: 9 }),
                Command::LeaseCheckpoint(LeaseCheckpointRequest::default()),
                Command::Alarm(AlarmRequest { member_id: 10, ..AlarmRequest::default() }),
                Command::SetVersion("3.5.0".to_owned()),
                Command::SetAttributes(0xab, attributes.clone()),
            ]
        };
        for (proposed, expected) in commands().into_iter().zip(commands()) {
            let header = RequestHeader { id: 5, ..RequestHeader::default() };
            let (id, found) = decode(&entry(proposed.encode(header).to_vec())).unwrap();
            assert_eq!((id, format!("{found:?}")), (5, format!("{expected:?}")));
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
