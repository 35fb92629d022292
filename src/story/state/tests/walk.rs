//! Walks through a recording forward and backward, using the records alone, and compares the values
//! with those looked up.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    story::{
        Recording,
        order::Order,
        state::{States, Value, Watermark, changes},
    },
    trace::{Kind, Stage},
};

/// Number of look-ups, and how many of them gave a known value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walked {
    /// Number of changes walked over.
    pub(super) changes: usize,
    /// Changes for which the look-up knew the value before.
    pub(super) known_before: usize,
}

/// Asserts that at each step the look-up agrees with the records on both sides: a record begins at
/// its old value, if that is the value looked up just before it, unless a loss is reported there,
/// and ends at its new one; watermarks that no record touches stay the same.
pub(super) fn walk(recording: &Recording, order: &Order, states: &States) -> Walked {
    let lost: HashSet<(usize, Watermark)> =
        states.losses().iter().map(|loss| (loss.event, loss.water)).collect();
    let is_lossy = recording.events.iter().any(|event| event.stage == Stage::Lost);
    let waters: Vec<BTreeSet<Watermark>> = (0..recording.members.len())
        .map(|place| {
            let place = u8::try_from(place).unwrap();
            let boots = recording.members[usize::from(place)].boots.iter();
            boots.flat_map(|boot| states.told_of(place, boot.boot)).collect()
        })
        .collect();
    let mut boots: HashMap<u8, u16> = HashMap::new();
    let mut walked = Walked::default();
    for (rows, at) in order.rows.iter().enumerate() {
        let event = &recording.events[*at];
        let is_first = boots.insert(event.member, event.boot) != Some(event.boot);
        for (place, waters) in
            waters.iter().enumerate().filter(|(place, _)| *place != usize::from(event.member))
        {
            let place = u8::try_from(place).unwrap();
            let now = |rows| waters.iter().map(move |water| states.at(place, rows, *water));
            assert!(now(rows).eq(now(rows + 1)), "m{place} changes while {event:?} happens");
        }
        let is_told = event.kind != Kind::Keyframe;
        for change in changes(event).into_iter().filter(|_| is_told) {
            let look = |rows| states.at(event.member, rows, change.water);
            assert_eq!(Value::Known(change.new), look(rows + 1), "after {event:?}: {change:?}");
            let Some(old) = change.old.filter(|_| !is_first) else { continue };
            walked.changes += 1;
            match look(rows) {
                Value::Known(value) if !lost.contains(&(*at, change.water)) => {
                    assert_eq!(old, value, "before {event:?}: {change:?}");
                    walked.known_before += 1;
                }
                // The record before this one: its new value holds there, and a change was lost.
                Value::Known(value) => assert_ne!(old, value, "no loss at {event:?}"),
                Value::Within(least, most) => {
                    assert!((least..=most).contains(&old), "{least} {old} {most} at {event:?}");
                    let is_reported = lost.contains(&(*at, change.water)) || is_lossy;
                    assert!(is_reported, "before {event:?}: {change:?}");
                }
                Value::Unknown => {
                    let is_reported = lost.contains(&(*at, change.water)) || is_lossy;
                    assert!(is_reported, "unknown for no reason before {event:?}: {change:?}");
                }
            }
        }
    }
    walked
}
