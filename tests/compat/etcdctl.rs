//! The real etcdctl, 3.4 and 3.5, command by command against each member.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use super::{http, normal::Names};
use crate::{
    cluster::Cluster,
    programs::{self, Etcdctl, Kind, left_out},
};

/// One command and its standard input.
struct Step {
    words: String,
    input: String,
    /// Whether the order of output lines depends on member ids, or on which member answers first.
    sorted: bool,
}

/// Commands about the cluster.
const CLUSTER: [&str; 15] = [
    "endpoint status -w table",
    "endpoint status -w json",
    "endpoint status --cluster -w table",
    "endpoint health",
    "endpoint hashkv",
    "endpoint hashkv --cluster",
    "endpoint hashkv --cluster -w json",
    "endpoint hashkv --cluster -w fields",
    "endpoint hashkv --cluster -w table",
    "endpoint hashkv --cluster --rev 1000000",
    "endpoint health --cluster",
    "member list -w table",
    "member list -w json",
    "member list",
    "alarm list",
];

/// Goal: users keep their tool. Method: run the same commands in the same order against a cluster
/// of ours and one of etcd 3.5.1; output and exit code must be the same, except for what is
/// specific to a cluster. HTTP requests go to the same clusters.
#[tokio::test]
async fn etcdctl_and_curl_see_no_difference() {
    let Some(reference) = programs::reference() else {
        return left_out("compat with etcdctl and curl: no etcd 3.5.1");
    };
    let subject = Kind::subject();
    let (subject, reference) =
        tokio::join!(Cluster::start(&subject, 3), Cluster::start(&reference, 3));
    http::answers_as_etcd_does(&subject, &reference).await;
    let tools = programs::etcdctls();
    for minor in ["3.4.", "3.5."] {
        if tools.iter().all(|tool| !tool.version.starts_with(minor)) {
            left_out(&format!("compat with etcdctl {minor}x: it is not here"));
        }
    }
    let names = [Names::of(&subject).await, Names::of(&reference).await];
    let mut differences = Vec::new();
    for (tool, at) in tools.iter().flat_map(|tool| (0..3).map(move |at| (tool, at))) {
        let prefix = format!("{}-m{at}", tool.version);
        let revision = subject.client(at).everything(false).await.unwrap().header.unwrap().revision;
        for step in script(&prefix, revision) {
            // In parallel, because most of the time is spent starting the tool.
            let [ours, theirs] = thread::scope(|scope| {
                let run = |cluster, names| {
                    let step = &step;
                    scope.spawn(move || run(tool, cluster, at, step, names))
                };
                let running = [run(&subject, &names[0]), run(&reference, &names[1])];
                running.map(|running| running.join().unwrap())
            });
            if ours != theirs {
                let (words, version) = (&step.words, &tool.version);
                differences.push(format!(
                    "etcdctl {version}, m{at}: {words}\nours: {ours}\netcd: {theirs}\n"
                ));
            }
        }
    }
    let count = differences.len();
    differences.truncate(10);
    assert!(differences.is_empty(), "{count} differences, first:\n{}", differences.join("\n"));
}

/// All commands; `revision` is the cluster's before the first of them.
fn script(p: &str, revision: i64) -> Vec<Step> {
    let step = |words: String| Step { words, input: String::new(), sorted: false };
    let mut steps: Vec<Step> = Vec::new();
    let writes = ["put P/a 1", "put P/b 20", "put P/c 3", "put P/a 4 --prev-kv"];
    let reads = [
        "get P/a",
        "get P/a P/c",
        "get P/ --prefix",
        "get P/ --prefix --limit 2",
        "get P/ --prefix --keys-only",
        "get P/ --prefix --count-only -w fields",
        "get P/ --prefix --print-value-only",
        "get P/ --prefix --consistency s -w json",
        "get P/ --prefix --order DESCEND",
        "get P/ --prefix --sort-by MODIFY --order DESCEND",
        "get P/ --prefix --sort-by CREATE",
        "get P/ --prefix --sort-by VERSION --order DESCEND --limit 1",
        "get P/ --prefix --sort-by VALUE",
        "get P/b --from-key --limit 3",
        "get P/a -w json",
        "get P/a -w fields",
        "get P/a --hex",
        "get P/none",
        "get P/a --rev 1000000",
    ];
    steps.extend(writes.iter().chain(&reads).map(|words| step(words.replace('P', p))));
    steps.push(Step { input: "from standard input".into(), ..step(format!("put {p}/d")) });
    steps.extend(
        ["put P/c --ignore-value", "put P/none --ignore-value", "put P/e 5 -w json"]
            .map(|words| step(words.replace('P', p))),
    );
    steps.push(step(format!("get {p}/ --prefix --rev {}", revision + 3)));
    let holds = format!("mod(\"{p}/a\") > \"0\"\nvalue(\"{p}/c\") = \"3\"\n\n");
    let fails = format!("create(\"{p}/a\") = \"0\"\nversion(\"{p}/b\") < \"9\"\n\n");
    let branches = format!("put {p}/x yes\nget {p}/a\n\ndel {p}/b\nget {p}/ --prefix\n\n");
    for (words, compares) in [("txn -i", &holds), ("txn", &fails), ("txn -w json", &fails)] {
        steps.push(Step { input: format!("{compares}{branches}"), ..step(words.into()) });
    }
    steps.push(step(format!("compaction {}", revision + 4)));
    steps.push(step(format!("compaction {}", revision + 4)));
    steps.push(step(format!("compaction --physical {}", revision + 5)));
    steps.push(step("compaction 1000000".into()));
    steps.push(step(format!("compaction --physical {} -w json", revision + 6)));
    steps.push(step("compaction --physical none".into()));
    steps.push(step(format!("get {p}/a --rev {}", revision + 3)));
    steps.push(step(format!("get {p}/a --rev {}", revision + 5)));
    // One command in all output formats, including unsupported ones.
    let forms = ["json", "fields", "simple", "table"];
    let commands = ["get P/ --prefix", "put P/f 1 --prev-kv", "del P/f --prev-kv"];
    for (command, form) in commands.iter().flat_map(|c| forms.map(|form| (c, form))) {
        steps.push(step(format!("{} -w {form}", command.replace('P', p))));
    }
    steps.extend(forms.map(|form| Step {
        input: format!("{holds}{branches}"),
        ..step(format!("txn -w {form}"))
    }));
    let deletes = ["del P/a --prev-kv", "del P/none", "del P/ --prefix --prev-kv", "del P/c P/z"];
    steps.extend(deletes.map(|words| step(words.replace('P', p))));
    steps.extend(CLUSTER.map(|words| Step { sorted: true, ..step(words.into()) }));
    steps
}

/// Exit code and output of one command in comparable form.
fn run(tool: &Etcdctl, cluster: &Cluster, at: usize, step: &Step, names: &Names) -> String {
    let mut child = Command::new(&tool.path)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &cluster.members[at].client_address()])
        .args(step.words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have closed its end.
    let _ = child.stdin.take().expect("it is piped").write_all(step.input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let [out, err] = [output.stdout, output.stderr]
        .map(|bytes| names.apply(&String::from_utf8_lossy(&bytes), step.sorted));
    let code = output.status.code().unwrap_or(-1);
    format!("exit {code}\n{out}\n{err}")
}
