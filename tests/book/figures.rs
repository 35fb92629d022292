//! The figures of the book against fresh runs: what a figure tells has to happen again when its
//! scenario is performed again.
//!
//! Times, ids and the order of what does not depend on each other are others in each run. What
//! stays is how many members take each kind of step: three have the entry, one sends it, two
//! acknowledge it. Some of that depends on luck too: whether the leader counts its own disk before
//! the second follower answers, for example. So a difference counts only if each of some runs has
//! it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{expect_nothing, stepper::glass};

const LIST: &str = "book/figures.toml";
const FOLDER: &str = "book/src/figures";
/// How many runs a difference has to be in.
const RUNS: usize = 4;

/// How many members take each kind of step.
type Kinds = BTreeMap<String, usize>;

/// The kinds of steps in a story's text form.
fn kinds(story: &str) -> Kinds {
    let mut members: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for line in story.lines() {
        let mut words = line.split_whitespace();
        let is_step = words.next().is_some_and(|number| number.parse::<usize>().is_ok());
        // The time is a number and a unit.
        let (true, Some(member)) = (is_step, words.nth(2)) else { continue };
        let rest: Vec<&str> = words.collect();
        members.entry(kind(&rest)).or_default().insert(member);
    }
    members.into_iter().map(|(kind, members)| (kind, members.len())).collect()
}

/// What a step does, without its numbers and its peer: a message is sent, or it arrives.
fn kind(words: &[&str]) -> String {
    let message = words.iter().position(|word| word.starts_with("Msg"));
    match (message, words) {
        (Some(at), _) if words[..at].iter().any(|word| word.ends_with('►')) => {
            format!("{} arrives", words[at])
        }
        (Some(at), _) => format!("{} leaves", words[at]),
        (None, [name @ ("rpc" | "becomes"), what, ..]) => format!("{name} {what}"),
        (None, [name, ..]) => (*name).to_owned(),
        (None, []) => String::new(),
    }
}

/// How the story of a figure differs from those of all these runs.
fn differences(figure: &Kinds, runs: &[Kinds]) -> Vec<String> {
    let all: BTreeSet<&String> = figure.keys().chain(runs.iter().flat_map(Kinds::keys)).collect();
    let of = |kinds: &Kinds, kind: &String| kinds.get(kind).copied().unwrap_or(0);
    let is_other = |kind: &&&String| runs.iter().all(|run| of(run, kind) != of(figure, kind));
    let other = all.iter().filter(is_other);
    other
        .map(|kind| {
            let now: Vec<usize> = runs.iter().map(|run| of(run, kind)).collect();
            format!("{kind}: on {} members in the figure, and on {now:?} now", of(figure, kind))
        })
        .collect()
}

/// The scenario beside a recording.
fn scenario_of(recording: &Path) -> Option<PathBuf> {
    let beside = [recording.with_extension("scenario"), recording.with_file_name("scenario.txt")];
    beside.into_iter().find(|path| path.is_file())
}

/// Performs a scenario. Returns the story of each of its labels as text.
fn perform(scenario: &Path) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("run.scenario");
    fs::copy(scenario, &copy).unwrap();
    let command = ["lesson", "record", &copy.display().to_string()].map(str::to_owned);
    let done = Command::new(env!("CARGO_BIN_EXE_glass")).args(&command).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{}: {said}{error}", scenario.display());
    let file = copy.with_extension("ndjson").display().to_string();
    let labels = said.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let labels = labels.filter(|(label, _)| *label != "recorded");
    let story = |(label, id): (&str, &str)| {
        let page = glass(&["trace", "export", "--html", "-", id.trim(), "--from", &file]);
        let (_, text) = page.split_once("<pre>").unwrap();
        (label.to_owned(), text.split("</pre>").next().unwrap_or_default().to_owned())
    };
    labels.map(story).collect()
}

/// The figures of each scenario, by the labels of their stories.
fn figures() -> BTreeMap<PathBuf, Vec<[String; 2]>> {
    let list: toml::Table = fs::read_to_string(LIST).unwrap().parse().unwrap();
    let mut found: BTreeMap<PathBuf, Vec<[String; 2]>> = BTreeMap::new();
    for figure in list["figure"].as_array().unwrap() {
        let word = |name: &str| figure[name].as_str().unwrap().to_owned();
        if let Some(scenario) = scenario_of(Path::new(&word("recording"))) {
            found.entry(scenario).or_default().push([word("name"), word("story")]);
        }
    }
    found
}

/// Goal: no figure tells what does not happen any more. Method: each scenario is performed until
/// its stories have nothing that differs in all runs.
#[test]
fn a_fresh_run_of_a_scenario_tells_the_story_of_its_figures() {
    let mut wrong = Vec::new();
    for (scenario, figures) in figures() {
        let mut runs: Vec<BTreeMap<String, String>> = Vec::new();
        let mut left: Vec<String> = Vec::new();
        while runs.len() < RUNS && (runs.is_empty() || !left.is_empty()) {
            runs.push(perform(&scenario));
            left = figures.iter().flat_map(|figure| compared(figure, &runs)).collect();
        }
        wrong.extend(left);
    }
    expect_nothing("figures that tell another story than a fresh run", &wrong);
}

/// What differs between a figure and all runs.
fn compared([name, story]: &[String; 2], runs: &[BTreeMap<String, String>]) -> Vec<String> {
    // An id names one run only; then the figure has the name of the label.
    let of = |run: &BTreeMap<String, String>| run.get(story).or_else(|| run.get(name)).cloned();
    let fresh = runs.iter().map(|run| of(run).map(|text| kinds(&text)));
    let Some(fresh) = fresh.collect::<Option<Vec<Kinds>>>() else {
        // What happens to the cluster has an address that is another in each run.
        return match story.contains(':') {
            true => Vec::new(),
            false => {
                vec![format!("{name}: the scenario has no label {story}, and none of this name")]
            }
        };
    };
    let drawn = fs::read_to_string(Path::new(FOLDER).join(format!("{name}.txt"))).unwrap();
    let differences = differences(&kinds(&drawn), &fresh);
    differences.into_iter().map(|what| format!("{name}: {what}")).collect()
}

#[test]
fn a_step_that_does_not_happen_any_more_is_found() {
    let figure = "  KV/Put foo on b   ok\nANCHOR: x\n\
                  \x20   1  +0 ns     b            rpc KV/Put foo   ◄ client asks (inferred)\n\
                  \x20   2  +90 µs    a            MsgApp 9 ►b\n\
                  \x20      · 2 heartbeats and keyframes ·\n\
                  \x20   3  +1.1 ms   b            a► MsgApp 9\n\
                  \x20   4  +1.2 ms   a            raft.entry 2/9\n\
                  \x20   5  +1.3 ms   b            raft.entry 2/9\n";
    let of_figure = kinds(figure);
    let expected =
        [("MsgApp arrives", 1), ("MsgApp leaves", 1), ("raft.entry", 2), ("rpc KV/Put", 1)];
    assert_eq!(Kinds::from(expected.map(|(kind, members)| (kind.to_owned(), members))), of_figure);
    let lucky = kinds(&figure.replace("  5  +1.3 ms   b ", "  5  +1.3 ms   a "));
    let found = differences(&of_figure, &[lucky.clone(), lucky.clone()]);
    assert_eq!(found, ["raft.entry: on 2 members in the figure, and on [1, 1] now"]);
    assert_eq!(Vec::<String>::new(), differences(&of_figure, &[lucky, of_figure.clone()]));
    let found =
        differences(&of_figure, &[kinds(&format!("{figure}    6  +2 ms  b  wal.fsync ≤9\n"))]);
    assert_eq!(found, ["wal.fsync: on 0 members in the figure, and on [1] now"]);
}
