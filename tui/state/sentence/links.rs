//! Sentences about links between members that are cut.

use glass_etcd::{
    field, fields,
    story::Event,
    trace::{Stage, message::MESSAGES},
};

use super::Around;
use crate::state::lanes::name_of;

/// The sentence for `raft.link`, and for a message that was dropped at a cut.
pub(super) fn sentence(event: &Event, around: Around<'_>) -> Option<String> {
    let own = around.own;
    if event.stage == Stage::RaftLink {
        let [peer, is_cut] = fields!(event, RaftLink: peer, cut_new);
        let peer = name_of(around.lanes, peer);
        return Some(match is_cut {
            0 => format!(
                "`glass up` has the link between {own} and {peer} healed. {own} talks to {peer} \
                 again."
            ),
            _ => format!(
                "`glass up` has the link between {own} and {peer} cut. From here on {own} drops \
                 what it would send there, and what comes from there."
            ),
        });
    }
    let [peer, kind, messages] = fields!(event, RaftDrop: peer, type, messages);
    let peer = name_of(around.lanes, peer);
    let [from, to] =
        if field!(event, RaftDrop, received) != 0 { [&*peer, own] } else { [own, &*peer] };
    let kind = usize::try_from(kind).ok().and_then(|kind| MESSAGES.get(kind)).unwrap_or(&"Msg?");
    let what = match messages {
        1 => format!("A {kind} from {from} to {to} is dropped"),
        more => format!("{more} {kind} from {from} to {to} are dropped"),
    };
    (field!(event, RaftDrop, cut) != 0).then(|| format!("{what}: the link between them is cut."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::{lanes::Lane, watermarks::Watermarks};

    fn said(stage: Stage, fields: &[u64]) -> Option<String> {
        let lane = |name: &str, member_id| Lane { name: name.to_owned(), member_id, place: None };
        let lanes = [lane("etcd-01", 7), lane("etcd-02", 8)];
        let (before, openings) = (Watermarks::default(), BTreeMap::new());
        let around = Around {
            lanes: &lanes,
            own: "etcd-01",
            own_id: 7,
            before: &before,
            openings: &openings,
            voters: None,
        };
        let mut event = Event::mark(0, stage, 2);
        event.fields[..fields.len()].copy_from_slice(fields);
        sentence(&event, around)
    }

    #[test]
    fn a_cut_and_what_is_dropped_because_of_it_name_both_ends() {
        let cut = said(Stage::RaftLink, &[8, 0, 1]).unwrap();
        assert!(cut.contains("the link between etcd-01 and etcd-02 cut"), "{cut}");
        let healed = said(Stage::RaftLink, &[8, 1, 0]).unwrap();
        assert!(healed.contains("healed") && healed.contains("talks to etcd-02"), "{healed}");
        assert_eq!(
            said(Stage::RaftDrop, &[8, 8, 3, 1, 0, 1]).unwrap(),
            "A MsgHeartbeat from etcd-01 to etcd-02 is dropped: the link between them is cut."
        );
        assert_eq!(
            said(Stage::RaftDrop, &[8, 3, 3, 5, 1, 1]).unwrap(),
            "5 MsgApp from etcd-02 to etcd-01 are dropped: the link between them is cut."
        );
        assert_eq!(said(Stage::RaftDrop, &[8, 3, 3, 5, 0, 0]), None, "a full queue is no cut");
    }
}
