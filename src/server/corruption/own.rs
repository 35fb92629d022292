//! The alarm of a member that has found damage in its own file, just before it ends.
//!
//! The thread that has found it may be any: it may hold locks, and the grpc thread cannot serve a
//! proposal while it waits here. So the entry goes to raft directly, and the thread looks at the
//! alarms from time to time instead of waiting for an answer. If it is apply that has found the
//! damage, it cannot see its own entry; then it gives the others the same time to take it.

use std::{thread, time::Duration};

use raft::eraftpb::EntryType;

use super::corrupt;
use crate::{
    clock,
    pb::etcdserverpb::{AlarmType, RequestHeader},
    raft::inbox::Input,
    server::{command::Command, internal::Internal, propose::Proposer},
    stage, trace,
};

/// How long the member may live on for its alarm.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks whether the alarm is raised.
const PAUSE: Duration = Duration::from_millis(10);

/// Raises the alarm CORRUPT of this member, and returns when it is raised, or after a second.
pub(crate) fn raise_own(proposer: &Proposer) {
    let is_raised = || proposer.alarms.has(AlarmType::Corrupt, proposer.member_id);
    if is_raised() {
        return;
    }
    let id = proposer.ids.next(true);
    Internal::RaiseAlarm.request_at_once(id, || {
        let header = RequestHeader { id, ..RequestHeader::default() };
        let data = Command::Alarm(corrupt(proposer.member_id)).encode(header);
        let leader = proposer.status.leader();
        let _span = stage!(RaftPropose, id, bytes = data.len(), leader = leader).begun();
        let (kind, since) = (EntryType::EntryNormal, trace::handed_over());
        if proposer.inbox.offer(Input::Propose { id, data, kind, since }).is_err() {
            return;
        }
        let until = clock::now() + PATIENCE;
        while !is_raised() && clock::now() < until {
            thread::sleep(PAUSE);
        }
    });
}
