//! The views as text, for screen readers and pipes.

use super::{ASCII, UNICODE, panes::recorded, plain};
use crate::state::{State, room::Hands};
use plain::{View, write_view};

/// The put of the recording at its commit.
const AT_COMMIT: &str = "g enter : 1 6 enter";

fn text(mut state: State, view: View) -> String {
    let mut text = Vec::new();
    write_view(&mut state, view, UNICODE, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn each_view_names_the_members_before_what_they_have() {
    insta::assert_snapshot!("plain_cluster", text(recorded("picture", ""), View::Cluster));
    insta::assert_snapshot!("plain_log", text(recorded("picture", AT_COMMIT), View::Log));
    insta::assert_snapshot!("plain_keys", text(recorded("picture", ""), View::Keys));
    insta::assert_snapshot!("plain_waits", text(recorded("lease", ""), View::Waits));
}

#[test]
fn a_step_has_its_row_its_address_every_lens_and_its_reason() {
    insta::assert_snapshot!("plain_step", text(recorded("picture", AT_COMMIT), View::Steps));
}

/// Goal: without a step all steps are written, each with the address by which it is found again.
#[test]
fn all_steps_have_addresses_that_open_them() {
    let mut state = recorded("picture", "");
    state.list.rows.truncate(1);
    let text = text(state, View::Steps);
    let addresses: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix('@')).collect();
    assert_eq!(addresses.len(), text.matches(" WHY  ").count());
    assert!(30 < addresses.len(), "{text}");
    for address in addresses {
        let anchor = crate::state::anchor::Anchor::parse(address).unwrap();
        recorded("picture", "").await_step(anchor).unwrap();
    }
}

#[test]
fn the_source_and_the_book_need_a_step_and_show_what_belongs_to_it() {
    let source = text(recorded("picture", AT_COMMIT), View::Source);
    assert!(source.starts_with("SOURCE src/raft/changes.rs:"), "{source}");
    assert!(source.contains("\nGo: raft raft.maybeCommit\n"), "{source}");
    assert!(source.lines().any(|line| line.starts_with('»') && line.ends_with("RaftCommit,")));
    let book = text(recorded("picture", AT_COMMIT), View::Book);
    assert!(book.contains("\n » Who knows it\n") && book.contains("raft.commit"), "{book}");
    for view in [View::Source, View::Book] {
        let written = write_view(&mut recorded("picture", ""), view, ASCII, &mut Vec::new());
        let why = written.unwrap_err().to_string();
        assert!(why.contains("FILE@MEMBER:BOOT:CLOCK"), "{why}");
    }
}

#[test]
fn a_view_without_rows_says_why() {
    let mut state = recorded("picture", "");
    assert!(text(recorded("picture", ""), View::Logs).contains("This recording has no log lines."));
    state.room.hands = Hands::Nobody;
    assert!(text(state, View::Logs).contains("their logs are elsewhere"));
    let mut empty = State::of_recording(recorded("picture", "").recording().clone());
    empty.list.rows.clear();
    assert_eq!("", text(empty, View::Steps));
}
