//! Alarms: faults that all members know of, because they agree on them through raft (etcd:
//! v3alarm).

use std::{
    collections::BTreeSet,
    sync::{RwLock, atomic::Ordering},
};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Notify, watch};

use crate::{
    pb::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, alarm_request::AlarmAction},
    set, stage,
    storage::backend::{Backend, Bucket, WriteGuard},
    trace,
};

/// The raised alarms. Only the apply thread changes them.
#[derive(Debug)]
pub struct Alarms {
    /// Type and member id.
    raised: RwLock<BTreeSet<(i32, u64)>>,
}

/// A row of the bucket `alarm` does not decode.
#[derive(Debug, thiserror::Error)]
#[error("the database is damaged: a row of its alarms cannot be read: {0}")]
pub struct Damaged(prost::DecodeError);

fn read(backend: &Backend) -> Result<BTreeSet<(i32, u64)>, Damaged> {
    let mut raised = BTreeSet::new();
    for (key, _) in backend.range(Bucket::Alarm, b"", None, usize::MAX) {
        let alarm = AlarmMember::decode(key).map_err(Damaged)?;
        raised.insert((alarm.alarm, alarm.member_id));
    }
    Ok(raised)
}

impl Alarms {
    /// Reads the raised alarms from the backend.
    ///
    /// # Errors
    ///
    /// A row does not decode. It may have been an alarm, so the member must not start without it.
    pub fn open(backend: &Backend) -> Result<Self, Damaged> {
        let raised = read(backend)?;
        publish(&raised);
        Ok(Self { raised: RwLock::new(raised) })
    }

    /// Apply thread: reads the alarms again, from a database that was received.
    ///
    /// # Errors
    ///
    /// As [`Alarms::open`].
    pub fn reload(&self, backend: &Backend) -> Result<(), Damaged> {
        let read = read(backend)?;
        let mut raised = self.raised.write().expect("nobody panics while holding it");
        *raised = read;
        publish(&raised);
        Ok(())
    }

    /// The raised alarms of a type, or all for [`AlarmType::None`].
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let raised = self.raised.read().expect("nobody panics while holding it");
        let wanted = |(alarm, _): &&(i32, u64)| kind == AlarmType::None as i32 || *alarm == kind;
        raised
            .iter()
            .filter(wanted)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Whether any member has raised an alarm of this type.
    pub fn is_raised(&self, kind: AlarmType) -> bool {
        let raised = self.raised.read().expect("nobody panics while holding it");
        raised.iter().any(|(alarm, _)| *alarm == kind as i32)
    }

    /// Whether this member has raised an alarm of this type.
    pub fn has(&self, kind: AlarmType, member_id: u64) -> bool {
        let raised = self.raised.read().expect("nobody panics while holding it");
        raised.contains(&(kind as i32, member_id))
    }

    /// Apply thread: carries out the alarm request `id`. Returns the alarms that it lists, raises
    /// or disarms.
    pub fn apply(
        &self,
        id: u64,
        request: &AlarmRequest,
        backend: &mut WriteGuard<'_>,
    ) -> Vec<AlarmMember> {
        let action = request.action();
        let mut span = stage!(
            AlarmApply,
            id,
            raise = action == AlarmAction::Activate,
            disarm = action == AlarmAction::Deactivate,
            alarm = request.alarm,
            owner = request.member_id
        );
        let answer = self.carry_out(request, backend);
        set!(span, AlarmApply, answered = answer.len());
        answer
    }

    fn carry_out(&self, request: &AlarmRequest, backend: &mut WriteGuard<'_>) -> Vec<AlarmMember> {
        let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let key = alarm.encode_to_vec();
        match request.action() {
            AlarmAction::Get => self.list(request.alarm),
            AlarmAction::Activate if request.alarm == AlarmType::None as i32 => Vec::new(),
            AlarmAction::Activate => {
                if self.change(|raised| raised.insert((alarm.alarm, alarm.member_id))) {
                    backend.put(Bucket::Alarm, &key, Bytes::new());
                }
                vec![alarm]
            }
            AlarmAction::Deactivate => {
                if !self.change(|raised| raised.remove(&(alarm.alarm, alarm.member_id))) {
                    return Vec::new();
                }
                backend.delete(Bucket::Alarm, &key);
                vec![alarm]
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<(i32, u64)>) -> bool) -> bool {
        let mut raised = self.raised.write().expect("nobody panics while holding it");
        let is_changed = change(&mut raised);
        publish(&raised);
        is_changed
    }
}

/// Publishes the alarms for the trace's keyframes.
fn publish(raised: &BTreeSet<(i32, u64)>) {
    let marks = trace::watermarks();
    let by = |kind: AlarmType| {
        let mut of_kind = raised.iter().filter(|(alarm, _)| *alarm == kind as i32);
        of_kind.next().map_or(0, |(_, member)| *member)
    };
    marks.alarms.store(raised.len() as u64, Ordering::Relaxed);
    marks.no_space.store(by(AlarmType::Nospace), Ordering::Relaxed);
    marks.corrupt.store(by(AlarmType::Corrupt), Ordering::Relaxed);
}

/// Requests for this member's NOSPACE alarm; [`no_space`](super::no_space) carries them out.
#[derive(Debug, Default)]
pub(crate) struct NoSpace {
    pub(super) wake: Notify,
    /// Number of requests that have been carried out, or have failed.
    pub(super) answered: watch::Sender<u64>,
}

impl NoSpace {
    /// Asks for the alarm, and does not wait for it.
    pub(super) fn wish(&self) {
        self.wake.notify_one();
    }
}
