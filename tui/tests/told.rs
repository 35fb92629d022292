//! What `list`, `show` and the player say of a broken cluster is what was done to it.
//!
//! The recordings are of real runs, and `tests/recordings/README.md` says what was done in each.
//! Times differ when a recording is made again, so the tests name bounds for them; members and keys
//! are fixed.

use std::{collections::HashSet, fs, path::Path};

use glass_etcd::{
    field,
    story::{
        Event, Recording,
        order::Order,
        query::{
            Stories, Story,
            address::Address,
            cluster::Cluster,
            find::Found,
            graph::Graph,
            path::{Wait, critical_path},
        },
        recording,
    },
    trace::{Kind, Stage, value::LEADER},
};

use crate::{
    state::{
        State, lens,
        player::{Action, Head, Heard},
        steps::{Direction, Lens, Steps},
        story::{RequestSummary, Step, Subject},
        watermarks::Water,
        words::duration,
    },
    trace::{Gathered, through, write_list, write_story},
    view::{
        list::{result, role},
        steps::subject,
        why,
    },
};

/// A recording, and the player on it.
struct Run {
    recording: Recording,
    state: State,
}

impl Run {
    fn of(name: &str) -> Run {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(name);
        let read = recording::read(fs::read(path).unwrap().as_slice()).unwrap();
        assert_eq!((0, false), (read.unknown, read.is_cut), "{name}");
        let state = State::of_recording(read.recording.clone());
        Run { recording: read.recording, state }
    }

    /// The row of the put of this key.
    fn put(&self, key: &str) -> &RequestSummary {
        let is_it = |row: &&RequestSummary| {
            let named = row.key.as_ref().map(glass_etcd::story::KeyText::display);
            row.method == "KV/Put" && named.as_deref() == Some(key)
        };
        self.state.list.rows.iter().find(is_it).unwrap_or_else(|| panic!("no put of {key}"))
    }

    /// What `glass trace show` prints of it.
    fn show(&self, key: &str) -> String {
        let Subject::Request(id) = self.put(key).subject else { panic!("a request") };
        show(&self.recording, id)
    }

    /// What the player says of it above its steps.
    fn headline(&self, key: &str) -> String {
        subject(&self.state, &Steps::open(&self.recording, self.put(key).subject))
    }

    /// What `glass trace show` prints of the get of this key.
    fn show_get(&self, key: &str) -> String {
        let is_it = |row: &&RequestSummary| {
            let named = row.key.as_ref().map(glass_etcd::story::KeyText::display);
            row.method == "KV/Range" && named.as_deref() == Some(key)
        };
        let row = self.state.list.rows.iter().find(is_it);
        let Subject::Request(id) = row.unwrap().subject else { panic!("a request") };
        show(&self.recording, id)
    }

    /// What `glass trace list` prints, without the election with which the cluster began.
    fn list(&self) -> String {
        let mut out = Vec::new();
        let order = Order::of(&self.recording);
        let stories = Stories::new(&self.recording, &order);
        write_list(&mut out, &self.recording, &stories, &Found::default()).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("election:2 "));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// What the request lived through, in one sentence; `show` and the player say the same.
    fn lived_through(&self, key: &str) -> Option<String> {
        let steps = Steps::open(&self.recording, self.put(key).subject);
        let summary = through::summary(&self.recording.members, &steps.through);
        let (show, headline) = (self.show(key), self.headline(key));
        let said = |text: &str| summary.as_ref().is_none_or(|summary| text.contains(summary));
        assert!(said(&show), "{summary:?}\n{show}");
        assert!(said(&headline), "{summary:?}: {headline}");
        let is_section = show.contains("\nmeanwhile in the cluster\n");
        assert!(summary.is_none() || is_section, "{summary:?}\n{show}");
        if let Some(summary) = &summary {
            let is_answer = |step: &&Step| {
                step.is_own && (step.event.stage, step.event.kind) == (Stage::Rpc, Kind::Span)
            };
            if let Some(answer) = steps.steps.iter().find(is_answer) {
                let why = why::meaning(answer, &self.state, &steps);
                assert!(why.contains(summary), "{why}");
            }
        }
        summary
    }

    /// The share of the path, in percent, in which a process stood still or nobody led.
    fn without_leader(&self, key: &str) -> u64 {
        let Subject::Request(id) = self.put(key).subject else { panic!("a request") };
        let order = Order::of(&self.recording);
        let story = Story::of(&self.recording, &order, id).unwrap();
        let graph = Graph::of(&self.recording, &order, &story);
        let path = critical_path(&self.recording, &order, &story, &graph).unwrap();
        let is_meant = |wait| {
            wait == Wait::Step(Stage::ProcessStalled)
                || matches!(wait, Wait::SilentLeader | Wait::NoLeader)
        };
        let whole: u64 = path.iter().map(|segment| segment.ns).sum();
        let part = path.iter().filter(|segment| is_meant(segment.wait));
        part.map(|segment| segment.ns).sum::<u64>() * 100 / whole
    }

    fn cluster(&self) -> Cluster {
        Cluster::of(&self.recording, &Order::of(&self.recording))
    }

    fn id_of(&self, name: &str) -> u64 {
        self.recording.members.iter().find(|member| member.name == name).unwrap().member_id
    }

    /// The name of the member that won the election for a term.
    fn winner(&self, term: u64) -> String {
        let is_it =
            |election: &&glass_etcd::story::query::election::Election| election.term == term;
        let cluster = self.cluster();
        let election = cluster.elections.iter().find(is_it).unwrap();
        let winner = election.winner(&self.recording).unwrap();
        self.recording.members[usize::from(winner)].name.clone()
    }

    /// The heads of the lanes at the last step of the story: name, word for the role, and whether
    /// the member is heard of.
    fn heads_at_the_end(&mut self, subject: Subject) -> Vec<(String, &'static str, bool)> {
        self.state.steps = Some(Steps::open(&self.recording, subject));
        self.state.update(Action::Jump(Direction::Forward));
        let heads = self.state.heads();
        let word = |head: &Head| (head.name.clone(), role(head), head.heard == Heard::Fresh);
        heads.iter().map(word).collect()
    }
}

fn show(recording: &Recording, id: u64) -> String {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, id).unwrap();
    let gathered = Gathered { recording: recording.clone(), silent: Vec::new() };
    let mut out = Vec::new();
    write_story(&mut out, &gathered, &order, &story).unwrap();
    String::from_utf8(out).unwrap()
}

/// The number before ` ms` after these words, in milliseconds.
fn millis_after(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("{words}: {text}"));
    rest.split(['.', ' ']).next().unwrap().parse().unwrap()
}

/// `m2` was stopped for 2 s, after 0.3 s of which a put was sent to it.
#[test]
fn a_follower_that_was_stopped_is_said_to_have_stood_still_and_nobody_is_elected() {
    let run = Run::of("follower_stopped.ndjson");
    let said = run.lived_through("told/stopped").unwrap();
    assert!(
        (1_800..2_400).contains(&millis_after(&said, "the process of m2 stood still for ")),
        "{said}"
    );
    let took_ns = run.put("told/stopped").took_ns.unwrap();
    assert!((1_500_000_000..2_000_000_000).contains(&took_ns), "{took_ns}: the caller's wait");
    assert!(70 <= run.without_leader("told/stopped"));
    let beside = run.put("told/beside").took_ns.unwrap();
    assert!(beside < 300_000_000, "{beside}: the others went on");
    let list = run.list();
    assert!(!list.contains("election") && !list.contains("step-down"), "{list}");
}

/// `m0` had sent a put to the others, and was killed before one of them could answer.
#[test]
fn an_entry_outlives_its_leader_and_is_committed_with_the_first_of_the_next() {
    let mut run = Run::of("leader_killed.ndjson");
    let winner = run.winner(3);
    let said = run.lived_through("told/killed").unwrap();
    // Nobody has seen it start again, so nobody can know that it died.
    assert!(said.starts_with(&format!("m0 fell silent; {winner} led from +")), "{said}");
    assert!((900..5_000).contains(&millis_after(&said, "led from +")), "{said}");
    assert!(!run.show("told/killed").contains("no leader for "), "it ended with its leader");
    assert_eq!(None, run.lived_through("told/before"));
    assert_eq!(None, run.lived_through("told/after"));
    let list = run.list();
    let rows = list.lines().filter(|line| line.starts_with("election:")).collect::<Vec<_>>();
    assert_eq!(1, rows.len(), "{list}");
    assert!(rows[0].contains(&format!("{winner} won")), "{list}");
    let subject = run.put("told/killed").subject;
    assert_eq!("unknown", result(run.put("told/killed")), "nobody knows how its rpc ended");
    assert!(list.contains("  unknown       KV/Put told/killed"), "{list}");
    assert!(said.contains("; how the request ended is unknown: the last record of m0 is at +"));
    assert!(said.ends_with("; it died, stood still or was cut off"), "{said}");
    let steps = Steps::open(&run.recording, subject);
    assert!(!steps.is_lost);
    let is_commit = |step: &&Step| step.is_own && step.event.stage == Stage::RaftCommit;
    let commit = steps.steps.iter().find(is_commit).unwrap();
    let why = why::meaning(commit, &run.state, &steps);
    assert!(why.contains("The acknowledgement of ") || why.contains("the leader's own disk"));
    assert!(why.contains("no count of disks may commit them: entry "), "{why}");
    assert!(why.contains("the empty one with which the leader began its term 3"), "{why}");
    let show = run.show("told/killed");
    assert!(show.contains("\n  entries of term 2: no count of disks may commit them: entry "));
    assert!(!run.show("told/after").contains("entries of term "), "its own term's");
    for subject in [subject, Subject::Cluster(Address::Election { term: 3, by: None })] {
        let heads = run.heads_at_the_end(subject);
        assert_eq!(("m0".to_owned(), "was leader", false), heads[0]);
        let leaders = heads.iter().filter(|(_, role, _)| *role == "LEADER");
        assert_eq!(vec![&winner], leaders.map(|(name, ..)| name).collect::<Vec<_>>());
    }
}

/// `m0` was stopped for 0.7 s, with a put on its way from `m1`.
#[test]
fn a_leader_that_was_stopped_for_less_than_an_election_timeout_leads_on() {
    let mut run = Run::of("leader_stopped.ndjson");
    let said = run.lived_through("told/stopped").unwrap();
    let did = millis_after(&said, "the process of m0, the leader, stood still for ");
    assert!((630..1_000).contains(&did), "{said}");
    assert!(70 <= run.without_leader("told/stopped"));
    let list = run.list();
    assert!(!list.contains("election") && !list.contains("step-down"), "{list}");
    let heads = run.heads_at_the_end(run.put("told/stopped").subject);
    assert_eq!(("m0".to_owned(), "LEADER", true), heads[0]);
}

/// `m0` was stopped for 2.5 s, with a put on its way from `m1`; another was elected meanwhile. When
/// `m0` ran again it sent heartbeats of its old term.
#[test]
fn a_leader_that_was_stopped_for_longer_was_replaced_meanwhile() {
    let run = Run::of("leader_replaced.ndjson");
    let winner = run.winner(3);
    let said = run.lived_through("told/replaced").unwrap();
    assert!(said.starts_with(&format!("m0 stood still; {winner} led from +")), "{said}");
    assert!(70 <= run.without_leader("told/replaced"));
    let show = run.show("told/replaced");
    assert!(show.contains("  m0 led term 2, and the others last heard of it at "), "{show}");
    assert!(show.contains("; its process stood still\n"), "{show}");
    assert!(show.contains(" (election:3)\n"), "{show}");
    assert!(show.contains("  the process of m0, the leader, stood still for "), "{show}");
    // What `m1` alone knows.
    let said = alone(&run, "m1").lived_through("told/replaced").unwrap();
    assert!(said.contains(" fell silent; ") && said.contains(" led from +"), "{said}");
    assert_eq!(winner != "m1", said.ends_with(" at the latest"), "{said}");
}

/// What one member's records alone tell.
fn alone(run: &Run, name: &str) -> Run {
    let place = run.recording.members.iter().position(|member| member.name == name).unwrap();
    let mut recording = run.recording.clone();
    recording.members = vec![recording.members[place].clone()];
    recording.dropped = vec![0];
    recording.events.retain(|event| usize::from(event.member) == place);
    recording.events.iter_mut().for_each(|event| event.member = 0);
    let state = State::of_recording(recording.clone());
    Run { recording, state }
}

/// `m1` and `m2` were killed; `m0` was asked for a put, and stepped down.
#[test]
fn without_a_quorum_it_is_said_who_is_left() {
    let run = Run::of("no_quorum.ndjson");
    let said = run.lived_through("told/alone").unwrap();
    assert!(said.starts_with("m0 stepped down: no leader for "), "{said}");
    assert!(said.ends_with(" ms, 1 of 3 members alive"), "{said}");
    assert!((5_000..15_000).contains(&millis_after(&said, "no leader for ")), "{said}");
    let row = run.put("told/alone");
    assert_eq!("Unavailable", result(row));
    // The get gave up when its leader did.
    let is_get = |row: &&RequestSummary| row.method == "KV/Range" && result(row) == "Unavailable";
    let Subject::Request(get) = run.state.list.rows.iter().find(is_get).unwrap().subject else {
        panic!("a request")
    };
    let show = show(&run.recording, get);
    assert!(show.contains("  in vain: a majority that follows the leader\n"), "{show}");
    assert!(show.contains("the call ended before a confirmation reached it"), "{show}");
    assert!(!show.contains("  not captured"), "{show}");
    let list = run.list();
    assert!(list.contains(" stepped down "), "{list}");
    assert!(!list.contains(" won "), "{list}");
    // What the disks of the two have done since their last records, nobody knows.
    let mut steps = Steps::open(&run.recording, run.put("told/alone").subject);
    steps.jump(Direction::Forward);
    steps.lens = Lens::Durable;
    let lines = lens::lines(&run.recording, &steps, (&run.state.lanes, &[]));
    let said = lines.concat().join(" ");
    assert!(said.contains("m0 ✔") && said.contains("m1 ? unknown m2 ? unknown"), "{said}");
}

/// All links of `m1` were cut, and a get and a put were sent to it; when it had lost its leader,
/// another get. The others went on with their leader.
#[test]
fn a_member_that_was_cut_off_is_said_to_have_given_up_its_leader() {
    let run = Run::of("cut_off.ndjson");
    let get = run.show_get("told/read");
    let gave_up = "m1 gave up its leader, m0, of which it had not heard for ";
    let ended = format!("\nmeanwhile in the cluster\n  the request ended as {gave_up}");
    assert!(get.contains("[Unavailable: leader changed]") && get.contains(&ended), "{get}");
    assert!(get.contains("  in vain: a majority that follows the leader\n"), "{get}");
    // Its wait had failed: it waited for nothing after that.
    assert!(get.contains("  end of read_index.wait to end of rpc\n"), "{get}");
    assert!(!get.contains("no leader") && !get.contains("in vain: apply"), "{get}");
    // Its own member dropped the only proposal, so it is known that it had no effect.
    let put = run.show("told/cut");
    let vain = "\nafterwards\n  The write has no effect: m1 dropped its proposal";
    assert!(put.contains(vain), "{put}");
    // Soon after the end of the call the member might still have proposed it again.
    let Subject::Request(id) = run.put("told/cut").subject else { panic!("a request") };
    let is_end =
        |event: &&Event| (event.stage, event.kind, event.id) == (Stage::Rpc, Kind::Span, id);
    let end = run.recording.events.iter().find(is_end).unwrap();
    let end = end.at_ns + end.took_ns;
    let mut early = run.recording.clone();
    early.events.retain(|event| event.at_ns + event.took_ns < end + 500_000_000);
    assert!(show(&early, id).contains("is not known: nobody was seen applying it"));
    assert!(put.contains(&format!("\nmeanwhile in the cluster\n  {gave_up}")), "{put}");
    // This one was sent when it had lost its leader.
    let late = run.show_get("told/late");
    let (_, meanwhile) = late.split_once("\nmeanwhile in the cluster\n").unwrap();
    let before = format!(" ms before the request began, {gave_up}");
    assert!(meanwhile.lines().next().unwrap().contains(&before), "{late}");
}

/// `m2` was killed and started again, while two puts went on without it.
#[test]
fn a_member_that_started_again_is_told_with_its_start() {
    let run = Run::of("restarted.ndjson");
    for key in ["told/before", "told/without", "told/beside", "told/again"] {
        assert_eq!("ok", result(run.put(key)), "{key}");
        assert_eq!(None, run.lived_through(key), "{key}: nobody missed m2");
    }
    let start = Address::Start { member_id: run.id_of("m2"), boot: 2 };
    let row = run.state.list.rows.iter().find(|row| row.subject == Subject::Cluster(start));
    assert_eq!("serves", result(row.unwrap()));
    let list = run.list();
    assert!(list.contains("start:m2:2"), "{list}");
    assert!(!list.contains("election"), "{list}");
}

/// `m0` took a put that nobody else had, and was killed; the others went on without it.
#[test]
fn an_entry_that_nobody_else_had_is_told_as_lost() {
    let mut run = Run::of("entry_lost.ndjson");
    let winner = run.winner(3);
    let headline = run.headline("told/lost");
    assert!(headline.contains("its entry is lost"), "{headline}");
    let said = run.lived_through("told/lost").unwrap();
    assert!(said.starts_with(&format!("m0 died; {winner} led from +")), "{said}");
    let show = run.show("told/lost");
    assert!(show.contains("replaced before it was committed"), "{show}");
    assert!(show.contains("  the request ended with the process of m0: its last record is at +"));
    assert!(!show.contains("no leader for "), "it ended with its leader: {show}");
    assert!(show.contains("\n  the rpc never ended: its process did first\n"), "{show}");
    for never in [
        "\nquorum\n  never: another entry replaced this one before it was committed\n",
        "\nstored\n  never: the entry was never applied\n",
        "\ndelivered to\n  no watcher: the entry was never applied\n",
    ] {
        assert!(show.contains(never), "{show}");
    }
    assert!(!show.contains("not captured") && !show.contains("not yet"), "{show}");
    let steps = Steps::open(&run.recording, run.put("told/lost").subject);
    assert!(steps.through.alive.is_empty(), "it was never without a leader");
    let [rpc] = &steps.unknown[..] else { panic!("{:?}", steps.unknown) };
    assert_eq!("· m0 never: rpc", crate::view::steps::unknown(&steps, rpc, &run.state));
    assert_eq!("not finished", result(run.put("told/lost")), "m0 has started again since");
    let instead = run.headline("told/instead");
    assert!(instead.contains(" ok") && !instead.contains("lost"), "{instead}");
    let subject = run.put("told/lost").subject;
    let heads = run.heads_at_the_end(subject);
    assert!(heads.iter().all(|(_, role, is_heard)| *role != "LEADER" || *is_heard), "{heads:?}");
}

/// Goal: the whole of a request is what the list says, so no step of it is longer. Method: all
/// requests of a cluster of which a member stood still.
#[test]
fn the_cost_of_a_request_is_counted_from_its_first_byte_to_its_last() {
    let run = Run::of("follower_stopped.ndjson");
    let mut seen = 0;
    for row in run.state.list.rows.iter() {
        let Some(took_ns) = row.took_ns else { continue };
        let mut steps = Steps::open(&run.recording, row.subject);
        steps.jump(Direction::Forward);
        steps.lens = Lens::Cost;
        let lines = lens::lines(&run.recording, &steps, (&run.state.lanes, &[]));
        let Some(whole) = lines[0].iter().find(|one| one.starts_with("whole request ")) else {
            continue;
        };
        seen += 1;
        let expected = format!("whole request {}", duration(took_ns));
        assert!(whole.starts_with(&expected), "{expected}: {whole}");
    }
    assert!(3 < seen, "{seen}");
}

/// Three leaders were killed one after the other, each with a put on its way to it.
#[test]
fn each_of_three_elections_is_told_alone_from_the_old_leader_to_the_first_commit() {
    let run = Run::of("elections.ndjson");
    let cluster = run.cluster();
    let terms = cluster.elections.iter().map(|election| election.term);
    let terms: Vec<u64> = terms.filter(|term| *term != 2).collect();
    assert_eq!(vec![3, 4, 5], terms);
    let mut old = "m0".to_owned();
    let mut seen = HashSet::new();
    for (term, key) in terms.into_iter().zip(["told/first", "told/second", "told/third"]) {
        let winner = run.winner(term);
        let said = run.lived_through(key).unwrap();
        assert!(said.starts_with(&format!("{old} died; {winner} led from +")), "{said}");
        let show = run.show(key);
        assert!(70 <= run.without_leader(key), "{show}");
        let nobody = show.lines().find(|line| line.ends_with("  no leader")).unwrap();
        assert!(nobody.contains(" ms   -  ") || nobody.contains(" ms~  -  "), "{nobody}");
        assert!(show.contains(" a new leader to "), "{show}");
        let steps =
            Steps::open(&run.recording, Subject::Cluster(Address::Election { term, by: None }));
        let own: Vec<&Step> = steps.steps.iter().filter(|step| step.is_own).collect();
        for step in own.iter().filter(|step| step.is_captured) {
            let Event { member, boot, clock, stage, kind, .. } = step.event;
            assert!(seen.insert((member, boot, clock, stage, kind)), "in two elections: {step:?}");
        }
        is_whole(&run, &own, term, (run.id_of(&old), run.id_of(&winner)));
        old = winner;
    }
}

/// From the last heartbeat of the old leader, over each vote with its reason, to the first commit
/// of the new one.
fn is_whole(run: &Run, own: &[&Step], term: u64, (old, winner): (u64, u64)) {
    let name = |id: u64| {
        let member = run.recording.members.iter().find(|member| member.member_id == id);
        member.unwrap().name.clone()
    };
    let captured = || own.iter().filter(|step| step.is_captured);
    let first = captured().next().unwrap();
    let from = match first.event.stage {
        Stage::RaftSend => run.recording.members[usize::from(first.event.member)].member_id,
        Stage::RaftReceive => field!(first.event, RaftReceive, peer),
        stage => panic!("it begins with {}", stage.name()),
    };
    assert_eq!(old, from, "the old leader's message");
    assert_eq!(term - 1, field!(first.event, RaftSend | RaftReceive, term));
    for step in captured() {
        let named = match step.event.stage {
            Stage::ElectionVote => field!(step.event, ElectionVote, term),
            Stage::RaftEntry => field!(step.event, RaftEntry, term),
            Stage::RaftCommit => field!(step.event, RaftCommit, term),
            _ => continue,
        };
        assert_eq!(term, named, "{step:?}");
    }
    let subject = Subject::Cluster(Address::Election { term, by: None });
    let steps = Steps::open(&run.recording, subject);
    let said = |step: &Step| why::meaning(step, &run.state, &steps);
    let votes = captured().filter(|step| step.event.stage == Stage::ElectionVote);
    for vote in votes.clone() {
        let said = said(vote);
        let why = [
            "log ends with entry ",
            " is in a later term already",
            " it follows ",
            " within the last election timeout, so it ignores candidates",
        ];
        assert!(why.iter().any(|why| said.contains(why)), "a vote without a reason: {said}");
    }
    assert!(2 <= votes.count(), "a pre-vote and a vote");
    let commits: Vec<&&Step> =
        captured().filter(|step| step.event.stage == Stage::RaftCommit).collect();
    let by_winner = commits[0];
    let leader = &run.recording.members[usize::from(by_winner.event.member)];
    assert_eq!(winner, leader.member_id, "the winner commits first");
    let sentence = said(by_winner);
    assert!(sentence.contains("the empty one with which the leader began its term"), "{sentence}");
    for learned in &commits[1..] {
        let said = said(learned);
        let from = format!(" learns from {} that ", name(winner));
        assert!(said.contains(&from), "{said}");
    }
    assert_eq!(
        commits.last().unwrap().event,
        captured().next_back().unwrap().event,
        "it ends with that"
    );
}

/// 64 clients put as fast as they can.
#[test]
fn under_load_the_player_says_how_many_of_the_requests_it_shows() {
    let run = Run::of("busy.ndjson");
    let (shown, seen) = run.state.thinning();
    assert!(seen.is_some_and(|seen| (shown as u64) < seen), "{shown} of {seen:?}");
    let list = run.list();
    assert!(!list.contains(" lost "), "{list}");
    assert!(!list.contains("election") && !list.contains("step-down"), "{list}");
    for row in run.state.list.rows.iter().filter(|row| row.took_ns.is_some()) {
        assert_eq!("ok", result(row), "{row:?}");
        let Subject::Request(id) = row.subject else { panic!("{row:?}") };
        let text = show(&run.recording, id);
        assert!(!text.contains("  lost "), "{text}");
    }
}

/// Goal: the player and `show` never disagree about a request. Method: all stories of all
/// recordings: the same steps, in the same order, at the same times.
#[test]
fn the_player_and_show_have_the_same_steps_at_the_same_times() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    for name in names.map(|name| name.to_string_lossy().into_owned()) {
        if !name.ends_with(".ndjson") {
            continue;
        }
        let run = Run::of(&name);
        let order = Order::of(&run.recording);
        let stories = Stories::new(&run.recording, &order);
        for row in &run.state.list.rows {
            let story = match row.subject {
                Subject::Request(id) => stories.of(id).unwrap(),
                Subject::Cluster(address) => stories.incident(address).unwrap(),
            };
            let steps = Steps::open(&run.recording, row.subject);
            let expected: Vec<_> = (story.steps.iter())
                .map(|step| (known(&run.recording.events[step.event]), order.times[step.event]))
                .collect();
            // Beginnings that the player adds are not in the recording.
            let recorded: HashSet<_> = run.recording.events.iter().map(known).collect();
            let is_meant = |step: &&Step| {
                step.is_own
                    && step.is_captured
                    && step.event.stage != Stage::Lost
                    && recorded.contains(&known(&step.event))
            };
            let own = steps.steps.iter().filter(is_meant);
            let played: Vec<_> =
                own.map(|step| (known(&step.event), i128::from(step.wall_ns))).collect();
            assert_eq!(expected, played, "{name}: {:?}", row.subject);
        }
    }
}

/// What makes an event itself.
fn known(event: &Event) -> (u8, u16, u64, u64, Stage, u64) {
    (event.member, event.boot, event.clock, event.clock_end, event.stage, event.took_ns)
}

/// Goal: a head shows its member as it stands at the cursor, and not before its own next step,
/// which may be an election later. Method: the first steps of puts that lived through one: the
/// leader is the old one.
#[test]
fn a_head_shows_its_member_as_it_stands_at_the_cursor_and_not_at_its_next_step() {
    let mut run = Run::of("elections.ndjson");
    let mut old = "m0".to_owned();
    for (term, key) in [(3, "told/first"), (4, "told/second"), (5, "told/third")] {
        let subject = run.put(key).subject;
        run.state.steps = Some(Steps::open(&run.recording, subject));
        run.state.update(Action::Jump(Direction::Back));
        let leads = |head: &Head| head.marks.get(Water::Role) == Some(LEADER);
        let heads = run.state.heads();
        let leaders: Vec<&str> =
            heads.iter().filter(|head| leads(head)).map(|head| &*head.name).collect();
        assert_eq!(vec![&*old], leaders, "{key}");
        old = run.winner(term);
    }
}
