//! An index that meant two entries, one after the other: each story has the steps of its own.

use super::*;

const OTHER: u64 = PUT + 2;

/// The old leader has the put at the index, and the new leader's entry replaces it before the disk
/// has either: two writes, and two fsyncs, name the index.
struct Replaced {
    script: Script,
    /// The records of the wal thread for the put, and for the other entry.
    disk: [Vec<usize>; 2],
}

impl Replaced {
    fn new() -> Replaced {
        let mut script = Script::new();
        script.step(0, Stage::RaftEntry, PUT, &[("term", 2), ("index", INDEX)]);
        let cut = [("last.old", INDEX), ("last.new", INDEX - 1), ("term", 3)];
        script.step(0, Stage::LogTruncate, 0, &cut);
        script.step(0, Stage::RaftEntry, OTHER, &[("term", 3), ("index", INDEX)]);
        let disk = [INDEX - 1, INDEX].map(|before| Replaced::disk(&mut script, before));
        Replaced { script, disk }
    }

    fn disk(script: &mut Script, before: u64) -> Vec<usize> {
        let range = [("first", INDEX), ("last", INDEX)];
        let write = [("written.old", before), ("written.new", INDEX)];
        let write = script.step(0, Stage::WalWrite, 0, &[&range[..], &write[..]].concat());
        let fields = [("synced.old", before), ("synced.new", INDEX)];
        let fields = [&range[..], &fields[..]].concat();
        let begin = script.begin(0, Stage::WalFsync, 0);
        let event = script.recording.events[begin].clone();
        script.recording.events[begin] = event.with(&fields);
        vec![write, begin, script.end(begin, &fields)]
    }

    fn disk_of(&self, id: u64) -> Vec<usize> {
        let story = story_of(&self.script.recording, id);
        let steps = story.steps.iter().map(|step| step.event);
        let is_disk = |at: &usize| {
            let stage = self.script.recording.events[*at].stage;
            matches!(stage, Stage::WalWrite | Stage::WalFsync)
        };
        steps.filter(is_disk).collect()
    }

    fn leave_out(&mut self, is_meant: impl Fn(&Event) -> bool) {
        for event in self.script.recording.events.iter_mut().filter(|event| is_meant(event)) {
            // Nothing joins a mark of this stage.
            *event = Event::mark(event.member, Stage::Brief, event.clock);
        }
    }
}

/// Goal: an index alone does not say whose write it is. Method: the wal thread writes both entries
/// after the raft thread has replaced the first.
#[test]
fn each_of_two_entries_at_an_index_has_its_own_write() {
    let replaced = Replaced::new();
    assert_eq!(replaced.disk[0], replaced.disk_of(PUT));
    assert_eq!(replaced.disk[1], replaced.disk_of(OTHER));
    let order = Order::of(&replaced.script.recording);
    assert!(Story::of(&replaced.script.recording, &order, PUT).unwrap().is_lost);
}

#[test]
fn a_write_that_was_not_captured_is_not_replaced_by_that_of_the_other_entry() {
    for (gone, left) in [(0, 1), (1, 0)] {
        let mut replaced = Replaced::new();
        let clocks: Vec<u64> = replaced.disk[gone]
            .iter()
            .map(|at| replaced.script.recording.events[*at].clock)
            .collect();
        replaced.leave_out(|event| clocks.contains(&event.clock));
        if gone == 0 {
            assert_eq!(Vec::<usize>::new(), replaced.disk_of(PUT));
        }
        let id = [PUT, OTHER][left];
        assert_eq!(replaced.disk[left], replaced.disk_of(id));
    }
}

/// Goal: an entry whose append was not captured has no step of the one that it replaced.
#[test]
fn the_term_of_an_entry_decides_where_its_append_was_not_captured() {
    let mut replaced = Replaced::new();
    let applied = [("term", 3), ("index", INDEX)];
    replaced.script.step(0, Stage::ApplyEntry, OTHER, &applied);
    replaced.leave_out(|event| event.stage == Stage::RaftEntry && event.id == OTHER);
    assert_eq!(replaced.disk[1], replaced.disk_of(OTHER));
    assert_eq!(replaced.disk[0], replaced.disk_of(PUT));
}

/// Goal: what was applied was on the disk before, also if the append was not captured.
#[test]
fn an_entry_of_which_only_the_application_was_captured_has_its_write() {
    let mut script = Script::new();
    script.replicates(PUT, INDEX);
    script.applies(0, INDEX, PUT);
    let whole = story_of(&script.recording, PUT);
    let is_append = |event: &Event| event.stage == Stage::RaftEntry && event.member == 0;
    script.recording.events.retain(|event| !is_append(event));
    let story = story_of(&script.recording, PUT);
    for stage in [Stage::WalWrite, Stage::WalFsync, Stage::RaftProgress, Stage::RaftCommit] {
        let counts = count(&script.recording, &story, 0, stage);
        assert_ne!(0, counts, "{}", stage.name());
    }
    assert_eq!(whole.steps.len() - 1, story.steps.len());
}

/// Goal: a message of an earlier leader is about its entry, and not about the one that came later
/// to the same index.
#[test]
fn a_message_of_an_earlier_term_is_about_another_entry() {
    let mut script = Script::new();
    let carries = |term| [("index", INDEX - 1), ("last", INDEX), ("term", term)];
    script.message((0, 1), message::APP, 0, &carries(2));
    script.step(1, Stage::RaftEntry, PUT, &[("term", 2), ("index", INDEX)]);
    let early = script.recording.events.len();
    script.step(2, Stage::RaftEntry, OTHER, &[("term", 3), ("index", INDEX)]);
    script.message((2, 1), message::APP, 0, &carries(3));
    script.step(1, Stage::RaftEntry, OTHER, &[("term", 3), ("index", INDEX)]);
    let messages = |id| {
        let story = story_of(&script.recording, id);
        let is_message = |at: &usize| script.recording.events[*at].stage == Stage::RaftSend;
        story.steps.iter().map(|step| step.event).filter(is_message).collect::<Vec<_>>()
    };
    assert_eq!(vec![0], messages(PUT));
    assert_eq!(vec![early + 1], messages(OTHER));
}

/// Goal: an fsync names the requests whose entries it wrote, and not those that came later.
#[test]
fn the_entry_of_a_step_is_that_which_the_log_had_when_it_began() {
    let mut script = Script::new();
    script.step(0, Stage::RaftEntry, PUT, &[("term", 2), ("index", INDEX)]);
    script.disk(0, INDEX, INDEX);
    script.step(0, Stage::RaftEntry, OTHER, &[("term", 3), ("index", INDEX)]);
    script.disk(0, INDEX, INDEX);
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let events = script.recording.events.iter();
    let fsyncs = events.filter(|event| (event.stage, event.kind) == (Stage::WalFsync, Kind::Span));
    let ids = fsyncs.map(|fsync| stories.event(stories.entry_at(fsync, INDEX).unwrap()).id);
    assert_eq!([PUT, OTHER], ids.collect::<Vec<_>>()[..]);
}

/// Goal: a write whose entry was in a leader's log did not wait for a place in one, though another
/// entry took that place later.
#[test]
fn a_replaced_entry_had_its_place_and_lacked_its_majority() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, PUT);
    let propose = script.begin(0, Stage::RaftPropose, PUT);
    script.step(0, Stage::RaftInbox, PUT, &[]);
    script.step(0, Stage::RaftEntry, PUT, &[("term", 2), ("index", INDEX)]);
    for begin in [propose, rpc] {
        let end = script.end(begin, &[]);
        script.recording.events[end].result = 14;
    }
    script.step(0, Stage::RaftEntry, OTHER, &[("term", 3), ("index", INDEX)]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let graph = graph::Graph::of(&script.recording, &order, &story);
    let path = path::critical_path(&script.recording, &order, &story, &graph).unwrap();
    let waits: Vec<String> = path.iter().map(|segment| segment.wait.to_string()).collect();
    let vain = "in vain: a majority with the entry on disk".to_owned();
    assert!(story.is_lost && waits.contains(&vain), "{waits:?}");
}
