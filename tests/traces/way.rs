//! Compares the tables of ARCHITECTURE.md, section 3 and section 4, with a recorded put and a
//! recorded get.
//!
//! Each row of a table names files, threads, and stages. Every stage of the request must be in a
//! row that names its file and its thread, and each thread's steps must follow the order of the
//! rows. Steps of different threads run in parallel, so the table cannot order them.

use std::collections::HashMap;

use glass_etcd::{
    story::Event,
    trace::{Stage, THREADS},
};

use super::told::{Told, place_of};

const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");
/// The section with the table of a put.
pub(super) const PUT: &str = "## 3. The life of a put";
/// The section with the table of a linearizable get.
pub(super) const GET: &str = "## 4. The life of a get";

/// A row of the table.
#[derive(Debug)]
struct Row {
    files: Vec<String>,
    /// The cell of the threads.
    threads: String,
    stages: Vec<Stage>,
}

impl Row {
    fn of(line: &str) -> Row {
        let code = line.split('`').skip(1).step_by(2);
        let files = code.clone().filter(|word| word.ends_with(".rs") || word.ends_with('/'));
        let stages = code.filter_map(Stage::from_name);
        let threads = line.split('|').nth(3).expect("a row has four cells").to_owned();
        Row { files: files.map(str::to_owned).collect(), threads, stages: stages.collect() }
    }

    /// Whether the row names this file, or a folder that contains it.
    fn has(&self, path: &str) -> bool {
        self.files
            .iter()
            .any(|file| file == path || (file.ends_with('/') && path.starts_with(file)))
    }
}

fn rows(document: &str, section: &str) -> Vec<Row> {
    let section = document.split(section).nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or(section);
    section.lines().filter(|line| line.starts_with("| ")).skip(1).map(Row::of).collect()
}

/// Rows of the table that disagree with these steps, in the order of their clocks.
fn differences(rows: &[Row], steps: &[&Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut last: HashMap<u8, (usize, Stage)> = HashMap::new();
    let mut seen = Vec::new();
    for step in steps {
        let (stage, path) = (step.stage, step.stage.rust_path());
        if seen.contains(&stage) {
            continue;
        }
        seen.push(stage);
        let of_stage: Vec<usize> =
            (0..rows.len()).filter(|at| rows[*at].stages.contains(&stage)).collect();
        let Some(row) = of_stage.first().copied() else {
            wrong.push(format!("no row has {}", stage.name()));
            continue;
        };
        if !of_stage.iter().any(|at| rows[*at].has(path)) {
            wrong.push(format!("the row of {} does not name {path}", stage.name()));
        }
        let thread = step.thread;
        let name = THREADS[usize::from(thread)];
        if !of_stage.iter().any(|at| rows[*at].threads.contains(name)) {
            wrong.push(format!("the row of {} does not name the thread {name}", stage.name()));
        }
        if let Some((before, other)) = last.insert(thread, (row, stage)).filter(|(it, _)| row < *it)
        {
            let (stage, other) = (stage.name(), other.name());
            wrong.push(format!("{stage} (row {row}) comes after {other} ({before}) on {name}"));
        }
    }
    wrong
}

/// Compares the table of this section with the steps that member `m{at}` took for a request.
pub(super) fn is_that_of_the_table(told: &Told, at: usize, section: &str) {
    let place = place_of(&told.recording, at);
    let mut steps: Vec<&Event> =
        told.steps().map(|seen| seen.event).filter(|event| event.member == place).collect();
    // Whether it had to wait for a CPU depends on the machine.
    steps.retain(|event| !matches!(event.stage, Stage::CpuWait | Stage::ProcessStalled));
    steps.sort_by_key(|event| event.clock);
    let wrong = differences(&rows(ARCHITECTURE, section), &steps);
    assert!(!steps.is_empty() && wrong.is_empty(), "{}\n{}", wrong.join("\n"), told.text());
}

#[test]
fn a_table_that_leaves_out_a_stage_or_a_file_or_a_thread_or_changes_the_order_is_found() {
    let event = |stage, thread, clock| {
        let head = glass_etcd::trace::record::Head {
            stage: stage as u8,
            kind: glass_etcd::trace::Kind::Mark as u8,
            thread,
            ..Default::default()
        };
        let record = glass_etcd::trace::Record::new(head, clock, clock, 1, &[0; 8]);
        Event::of(&record, 0).unwrap()
    };
    let steps = [event(Stage::RaftEntry, 3, 1), event(Stage::ApplyEntry, 5, 2)];
    let steps: Vec<&Event> = steps.iter().collect();
    let table = |rows: [&str; 2]| {
        let head = format!("{PUT}\n\n| # | file |\n|---|---|\n");
        differences(&self::rows(&(head + &rows.join("\n")), PUT), &steps)
    };
    let entry = format!("| 1 | `{}` | raft | `raft.entry` |", Stage::RaftEntry.rust_path());
    let apply = "| 2 | `server/apply/` | apply, raft | `apply.entry` |";
    assert_eq!(Vec::<String>::new(), table([&entry, apply]));
    assert_eq!(["no row has apply.entry"], *table([&entry, "| 2 | `server/apply/` | apply | |"]));
    let other = "| 2 | `server/apply/` | grpc | `apply.entry` |";
    assert_eq!(["the row of apply.entry does not name the thread apply"], *table([&entry, other]));
    let missing = format!("the row of raft.entry does not name {}", Stage::RaftEntry.rust_path());
    assert_eq!([missing], *table(["| 1 | `a.rs` | raft | `raft.entry` |", apply]));
    let steps = [event(Stage::ApplyEntry, 3, 1), event(Stage::RaftEntry, 3, 2)];
    let steps: Vec<&Event> = steps.iter().collect();
    let head = format!("{PUT}\n\n| # | file |\n|---|---|\n{entry}\n{apply}");
    let wrong = ["raft.entry (row 0) comes after apply.entry (1) on raft"];
    assert_eq!(wrong, *differences(&rows(&head, PUT), &steps));
}
