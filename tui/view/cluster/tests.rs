//! The control room: whole screens, and what its keys do.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use glass_etcd::{
    story::Recording,
    trace::{Kind, Stage},
};
use ratatui::{Terminal, backend::TestBackend};

use crate::{
    play::{Input, handle},
    random::Random,
    source::{Message, Said},
    state::{
        State,
        alive::Heard,
        room::{Hands, Left},
        scenes::{self, IDS, Scene},
        tests::{as_told, greeted, live, press, tell_all},
    },
    up::api::{Action, Command, Process, Reply, State as Doing},
    view::{Look, Shelf, draw, theme::Palette},
};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 36), (200, 60)];
const UNICODE: Look =
    Look { palette: Palette::Sixteen, is_ascii: false, has_mouse: false, shelf: Shelf::OWN };
const ASCII: Look = Look { palette: Palette::None, is_ascii: true, ..UNICODE };
const NAMES: [&str; 3] = ["etcd-01", "etcd-02", "etcd-03"];

fn screen(state: &State, (width, height): (u16, u16), look: Look) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| _ = draw(frame, state, look)).unwrap();
    terminal.backend().clone()
}

fn text(state: &State) -> String {
    screen(state, SIZES[0], UNICODE).to_string()
}

fn check_all(name: &str, state: &State) {
    for size in SIZES {
        for (look, word) in [(UNICODE, "unicode"), (ASCII, "ascii")] {
            let name = format!("{name}_{}x{}_{word}", size.0, size.1);
            insta::assert_snapshot!(name, screen(state, size, look));
        }
    }
}

/// Ten seconds of members that are more and more busy, with a keyframe every 100 ms. etcd-03 is
/// slower, and applies later.
fn busy() -> Scene {
    let mut scene = Scene::three_members();
    let mut seen = 0;
    for tenth in 1..=100_u64 {
        scene.at(tenth * 100_000);
        seen += tenth;
        for (member, slow) in [(0, 1), (1, 1), (2, 3)] {
            let role = if member == 0 { 2 } else { 0 };
            let (commit, behind) = (40 + tenth, (slow - 1) * (tenth % 4));
            let mut frame = |stage, fields: &[u64]| {
                scene.mark(member, stage, 0, fields).kind = Kind::Keyframe;
            };
            let marks = [role, 3, commit, commit - behind, 7, IDS[0], commit, commit];
            frame(Stage::Keyframe, &marks);
            frame(Stage::KeyframeBackend, &[41, 7, tenth, 0, IDS[0], seen * slow, 1, 0]);
            let p99 = 400_000 * slow + tenth / 10 * 10_000;
            frame(Stage::KeyframeProcess, &[(30 + tenth / 10) << 20, 10, p99]);
        }
    }
    scene
}

/// The same as live members that have just sent it, run by this process.
fn own(recording: &Recording) -> State {
    let mut state = live(recording, 1_000);
    press(&mut state, "esc");
    state.connect(Hands::Own, NAMES.map(str::to_owned).to_vec());
    report(&mut state, &[Doing::Running, Doing::Running, Doing::Running]);
    state
}

fn process(name: &str, pid: u32, state: Doing) -> Process {
    let pid = matches!(state, Doing::Running | Doing::Paused).then_some(pid);
    Process { name: name.to_owned(), pid, state, since_ms: 2_000 }
}

/// What `glass up` says about all of its processes.
fn report(state: &mut State, doing: &[Doing]) {
    let processes = NAMES.iter().zip(doing).zip(4_711..);
    let processes =
        processes.map(|((name, doing), pid)| process(name, pid, doing.clone())).collect();
    let command = Command::to_all(Action::Status);
    handle(state, Input::Replied(command, Reply { error: None, processes, cut: Vec::new() }));
}

#[test]
fn members_at_work() {
    check_all("cluster", &own(&busy().recording));
    let backend = screen(&own(&busy().recording), SIZES[0], UNICODE);
    insta::assert_debug_snapshot!("cluster_styles", backend.buffer());
}

#[test]
fn a_killed_leader_a_paused_member_and_one_that_starts() {
    let mut state = own(&busy().recording);
    handle(&mut state, Input::Tick(Duration::from_millis(3_100)));
    for endpoint in [0, 2] {
        let gone = Said::Down("connection refused".to_owned());
        handle(&mut state, Input::Source(Message { endpoint, said: gone }));
    }
    report(&mut state, &[Doing::Killed, Doing::Paused, Doing::Running]);
    check_all("cluster_faults", &state);
    let backend = screen(&state, SIZES[0], UNICODE);
    insta::assert_debug_snapshot!("cluster_faults_styles", backend.buffer());
    let text = text(&state);
    assert!(text.contains("NO QUORUM 0/3") && text.contains("NO LEADER 3.1 s"), "{text}");
    assert!(text.contains("was leader") && !text.contains("LEADER\""), "{text}");
    for how in ["DOWN for 2.0 s", "PAUSED for 2.0 s", "starting for 2.0 s"] {
        assert!(text.contains(how), "{how} in {text}");
    }
}

#[test]
fn before_any_member_has_answered_each_is_starting_and_nothing_is_red() {
    let recording = busy().recording;
    let endpoints = NAMES.map(|name| format!("127.0.0.1:{name}"));
    let mut state = State::of_endpoints(&endpoints, usize::MAX);
    state.connect(Hands::Own, NAMES.map(str::to_owned).to_vec());
    report(&mut state, &[Doing::Running, Doing::Running, Doing::Running]);
    let gone = Said::Down("connection refused".to_owned());
    handle(&mut state, Input::Source(Message { endpoint: 1, said: gone }));
    let shown = text(&state);
    insta::assert_snapshot!("cluster_starting", screen(&state, SIZES[0], UNICODE));
    assert_eq!(shown.matches("starting for 2.0 s").count(), 3, "{shown}");
    assert!(!shown.contains("refused"), "{shown}");
    // The same members have one column each when they have said who they are.
    for member in 0..3 {
        for hello in crate::state::tests::hellos(&recording, member) {
            handle(&mut state, Input::Source(hello));
        }
    }
    tell_all(&mut state, &recording.events, 1_000);
    state.refresh();
    assert!(text(&state).contains("QUORUM 3/3"), "{}", text(&state));
}

#[test]
fn a_recording_shows_the_members_at_the_step_that_is_looked_at() {
    let mut state = State::of_recording(scenes::put().recording);
    press(&mut state, "enter : 1 7 enter C");
    check_all("cluster_step", &state);
    let marks = |state: &State| {
        state.board().columns.iter().map(|column| column.marks.clone()).collect::<Vec<_>>()
    };
    let (before, shown) = (marks(&state), text(&state));
    press(&mut state, "right right right");
    assert_ne!(before, marks(&state), "the put is committed meanwhile");
    press(&mut state, "left left left");
    assert_eq!((before, shown), (marks(&state), text(&state)), "back is exact");
    press(&mut state, "f");
    assert!(text(&state).contains("end of the recording"), "{}", text(&state));
    press(&mut state, "f q");
    assert_eq!(state.steps.as_ref().map(|steps| steps.position().0), Some(17));
    assert!(text(&state).contains("WHY"), "q leads back to the step");
}

#[test]
fn a_cluster_without_a_majority_and_one_whose_state_is_not_known() {
    let mut state = live(&busy().recording, 1_000);
    press(&mut state, "esc");
    handle(&mut state, Input::Tick(Duration::from_millis(900)));
    let of = |state: &State| text(state).lines().next().unwrap().to_owned();
    assert!(of(&state).contains("QUORUM UNKNOWN 0/3   LEADER etcd-01 SILENT 900 ms"));
    for endpoint in 0..3 {
        let gone = Said::Down("connection refused".to_owned());
        handle(&mut state, Input::Source(Message { endpoint, said: gone }));
    }
    assert!(of(&state).contains("NO QUORUM 0/3   NO LEADER 900 ms"), "{}", of(&state));
}

/// Goal: members that are not played count in the quorum, and one of them can lead.
#[test]
fn two_followers_of_five_are_no_majority_and_name_their_leader() {
    let mut recording = busy().recording;
    recording.events.retain(|event| event.member != 0);
    recording.events.iter_mut().for_each(|event| event.member -= 1);
    recording.members.remove(0);
    recording.dropped.remove(0);
    let all = (0..5)
        .zip(1..)
        .map(|(at, number)| (IDS.get(at).copied().unwrap_or(number), format!("etcd-0{number}")));
    let all: Vec<(u64, String)> = all.collect();
    recording.members.iter_mut().for_each(|member| member.members.clone_from(&all));
    let mut state = State::of_recording(recording);
    press(&mut state, "C");
    let shown = text(&state);
    let first = shown.lines().next().unwrap();
    assert!(first.contains("QUORUM UNKNOWN 2/5"), "{first}");
    assert!(first.contains("etcd-01 leads term 3, others say"), "{first}");
    assert!(state.board().columns.iter().any(|column| column.name == "etcd-05"));
}

#[test]
fn what_was_not_captured_is_unknown() {
    let mut scene = busy();
    scene.recording.events.retain(|event| event.stage != Stage::KeyframeProcess);
    scene.recording.events.retain(|event| event.member != 1);
    let mut state = own(&scene.recording);
    let old = |name: &str| Process { since_ms: 60_000, ..process(name, 1, Doing::Running) };
    let processes = NAMES.iter().map(|name| old(name)).collect();
    let command = Command::to_all(Action::Status);
    handle(&mut state, Input::Replied(command, Reply { error: None, processes, cut: Vec::new() }));
    let shown = text(&state);
    let row = |name: &str| shown.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert_eq!(row(" fsync p99").matches("unknown").count(), 3, "{shown}");
    assert_eq!(row(" memory").matches("unknown").count(), 3, "{shown}");
    assert_eq!(row(" requests/s").matches("unknown").count(), 1, "{shown}");
    assert_eq!(row(" commit").matches("unknown").count(), 1, "{shown}");
    assert!(row("2 etcd-02").contains("2 etcd-02"), "{shown}");
}

#[test]
fn an_alarm_stands_in_the_banner_and_names_its_member() {
    let mut scene = busy();
    let fields = [30 << 20, 1, 400_000, 1, IDS[1], 0];
    scene.at(10_010_000).mark(0, Stage::KeyframeProcess, 0, &fields).kind = Kind::Keyframe;
    let shown = text(&own(&scene.recording));
    assert!(shown.lines().next().unwrap().contains("NOSPACE etcd-02"), "{shown}");
    let row = shown.lines().find(|line| line.contains(" alarms ")).unwrap();
    assert!(row.contains("NOSPACE etcd-02") && row.matches("none").count() == 2, "{row}");
}

/// Sends a key, and returns the commands that it has caused.
fn pressed(state: &mut State, keys: &str) -> Vec<Command> {
    press(state, keys);
    state.commands()
}

fn command(action: Action, name: &str) -> Command {
    Command::to(action, name)
}

#[test]
fn a_member_is_killed_only_after_its_consequence_was_shown_and_confirmed() {
    let mut state = own(&busy().recording);
    assert_eq!(pressed(&mut state, "K"), []);
    let shown = text(&state);
    insta::assert_snapshot!("cluster_question", screen(&state, SIZES[0], UNICODE));
    for said in ["KILL etcd-01?", "2 of 3 remain, a quorum", "wait for an election"] {
        assert!(shown.contains(said), "{said} in {shown}");
    }
    assert_eq!(pressed(&mut state, "esc s K right"), [], "no other key does it");
    press(&mut state, "esc");
    assert_eq!(pressed(&mut state, "1 K y"), [command(Action::Kill, "etcd-01")]);
    assert!(text(&state).contains("kill etcd-01: under way"));
    let processes = vec![process("etcd-01", 1, Doing::Killed)];
    let reply = Reply { error: None, processes, cut: Vec::new() };
    handle(&mut state, Input::Replied(command(Action::Kill, "etcd-01"), reply));
    let shown = text(&state);
    assert!(shown.contains("etcd-01 is killed") && shown.contains("QUORUM 2/3"), "{shown}");
    assert_eq!(pressed(&mut state, "2 K"), []);
    assert!(text(&state).contains("1 of 3 remains, no quorum"), "{}", text(&state));
}

#[test]
fn the_keys_do_what_the_state_of_the_process_allows() {
    let mut state = own(&busy().recording);
    assert_eq!(pressed(&mut state, "2 s enter"), [], "only y confirms");
    assert_eq!(pressed(&mut state, "y"), [command(Action::Stop, "etcd-02")]);
    assert_eq!(pressed(&mut state, "3 r y"), [command(Action::Restart, "etcd-03")]);
    report(&mut state, &[Doing::Running, Doing::Stopped, Doing::Paused]);
    assert_eq!(pressed(&mut state, "2 s y"), [command(Action::Start, "etcd-02")]);
    assert_eq!(pressed(&mut state, "3 p y"), [command(Action::Resume, "etcd-03")]);
    assert_eq!(pressed(&mut state, "2 K y"), []);
    press(&mut state, "K");
    assert!(text(&state).contains("etcd-02 does not run (stopped)"), "{}", text(&state));
    let refused = Reply::refused("etcd-02 is not running (stopped)");
    handle(&mut state, Input::Replied(command(Action::Kill, "etcd-02"), refused));
    assert!(text(&state).contains("kill etcd-02: etcd-02 is not running"));
}

#[test]
fn in_a_recording_and_beside_foreign_members_the_keys_say_why_they_do_nothing() {
    let mut recorded = State::of_recording(scenes::put().recording);
    press(&mut recorded, "esc");
    let mut foreign = live(&scenes::put().recording, 30);
    press(&mut foreign, "esc");
    for (state, why) in [(&mut recorded, "a recording cannot"), (&mut foreign, "no `glass up`")] {
        for key in ["s", "K", "p", "r", "x"] {
            assert_eq!(pressed(state, key), []);
            assert!(text(state).contains(why), "{key}: {}", text(state));
            press(state, "1");
            assert!(!text(state).contains(why), "the next key takes the notice away");
        }
    }
    let mut past = own(&scenes::put().recording);
    press(&mut past, "enter enter C 2");
    assert!(text(&past).contains("step 1/"), "{}", text(&past));
    assert_eq!(pressed(&mut past, "K"), [], "nothing before y");
    let shown = text(&past);
    assert!(shown.contains("KILL etcd-02?") && !shown.contains("step 1/"), "it is now: {shown}");
    press(&mut past, "esc f");
    assert!(text(&past).contains("step 1/"), "{}", text(&past));
    press(&mut past, "x");
    assert!(text(&past).contains("CUT the link etcd-02"), "{}", text(&past));
}

fn key(code: char) -> Input {
    Input::Key(KeyEvent::from(KeyCode::Char(code)))
}

#[test]
fn leaving_asks_before_it_stops_members_and_only_then() {
    let mut state = own(&busy().recording);
    assert!(handle(&mut state, key('q')));
    let shown = text(&state);
    assert!(shown.contains("LEAVE?") && shown.contains("q stops etcd-01, etcd-02"), "{shown}");
    let footer = "q stop all   d leave them running   Esc stay";
    assert!(shown.contains(footer), "{shown}");
    press(&mut state, "esc");
    assert!(!text(&state).contains("LEAVE?"));
    assert!(handle(&mut state, key('q')));
    assert!(!handle(&mut state, key('q')), "the second q leaves");
    assert_eq!(state.left(), Left::StopAll);
    let mut state = own(&busy().recording);
    assert!(handle(&mut state, key('q')) && !handle(&mut state, key('d')));
    assert_eq!(state.left(), Left::Running);
    let mut foreign = live(&busy().recording, 1_000);
    assert!(handle(&mut foreign, key('q')), "q leads from the list to the first screen");
    assert!(!handle(&mut foreign, key('q')));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let mut state = own(&busy().recording);
    assert!(!handle(&mut state, Input::Key(interrupt)));
    assert_eq!(state.left(), Left::AtOnce);
    assert!(handle(&mut state, Input::Resized));
    press(&mut state, "esc esc");
    assert!(text(&state).contains("this is the first screen"), "{}", text(&state));
}

/// Goal: no key, at any place, with any report, panics or sends a command that was not confirmed.
#[test]
fn random_keys_do_no_harm() {
    const KEYS: [&str; 28] = [
        "left", "right", "up", "down", "enter", "esc", "space", "C", "R", "s", "K", "p", "r", "n",
        "f", "1", "2", "3", "9", "?", "x", ":", "]", ".", "g", "G", "L", "B",
    ];
    let doing = [
        Doing::Running,
        Doing::Paused,
        Doing::Stopping,
        Doing::Stopped,
        Doing::Killed,
        Doing::Exited(1),
        Doing::Failed("no such file".to_owned()),
    ];
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let scene = [scenes::put, scenes::election, scenes::gap, busy][random.index(4)]();
        let members = scene.recording.members.len();
        let mut state = match random.index(3) {
            0 => State::of_recording(as_told(&scene.recording)),
            1 => greeted(&scene.recording, 1 << 16),
            _ if members == 3 => own(&scene.recording),
            _ => live(&scene.recording, 9),
        };
        for tick in 1..80 {
            let key = KEYS[random.index(KEYS.len())];
            let is_asked = state.room.question.is_some();
            press(&mut state, key);
            let commands = state.commands();
            assert!(commands.is_empty() || (is_asked && key == "enter"), "{key}: {commands:?}");
            match random.index(6) {
                0 => _ = handle(&mut state, Input::Tick(Duration::from_millis(tick * 97))),
                1 => {
                    let any: Vec<Doing> =
                        (0..3).map(|_| doing[random.index(doing.len())].clone()).collect();
                    report(&mut state, &any);
                }
                2 if members == 3 && state.room.hands != Hands::Recording => {
                    tell_all(&mut state, &scene.recording.events, 50);
                }
                _ => {}
            }
            let size = (1 + random.index(210) as u16, 1 + random.index(70) as u16);
            screen(&state, size, if random.index(2) == 0 { UNICODE } else { ASCII });
        }
    }
}

/// Goal: a member whose wall clock is an hour behind is not silent, and has its bars.
#[test]
fn wall_clocks_that_differ_make_no_member_silent() {
    let mut scene = scenes::put();
    scene.recording.members[1].boots[0].wall_ns -= 3_600_000_000_000;
    let mut state = State::of_recording(scene.recording);
    press(&mut state, "enter G C");
    let heard: Vec<Heard> = state.board().columns.iter().map(|column| column.heard).collect();
    assert_eq!(heard, [Heard::Fresh; 3]);
    press(&mut state, "f");
    let heard: Vec<Heard> = state.board().columns.iter().map(|column| column.heard).collect();
    assert_eq!(heard, [Heard::Fresh; 3]);
}

/// A recording of busy members, in which these links are cut at the end.
fn cut(links: &[(usize, usize)]) -> Scene {
    let mut scene = busy();
    for (one, other) in links {
        for (member, peer) in [(*one, *other), (*other, *one)] {
            scene.mark(member, Stage::RaftLink, 0, &[IDS[peer], 0, 1]);
        }
    }
    scene
}

#[test]
fn a_link_is_cut_only_after_its_consequence_was_shown_and_confirmed() {
    let mut state = own(&busy().recording);
    let link = |action, peer: Option<&str>| Command {
        peer: peer.map(str::to_owned),
        ..command(action, "etcd-01")
    };
    assert_eq!(pressed(&mut state, "x"), []);
    let shown = text(&state);
    insta::assert_snapshot!("cluster_cut_question", screen(&state, SIZES[0], UNICODE));
    for said in ["CUT the link etcd-01 ╳ etcd-02?", "reaches 2 of 3, a quorum"] {
        assert!(shown.contains(said), "{said} in {shown}");
    }
    assert_eq!(pressed(&mut state, "x x"), [], "the third choice");
    let shown = text(&state);
    assert!(shown.contains("CUT all links of etcd-01?") && shown.contains("steps down"), "{shown}");
    assert_eq!(pressed(&mut state, "y"), [link(Action::Cut, None)]);
    assert_eq!(pressed(&mut state, "x x y"), [link(Action::Cut, Some("etcd-03"))]);
    let reply = Reply { cut: vec![("etcd-01".into(), "etcd-03".into())], ..Reply::default() };
    handle(&mut state, Input::Replied(link(Action::Cut, Some("etcd-03")), reply));
    assert!(text(&state).contains("cut now: etcd-01 ╳ etcd-03"), "{}", text(&state));
    let mut state = own(&cut(&[(0, 2)]).recording);
    assert_eq!(pressed(&mut state, "x x y"), [link(Action::Heal, Some("etcd-03"))]);
    report(&mut state, &[Doing::Running, Doing::Running, Doing::Killed]);
    assert_eq!(
        pressed(&mut state, "x x y"),
        [link(Action::Heal, Some("etcd-03"))],
        "also if it is down"
    );
}

#[test]
fn links_that_are_cut_stand_in_the_banner_and_below_the_names() {
    let shown = |links: &[(usize, usize)]| text(&own(&cut(links).recording));
    let one = shown(&[(0, 1)]);
    assert!(one.contains("QUORUM 3/3") && one.contains("LINK CUT etcd-01 ╳ etcd-02"), "{one}");
    assert!(!one.contains("SILENT") && !one.contains("DOWN"), "its records still arrive: {one}");
    let off = shown(&[(0, 1), (0, 2)]);
    assert!(off.contains("QUORUM 2/3") && off.contains("etcd-01 CUT OFF"), "{off}");
    let none = shown(&[(0, 1), (0, 2), (1, 2)]);
    assert!(none.contains("NO QUORUM 1/3") && none.contains("3 LINKS CUT"), "{none}");
    assert!(!shown(&[]).contains("links"));
    check_all("cluster_cut", &own(&cut(&[(0, 1), (0, 2)]).recording));
}

#[test]
fn a_moment_is_booted_only_after_its_disks_were_shown_and_confirmed() {
    let mut state = own(&busy().recording);
    press(&mut state, "B");
    assert!(text(&state).contains("data directories"), "{}", text(&state));
    let place = crate::Cluster { procfile: "Procfile".into(), data_dir: None };
    state.trials.place = Some(place.clone());
    press(&mut state, "B");
    let shown = text(&state);
    insta::assert_snapshot!("cluster_boot_question", screen(&state, SIZES[0], UNICODE));
    assert!(shown.contains("BOOT THIS MOMENT?") && shown.contains("up to 140"), "{shown}");
    assert_eq!(state.job(), None, "it was not confirmed");
    press(&mut state, "y");
    let (asked, moment) = state.job().unwrap();
    assert_eq!((asked, moment.disks.len(), state.job()), (place, 3, None));
    press(&mut state, "B");
    assert!(text(&state).contains("being booted already"), "{}", text(&state));
    handle(&mut state, Input::Booted(vec!["entry 140 SURVIVED".to_owned()]));
    let shown = text(&state);
    assert!(shown.contains("AFTER THE POWER FAILURE") && shown.contains("SURVIVED"), "{shown}");
    press(&mut state, "esc");
    assert!(!text(&state).contains("SURVIVED"), "{}", text(&state));
}

#[test]
fn at_a_step_the_disks_are_those_of_the_step() {
    let mut state = State::of_recording(busy_put());
    state.trials.place = Some(crate::Cluster { procfile: "Procfile".into(), data_dir: None });
    press(&mut state, "enter B");
    let first = text(&state);
    assert!(first.contains("BOOT THIS MOMENT?"), "{first}");
    press(&mut state, "esc q G B");
    let last = text(&state);
    assert!(last.contains("BOOT THIS MOMENT?") && first != last, "{last}");
    assert!(last.contains("power cut now"), "what DURABLE says is compared: {last}");
}

/// A put between keyframes of all members, which say what was synced before it.
fn busy_put() -> Recording {
    let mut recording = scenes::put().recording;
    let first = recording.events.iter().map(|event| event.at_ns).min().unwrap_or(0);
    for (member, id) in (0..3_u8).zip(IDS) {
        for (stage, fields) in [
            (Stage::Keyframe, [0, 3, 40, 40, 7, id, 40, 40]),
            (Stage::KeyframeBackend, [40, 7, 0, 0, IDS[0], 1, 1, 0]),
        ] {
            let mut event = glass_etcd::story::Event::mark(member, stage, 0);
            let like = recording.events.iter().find(|event| event.member == member).unwrap();
            (event.boot, event.kind, event.at_ns) = (like.boot, Kind::Keyframe, first);
            event.fields = fields;
            recording.events.insert(0, event);
        }
    }
    recording
}
