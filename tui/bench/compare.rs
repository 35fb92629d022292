//! `glass bench compare`: checks the performance claim against etcd.
//!
//! A shared machine may be twice as fast one minute as the next, so figures taken at different
//! times say nothing. Here the two servers take turns (A B A B), with fresh members each time, data
//! on the same disk, and fsync on in both. The report gives medians and their ratios and, beside
//! the throughput, figures that do not depend on the machine's other load: CPU per request, memory,
//! fsyncs.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    Common, Error,
    members::{Members, TestBed},
    put, range,
    range::Consistency,
    stats::Report,
};

/// Flags of `compare`. `--clients`, `--conns` and `--seconds` have defaults of their own here.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The etcd to compare with (3.5; 3.4 is four times slower on reads).
    #[arg(long)]
    pub(crate) etcd: PathBuf,
    /// The server to compare with it: this program, or another that takes etcd's flags (after the
    /// word `serve`, unless it is called etcd).
    #[arg(long)]
    pub(crate) glass: Option<PathBuf>,
    /// Requests per operation, instead of a time per operation. Both servers then do the same work,
    /// which a comparison of memory requires.
    #[arg(long)]
    pub(crate) requests: Option<u64>,
    /// Number of turns for each server.
    #[arg(long, default_value_t = 2)]
    pub(crate) rounds: usize,
    #[command(flatten)]
    pub(crate) bed: TestBed,
}

/// One operation on one server in one round, in the order of [`MEASURES`].
type Row = [Option<f64>; MEASURES.len()];

/// Names of the measures, and whether a higher value is better.
const MEASURES: [(&str, bool); 7] = [
    ("requests/s", true),
    ("p50 ms", false),
    ("p99 ms", false),
    ("server CPU us/request", false),
    ("RSS MiB, all members", false),
    ("WAL fsyncs/s, a member", false),
    ("file commits/s, a member", false),
];
/// Operations in the order in which they run: the reads read the keys of the puts.
const OPERATIONS: [&str; 3] = ["put", "get", "serializable get"];

/// Results of one server: rounds, then operations.
#[derive(Default)]
struct Side {
    rounds: Vec<[Row; OPERATIONS.len()]>,
    errors: u64,
}

/// Runs both servers in turn and prints the table; true if no request failed.
pub(crate) async fn run(common: &Common, args: &Args) -> Result<bool, Error> {
    let glass = match &args.glass {
        Some(program) => program.clone(),
        None => env::current_exe()?,
    };
    let dir = args.bed.dir.clone().unwrap_or_else(env::temp_dir);
    let dir = dir.join(format!("glass-bench-{}", std::process::id()));
    let programs = [&args.etcd, &glass];
    let mut sides = [Side::default(), Side::default()];
    for round in 0..args.rounds.max(1) {
        for (side, program) in sides.iter_mut().zip(programs) {
            progress(&format!("round {} of {}: {}", round + 1, args.rounds, program.display()));
            let members = Members::start(program, dir.join("cluster"), args.bed.members).await?;
            turn(common, args, &members, side).await?;
        }
    }
    let file_system = file_system_of(&dir);
    let _ = fs::remove_dir(&dir);
    let text = if common.json {
        format!("{:#}\n", to_json(&sides, programs, file_system.as_deref()))
    } else {
        to_text(&sides, programs, file_system.as_deref())
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(sides.iter().all(|side| side.errors == 0))
}

/// All operations on one fresh cluster.
async fn turn(
    common: &Common,
    args: &Args,
    members: &Members,
    side: &mut Side,
) -> Result<(), Error> {
    let common = Common {
        endpoints: members.endpoints(),
        pids: members.pids(),
        clients: if common.clients == 1 { 256 } else { common.clients },
        conns: if common.conns == 1 { 32 } else { common.conns },
        seconds: args.requests.is_none().then(|| common.seconds.unwrap_or(6.0)),
        warmup: match (args.requests, common.warmup) {
            (None, 0.0) => 1.0,
            (_, warmup) => warmup,
        },
        ..common.clone()
    };
    let mut rows = [Row::default(); OPERATIONS.len()];
    for (row, operation) in rows.iter_mut().zip(OPERATIONS) {
        let before = members.fsyncs().await;
        let report = operate(&common, args, operation).await?;
        let after = members.fsyncs().await;
        side.errors += report.errors.values().sum::<u64>();
        for (error, count) in &report.errors {
            progress(&format!("{operation}: [{count}] {error}"));
        }
        // The counters also cover the warm-up.
        let seconds = report.took.as_secs_f64() + common.warmup;
        *row = measures(&report, &before, &after, seconds);
    }
    side.rounds.push(rows);
    Ok(())
}

async fn operate(common: &Common, args: &Args, operation: &str) -> Result<Report, Error> {
    let (key_size, total, rate) = (8, args.requests.unwrap_or(u64::MAX), 0);
    if operation == "put" {
        let (val_size, key_space_size) = (args.bed.val_size, args.bed.key_space_size);
        let sequential_keys = false;
        let put = put::Args { total, key_size, val_size, key_space_size, sequential_keys, rate };
        return put::run(common, &put).await;
    }
    let consistency = if operation == "get" { Consistency::L } else { Consistency::S };
    let range = range::Args {
        key: None,
        end: None,
        total,
        rate,
        limit: 0,
        consistency,
        key_space_size: Some(args.bed.key_space_size),
        key_size,
    };
    range::run(common, &range).await
}

fn measures(
    report: &Report,
    before: &[[Option<u64>; 2]],
    after: &[[Option<u64>; 2]],
    seconds: f64,
) -> Row {
    let servers = &report.usage.servers;
    let rss: Option<u64> = servers.iter().map(|server| server.rss_kib).sum();
    let a_second = |which: usize| {
        let counts = before.iter().zip(after);
        let each = counts.map(|(before, after)| after[which]?.checked_sub(before[which]?));
        let sum: Option<u64> = each.sum();
        Some(sum? as f64 / before.len().max(1) as f64 / seconds)
    };
    [
        Some(report.per_second()),
        Some(report.latency.percentile(50.0) * 1e3),
        Some(report.latency.percentile(99.0) * 1e3),
        report.server_cpu_us(),
        rss.map(|kib| kib as f64 / 1024.0),
        a_second(0),
        a_second(1),
    ]
}

impl Side {
    /// The median over the rounds; `None` if any round lacks the value.
    fn median(&self, operation: usize, measure: usize) -> Option<f64> {
        let values: Option<Vec<f64>> =
            self.rounds.iter().map(|rows| rows[operation][measure]).collect();
        let mut values = values?;
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            return values.get(middle).copied();
        }
        Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0)
    }
}

fn to_text(sides: &[Side; 2], programs: [&PathBuf; 2], file_system: Option<&str>) -> String {
    let [a, b] = programs.map(|program| program.display().to_string());
    let on = file_system.unwrap_or("an unknown file system");
    let mut text = format!("A: {a}\nB: {b}\ndata on {on}, fsync on; medians of the rounds\n");
    if on == "tmpfs" {
        text.push_str("This is memory: fsync costs nothing here, the figures prove nothing.\n");
    }
    for (at, operation) in OPERATIONS.iter().enumerate() {
        text.push_str(&format!("\n{operation:<26}{:>12}{:>12}{:>9}\n", "A", "B", "B/A"));
        for (measure, (name, _)) in MEASURES.iter().enumerate() {
            let [a, b] = [0, 1].map(|side: usize| sides[side].median(at, measure));
            let show = |value: Option<f64>| value.map_or("n/a".into(), |v| format!("{v:.1}"));
            let ratio = ratio(a, b).map_or("n/a".into(), |ratio| format!("{ratio:.2}"));
            text.push_str(&format!("  {name:<24}{:>12}{:>12}{ratio:>9}\n", show(a), show(b)));
        }
    }
    for (name, side) in ["A", "B"].iter().zip(sides) {
        if side.errors != 0 {
            text.push_str(&format!("\n{name}: {} requests failed\n", side.errors));
        }
    }
    text
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a?, b?);
    (a != 0.0).then_some(b / a)
}

fn to_json(sides: &[Side; 2], programs: [&PathBuf; 2], file_system: Option<&str>) -> Value {
    let operations: Vec<Value> = (OPERATIONS.iter().enumerate())
        .map(|(at, operation)| {
            let measures: Vec<Value> = (MEASURES.iter().enumerate())
                .map(|(measure, (name, more_is_better))| {
                    let [a, b] = [0, 1].map(|side: usize| sides[side].median(at, measure));
                    let ratio = ratio(a, b);
                    json!({"name": name, "more_is_better": more_is_better,
                           "a": a, "b": b, "ratio": ratio})
                })
                .collect();
            json!({"operation": operation, "measures": measures})
        })
        .collect();
    json!({
        "a": programs[0], "b": programs[1], "file_system": file_system,
        "errors": {"a": sides[0].errors, "b": sides[1].errors},
        "operations": operations,
    })
}

/// The type of the file system below `dir`, where the system reports it (Linux).
fn file_system_of(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').skip(1));
    let below = fields.filter_map(|mut fields| Some((fields.next()?, fields.next()?)));
    below
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind.to_owned())
}

fn progress(line: &str) {
    // On standard error, because the report on standard output may be JSON.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(values: &[Option<f64>]) -> Side {
        let rounds = values.iter().map(|value| [[*value; MEASURES.len()]; 3]).collect();
        Side { rounds, errors: 0 }
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_two() {
        assert_eq!(side(&[Some(9.0), Some(1.0), Some(2.0)]).median(0, 0), Some(2.0));
        assert_eq!(side(&[Some(1.0), Some(2.0)]).median(0, 0), Some(1.5));
        assert_eq!(side(&[Some(1.0), None]).median(0, 0), None);
        assert_eq!(side(&[]).median(0, 0), None);
    }

    #[test]
    fn the_table_shows_unknown_figures() {
        let sides = [side(&[Some(10.0)]), side(&[None])];
        let path = PathBuf::from("etcd");
        let text = to_text(&sides, [&path, &path], Some("ext4"));
        assert!(text.contains("10.0         n/a      n/a"), "{text}");
    }
}
