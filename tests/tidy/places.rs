//! Calls that belong in one place: reading a clock, printing, drawing.

use super::{File, expect_nothing, file, rust, without_comment};

/// Files that may read the two clocks.
const CLOCKS: &[&str] = &["src/clock.rs", "src/trace/raw_clock.rs"];

fn clocks(file: &File) -> Vec<String> {
    if CLOCKS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    // Split, so that this file does not find itself.
    let reads = ["Instant", "SystemTime"].map(|clock| format!("{clock}::now("));
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| reads.iter().any(|read| without_comment(line).contains(read.as_str())))
        .map(|(at, _)| file.at(at, "time enters through clock.rs only"))
        .collect()
}

/// The library reports by log lines and results, and never prints to a terminal.
fn prints(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let calls = ["println!(", "eprintln!(", "print!(", "dbg!("];
    let lines = file.code().into_iter().enumerate();
    lines
        .filter(|(_, line)| calls.iter().any(|call| without_comment(line).contains(call)))
        .map(|(at, _)| file.at(at, "the library prints nothing"))
        .collect()
}

/// The player's state does not depend on screens, so that it can be tested without one.
fn screens(file: &File) -> Vec<String> {
    if !file.path.starts_with("tui/state") || file.is_test() {
        return Vec::new();
    }
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| without_comment(line).contains("ratatui::"))
        .map(|(at, _)| file.at(at, "state knows no screen"))
        .collect()
}

#[test]
fn time_enters_in_one_place() {
    let wrong: Vec<_> = rust().iter().flat_map(clocks).collect();
    expect_nothing("clocks", &wrong);
}

#[test]
fn the_library_does_not_print_and_state_does_not_draw() {
    let wrong: Vec<_> =
        rust().iter().flat_map(|file| [prints(file), screens(file)].concat()).collect();
    expect_nothing("output in the wrong place", &wrong);
}

#[test]
fn a_clock_an_output_and_a_screen_in_the_wrong_place_are_found() {
    let now = ["let a = Instant", "::now();"].concat();
    assert_eq!(clocks(&file("src/a.rs", &now)), ["src/a.rs:1: time enters through clock.rs only"]);
    assert_eq!(clocks(&file("src/clock.rs", &now)).len(), 0);
    assert_eq!(prints(&file("src/a.rs", "// println!()\n println!();")).len(), 1);
    assert_eq!(prints(&file("tui/a.rs", "println!();")).len(), 0);
    assert_eq!(screens(&file("tui/state/a.rs", "use ratatui::Frame;")).len(), 1);
    assert_eq!(screens(&file("tui/view/a.rs", "use ratatui::Frame;")).len(), 0);
}
