//! The columns of the player: one per member, including members known only from others.
//!
//! A member that others know, or write to, but that sent no records itself, has a lane too. It
//! stays empty and its head says so: without a lane it would look like a member that does not
//! exist, and the members that are left would look like a majority.

use std::collections::BTreeSet;

use glass_etcd::{
    story::{Event, Recording, name_of as name_of_member},
    trace::Unit,
};

use super::text;

/// The column of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// The member's name, or its id as hex if none is known.
    pub(crate) name: String,
    /// Raft's id of the member.
    pub(crate) member_id: u64,
    /// Its position in [`Recording::members`]; `None` for a member that sent nothing.
    pub(crate) place: Option<u8>,
}

/// The lanes of a recording: members by name, then those that sent nothing.
pub(crate) fn lanes(recording: &Recording) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = recording
        .members
        .iter()
        .zip(0_u8..)
        .map(|(member, place)| Lane {
            name: display_name(&member.name, member.member_id),
            member_id: member.member_id,
            place: Some(place),
        })
        .collect();
    lanes.sort_by(|a, b| (&a.name, a.member_id).cmp(&(&b.name, b.member_id)));
    let known: BTreeSet<u64> = lanes.iter().map(|lane| lane.member_id).collect();
    let told = recording.members.iter().flat_map(|member| &member.members).map(|(id, _)| *id);
    let named = recording.events.iter().flat_map(members_in);
    let heard_of: BTreeSet<u64> = told.chain(named).collect();
    let lane = |id: &u64| Lane {
        name: display_name(name_of_member(&recording.members, *id).unwrap_or_default(), *id),
        member_id: *id,
        place: None,
    };
    let mut silent: Vec<Lane> = heard_of.difference(&known).map(lane).collect();
    silent.sort_by(|a, b| a.name.cmp(&b.name));
    lanes.extend(silent);
    lanes
}

/// The lane of a member, by its position in the recording.
pub(crate) fn lane_of_place(lanes: &[Lane], place: u8) -> Option<usize> {
    lanes.iter().position(|lane| lane.place == Some(place))
}

/// The lane of a member, by its id.
pub(crate) fn lane_of_id(lanes: &[Lane], member_id: u64) -> Option<usize> {
    lanes.iter().position(|lane| lane.member_id == member_id)
}

/// The name of a member, or its id as hex.
pub(crate) fn name_of(lanes: &[Lane], member_id: u64) -> String {
    lane_of_id(lanes, member_id).map_or_else(|| hex(member_id), |lane| lanes[lane].name.clone())
}

fn display_name(name: &str, member_id: u64) -> String {
    if name.is_empty() { hex(member_id) } else { text::clean(name) }
}

fn hex(member_id: u64) -> String {
    format!("{member_id:016x}")
}

/// Every member that the event names.
fn members_in(event: &Event) -> impl Iterator<Item = u64> {
    let named = event.named();
    named.filter(|(field, id)| field.unit == Unit::Member && *id != 0).map(|(_, id)| id)
}
