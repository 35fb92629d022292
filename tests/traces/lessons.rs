//! The lessons as a learner has them, and their soundness on clusters that have just been started.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use glass_etcd::{story::order::wall_ns, trace::Stage};

use crate::{client::Client, programs::left_out};

/// `glass lesson` with this directory for state.
fn command(state: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glass"));
    command.arg("lesson").args(args).env("XDG_STATE_HOME", state);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn lesson(state: &Path, args: &[&str]) -> Output {
    command(state, args).output().unwrap()
}

/// What is said on standard output if it ends well.
fn said(state: &Path, args: &[&str]) -> String {
    let output = lesson(state, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line on standard error.
fn refused(state: &Path, args: &[&str]) -> String {
    let output = lesson(state, args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((Some(1), 1), (output.status.code(), line.lines().count()), "{args:?}: {line}");
    line
}

/// Goal: a change of the members or of the trace cannot make a lesson wrong unnoticed. Method:
/// `glass lesson prove` runs each scenario, resolves every selector, reads every answer from the
/// records and compares it with that of the shipped recording, and looks at the tasks before the
/// first act and after the last.
#[test]
fn every_lesson_has_one_answer_to_each_question_on_a_fresh_run() {
    if std::env::var_os("GLASS_IT_SUBJECT").is_some() {
        return left_out("lessons: they are about members of glass");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_glass")).args(["lesson", "prove"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    assert!(said.contains("put-one-member: choice 2"), "{said}");
}

/// Goal: everything can be done without a terminal, one command at a time.
#[test]
fn a_lesson_is_done_command_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    assert!(said(state, &[]).contains("16 lessons, 225 minutes"));
    // Standard input is at its end.
    let begun = said(state, &["start", "read-index"]);
    assert!(
        begun.contains("# A linearizable read") && begun.contains("Question 1 of 4"),
        "{begun}"
    );
    assert!(begun.contains("The rest is left for later"), "{begun}");
    let wrong = lesson(state, &["answer", "1"]);
    assert_eq!(Some(1), wrong.status.code());
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("The step that decides:"));
    assert!(said(state, &["hint"]).starts_with("Hint 1: "));
    assert!(said(state, &["skip"]).contains("Skipped."));
    assert!(said(state, &["choose"]).contains("The answer is: the index"));
    let shown = said(state, &["show"]);
    assert!(
        shown.contains("Question 4 of 4") && shown.contains("`glass lesson answer NUMBER read-"),
        "{shown}"
    );
    assert!(refused(state, &["answer", "many"]).contains("is no answer: a number from 1 to 2"));
    let last = said(state, &["answer", "2"]);
    assert!(last.contains("What you know now") && last.contains("start stale-read"), "{last}");
    assert!(refused(state, &["answer", "2"]).contains("`glass lesson reset read-index`"));
    assert!(refused(state, &["hint"]).contains("all questions of read-index are answered"));
    assert!(said(state, &["list"]).contains("done, 1 of 4 right"));
    // The lesson after the one that is done.
    assert!(said(state, &["start"]).contains("# A serializable read goes stale"));
    assert!(said(state, &["reset", "read-index"]).contains("not begun any more"));
    assert!(!said(state, &["list"]).contains("right"));
    assert_eq!(1, fs::read_dir(state.join("glass")).unwrap().count(), "one file");
}

#[test]
fn what_cannot_be_done_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    assert!(refused(state, &["start", "flying"]).contains("no lesson flying; there are put-one"));
    let own = ["put-one-member"];
    let progress = state.join("glass/lessons.toml");
    said(state, &["start", own[0]]);
    fs::write(&progress, "[put-one-member]\nrun = \"own\"\n").unwrap();
    let line = refused(state, &["show", own[0]]);
    assert!(
        line.contains("put-one-member.ndjson") && line.contains("lesson reset put-one"),
        "{line}"
    );
    fs::create_dir_all(state.join("glass/lessons")).unwrap();
    let recording = fs::read("lessons/put-one-member/recording.ndjson").unwrap();
    let cut = state.join("glass/lessons/put-one-member.ndjson");
    let first: Vec<&[u8]> = recording.split_inclusive(|byte| *byte == b'\n').take(20).collect();
    fs::write(&cut, first.concat()).unwrap();
    let line = refused(state, &["show", own[0]]);
    assert!(line.contains("no story put") && line.contains("lesson reset put-one"), "{line}");
    fs::write(&cut, "no recording").unwrap();
    let line = refused(state, &["show", own[0]]);
    assert!(
        line.contains("put-one-member.ndjson") && line.contains("lesson reset put-one"),
        "{line}"
    );
    fs::write(&progress, "current = \"of-a-later-version\"\n[of-a-later-version]\nx = 1\n")
        .unwrap();
    assert!(said(state, &["start"]).contains("# A put on one member"));
    assert!(fs::read_to_string(&progress).unwrap().contains("[of-a-later-version]"));
    fs::write(&progress, "[put-one").unwrap();
    let line = refused(state, &["list"]);
    assert!(line.contains("lessons.toml is no TOML") && line.contains("move it away"), "{line}");
    fs::remove_file(&progress).unwrap();
    fs::create_dir(&progress).unwrap();
    assert!(refused(state, &["start"]).contains("lessons.toml"));
    let file = state.join("file");
    fs::write(&file, "").unwrap();
    assert!(refused(&file, &["start"]).contains("file/glass"));
    let line = refused(state.join("b").as_path(), &["check", "--file", "no-such-file"]);
    assert!(line.contains("no-such-file: "), "{line}");
}

/// Goal: the tasks of a lesson can be done on live members without a cluster of one's own, and a
/// task counts once it is done. Method: a put to the member that `glass lesson try` names.
#[tokio::test]
async fn the_tasks_are_looked_at_on_a_cluster_that_ends_with_the_command() {
    if std::env::var_os("GLASS_IT_SUBJECT").is_some() {
        return left_out("lessons: they are about members of glass");
    }
    let dir = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), &["try", "put-one-member", "--plain"]);
    let mut child = command.env("TMPDIR", temp.path()).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| Some(line.split_once("http://127.0.0.1:")?.1.to_owned()));
    let port = url.expect("a member serves clients").trim().parse().unwrap();
    input.write_all(b"\n").unwrap();
    let first = lines.find(|line| line.contains("Send a put")).unwrap();
    assert!(first.contains("not yet:"), "{first}");
    Client::new(port).put("a", "1").await.unwrap();
    input.write_all(b"\n").unwrap();
    let second = lines.find(|line| line.contains("Send a put")).unwrap();
    assert!(second.contains("done:"), "{second}");
    let mut failed = String::new();
    child.stderr.take().unwrap().read_to_string(&mut failed).unwrap();
    assert!(child.wait().unwrap().success(), "{failed}");
    assert_eq!(0, fs::read_dir(temp.path()).unwrap().count(), "the directory is gone");
    assert!(said(dir.path(), &[]).contains("0 of 5, task done"));
}

/// Goal: Ctrl-C in the middle of a run leaves no members and no directory behind, and does not wait
/// for the act under way.
#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    if std::env::var_os("GLASS_IT_SUBJECT").is_some() {
        return left_out("lessons: they are about members of glass");
    }
    let dir = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), &["start", "unknown-outcome", "--run"]);
    let child = command.env("TMPDIR", temp.path()).spawn().unwrap();
    let begun = || {
        fs::read_dir(temp.path())
            .unwrap()
            .flatten()
            .any(|dir| dir.path().join("data/etcd-03").exists())
    };
    let start = glass_etcd::clock::now();
    while !begun() {
        assert!(start.elapsed().as_secs() < 30, "no member starts");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && line.contains("interrupted"), "{line}");
    assert_eq!(0, fs::read_dir(temp.path()).unwrap().count(), "the directory is gone");
}

/// Goal: what a scenario does to a link is done before the next act, however long a member takes to
/// read the line that says so. Method: both ends record the cut before the put after it begins.
#[test]
fn a_link_is_cut_or_whole_before_the_next_act() {
    if std::env::var_os("GLASS_IT_SUBJECT").is_some() {
        return left_out("lessons: they are about members of glass");
    }
    let dir = tempfile::tempdir().unwrap();
    let acts = (1..=4).map(|number| {
        format!(
            "cut @leader @other\ncut{number}: @leader put a 1\n\
             heal @leader @other\nheal{number}: @leader put a 2\n"
        )
    });
    let scenario = dir.path().join("links.scenario");
    fs::write(&scenario, format!("members 3\n{}", acts.collect::<String>())).unwrap();
    let labels = said(dir.path(), &["record", scenario.to_str().unwrap()]);
    let id = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let mut puts: Vec<u64> = labels.lines().filter_map(id).collect();
    let file = fs::read(dir.path().join("links.ndjson")).unwrap();
    let recording = glass_etcd::story::recording::read(&file[..]).unwrap().recording;
    let began = |id: u64| {
        let own =
            recording.events.iter().filter(|event| event.id == id && event.stage == Stage::Rpc);
        own.map(|event| wall_ns(&recording, event) - event.took_ns).min().unwrap()
    };
    puts.sort_by_key(|id| began(*id));
    assert_eq!(8, puts.len(), "{labels}");
    let said = |until: u64| {
        let links = recording.events.iter().filter(|event| event.stage == Stage::RaftLink);
        links.filter(|event| wall_ns(&recording, event) < until).count()
    };
    let counts: Vec<usize> = puts.iter().map(|id| said(began(*id))).collect();
    assert_eq!(vec![2, 4, 6, 8, 10, 12, 14, 16], counts, "two ends, each before the put");
}
