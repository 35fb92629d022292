//! `glass bench compare-watchers`: how much idle watchers slow down puts.
//!
//! Pairs of runs on one cluster: puts without watchers, and puts with thousands of watchers on
//! other keys. The order alternates from pair to pair, because the machine and the database change
//! over time; the figure is the ratio within a pair.

use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
};

use glass_etcd::pb::etcdserverpb::WatchCreateRequest;
use serde_json::json;

use super::{
    Common, Error,
    members::{Members, TestBed},
    put, watch,
};

/// Flags of `compare-watchers`. `--clients`, `--conns`, `--seconds` and `--warmup` have other
/// defaults here: 256, 32, 6 and 1.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The server: this program, or another that takes etcd's flags.
    #[arg(long)]
    pub(crate) program: Option<PathBuf>,
    /// Idle watchers, each on a key of its own, spread over all members.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) watchers: usize,
    /// Watch streams that they share.
    #[arg(long, default_value_t = 30)]
    pub(crate) streams: usize,
    /// Pairs of runs, one of each kind.
    #[arg(long, default_value_t = 5)]
    pub(crate) pairs: usize,
    #[command(flatten)]
    pub(crate) bed: TestBed,
}

/// Runs all pairs and prints them; true if no request failed.
pub(crate) async fn run(common: &Common, args: &Args) -> Result<bool, Error> {
    if args.watchers < args.streams || args.streams == 0 || args.pairs == 0 {
        return Err(Error::Flags("--streams and --pairs must be at least 1, --watchers --streams"));
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => env::current_exe()?,
    };
    let dir = args.bed.dir.clone().unwrap_or_else(env::temp_dir);
    let dir = dir.join(format!("glass-bench-{}", std::process::id()));
    let members = Members::start(&program, dir.join("cluster"), args.bed.members).await?;
    let common = Common {
        endpoints: members.endpoints(),
        pids: members.pids(),
        clients: if common.clients == 1 { 256 } else { common.clients },
        conns: if common.conns == 1 { 32 } else { common.conns },
        seconds: Some(common.seconds.unwrap_or(6.0)),
        warmup: if common.warmup == 0.0 { 1.0 } else { common.warmup },
        ..common.clone()
    };
    let (mut pairs, mut errors) = (Vec::new(), 0);
    for pair in 0..args.pairs {
        let mut runs = [Run::default(); 2];
        // Without, then with; in every other pair the reverse.
        for which in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            let watched = which == 1;
            let (run, failed) = one(&common, args, watched).await?;
            (runs[which], errors) = (run, errors + failed);
        }
        pairs.push(runs);
    }
    drop(members);
    let _ = fs::remove_dir(&dir);
    let text = report(args, &pairs, errors, common.json);
    io::stdout().write_all(text.as_bytes())?;
    Ok(errors == 0)
}

/// The result of one run.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Acknowledged puts per second.
    rate: f64,
    /// CPU of all members per put, in microseconds; 0 if unknown.
    cpu_us: f64,
}

impl Run {
    /// Rate and CPU with watchers, divided by those without.
    fn ratios([without, with]: &[Run; 2]) -> [f64; 2] {
        let ratio = |a: f64, b: f64| b / a.max(f64::MIN_POSITIVE);
        [ratio(without.rate, with.rate), ratio(without.cpu_us, with.cpu_us)]
    }
}

/// One run, and how many of its puts failed.
async fn one(common: &Common, args: &Args, watched: bool) -> Result<(Run, u64), Error> {
    let of_stream = |stream: usize| -> Vec<WatchCreateRequest> {
        let numbers = (0..args.watchers).filter(|number| number % args.streams == stream);
        let idle = |number| WatchCreateRequest {
            key: format!("idle/{number:08}").into(),
            ..Default::default()
        };
        numbers.map(idle).collect()
    };
    let asked = if watched { (0..args.streams).map(of_stream).collect() } else { Vec::new() };
    // The watchers end when this function drops their streams.
    let (_streams, _) = watch::open(&common.endpoints, asked).await?;
    let put = put::Args {
        total: u64::MAX,
        key_size: 8,
        val_size: args.bed.val_size,
        key_space_size: args.bed.key_space_size,
        sequential_keys: false,
        rate: 0,
    };
    let report = put::run(common, &put).await?;
    let cpu_us = report.server_cpu_us().unwrap_or_default();
    Ok((Run { rate: report.per_second(), cpu_us }, report.errors.values().sum()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn report(args: &Args, pairs: &[[Run; 2]], errors: u64, as_json: bool) -> String {
    let ratios: Vec<[f64; 2]> = pairs.iter().map(Run::ratios).collect();
    let [rate, cpu] = [0, 1].map(|which| median(ratios.iter().map(|both| both[which]).collect()));
    if as_json {
        let run = |run: &Run| json!({"puts_per_second": run.rate, "server_cpu_us": run.cpu_us});
        let pair = |([without, with], [rate, cpu]): (&[Run; 2], &[f64; 2])| json!({"without": run(without), "with": run(with), "ratio": rate, "cpu_ratio": cpu});
        let pairs: Vec<_> = pairs.iter().zip(&ratios).map(pair).collect();
        let all = json!({"watchers": args.watchers, "streams": args.streams, "pairs": pairs,
                         "median_ratio": rate, "median_cpu_ratio": cpu, "errors": errors});
        return format!("{all:#}\n");
    }
    let mut text = format!(
        "without and with {} idle watchers\n{:^31}  {:^31}\n",
        args.watchers, "puts a second", "server CPU, us a put"
    );
    for ([without, with], [rate, cpu]) in pairs.iter().zip(&ratios) {
        let cells = |a: f64, b: f64, ratio: f64| format!("{a:>11.0}{b:>11.0}{ratio:>9.3}");
        let rates = cells(without.rate, with.rate, *rate);
        text.push_str(&format!("{rates}  {}\n", cells(without.cpu_us, with.cpu_us, *cpu)));
    }
    text.push_str(&format!("{:<22}{rate:>9.3}  {:22}{cpu:>9.3}\n", "median ratio", ""));
    if errors != 0 {
        text.push_str(&format!("{errors} puts failed\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_within_each_pair() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![2.0, 1.0]), 1.5);
        let bed = TestBed { members: 3, dir: None, val_size: 1, key_space_size: 1 };
        let args = Args { program: None, watchers: 10, streams: 1, pairs: 3, bed };
        let pair = |rates: [f64; 2]| rates.map(|rate| Run { rate, cpu_us: 1000.0 / rate });
        let pairs = [[100.0, 80.0], [10.0, 10.0], [50.0, 10.0]].map(pair);
        let text = report(&args, &pairs, 0, false);
        assert!(
            text.contains("        100         80    0.800           10         12    1.250\n"),
            "{text}"
        );
        assert!(
            text.ends_with("median ratio              0.800                            1.250\n"),
            "{text}"
        );
    }
}
