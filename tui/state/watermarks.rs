//! Where a member stands: role, term, and how far each part of it has come.
//!
//! What held at a cursor is the library's to say ([`States`]); what is known of live members at
//! last is the newest value that was told. What neither of them tells is unknown, and is shown as
//! unknown.

use std::collections::BTreeMap;

use glass_etcd::story::{Event, Recording, order, state::Value};
pub(crate) use glass_etcd::story::{
    order::wall_ns as wall,
    state::{Change, Moment, States, Watermark as Water, changes},
};

/// Where on its member's clock an event takes effect, as the order of playback has it.
pub(crate) fn moment(event: &Event) -> Moment {
    (event.boot, order::point(event))
}

/// What is known of one member at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    values: BTreeMap<Water, (Moment, Value)>,
    /// The newest event that has been taken in.
    pub(crate) newest: Option<Moment>,
    /// When that was on the wall, in nanoseconds since 1970.
    pub(crate) heard_wall_ns: Option<u64>,
}

impl Watermarks {
    /// Takes in one event. Events may come in any order: the newest of each watermark holds.
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

    /// The value, unless nothing is known of it since the member's last start.
    pub(crate) fn get(&self, water: Water) -> Option<u64> {
        self.value(water).known()
    }

    /// Whether it has come so far, if that is known.
    pub(crate) fn reaches(&self, water: Water, index: u64) -> Option<bool> {
        self.value(water).reaches(index)
    }

    fn value(&self, water: Water) -> Value {
        let Some((known, value)) = self.values.get(&water) else { return Value::Unknown };
        let boot = self.newest.map_or(known.0, |newest| newest.0);
        if known.0 == boot { *value } else { Value::Unknown }
    }
}

/// What held on one member once everything up to `cut` had happened.
pub(crate) fn at(states: &States, member: u8, cut: Moment) -> Watermarks {
    let told = states.told_of(member, cut.0).into_iter();
    Watermarks {
        values: told.map(|water| (water, (cut, states.at_moment(member, cut, water)))).collect(),
        newest: Some(cut),
        heard_wall_ns: states.heard_ns(member, cut),
    }
}

/// The states of all members of what was heard so far.
pub(crate) fn states(recording: &Recording) -> States {
    // Cursors of the player are moments of members, not places of a playback order.
    States::of(recording, &order::Order::default())
}
