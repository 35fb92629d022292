//! `glass bench range`: reads of one key, of a range, or of random keys.

use bytes::Bytes;
use clap::ValueEnum;
use glass_etcd::pb::etcdserverpb::RangeRequest;

use super::{Common, Error, check_key_space, lean, load, scramble, stats::Report, write_key};

/// The flags of `glass bench range`, after etcd's `benchmark range`.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The key, or the start of the range.
    #[arg(required_unless_present = "key_space_size")]
    pub(crate) key: Option<String>,
    /// The end of the range, exclusive.
    pub(crate) end: Option<String>,
    /// Number of ranges, all clients together.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) total: u64,
    /// Reads per second at most; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// Keys per answer at most; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) limit: i64,
    /// Linearizable (l) or serializable (s).
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    pub(crate) consistency: Consistency,
    /// Instead of KEY: read, at random, the keys that `put` writes with the same flags.
    #[arg(long, conflicts_with_all = ["key", "end"])]
    pub(crate) key_space_size: Option<u64>,
    /// Bytes of such a key.
    #[arg(long, default_value_t = 8)]
    pub(crate) key_size: usize,
}

/// How reads are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consistency {
    /// Linearizable: confirmed by a quorum.
    L,
    /// Serializable: from the member's own state.
    S,
}

/// Sends the reads and measures each from its request to its answer.
pub(crate) async fn run(common: &Common, args: &Args) -> Result<Report, Error> {
    let kind = match args.consistency {
        Consistency::L => "linearizable",
        Consistency::S => "serializable",
    };
    let plan = load::Plan {
        path: "/etcdserverpb.KV/Range",
        title: format!("{kind} range"),
        total: args.total,
        rate: args.rate,
    };
    let Some(space) = args.key_space_size else {
        let frame = lean::frame(&request(args, args.key.clone().unwrap_or_default().into()));
        let frame = frame.freeze();
        return load::drive(common, &plan, move |_| frame.clone()).await;
    };
    check_key_space(args.key_size, space)?;
    let args = args.clone();
    let frame = move |number| {
        let mut key = vec![0; args.key_size];
        write_key(&mut key, scramble(number) % space);
        lean::frame(&request(&args, key.into())).freeze()
    };
    load::drive(common, &plan, frame).await
}

fn request(args: &Args, key: Bytes) -> RangeRequest {
    RangeRequest {
        key,
        range_end: args.end.clone().unwrap_or_default().into(),
        limit: args.limit,
        serializable: args.consistency == Consistency::S,
        ..Default::default()
    }
}
