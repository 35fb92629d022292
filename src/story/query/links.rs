//! The links that were cut at some time, by the records of both ends.
//!
//! A heal recorded by either end ends the cut: the other may have been down.

use std::collections::BTreeMap;

use crate::{
    fields,
    story::{Recording, order::Order},
    trace::stage::Stage,
};

/// The events with which links were cut that were so at some time from `from` to `to`, both on the
/// common axis in nanoseconds, in playback order.
pub(super) fn cut(recording: &Recording, order: &Order, (from, to): (i128, i128)) -> Vec<usize> {
    let id =
        |place: u8| recording.members.get(usize::from(place)).map_or(0, |known| known.member_id);
    let mut open: BTreeMap<[u64; 2], Vec<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    for at in &order.rows {
        let event = &recording.events[*at];
        if event.stage != Stage::RaftLink || to < order.times[*at] {
            continue;
        }
        let [peer, is_cut] = fields!(event, RaftLink: peer, cut_new);
        let mut ends = [id(event.member), peer];
        ends.sort_unstable();
        match is_cut {
            0 if order.times[*at] < from => _ = open.remove(&ends),
            0 => found.extend(open.remove(&ends).unwrap_or_default()),
            _ => open.entry(ends).or_default().push(*at),
        }
    }
    found.extend(open.into_values().flatten());
    found.sort_by_key(|at| order.times[*at]);
    found
}
