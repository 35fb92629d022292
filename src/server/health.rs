//! Whether this member is well: what `/health`, `/livez` and `/readyz` ask.
//!
//! `/health` asks three questions at once and names the first that is answered with no. `/livez` and
//! `/readyz` ask one or more [`Check`]s, and tell of each: a member that has no quorum is alive, and
//! restarting it would not help, but it is not ready.

use super::{Error, Server};
use crate::pb::etcdserverpb::{AlarmType, RangeRequest};

/// A question about this member, by etcd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// `data_corruption`: is no alarm CORRUPT raised?
    DataCorruption,
    /// `serializable_read`: can it read what it has?
    SerializableRead,
    /// `linearizable_read`: can it read what a quorum has?
    LinearizableRead,
    /// `non_learner`: does it vote?
    NonLearner,
}

impl Check {
    /// Every check, by its number.
    pub const ALL: [Check; 4] = [
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ];
}

/// Why a check has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The alarm of this name is raised.
    Alarm(&'static str),
    /// The read was not served.
    Read(Error),
    /// The member does not vote yet.
    Learner,
}

/// Why a member is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    /// An alarm of this name is raised.
    Alarm(&'static str),
    /// The member knows no leader.
    NoLeader,
    /// It could not serve a read.
    Range(Error),
}

impl Server {
    /// Whether this member is healthy, as `/health` understands it; otherwise the reason.
    pub(crate) async fn health(
        &self,
        id: u64,
        serializable: bool,
        excluded: &[String],
    ) -> Result<(), Unhealthy> {
        for alarm in self.alarms.list(AlarmType::None as i32) {
            let name = alarm_name(alarm.alarm);
            if !excluded.iter().any(|excluded| excluded == name) {
                return Err(Unhealthy::Alarm(name));
            }
        }
        if !serializable && self.leader() == 0 {
            return Err(Unhealthy::NoLeader);
        }
        self.read_anything(id, serializable).await.map_err(Unhealthy::Range)
    }

    /// Carries out one check of `/livez` or `/readyz`.
    pub(crate) async fn check(&self, id: u64, check: Check) -> Result<(), Failed> {
        match check {
            Check::DataCorruption => match self.alarms.list(AlarmType::Corrupt as i32).first() {
                Some(alarm) => Err(Failed::Alarm(alarm_name(alarm.alarm))),
                None => Ok(()),
            },
            Check::SerializableRead => self.read_anything(id, true).await.map_err(Failed::Read),
            Check::LinearizableRead => self.read_anything(id, false).await.map_err(Failed::Read),
            Check::NonLearner => match self.is_learner() {
                true => Err(Failed::Learner),
                false => Ok(()),
            },
        }
    }

    /// Reads one key that need not be there.
    async fn read_anything(&self, id: u64, serializable: bool) -> Result<(), Error> {
        let key = "a".into();
        let range = RangeRequest { key, serializable, keys_only: true, ..RangeRequest::default() };
        self.range(id, range).await.map(drop)
    }
}

/// An alarm's name in etcd's texts.
pub(super) fn alarm_name(alarm: i32) -> &'static str {
    match AlarmType::try_from(alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE",
        Ok(AlarmType::Corrupt) => "CORRUPT",
        Ok(AlarmType::None) | Err(_) => "UNKNOWN",
    }
}
