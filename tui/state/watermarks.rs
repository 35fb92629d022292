//! Watermarks of a member: role, term, and the progress of each of its parts.
//!
//! The library says what held at a cursor ([`States`]); for live members, the newest value received
//! counts. A value that neither source gives is unknown, and is shown as unknown.

use std::collections::BTreeMap;

use glass_etcd::story::{Event, Recording, order, state::Value};
pub(crate) use glass_etcd::story::{
    order::{Clocks, wall_ns as wall},
    state::{Change, Moment, States, Watermark as Water, changes},
};

/// The moment on its member's clock at which an event takes effect, as in the playback order.
pub(crate) fn moment(event: &Event) -> Moment {
    (event.boot, order::point(event))
}

/// The known watermarks of one member at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    values: BTreeMap<Water, (Moment, Value)>,
    /// The newest event that was processed.
    pub(crate) newest: Option<Moment>,
    /// The time of that event, in nanoseconds since 1970.
    pub(crate) heard_wall_ns: Option<u64>,
}

impl Watermarks {
    /// Processes one event. Events may come in any order: the newest of each watermark holds.
    pub(crate) fn learn(&mut self, event: &Event, wall_ns: u64) {
        let at = moment(event);
        self.newest = self.newest.max(Some(at));
        self.heard_wall_ns = self.heard_wall_ns.max(Some(wall_ns));
        for change in changes(event) {
            let slot = self.values.entry(change.water).or_default();
            if slot.0 <= at {
                *slot = (at, Value::Known(change.new));
            }
        }
    }

    /// The value; `None` if it is unknown since the member's last start.
    pub(crate) fn get(&self, water: Water) -> Option<u64> {
        self.value(water).known()
    }

    /// Whether the member has reached this index, if that is known.
    pub(crate) fn reaches(&self, water: Water, index: u64) -> Option<bool> {
        self.value(water).reaches(index)
    }

    /// What the watermark is at least, if it only rises and anything is known of it.
    pub(crate) fn least(&self, water: Water) -> Option<u64> {
        match self.value(water) {
            Value::Known(value) | Value::Within(value, _) => Some(value),
            Value::Unknown => None,
        }
    }

    fn value(&self, water: Water) -> Value {
        let Some((known, value)) = self.values.get(&water) else { return Value::Unknown };
        let boot = self.newest.map_or(known.0, |newest| newest.0);
        if known.0 == boot { *value } else { Value::Unknown }
    }
}

/// The watermarks of one member once everything up to `cut` had happened, at this time.
pub(crate) fn at(states: &States, member: u8, cut: Moment, heard: Option<u64>) -> Watermarks {
    let told = states.told_of(member, cut.0).into_iter();
    Watermarks {
        values: told.map(|water| (water, (cut, states.at_moment(member, cut, water)))).collect(),
        newest: Some(cut),
        heard_wall_ns: heard,
    }
}

/// The states of all members, from the records so far.
pub(crate) fn states(recording: &Recording) -> States {
    // The player's cursors are moments of members, not positions in a playback order.
    States::of(recording, &order::Order::default())
}
