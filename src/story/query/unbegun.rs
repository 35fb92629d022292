//! Requests of which only other members than the serving one tell.
//!
//! ```text
//!   etcd-01   rpc ── propose ── MsgProp ─✗ killed           its records are lost with it
//!   etcd-02                         └──▶ raft.receive ──    the first step that was captured
//! ```
//!
//! A member that is killed takes its newest records with it, and one that does not answer sends
//! none. What others received of it then tells of the request, which had begun before: when, and
//! until when it was under way, is not known. So nothing is said to have happened during it.
//!
//! The id says who served the request, and by the start time in it, in which start (`trace/id`).

use super::{Relation, Story};
use crate::{
    story::{MemberInfo, Recording},
    trace::stage::Stage,
};

/// The part of an id that tells milliseconds since 1970, as far as it holds them.
const MILLIS: u64 = (1 << 40) - 1;
const MILLI_NS: u64 = 1_000_000;

/// Why nothing that the serving member did for a request was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The process that served it has ended; this start of the member followed.
    Ended(u16),
    /// The member sent no records at all.
    Silent,
    /// Its records of that time are missing, though the process has written others since.
    Lost,
}

/// A request whose beginning was not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbegun {
    /// The member that served it, by raft's id; 0 if no known member has made such an id.
    pub server: u64,
    /// Why.
    pub why: Why,
}

impl Unbegun {
    /// This request's, unless a step of its own was captured on the member that served it.
    pub fn of(recording: &Recording, story: &Story) -> Option<Unbegun> {
        let is_own = |at: usize, relation: Relation| {
            let event = &recording.events[at];
            event.id == story.id && (event.stage == Stage::Rpc || relation == Relation::Own)
        };
        if story.id == 0 || story.steps.iter().any(|step| is_own(step.event, step.relation)) {
            return None;
        }
        let server = server_of(recording, story.id).unwrap_or(0);
        let known = recording.members.iter().find(|member| member.member_id == server);
        let why = match known {
            None => Why::Silent,
            Some(member) => next_start(member, story.id).map_or(Why::Lost, Why::Ended),
        };
        Some(Unbegun { server, why })
    }
}

/// The member that has made the id of a request, by raft's id, as far as members are known.
pub fn server_of(recording: &Recording, id: u64) -> Option<u64> {
    let own = recording.members.iter().map(|member| member.member_id);
    let told = recording.members.iter().flat_map(|member| &member.members).map(|(id, _)| *id);
    own.chain(told).find(|member_id| member_id & 0xffff == id >> 48)
}

/// The first start of a member after the one in which it made this id. An id holds the time at
/// which its process started, or a slightly later one.
fn next_start(member: &MemberInfo, id: u64) -> Option<u16> {
    let made = id >> 8 & MILLIS;
    let is_later = |start_ns: u64| {
        let ahead = (start_ns / MILLI_NS).wrapping_sub(made) & MILLIS;
        (1..=MILLIS / 2).contains(&ahead)
    };
    let later = member.boots.iter().filter(|boot| is_later(boot.wall_ns));
    later.map(|boot| boot.boot).min()
}
