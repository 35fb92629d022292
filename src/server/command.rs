//! The commands in the log's entries, and their encoding.
//!
//! ```text
//!   Command ──encode──▶ data ──▶ InternalRaftRequest? ──▶ a kind that apply knows      ──▶ Command
//!                            │                        ├─▶ a kind without effect        ──▶ Nothing
//!                            │                        └─▶ any other, newer ones too    ──▶ fatal
//!                            ├─▶ Request (v2)?        ──▶ attributes, cluster version  ──▶ Command
//!                            │                        └─▶ any other, for the v2 store  ──▶ Command
//!                            └─▶ neither                                               ──▶ fatal
//! ```
//!
//! Attributes and cluster version have two forms. etcd 3.5 proposes them as v2 requests, which
//! every 3.5 member understands, and so does this member; later versions use the v3 form.
//!
//! In a cluster with etcd members the log may contain a command that this version cannot apply, for
//! example one that turns auth on. A member that skipped it would continue to serve in a state of
//! its own; in the example it would admit every client. So this member ends before it applies the
//! entry, with a message that names it, and does so at each start (etcd panics). As the leader it
//! does not append such a command when another member forwards it (`raft/sound.rs`, with the list
//! of kinds in `pb.rs`).
//!
//! Kinds that only read are skipped, and kinds that have no effect while auth is off. One kind is
//! skipped that etcd does persist: `DowngradeInfoSet` (1302), which records in the key `downgrade`
//! of the bucket `cluster` whether a downgrade is in progress, and to which version. No answer
//! about keys, leases or members depends on it, and no hash. etcd reads it in its monitors, in the
//! check of its own version at the start, and in its answers about a downgrade. Nothing here reads
//! it, since this version begins no downgrade. Its consequence on an etcd leader, a lower cluster
//! version, is an entry of its own (1300), and is applied.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::Entry;

use super::{
    members::{Attributes, hex},
    slow,
    txn::Txn,
};
use crate::pb::{
    etcdserverpb::{
        AlarmRequest, CompactionRequest, DeleteRangeRequest, InternalRaftRequest,
        LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
        Request, RequestHeader,
    },
    membershippb::ClusterMemberAttrSetRequest,
};
use crate::{metrics::recorded, pb};

/// A change that every member applies. See the module's text.
#[derive(Debug)]
pub(crate) enum Command {
    /// A leader's first entry, a configuration change that raft has emptied, or a request without
    /// effect.
    Nothing,
    /// A range in the log. No member proposes it today, but old logs may contain it.
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(Txn),
    Compact(CompactionRequest),
    /// Its id is not 0.
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    /// The remaining time of leases.
    LeaseCheckpoint(LeaseCheckpointRequest),
    Alarm(AlarmRequest),
    /// The version of the cluster.
    SetVersion(String),
    /// A member's id, and the attributes that it publishes.
    SetAttributes(u64, Attributes),
    /// A request for the v2 store.
    V2(Box<Request>),
}

/// Why a member cannot apply an entry. It must end rather than skip the entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    #[error(
        "entry {index} of the log is {name} (kind {kind}), which this version cannot carry out: \
         a member that left it out would serve other data than the rest. Remove this member from \
         the cluster, or use no feature that this version lacks"
    )]
    Unsupported { index: u64, kind: u64, name: &'static str },
    #[error("entry {index} of the log does not decode: {source}")]
    Damaged { index: u64, source: prost::DecodeError },
}

impl Command {
    /// The operation's position in [`recorded::OPERATIONS`]; `None` for a command without effect.
    pub(super) fn operation(&self) -> Option<usize> {
        let name = match self {
            Command::Nothing => return None,
            Command::Range(_) => "Range",
            Command::Put(_) => "Put",
            Command::DeleteRange(_) => "DeleteRange",
            Command::Txn(_) => "Txn",
            Command::Compact(_) => "Compaction",
            Command::LeaseGrant(_) => "LeaseGrant",
            Command::LeaseRevoke(_) => "LeaseRevoke",
            Command::LeaseCheckpoint(_) => "LeaseCheckpoint",
            Command::Alarm(_) => "Alarm",
            Command::SetVersion(_) | Command::SetAttributes(..) => "PUT",
            Command::V2(request) => request.method(),
        };
        recorded::OPERATIONS.iter().position(|(_, of)| *of == name)
    }

    /// The command for a log line: without values.
    pub(super) fn describe(&self) -> String {
        match self {
            Command::Range(range) => slow::range_text(range),
            Command::Put(put) => slow::put_text(put),
            Command::DeleteRange(delete) => slow::delete_text(delete),
            Command::Txn(txn) => slow::txn_text(txn.request(0)),
            Command::Compact(compact) => format!("revision:{}", compact.revision),
            Command::LeaseGrant(grant) => format!("ID:{:x} TTL:{}", grant.id, grant.ttl),
            Command::LeaseRevoke(revoke) => format!("ID:{:x}", revoke.id),
            Command::LeaseCheckpoint(checkpoint) => {
                format!("checkpoints:{}", checkpoint.checkpoints.len())
            }
            Command::Alarm(alarm) => format!("{:?}", alarm.action()),
            Command::SetVersion(version) => format!("version:{version}"),
            Command::SetAttributes(member, _) => format!("member:{}", hex(*member)),
            Command::V2(request) => {
                let path = String::from_utf8_lossy(request.path());
                format!("method:{:?} path:{path:?}", request.method())
            }
            Command::Nothing => String::new(),
        }
    }

    /// Encodes the command as the data of an entry, under the request id in the header.
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
            Command::V2(request) => {
                return Request { id: Some(id), ..*request }.encode_to_vec().into();
            }
            Command::SetAttributes(member, attributes) => {
                let attributes = serde_json::to_string(&attributes);
                let attributes = attributes.expect("attributes are plain data");
                return v2(id, format!("{MEMBERS}{}{ATTRIBUTES}", hex(member)), attributes);
            }
        }
        request.encode_to_vec().into()
    }
}

/// The path by which a v2 request sets the cluster version.
const VERSION: &str = "/0/version";
/// The beginning and the end of the path by which a v2 request sets a member's attributes. The
/// member's id in hex is between them.
const MEMBERS: &str = "/0/members/";
const ATTRIBUTES: &str = "/attributes";

fn v2(id: u64, path: String, val: String) -> Bytes {
    let (method, path, val) = (Some("PUT".to_owned()), Some(path.into()), Some(val.into()));
    Request { id: Some(id), method, path, val, ..Request::default() }.encode_to_vec().into()
}

/// What a v2 request means. Without conditions, a put may be for the members (etcd:
/// `applierV2store.Put`).
fn of_v2(request: Request) -> Command {
    let compares = !request.prev_value().is_empty() || request.prev_index() != 0;
    let path = str::from_utf8(request.path()).ok();
    let Some(path) =
        path.filter(|_| request.method() == "PUT" && request.prev_exist.is_none() && !compares)
    else {
        return Command::V2(request.into());
    };
    if path == VERSION {
        return Command::SetVersion(String::from_utf8_lossy(request.val()).into_owned());
    }
    let member = path.strip_prefix(MEMBERS).and_then(|rest| rest.strip_suffix(ATTRIBUTES));
    let Some(member) = member.and_then(|id| u64::from_str_radix(id, 16).ok()) else {
        return Command::V2(request.into());
    };
    match serde_json::from_slice(request.val()) {
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

/// Decodes an entry into the id of its request (0: none) and its command.
///
/// v3 is tried first. A v2 request never decodes as v3, because of the letters of its method.
pub(super) fn decode(entry: &Entry) -> Result<(u64, Command), EntryError> {
    let nothing = (0, Command::Nothing);
    if entry.data.is_empty() {
        return Ok(nothing);
    }
    let damaged = |source| EntryError::Damaged { index: entry.index, source };
    let Ok(request) = InternalRaftRequest::decode(entry.data.clone()) else {
        let request = Request::decode(entry.data.clone()).map_err(damaged)?;
        return Ok((request.id(), of_v2(request)));
    };
    let Some(kind) = pb::request_kind(&entry.data) else { return Ok(nothing) };
    if pb::KINDS_SKIPPED.contains(&kind) {
        tracing::info!(index = entry.index, kind, "an entry that changes nothing was left out");
        return Ok(nothing);
    }
    let id = match &request.header {
        Some(header) if request.id == 0 => header.id,
        _ => request.id,
    };
    let command = match kind {
        2 => return Ok(request.v2.map_or(nothing, |request| (request.id(), of_v2(request)))),
        3 => request.range.map(Command::Range),
        4 => request.put.map(Command::Put),
        5 => request.delete_range.map(Command::DeleteRange),
        6 => {
            // The proposing member has checked the number of operations, perhaps with another
            // limit.
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
        kind => {
            let (index, name) = (entry.index, pb::kind_name(kind));
            return Err(EntryError::Unsupported { index, kind, name });
        }
    };
    // The field is set, because its number was found in the bytes.
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
    fn a_known_request_is_decoded_even_if_it_is_empty() {
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
    fn entries_that_etcd_members_propose_on_their_own_are_decoded_or_skipped() {
        let publish = Request {
            id: Some(5),
            method: Some("PUT".to_owned()),
            path: Some("/0/members/1/attributes".into()),
            val: Some(r#"{"name":"a"}"#.into()),
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

    fn of_store(method: &str) -> Request {
        Request {
            id: Some(5),
            method: Some(method.to_owned()),
            path: Some(b"/1/\xff"[..].into()),
            val: Some(b"\xfe"[..].into()),
            prev_exist: Some(false),
            expiration: Some(-1),
            time: Some(i64::MAX),
            ..Request::default()
        }
    }

    /// Bytes that are no UTF-8 are clients' business: etcd does not look at them.
    #[test]
    fn a_v2_request_of_any_method_is_for_the_v2_store() {
        for method in ["PUT", "POST", "DELETE", "QGET", "SYNC", "GET", "", "X"] {
            let request = of_store(method);
            let entry = entry(request.encode_to_vec());
            assert_eq!(pb::request_fault(&entry.data), None, "{method}");
            let Ok((5, Command::V2(found))) = decode(&entry) else { panic!("{method}") };
            assert_eq!(*found, request);
        }
        let conditional = Request {
            method: Some("PUT".to_owned()),
            path: Some("/0/members/1/attributes".into()),
            prev_exist: Some(true),
            ..Request::default()
        };
        let entry = entry(conditional.encode_to_vec());
        assert!(matches!(decode(&entry), Ok((0, Command::V2(_)))));
    }

    #[test]
    fn a_command_is_decoded_as_it_was_encoded() {
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
                Command::V2(of_store("PUT").into()),
            ]
        };
        for (proposed, expected) in commands().into_iter().zip(commands()) {
            let header = RequestHeader { id: 5, ..RequestHeader::default() };
            let (id, found) = decode(&entry(proposed.encode(header).to_vec())).unwrap();
            assert_eq!((id, format!("{found:?}")), (5, format!("{expected:?}")));
        }
    }

    #[test]
    fn an_unsupported_command_is_refused_with_its_index_and_name() {
        let enable = v3(|request| request.auth_enable = Some(AuthEnableRequest::default()));
        assert!(refusal(&enable).starts_with("entry 17 of the log is AuthEnable (kind 1000)"));
        let add = v3(|request| request.auth_user_add = Some(AuthUserAddRequest::default()));
        assert!(refusal(&add).contains("AuthUserAdd"));
    }

    #[test]
    fn an_unknown_kind_is_refused_though_the_generated_code_drops_it() {
        let mut later = v3(|_| ()).data.to_vec();
        // Field 2000, a message of length 0.
        prost::encoding::encode_varint(2000 << 3 | 2, &mut later);
        later.push(0);
        assert!(refusal(&entry(later)).contains("a request of a newer etcd (kind 2000)"));
    }

    /// A leader refuses by `pb::request_fault` what apply would refuse here.
    #[test]
    fn a_leader_refuses_exactly_the_kinds_that_apply_refuses() {
        for kind in 1..10_000_u64 {
            let mut data = Vec::new();
            // The id is a number, all others are messages.
            let wire_type = if kind == 1 { 0 } else { 2 };
            prost::encoding::encode_varint(kind << 3 | wire_type, &mut data);
            data.push(0);
            let entry = entry(data);
            let refused = pb::request_fault(&entry.data);
            match decode(&entry) {
                Ok(_) => assert_eq!(refused, None, "{kind}"),
                Err(EntryError::Unsupported { kind, name, .. }) => {
                    assert_eq!(refused, Some(pb::RequestFault::Unsupported { kind, name }));
                }
                Err(error) => panic!("{kind}: {error}"),
            }
        }
    }

    /// Goal: no client of a follower waits for a request that the leader refuses by its kind: a
    /// leader of this version takes every kind that a member of this version proposes. Method: each
    /// command, as it is encoded.
    #[test]
    fn a_member_proposes_nothing_that_a_leader_refuses() {
        let attributes = Attributes { name: "m1".to_owned(), client_urls: Vec::new() };
        let txn = Txn::expand(TxnRequest::default(), 128).unwrap();
        let all = [
            Command::Nothing,
            Command::Range(RangeRequest::default()),
            Command::Put(PutRequest::default()),
            Command::DeleteRange(DeleteRangeRequest::default()),
            Command::Txn(txn),
            Command::Compact(CompactionRequest::default()),
            Command::LeaseGrant(LeaseGrantRequest::default()),
            Command::LeaseRevoke(LeaseRevokeRequest::default()),
            Command::LeaseCheckpoint(LeaseCheckpointRequest::default()),
            Command::Alarm(AlarmRequest::default()),
            Command::SetVersion("3.5.0".to_owned()),
            Command::SetAttributes(7, attributes),
            Command::V2(of_store("PUT").into()),
        ];
        for command in all {
            // A new command fails to compile here: add it to the list above.
            match &command {
                Command::Nothing
                | Command::Range(_)
                | Command::Put(_)
                | Command::DeleteRange(_)
                | Command::Txn(_)
                | Command::Compact(_)
                | Command::LeaseGrant(_)
                | Command::LeaseRevoke(_)
                | Command::LeaseCheckpoint(_)
                | Command::Alarm(_)
                | Command::SetVersion(_)
                | Command::SetAttributes(..)
                | Command::V2(_) => {}
            }
            let name = format!("{command:?}");
            let header = RequestHeader { id: 0x0203, ..RequestHeader::default() };
            assert_eq!(None, pb::request_fault(&command.encode(header)), "{name}");
        }
    }

    #[test]
    fn data_that_does_not_decode_is_refused_with_its_index() {
        let nested = Some(Operation::RequestTxn(vec![0xff; 3].into()));
        let success = vec![RequestOp { request: nested }];
        let txn = Some(TxnRequest { success, ..TxnRequest::default() });
        for entry in [entry(vec![0xff; 3]), v3(|request| request.txn = txn)] {
            let text = refusal(&entry);
            assert!(text.starts_with("entry 17 of the log does not decode: "), "{text}");
        }
    }
}
