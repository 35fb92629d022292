//! What the view of the keys says, at steps of golden events and of recordings.

use std::{fs::File, io::BufReader};

use glass_etcd::story::recording;

use super::*;
use crate::state::{State, scenes, tests::press};

fn at(name: &str, keys: &str) -> State {
    let file = File::open(format!("tests/recordings/{name}.ndjson")).unwrap();
    let mut state = State::of_recording(recording::read(BufReader::new(file)).unwrap().recording);
    press(&mut state, keys);
    state
}

/// The rows at the cursor as text, with the places on the members.
fn rows(state: &State) -> Vec<String> {
    let sight = state.sight();
    let keys = state.panes.keys.at(&sight, state.story_subject());
    let row = |line: &Line<'_>| {
        let name = match line {
            Line::Key(key, count, exists) => format!("{} {count} {exists:?}", key.text.display()),
            Line::Missing(_, versions) => format!("missing {versions:?}"),
            Line::Earlier(_, count) => format!("earlier {count}"),
            Line::Later(_, count) => format!("later {count}"),
            Line::Revision(_, number, revision) => format!("{number:?} {:?}", revision.put),
        };
        let places = (0..3).filter_map(|column| keys.place(line, column));
        places.fold(name, |row, place| format!("{row} {place:?}"))
    };
    keys.lines.iter().map(row).collect()
}

/// Goal: puts and deletions of one lease are in their generations, by key; a recording that lacks
/// the write buffers does not claim to know where a row is.
#[test]
fn keys_have_their_revisions_and_a_deletion_ends_a_generation() {
    let rows = rows(&at("lease", "T"));
    assert_eq!(
        rows,
        [
            "chains/key 2 Some(false)",
            "(2, 0) Some([2, 1]) Unknown Unknown Unknown",
            "(5, 0) None Unknown Unknown Unknown",
            "chains/lock/7e85a22a8ec4a112 1 Some(true)",
            "(4, 0) Some([4, 1]) Unknown Unknown Unknown",
            "chains/lock/7ea5e 2 Some(false)",
            "(3, 0) Some([3, 1]) Unknown Unknown Unknown",
            "(5, 1) None Unknown Unknown Unknown",
        ]
    );
}

/// Goal: stepping forward, a row goes from the index over the buffers into the file on each member;
/// and backward it goes back.
#[test]
fn a_row_goes_from_the_index_over_the_buffers_into_the_file() {
    let order = [Place::No, Place::Index, Place::Active, Place::Frozen, Place::File];
    let mut state = at("puts_and_gets", "enter G T");
    let mut seen = vec![Vec::new(); 3];
    for _ in 0..80 {
        let sight = state.sight();
        let keys = state.panes.keys.at(&sight, state.story_subject());
        let is_own = |line: &&Line<'_>| match line {
            Line::Revision(_, _, one) => state.story_subject() == Some(Subject::Request(one.id)),
            _ => false,
        };
        if let Some(line) = keys.lines.iter().find(is_own) {
            for (column, seen) in seen.iter_mut().enumerate() {
                let place = keys.place(line, column).unwrap();
                let rank = order.iter().position(|known| *known == place);
                seen.push(rank.unwrap_or_else(|| panic!("{place:?}")));
            }
        }
        press(&mut state, "left");
    }
    for seen in seen {
        assert!(seen.contains(&4) && seen.is_sorted_by(|a, b| a >= b), "{seen:?}");
    }
}

#[test]
fn what_was_not_captured_is_a_row_of_its_own() {
    let mut state = at("lease", "");
    let mut recording = state.recording().clone();
    let is_it = |event: &Event| {
        let text = event.key.as_ref().map(|key| key.bytes.as_slice());
        event.stage == Stage::TreeIndexPut && text == Some(b"chains/key")
    };
    for event in recording.events.iter_mut().filter(|event| is_it(event)) {
        event.set(Stage::TreeIndexPut.slot("created"), 1);
        event.set(Stage::TreeIndexPut.slot("version"), 3);
    }
    state = State::of_recording(recording.clone());
    press(&mut state, "T");
    assert_eq!(rows(&state)[1], "missing [1, 2]");
    for event in recording.events.iter_mut().filter(|event| is_it(event)) {
        event.set(Stage::TreeIndexPut.slot("version"), 1);
        event.set(Stage::TreeIndexPut.slot("generations_old"), 2);
    }
    state = State::of_recording(recording);
    press(&mut state, "T");
    assert_eq!(rows(&state)[1], "earlier 2");
}

/// Goal: while revisions were not captured, nobody knows whether a key is still what it was.
#[test]
fn after_revisions_that_were_not_captured_a_key_may_have_changed() {
    let rows = rows(&at("busy", "T"));
    let later = rows.iter().filter(|row| row.starts_with("later ")).count();
    let keys = rows.iter().filter(|row| row.ends_with(" None")).count();
    assert!(0 < later && later == keys, "{rows:?}");
}

#[test]
fn enter_opens_the_story_that_wrote_the_revision() {
    let mut state = at("lease", "T g n down");
    let sight = state.sight();
    let id = state.panes.keys.at(&sight, None).id().unwrap();
    press(&mut state, "enter");
    assert_eq!(state.story_subject(), Some(Subject::Request(id)));
    press(&mut state, "T");
    let sight = state.sight();
    let keys = state.panes.keys.at(&sight, state.story_subject());
    assert!(!keys.lines.is_empty() || state.steps.as_ref().unwrap().now == 0);
}

/// Goal: keys whose captured beginnings are the same do not share a generation. Method: two puts of
/// such keys, each the first of its generation.
#[test]
fn long_keys_that_begin_alike_have_rows_of_their_own() {
    let mut recording = scenes::put().recording;
    recording.events.extend(scenes::put_again(1).recording.events);
    let text = KeyText { bytes: vec![b'k'; 88], length: 120 };
    let named = recording.events.iter_mut().filter(|event| event.key.is_some());
    named.for_each(|event| event.key = Some(text.clone()));
    let mut state = State::of_recording(recording);
    press(&mut state, "T");
    let rows = rows(&state);
    let keys = rows.iter().filter(|row| row.starts_with("kkkk")).count();
    assert_eq!(keys, 2, "{rows:?}");
    let sight = state.sight();
    let keys = state.panes.keys.at(&sight, None);
    let said = keys.sentences(keys.chosen);
    assert!(said[1].contains("Only 88 of the 120 bytes of this key"), "{said:?}");
}
