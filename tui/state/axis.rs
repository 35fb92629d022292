//! When each member's events happened, on one axis for all members, and how far each had come at
//! any time.
//!
//! ```text
//!   now                             ┊
//!   etcd-01   ──●─────●───────●─────┊───●──     reached: its third event
//!   etcd-02   ────●──────────────●──┊─────●     reached: its second event
//! ```
//!
//! The members' clocks are aligned by their messages (`story::order`), as in `glass trace show`. So
//! a head of a lane can say how its member stood when another member took a step, even if its own
//! last step in the story was long before.
//!
//! Invariant: a member's times never fall, because its own clock orders its events.

use glass_etcd::story::{Recording, order::Order};

use super::watermarks::{Moment, moment};

/// The events of all members by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Axis {
    /// For each member by position: time in nanoseconds since 1970, and moment of each event.
    members: Vec<Vec<(u64, Moment)>>,
}

impl Axis {
    /// Reads a recording once.
    pub(crate) fn of(recording: &Recording, order: &Order) -> Axis {
        let mut members = vec![Vec::new(); recording.members.len()];
        for (event, time) in recording.events.iter().zip(&order.times) {
            if let Some(own) = members.get_mut(usize::from(event.member)) {
                own.push((clipped(*time), moment(event)));
            }
        }
        for own in &mut members {
            own.sort_unstable_by_key(|(time, moment)| (*moment, *time));
            let mut latest = 0;
            for (time, _) in own {
                latest = latest.max(*time);
                *time = latest;
            }
        }
        Axis { members }
    }

    /// How far the member had come at this time; `None` if nothing was recorded of it until then.
    pub(crate) fn reached(&self, place: u8, time_ns: u64) -> Option<Moment> {
        let own = self.members.get(usize::from(place))?;
        let happened = own.partition_point(|(time, _)| *time <= time_ns);
        Some(own[happened.checked_sub(1)?].1)
    }

    /// Whether this is the last moment of its start of the member.
    pub(crate) fn is_last(&self, place: u8, cut: Moment) -> bool {
        let own = self.members.get(usize::from(place)).map_or(&[][..], Vec::as_slice);
        let next = own.get(own.partition_point(|(_, moment)| *moment <= cut));
        next.is_none_or(|(_, (boot, _))| *boot != cut.0)
    }

    /// When the last of the member's events up to this moment happened.
    pub(crate) fn heard_ns(&self, place: u8, cut: Moment) -> Option<u64> {
        let own = self.members.get(usize::from(place))?;
        let happened = own.partition_point(|(_, moment)| *moment <= cut);
        Some(own[happened.checked_sub(1)?].0)
    }
}

/// A time of the axis as screens use it, which show none before 1970.
pub(crate) fn clipped(time: i128) -> u64 {
    u64::try_from(time.max(0)).unwrap_or(u64::MAX)
}
