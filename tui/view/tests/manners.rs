//! The player as a new user meets it: keys that do nothing, the way back, small windows, the
//! greeting.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};

use super::{ASCII, SIZES, UNICODE, opened, screen};
use crate::{
    play::{Input, handle},
    source::{Message, Said},
    state::{
        BYTES_MAX, State,
        player::Action,
        room::Hands,
        scenes,
        search::Word,
        steps::Lens,
        tests::{live, press},
    },
    up::api::{self, Process, Reply},
};

/// The state on every screen that keys lead to.
fn on(place: usize) -> Option<State> {
    let keys = ["", "enter", "enter enter", "enter ?", "enter :", "enter . .", "enter 2", "C", "/"];
    keys.get(place).map(|keys| opened(scenes::put(), keys))
}

fn every_key() -> impl Iterator<Item = KeyCode> {
    let codes = [
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Tab,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(1),
    ];
    codes.into_iter().chain((' '..='~').map(KeyCode::Char))
}

/// Goal: after every key on every screen the screen is another one, at the least by a line that
/// says why nothing has happened.
#[test]
fn no_key_is_silent() {
    let mut silent = Vec::new();
    for place in 0.. {
        let Some(before) = on(place) else { break };
        let before = screen(&before, SIZES[1], UNICODE);
        for code in every_key() {
            let mut state = on(place).unwrap();
            let goes_on = handle(&mut state, Input::Key(KeyEvent::from(code)));
            let after = screen(&state, SIZES[1], UNICODE);
            // Backspace with nothing typed, and a scroll of a list that fits, have nothing to say.
            let is_about_nothing = !state.wishes().is_empty()
                || state.is_helping
                || matches!(code, KeyCode::Backspace);
            if goes_on && !is_about_nothing && before == after {
                silent.push((place, code));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:?}");
}

/// Goal: a line that answers a key stands above the keys, and the next key takes it away.
#[test]
fn an_answer_to_a_key_leaves_the_keys_where_they_are() {
    let mut state = opened(scenes::put(), "enter G");
    let line = |state: &State| screen(state, SIZES[0], UNICODE).to_string();
    let keys = line(&state).lines().last().unwrap().to_owned();
    press(&mut state, "right");
    let drawn = line(&state);
    assert_eq!(drawn.lines().last().unwrap(), keys);
    assert!(drawn.contains("this is the last step"), "{drawn}");
    press(&mut state, "left");
    assert!(!line(&state).contains("this is the last step"));
}

#[test]
fn the_way_back_stands_in_the_footer_at_every_size() {
    for place in 0.. {
        let Some(state) = on(place) else { return };
        for size in [(40, 16), (60, 20), (80, 24), (200, 60)] {
            let drawn = screen(&state, size, UNICODE).to_string();
            let footer = drawn.lines().last().unwrap();
            let is_back = ["back", "leave", "close"].iter().any(|word| footer.contains(word));
            assert!(is_back, "state {place} at {size:?}: {footer}");
        }
    }
}

#[test]
fn a_window_that_is_too_small_says_which_size_it_needs() {
    let drawn = screen(&opened(scenes::put(), "enter"), (39, 20), ASCII).to_string();
    assert!(drawn.contains("has   39x20") && drawn.contains("needs 40x16"), "{drawn}");
    let mut narrow = live(&scenes::put().recording, 5);
    press(&mut narrow, "C");
    let drawn = screen(&narrow, (60, 20), UNICODE).to_string();
    assert!(drawn.contains("1 member is not shown: that needs 75 columns"), "{drawn}");
}

/// Goal: a lane is entered in every grain, and the counter counts its steps only.
#[test]
fn a_digit_moves_the_cursor_into_the_lane() {
    for grain in ["", "]", ". ."] {
        let mut state = opened(scenes::put(), &format!("enter {grain} G"));
        for lane in ["1", "2", "3"] {
            press(&mut state, lane);
            let steps = state.steps.as_ref().unwrap();
            assert_eq!(steps.steps[steps.now].lane + 1, lane.parse::<usize>().unwrap());
            let (at, total) = steps.position();
            let of_lane = |step: &&crate::state::story::Step| {
                step.grain <= steps.grain && Some(step.lane) == steps.focus
            };
            assert_eq!(total, steps.steps.iter().filter(of_lane).count());
            assert!((1..=total).contains(&at), "{at} of {total}");
        }
    }
    let mut state = opened(scenes::put(), "enter");
    press(&mut state, "7");
    assert_eq!(state.said(), Some("there is no lane 7"));
    assert_eq!(state.steps.as_ref().unwrap().focus, None);
}

/// Goal: the cost of a step is never a negative time, and a window of waiting is no step.
#[test]
fn the_cost_lens_names_steps_and_times_that_exist() {
    let mut state = opened(scenes::put(), "enter . . G");
    state.steps.as_mut().unwrap().lens = Lens::Cost;
    loop {
        let steps = state.steps.as_ref().unwrap();
        let lines = crate::state::lens::lines(state.recording(), steps, (&state.lanes, &[]));
        let said = lines.concat().join(" ");
        assert!(!said.contains('-') || !said.contains(" -"), "{said}");
        assert!(!said.contains("cpu.wait"), "{said}");
        let now = steps.now;
        state.update(Action::Step(
            glass_etcd::trace::Grain::Raw,
            crate::state::steps::Direction::Back,
        ));
        if state.steps.as_ref().unwrap().now == now {
            return;
        }
    }
}

fn started(hands: Hands) -> State {
    let endpoints = ["127.0.0.1:2379", "127.0.0.1:2479", "127.0.0.1:2579"].map(str::to_owned);
    let mut state = State::of_endpoints(&endpoints, BYTES_MAX);
    let names = ["etcd-01", "etcd-02", "etcd-03"].map(str::to_owned);
    state.connect(hands, names.to_vec());
    for endpoint in 0..3 {
        let said = Said::Down("connection refused".to_owned());
        handle(&mut state, Input::Source(Message { endpoint, said }));
    }
    handle(&mut state, Input::Tick(Duration::from_millis(300)));
    state
}

/// Goal: members that this player has just started are starting; one whose process has ended, and
/// one that somebody else runs, is not.
#[test]
fn the_start_is_quiet() {
    let mut state = started(Hands::Own);
    for keys in ["", "enter"] {
        press(&mut state, keys);
        let drawn = screen(&state, SIZES[0], UNICODE).to_string();
        assert!(!drawn.contains("refused"), "{drawn}");
    }
    press(&mut state, "C");
    let drawn = screen(&state, SIZES[0], UNICODE);
    assert!(drawn.to_string().contains("STARTING 0/3   no leader yet"), "{drawn}");
    let is_red = |cell: &ratatui::buffer::Cell| cell.fg == ratatui::style::Color::Red;
    assert!(!drawn.buffer().content().iter().any(is_red), "{drawn}");
    let process = |state| Process { name: "etcd-01".to_owned(), pid: None, state, since_ms: 9 };
    let ended = Reply { processes: vec![process(api::State::Exited(1))], ..Reply::default() };
    state.replied(&api::Command::to_all(api::Action::Status), ended);
    assert!(screen(&state, SIZES[0], UNICODE).to_string().contains("DOWN for"));
    let others = screen(&started(Hands::Nobody), SIZES[0], UNICODE).to_string();
    assert!(others.contains("connection"), "{others}");
}

#[test]
fn the_greeting_stays_until_a_client_has_asked_for_something() {
    let mut recording = scenes::election().recording;
    let greeting = "Press i and type: put foo bar";
    let of = |state: &mut State| {
        if !state.room.is_shown {
            press(state, "C");
        }
        screen(state, SIZES[1], UNICODE).to_string()
    };
    let drawn = of(&mut live(&recording, 5));
    assert!(drawn.contains(greeting) && drawn.contains("election"), "{drawn}");
    recording.events = scenes::put().recording.events;
    assert!(!of(&mut live(&recording, 5)).contains(greeting));
    let file = opened(scenes::election(), "C");
    assert!(!screen(&file, SIZES[1], UNICODE).to_string().contains(greeting));
}

/// Goal: the two ends of a message lead to each other, and the way back from an effect leads to
/// where one came from; nothing is a cause of what came before it.
#[test]
fn causes_and_effects_lead_back_to_each_other() {
    use crate::state::steps::because::{cause, effect, other_end};
    for (name, recording) in super::walk::recordings() {
        let state = State::of_recording(recording);
        for row in state.list.rows.iter().take(20) {
            let story = crate::state::steps::Steps::open(state.recording(), row.subject);
            let steps = &story.steps;
            for at in (0..steps.len()).filter(|at| steps[*at].is_own) {
                if let Some(effect) = effect(steps, at) {
                    assert!(at < effect && cause(steps, effect) == Some(at), "{name}, {at}");
                }
                if let Some(cause) = cause(steps, at) {
                    assert!(cause < at, "{name}: {cause} caused {at}");
                }
                if let Some(other) = other_end(steps, at) {
                    assert_ne!(steps[other].lane, steps[at].lane, "{name}, {at}");
                }
            }
        }
    }
    let mut state = opened(scenes::put(), "enter right right");
    let now = |state: &State| state.steps.as_ref().unwrap().now;
    let sent = now(&state);
    press(&mut state, "m");
    assert_ne!(now(&state), sent);
    press(&mut state, "m");
    assert_eq!(now(&state), sent);
    press(&mut state, "e");
    let effect = now(&state);
    press(&mut state, "c");
    assert_eq!((now(&state), effect != sent), (sent, true));
}

/// Goal: back is exact. Method: a random number of steps forward in a random grain and as many back
/// draw the same screen, text and style.
#[test]
fn steps_forward_and_as_many_back_draw_the_same_screen() {
    use glass_etcd::trace::Grain;
    let mut random = crate::random::Random::new(7);
    for round in 0..40 {
        let scene = vec![scenes::put(), scenes::get(), scenes::election()].remove(round % 3);
        let mut state = opened(scene, "enter");
        let (forward, back) = [("right", "left"), ("]", "["), (".", ",")][random.index(3)];
        let grain = [Grain::Story, Grain::Stage, Grain::Raw]
            [["right", "]", "."].iter().position(|key| *key == forward).unwrap()];
        let before_home = random.index(30);
        (0..=before_home).for_each(|_| press(&mut state, forward));
        press(&mut state, back);
        let home = screen(&state, SIZES[round % 3], UNICODE);
        let (at, total) = state.steps.as_ref().unwrap().position();
        let count = random.index(total - at + 1);
        (0..count).for_each(|_| press(&mut state, forward));
        (0..count).for_each(|_| press(&mut state, back));
        let after = screen(&state, SIZES[round % 3], UNICODE);
        assert_eq!(home, after, "{count} steps in {grain:?} from {at}");
    }
}

/// Goal: at the live end a step forward waits for the next one, says so, and shows it later.
#[test]
fn stepping_at_the_live_end_waits_and_says_so() {
    let recording = crate::state::tests::as_told(&scenes::put().recording);
    let (first, rest) = recording.events.split_at(recording.events.len() / 2);
    let mut state = crate::state::tests::greeted(&recording, BYTES_MAX);
    crate::state::tests::tell_all(&mut state, first, 5);
    state.refresh();
    if state.room.is_shown {
        press(&mut state, "enter");
    }
    press(&mut state, "enter G right");
    let end = state.steps.as_ref().unwrap().steps[state.steps.as_ref().unwrap().now].clone();
    assert!(state.said().unwrap().contains("the next one is shown when it comes"));
    crate::state::tests::tell_all(&mut state, rest, 1_000);
    state.refresh();
    let steps = state.steps.as_ref().unwrap();
    assert!(steps.is_waiting && steps.steps[steps.now] != end, "it has moved on");
    press(&mut state, "left");
    assert!(!state.steps.as_ref().unwrap().is_waiting, "a step back freezes");
}

/// Goal: `y` copies a command whose address opens exactly this step, in the same story; live
/// members are waited for.
#[test]
fn a_copied_address_opens_exactly_this_step() {
    use crate::state::{Origin, Wish, anchor::Anchor};
    for keys in ["enter right right right", "enter G", "enter . . . .", "enter ] ] ]"] {
        let mut state = opened(scenes::put(), keys);
        state.origin = Origin::File("a run.ndjson".to_owned());
        press(&mut state, "y");
        let [Wish::Copy(command)] = <[Wish; 1]>::try_from(state.wishes()).unwrap() else {
            panic!("{:?}", state.said())
        };
        assert_eq!(state.said(), Some(&*format!("copied: {command}")));
        let word = command.strip_prefix("glass play 'a run.ndjson@").unwrap();
        let anchor = Anchor::parse(word.strip_suffix('\'').unwrap()).unwrap();
        let at = |state: &State| {
            let steps = state.steps.as_ref()?;
            Some((steps.subject, steps.steps[steps.now].clone()))
        };
        state.origin = Origin::Live(vec!["http://10.0.0.7:2379".to_owned()]);
        let elsewhere = state.command_of_step().unwrap();
        assert!(elsewhere.ends_with(" --endpoints 10.0.0.7:2379"), "{elsewhere}");
        let mut other = State::of_recording(scenes::put().recording);
        other.await_step(anchor.clone()).unwrap();
        assert_eq!(at(&other), at(&state), "{command}");
        let recording = crate::state::tests::as_told(&scenes::put().recording);
        let mut live = crate::state::tests::greeted(&recording, BYTES_MAX);
        live.await_step(anchor).unwrap();
        crate::state::tests::tell_all(&mut live, &recording.events, 1_000);
        live.refresh();
        assert_eq!(at(&live), at(&state), "{command}, live");
    }
    let mut state = State::of_recording(scenes::put().recording);
    let wrong = Anchor::parse("etcd-01:1:99999").unwrap();
    let why = state.await_step(wrong).unwrap_err();
    assert_eq!(why, "no record of etcd-01 has start 1 and clock 99999");
}

/// Goal: two marked requests are compared in the words of `glass trace diff`, on a page that can be
/// scrolled and closed.
#[test]
fn two_marked_requests_are_compared() {
    use crate::state::Wish;
    let (_, recording) = super::walk::recordings()
        .into_iter()
        .find(|(name, _)| name == "puts_and_gets.ndjson")
        .unwrap();
    let mut state = State::of_recording(recording);
    press(&mut state, "D");
    assert!(state.wishes().is_empty() && state.said().unwrap().contains("space marks"));
    press(&mut state, "G space up space D");
    let Some(Wish::Compare(a, b)) = state.wishes().pop() else { panic!("{:?}", state.said()) };
    let lines = crate::trace::compared(state.recording(), [a, b]).unwrap();
    state.show_compared("COMPARED".to_owned(), lines.clone());
    let drawn = screen(&state, SIZES[1], UNICODE).to_string();
    assert!(drawn.contains(&lines[0][..20]) && drawn.contains("Esc back"), "{drawn}");
    press(&mut state, "down esc");
    assert!(state.compared.is_none());
}

/// Goal: no sequence of keys ends in a panic, for any recording and at any size. Method:
/// random keys on recordings with random mistakes.
#[test]
fn no_sequence_of_keys_ends_in_a_panic() {
    let keys: Vec<KeyCode> = every_key().collect();
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut random = crate::random::Random::new(seed);
        let scenes = [scenes::put, scenes::get, scenes::election, scenes::gap];
        let mut recording = scenes[random.index(scenes.len())]().recording;
        if seed % 2 == 0 {
            recording.events.iter_mut().for_each(|event| super::spoil(event, &mut random));
            recording.members.truncate(random.index(4));
        }
        let mut state = State::of_recording(recording);
        press(&mut state, "enter");
        for _ in 0..150 {
            // Keys that lead somewhere are more likely than others.
            let liked = ['j', 'l', 'h', '.', ']', ',', '[', 'm', 'c', 'e', 'x', 'C', 'R', '?', ':'];
            let code = match random.index(3) {
                0 => keys[random.index(keys.len())],
                1 => KeyCode::Enter,
                _ => KeyCode::Char(liked[random.index(liked.len())]),
            };
            if !handle(&mut state, Input::Key(KeyEvent::from(code))) {
                break;
            }
            if random.index(6) == 0 {
                let size = (1 + random.index(220) as u16, 1 + random.index(70) as u16);
                screen(&state, size, if random.index(2) == 0 { UNICODE } else { ASCII });
            }
        }
    }
}

/// Goal: a click moves the cursor to where it points, and the wheel steps.
#[test]
fn a_click_moves_the_cursor_and_the_wheel_steps() {
    use ratatui::{Terminal, backend::TestBackend};
    let mut state = opened(scenes::put(), "enter right right");
    let now = |state: &State| state.steps.as_ref().unwrap().now;
    let there = now(&state);
    let mut terminal = Terminal::new(TestBackend::new(100, 30)).unwrap();
    let mut targets = super::super::Targets::default();
    press(&mut state, "g");
    terminal.draw(|frame| targets = super::draw(frame, &state, UNICODE)).unwrap();
    let drawn = terminal.backend().to_string();
    let first = drawn.lines().position(|line| line.contains("NOW")).unwrap();
    let line = u16::try_from(first + 2).unwrap();
    handle(&mut state, Input::Aimed(targets.at(40, line).unwrap()));
    assert_eq!(now(&state), there);
    handle(&mut state, Input::Wheel(crate::state::steps::Direction::Back));
    assert!(now(&state) < there);
    assert!(targets.at(40, 29).is_none(), "the keys are no target");
}

/// Goal: the search of the list leaves rows out, and takes nothing from the story that is open.
#[test]
fn a_story_that_the_search_leaves_out_keeps_its_title() {
    let mut state = opened(scenes::put(), "enter");
    let title = |state: &State| {
        screen(state, SIZES[1], UNICODE).to_string().lines().next().map(str::to_owned)
    };
    let before = title(&state);
    assert!(before.as_ref().is_some_and(|title| title.contains("KV/Put")), "{before:?}");
    assert_eq!(Some(Ok(true)), state.find.only.take(&Word::Is("error".to_owned())));
    state.refresh();
    assert_eq!((0, before), (state.list.rows.len(), title(&state)));
}
