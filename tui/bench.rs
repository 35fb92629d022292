//! `glass bench`: puts load on any etcd, and measures what it cost.
//!
//! The commands and flags are those of etcd's `benchmark` tool, so figures can be compared. The
//! client differs. An ordinary gRPC client spends more CPU on a request than a good server does,
//! and on one machine it takes that CPU from the server: the figure then shows the client. This
//! client sends frames prepared in advance and reads only the status of the answer.
//!
//! ```text
//!   put, range ──frame(n)──▶ load ── clients ──▶ lean ── conns ──▶ server
//!                             │                                      │
//!                           stats ◀── latency, status       proc ── CPU, RSS
//!   watch, watch-latency: watchers through tonic, puts as above
//! ```
//!
//! Everything runs on one thread. A client is a task that sends its next request once the previous
//! one is answered (a closed loop, as in etcd's tool), so latency under overload is that of the
//! queue; `--rate` keeps the load below that. Left out: TLS and auth, because they measure
//! something else, and the tool's other commands.

mod compare;
mod compare_watchers;
mod lean;
mod load;
mod members;
mod proc;
mod put;
mod range;
mod stats;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use glass_etcd::{member::descriptors, trace::id};

/// The command line after `glass bench`.
#[derive(Parser)]
#[command(name = "glass bench", about = "Puts load on any etcd and reports what it cost")]
struct Bench {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Flags that all commands share; etcd's tool accepts them before or after the command.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Members to send to; connections are assigned in turn.
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        default_value = "127.0.0.1:2379,127.0.0.1:2479,127.0.0.1:2579"
    )]
    pub(crate) endpoints: Vec<String>,
    /// Clients, each with one request in flight.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) clients: usize,
    /// TCP connections that the clients share.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) conns: usize,
    /// Send to the leader only.
    #[arg(long, global = true)]
    pub(crate) target_leader: bool,
    /// Print figures with all their digits.
    #[arg(long, global = true)]
    pub(crate) precise: bool,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Process ids of the servers, to report their CPU per request and memory (Linux).
    #[arg(long, global = true, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Run for this long instead of for --total requests.
    #[arg(long, global = true)]
    pub(crate) seconds: Option<f64>,
    /// Seconds of load before measuring starts.
    #[arg(long, global = true, default_value_t = 0.0)]
    pub(crate) warmup: f64,
}

#[derive(Subcommand)]
enum Command {
    /// Writes keys, in order or at random.
    Put(put::Args),
    /// Reads a key or a range.
    Range(range::Args),
    /// Starts etcd and glass in turn, three members each, and prints the ratios.
    Compare(compare::Args),
    /// Creates watchers, puts to their keys, and waits for the events.
    Watch(watch::Args),
    /// Measures the time from a put to its events, at a steady rate.
    WatchLatency(watch::LatencyArgs),
    /// Runs puts with and without idle watchers, in turn, on a cluster of its own.
    CompareWatchers(compare_watchers::Args),
}

/// Why a run failed to start or to finish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Flags that contradict each other.
    #[error("{0}")]
    Flags(&'static str),
    /// No connection to a member.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// As given on the command line.
        endpoint: String,
        source: io::Error,
    },
    /// HTTP/2 could not be negotiated.
    #[error("{endpoint} does not speak HTTP/2: {source}")]
    Handshake {
        /// As given on the command line.
        endpoint: String,
        source: h2::Error,
    },
    /// A status query beside the load (to find the leader) failed.
    #[error("{endpoint} gave no status: {detail}")]
    Status {
        /// As given on the command line.
        endpoint: String,
        /// gRPC code and message.
        detail: String,
    },
    /// A watcher could not be created.
    #[error("{endpoint} cannot create a watcher: {detail}")]
    Watch {
        /// As given on the command line.
        endpoint: String,
        /// gRPC code and message.
        detail: String,
    },
    /// No endpoint reports itself as the leader.
    #[error("no endpoint is the leader")]
    NoLeader,
    /// A member for `compare` did not become ready.
    #[error("{program}: {detail}; its log is {log}")]
    Member {
        /// Path of the executable.
        program: String,
        detail: String,
        /// Path of the file with its output.
        log: String,
    },
    /// An error from the file system or from starting a process.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs `glass bench` with the arguments after these two words, and returns the process's exit
/// code: 0 if any request succeeded, 1 if none did, 2 for an invalid command line.
pub(crate) fn run(args: Vec<String>) -> ExitCode {
    let words = std::iter::once("glass bench".to_owned()).chain(args);
    let bench = match Bench::try_parse_from(words) {
        Ok(bench) => bench,
        Err(error) => {
            // Clap returns help and version as errors, but for the shell they are none.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // `--conns` may be more than the usual soft limit.
    descriptors::raise();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, dispatch(bench)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

/// Runs one command; true if any request succeeded.
async fn dispatch(bench: Bench) -> Result<bool, Error> {
    let common = &bench.common;
    let report = match &bench.command {
        Command::Put(args) => put::run(common, args).await?,
        Command::Range(args) => range::run(common, args).await?,
        Command::Compare(args) => return compare::run(common, args).await,
        Command::Watch(args) => return watch::run(common, args).await,
        Command::WatchLatency(args) => return watch::run(common, &args.into()).await,
        Command::CompareWatchers(args) => return compare_watchers::run(common, args).await,
    };
    let text = if common.json {
        format!("{:#}\n", report.to_json())
    } else {
        report.to_text(common.precise)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(0 < report.latency.count())
}

fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "glass bench: {error}");
    ExitCode::FAILURE
}

/// The same sequence of numbers in every run, because loads that differ between runs cannot be
/// compared. (SplitMix64, over a counter.)
pub(crate) fn scramble(n: u64) -> u64 {
    id::hash(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Checks that `key_size` decimal digits can name every key of the space.
pub(crate) fn check_key_space(key_size: usize, space: u64) -> Result<(), Error> {
    if space == 0 || key_size == 0 {
        return Err(Error::Flags("--key-size and --key-space-size must be at least 1"));
    }
    if key_size < (space - 1).to_string().len() {
        return Err(Error::Flags("--key-size has too few digits for --key-space-size"));
    }
    Ok(())
}

/// Writes `number` into `key` in decimal, with zeros in front.
pub(crate) fn write_key(key: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decimal_and_fill_their_size() {
        let mut key = [b'x'; 8];
        write_key(&mut key, 4_2017);
        assert_eq!(&key, b"00042017");
        assert!(check_key_space(5, 100_000).is_ok());
        assert!(check_key_space(4, 100_000).is_err());
        assert!(check_key_space(8, 0).is_err());
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for words in [
            ["bench", "--clients", "7", "put", "--total", "3"],
            ["bench", "put", "--total", "3", "--clients", "7"],
        ] {
            let bench = Bench::try_parse_from(words).unwrap();
            assert_eq!(bench.common.clients, 7);
        }
    }
}
