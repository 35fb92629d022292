//! Who led, and whether the member that was asked did: from the story, from its entry's term, and
//! from what that member has recorded of its role.

use super::Side;
use crate::{
    field, fields,
    story::{
        Event,
        query::{
            cluster::Cluster,
            graph::{Graph, Steps},
        },
    },
    trace::{message, stage::Stage, value::LEADER},
};

/// What the records say of the leader of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Led {
    /// The leader, by position.
    pub(super) leader: Option<u8>,
    /// Whether the member that was asked led.
    pub(super) is_asked: Option<bool>,
}

impl Led {
    pub(super) fn of(side: Side<'_>, graph: &Graph, list: &Steps<'_>, asked: Option<u8>) -> Led {
        let Side { recording, order, story } = side;
        let confirmed = graph.round.and_then(|round| round.confirmed);
        let of_term = || {
            let (term, _) = story.entry?;
            list.place(Cluster::of(recording, order).leader_of(term)?)
        };
        let role = || role(side, list, asked?);
        let leader = (graph.quorum.leader)
            .or_else(|| confirmed.map(|at| recording.events[at].member))
            .or_else(|| proposed_to(list))
            .or_else(|| asked_of(list))
            .or_else(of_term)
            .or_else(|| list.place(role()?.leader));
        let by_leader = || Some(leader? == asked?);
        // A member without a leader does not lead, either.
        let is_asked = by_leader().or_else(|| role().map(|role| role.is_leader));
        Led { leader, is_asked }
    }
}

/// The leader to which the request was proposed. A proposal whose end is missing had one too.
fn proposed_to(list: &Steps<'_>) -> Option<u8> {
    let mut all = list.list.iter().map(|at| list.event(*at));
    let proposal = all.find(|event| event.stage == Stage::RaftPropose)?;
    list.place(field!(proposal, RaftPropose, leader))
}

/// The leader of which a read was asked, or a question about a lease; also if the answer came when
/// the call had given up.
fn asked_of(list: &Steps<'_>) -> Option<u8> {
    let confirmed = list.all(Stage::ReadIndexConfirmed).next();
    let confirmed = confirmed.map(|at| list.event(at).member);
    let forwarded = || {
        let at = list.all(Stage::LeaseForward).next()?;
        list.place(field!(list.event(at), LeaseForward, leader))
    };
    let question = || {
        let kind = |at: usize| field!(list.event(at), RaftSend, type);
        let at = list
            .all(Stage::RaftSend)
            .find(|at| [message::READ_INDEX, message::HEARTBEAT].contains(&kind(*at)))?;
        match kind(at) {
            message::HEARTBEAT => Some(list.event(at).member),
            _ => list.place(field!(list.event(at), RaftSend, peer)),
        }
    };
    confirmed.or_else(forwarded).or_else(question)
}

/// What a member last recorded of its role.
struct Role {
    is_leader: bool,
    /// Whom it took for the leader, by raft's id; 0 for none.
    leader: u64,
}

/// The role of the asked member when its rpc began: a serializable read asks no other member.
fn role(side: Side<'_>, list: &Steps<'_>, asked: u8) -> Option<Role> {
    let mut all = list.list.iter().map(|at| list.event(*at));
    let began = all.find(|event| event.stage == Stage::Rpc && event.member == asked)?;
    let tells = |event: &&Event| {
        matches!(event.stage, Stage::Keyframe | Stage::RaftRole)
            && (event.member, event.boot) == (asked, began.boot)
            && event.clock <= began.clock
    };
    let last = side.recording.events.iter().filter(tells).max_by_key(|event| event.clock)?;
    let [role, leader] = match last.stage {
        Stage::Keyframe => fields!(last, Keyframe: role, leader),
        _ => fields!(last, RaftRole: role_new, leader_new),
    };
    Some(Role { is_leader: role == LEADER, leader })
}
