//! `glass bench compare-watchers`: what idle watchers cost those who put.
//!
//! Pairs of runs on one cluster: puts without watchers, and puts with thousands of watchers on
//! other keys. Which of the two comes first changes from pair to pair, as the machine and the
//! database are not the same later on; the ratio within a pair is the figure.

use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
};

use glass_etcd::pb::etcdserverpb::WatchCreateRequest;
use serde_json::json;

use super::{Common, Error, members::Members, put, watch};

/// Flags of `compare-watchers`. `--clients`, `--conns`, `--seconds` and `--warmup` have defaults of
/// their own here: 256, 32, 6 and 1.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The server: this program, or another that takes etcd's flags.
    #[arg(long)]
    pub(crate) program: Option<PathBuf>,
    /// Idle watchers, each on a key of its own, spread over all members.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) watchers: usize,
    /// Streams that they share.
    #[arg(long, default_value_t = 30)]
    pub(crate) streams: usize,
    /// Pairs of runs.
    #[arg(long, default_value_t = 5)]
    pub(crate) pairs: usize,
    /// Members of the cluster.
    #[arg(long, default_value_t = 3)]
    pub(crate) members: usize,
    /// Where the data goes; it must be a disk.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Number of different keys.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) key_space_size: u64,
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
    let dir = args.dir.clone().unwrap_or_else(env::temp_dir);
    let dir = dir.join(format!("glass-bench-{}", std::process::id()));
    let members = Members::start(&program, dir.join("cluster"), args.members).await?;
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
        let mut rates = [0.0; 2];
        // Without, with; then with, without.
        for which in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            let watched = which == 1;
            let (rate, failed) = one(&common, args, watched).await?;
            (rates[which], errors) = (rate, errors + failed);
        }
        pairs.push(rates);
    }
    drop(members);
    let _ = fs::remove_dir(&dir);
    let text = report(args, &pairs, errors, common.json);
    io::stdout().write_all(text.as_bytes())?;
    Ok(errors == 0)
}

/// One run: puts a second, and how many failed.
async fn one(common: &Common, args: &Args, watched: bool) -> Result<(f64, u64), Error> {
    let of_stream = |stream: usize| -> Vec<WatchCreateRequest> {
        let numbers = (0..args.watchers).filter(|number| number % args.streams == stream);
        let idle = |number| WatchCreateRequest {
            key: format!("idle/{number:08}").into(),
            ..Default::default()
        };
        numbers.map(idle).collect()
    };
    let asked = if watched { (0..args.streams).map(of_stream).collect() } else { Vec::new() };
    // They end with this function.
    let (_streams, _) = watch::open(&common.endpoints, asked).await?;
    let put = put::Args {
        total: u64::MAX,
        key_size: 8,
        val_size: args.val_size,
        key_space_size: args.key_space_size,
        sequential_keys: false,
        rate: 0,
    };
    let report = put::run(common, &put).await?;
    Ok((report.per_second(), report.errors.values().sum()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

fn report(args: &Args, pairs: &[[f64; 2]], errors: u64, as_json: bool) -> String {
    let ratios: Vec<f64> =
        pairs.iter().map(|[without, with]| with / without.max(f64::MIN_POSITIVE)).collect();
    let middle = median(ratios.clone());
    if as_json {
        let pairs: Vec<_> = (pairs.iter().zip(&ratios))
            .map(|([without, with], ratio)| json!({"without": without, "with": with, "ratio": ratio}))
            .collect();
        let all = json!({"watchers": args.watchers, "streams": args.streams, "pairs": pairs,
                         "median_ratio": middle, "errors": errors});
        return format!("{all:#}\n");
    }
    let mut text = format!("puts a second, without and with {} idle watchers\n", args.watchers);
    for ([without, with], ratio) in pairs.iter().zip(&ratios) {
        text.push_str(&format!("{without:>12.0}{with:>12.0}{ratio:>9.3}\n"));
    }
    text.push_str(&format!("median ratio {middle:.3}\n"));
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
        let args = Args {
            program: None,
            watchers: 10,
            streams: 1,
            pairs: 3,
            members: 3,
            dir: None,
            val_size: 1,
            key_space_size: 1,
        };
        let text = report(&args, &[[100.0, 90.0], [10.0, 10.0], [50.0, 10.0]], 0, false);
        assert!(text.contains("        100          90    0.900\n"), "{text}");
        assert!(text.ends_with("median ratio 0.900\n"), "{text}");
    }
}
