//! Moments and writes of a recording, without any member.

use super::*;
use crate::state::scenes::{self, PUT};

#[test]
fn a_moment_is_a_member_a_start_and_a_clock() {
    let recording = scenes::put().recording;
    let order = Order::of(&recording);
    let name = &recording.members[0].name;
    let own = order.rows.iter().rposition(|at| recording.events[*at].member == 0).unwrap();
    let event = &recording.events[order.rows[own]];
    let at = |text: &str| rank_of(&recording, &order, text);
    assert_eq!(at(&format!("{name}:{}:{}", event.boot, point(event))), Ok(own));
    assert_eq!(at(&format!("{name}:{}:999999999", event.boot)), Ok(own));
    assert!(at(&format!("{name}:0:0")).unwrap_err().contains("had recorded nothing"));
    assert!(at("nobody:1:1").unwrap_err().contains("no member nobody"));
    for text in ["", "1", "a:b", "etcd-01:x:1", "etcd-01:1:", "::"] {
        assert!(at(text).unwrap_err().contains("is no moment"), "{text}");
    }
}

#[test]
fn the_write_of_a_put_is_its_entry_and_its_revision() {
    let recording = scenes::put().recording;
    let order = Order::of(&recording);
    let story = Story::of(&recording, &order, PUT).unwrap();
    let (_, index) = story.entry.unwrap();
    let wanted = Wanted::of(&recording, PUT, index).unwrap();
    assert_eq!(wanted.index, index);
    assert_eq!(Wanted::of(&recording, PUT + 1_000, index), None);
    let refused = found(&recording, None, Some("xyz")).unwrap_err();
    assert!(refused.contains("is no id") || refused.contains("had at this moment"), "{refused}");
}
