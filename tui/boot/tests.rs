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
    let entry = story.entry.unwrap();
    let wanted = Wanted::of(&recording, PUT, entry);
    assert_eq!((wanted.entry, wanted.replaced, wanted.is_committed), (entry, None, true));
    assert!(wanted.revision.is_some());
    assert_eq!(Wanted::of(&recording, PUT + 1_000, entry).revision, None);
    let refused = found(&recording, None, Some("xyz")).unwrap_err();
    assert!(refused.contains("is no id") || refused.contains("had at this moment"), "{refused}");
}

/// Goal: a write that never was committed wrote something all the same. Method: an entry that was
/// on one disk, until the entry of a later term replaced it.
#[test]
fn an_entry_that_was_replaced_is_looked_for_by_its_term() {
    let file = include_str!("../../tests/recordings/entry_lost.ndjson");
    let recording = glass_etcd::story::recording::read(file.as_bytes()).unwrap().recording;
    let is_lost = |event: &&glass_etcd::story::Event| {
        event.stage == Stage::Rpc
            && event.key.as_ref().is_some_and(|key| key.display() == "told/lost")
    };
    let id = recording.events.iter().find(is_lost).unwrap().id;
    let (_, wanted) = found(&recording, None, Some(&format!("{id:x}"))).unwrap();
    let never = Wanted { entry: (2, 10), replaced: Some(3), ..Wanted::default() };
    assert_eq!(Some(never), wanted);
}
