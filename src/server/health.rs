//! The health of this member, for `/health`, `/livez` and `/readyz`.
//!
//! `/health` checks the alarms, the leader and a read, and names the first that fails. `/livez` and
//! `/readyz` run one or more [`Check`]s and report each. A member without a quorum is alive,
//! because a restart would not help, but it is not ready.

use super::{Error, Server};
use crate::pb::etcdserverpb::{AlarmType, RangeRequest};

/// A check of this member by `/livez` or `/readyz`. Its name there is in the first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// `data_corruption` fails while the alarm CORRUPT is raised.
    DataCorruption,
    /// `serializable_read` reads this member's own data.
    SerializableRead,
    /// `linearizable_read` needs a quorum.
    LinearizableRead,
    /// `non_learner` fails while this member does not vote.
    NonLearner,
}

impl Check {
    /// In the order in which `/readyz` reports them.
    pub const ALL: [Check; 4] = [
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ];
}

/// Why a [`Check`] has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The alarm of this name is raised.
    Alarm(&'static str),
    /// The read ended with this error.
    Read(Error),
    /// The member does not vote yet.
    Learner,
}

/// Why `/health` does not call this member healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unhealthy {
    /// The alarm of this name is raised.
    Alarm(&'static str),
    /// The member knows no leader.
    NoLeader,
    /// The read ended with this error.
    Range(Error),
}

impl Server {
    /// Checks this member for `/health`. Alarms with a name in `excluded` are ignored, and if
    /// `serializable` is set, no leader and no quorum is needed.
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
        if !serializable && self.status.leader() == 0 {
            return Err(Unhealthy::NoLeader);
        }
        self.read_anything(id, serializable).await.map_err(Unhealthy::Range)
    }

    /// Runs one check of `/livez` or `/readyz`.
    pub(crate) async fn check(&self, id: u64, check: Check) -> Result<(), Failed> {
        match check {
            Check::DataCorruption => match self.alarms.list(AlarmType::Corrupt as i32).first() {
                Some(alarm) => Err(Failed::Alarm(alarm_name(alarm.alarm))),
                None => Ok(()),
            },
            Check::SerializableRead => self.read_anything(id, true).await.map_err(Failed::Read),
            Check::LinearizableRead => self.read_anything(id, false).await.map_err(Failed::Read),
            Check::NonLearner => match self.members.is_learner(self.member_id) {
                true => Err(Failed::Learner),
                false => Ok(()),
            },
        }
    }

    /// Reads one key, which need not exist.
    async fn read_anything(&self, id: u64, serializable: bool) -> Result<(), Error> {
        let key = "a".into();
        let range = RangeRequest { key, serializable, keys_only: true, ..RangeRequest::default() };
        self.kv.own_range(id, range).await.map(drop)
    }
}

/// The name of an alarm in etcd's texts.
pub(super) fn alarm_name(alarm: i32) -> &'static str {
    match AlarmType::try_from(alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE",
        Ok(AlarmType::Corrupt) => "CORRUPT",
        Ok(AlarmType::None) | Err(_) => "UNKNOWN",
    }
}
