//! What the view of the logs says, at steps of golden events and of recordings.

use std::{fs::File, io::BufReader};

use glass_etcd::story::{query::address::Address, recording};

use super::*;
use crate::state::{State, scenes, story::Subject, tests::press};

/// The rows at the cursor, as text: index and term, and of each member how far it is.
fn rows(state: &State) -> Vec<String> {
    let sight = state.sight();
    let log = state.panes.log.at(&sight, state.story_entry());
    let row = |line: &Line| {
        let name = match line {
            Line::Entry(index, term) => format!("{index}/{term}"),
            Line::Gap(first, last) => format!("{first}-{last}"),
        };
        let cells = (0..sight.board.columns.len()).map(|column| {
            let cell = log.cell(*line, column);
            let marks: String = cell.marks.iter().map(|(letter, _)| letter).collect();
            format!("{:?} {:?} {marks}", cell.disk, cell.machine).trim_end().to_owned()
        });
        [name].into_iter().chain(cells).collect::<Vec<_>>().join(" | ")
    };
    log.lines.iter().map(row).collect()
}

fn at(recording: Recording, keys: &str) -> State {
    let mut state = State::of_recording(recording);
    press(&mut state, keys);
    state
}

fn golden(name: &str) -> Recording {
    let file = File::open(format!("tests/recordings/{name}.ndjson")).unwrap();
    recording::read(BufReader::new(file)).unwrap().recording
}

/// Goal: while stepping, an entry goes from memory to the disk and on, on each member by its own
/// records, and back again.
#[test]
fn an_entry_is_as_far_as_the_cursor() {
    let last = |keys: &str| rows(&at(scenes::put().recording, keys)).pop().unwrap();
    assert_eq!(
        last("enter L"),
        "1-41 | Synced Stored WSCAF | Synced Stored WSCAF | Synced Stored WSCAF"
    );
    let appended = last("enter : 6 enter L");
    assert!(appended.starts_with("42/3 | Memory No | No No"), "{appended}");
    assert_eq!(
        last("enter : 1 8 enter L"),
        "42/3 | Synced Committed WSC | Synced No WS | Synced No WS"
    );
    let end = last("enter G L");
    assert_eq!(end, "42/3 | Synced Stored WSCAF | Synced Stored WSCAF | Synced Stored WSCAF");
    assert_eq!(last("enter G L left left right right"), end);
    let mut there_and_back = at(scenes::put().recording, "enter : 1 8 enter L");
    press(&mut there_and_back, "right right left left");
    assert_eq!(rows(&there_and_back).pop().unwrap(), last("enter : 1 8 enter L"));
}

/// Goal: two entries at one index are two rows, and what took the place of another is not cut off
/// with it, although the member recorded it first.
#[test]
fn a_replaced_entry_keeps_its_row_and_its_successor_is_on_every_disk() {
    let rows = rows(&at(golden("entry_lost"), "L"));
    let at_ten: Vec<&String> = rows.iter().filter(|row| row.starts_with("10/")).collect();
    assert_eq!(
        at_ten,
        [
            "10/2 | Removed No | No No | No No",
            "10/3 | Synced Stored | Synced Stored | Synced Stored"
        ]
    );
    let mut state = at(golden("entry_lost"), "L g");
    let sight = state.sight();
    let place = state.panes.log.at(&sight, None).lines;
    let place = place.iter().position(|line| *line == Line::Entry(10, 2)).unwrap();
    press(&mut state, &"down ".repeat(place));
    let sight = state.sight();
    let log = state.panes.log.at(&sight, None);
    let said = log.sentences(log.chosen);
    assert_eq!(said[1], lens::LOST);
}

#[test]
fn entries_without_records_share_a_row_and_the_watermarks_say_how_far_they_are() {
    let rows = rows(&at(golden("busy"), "L"));
    assert!(rows[0].starts_with("1-192 | Synced Stored"), "{}", rows[0]);
    assert!(rows.last().unwrap().contains("UpTo("), "{rows:?}");
}

#[test]
fn enter_opens_the_story_that_wrote_the_entry() {
    let mut state = at(golden("puts_and_gets"), "L g down enter");
    assert_eq!(state.panes.shown, None);
    assert!(state.steps.is_some());
    press(&mut state, "G L");
    let sight = state.sight();
    let log = state.panes.log.at(&sight, state.story_entry());
    assert_eq!(log.name_of(log.chosen).map(Some), Some(state.story_entry()));
}

/// Goal: the empty entry with which a leader opens its term leads to the election of that term.
#[test]
fn enter_on_an_empty_entry_opens_the_election_of_its_term() {
    let mut state = at(golden("leader_killed"), "L g");
    let sight = state.sight();
    let lines = state.panes.log.at(&sight, None).lines;
    let is_it = |line: &Line| matches!(line, Line::Entry(_, 3));
    let place = lines.iter().position(is_it).unwrap();
    press(&mut state, &format!("{}enter", "down ".repeat(place)));
    let Some(Subject::Cluster(Address::Election { term: 3, .. })) = state.story_subject() else {
        panic!("{:?}", state.story_subject());
    };
}

/// Goal: the first entry of a segment is the first that was captured only if that is known.
#[test]
fn a_segment_begins_with_entry_one_or_behind_the_segment_before() {
    let write = |segment, first, last| {
        let moment = (1, first);
        Write { moment, first, last, segment, offset: 0 }
    };
    let first = |segment, writes: &[Write]| first_of_segment(segment, writes.iter());
    assert_eq!(Some(1), first(0, &[write(0, 42, 43)]));
    assert_eq!(Some(44), first(1, &[write(0, 42, 43), write(1, 44, 50)]));
    assert_eq!(None, first(1, &[write(0, 42, 43), write(1, 46, 50)]));
    assert_eq!(None, first(1, &[write(1, 46, 50)]));
    let busy = at(golden("busy"), "L");
    let sight = busy.sight();
    let segment = busy.panes.log.at(&sight, None).segment(0).unwrap();
    assert!(segment.contains(": 1-208"), "{segment}");
}
