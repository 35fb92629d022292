//! `glass utl`: what is done to files while no member uses them (etcd: etcdutl).
//!
//! ```text
//!   etcdctl snapshot save F ─▶ F ─▶ utl snapshot status
//!                              ├──▶ utl snapshot restore ─▶ data directories of a new cluster
//!   data directory/member/snap/db ─▶ utl hashkv
//!   data directory ─▶ utl defrag, utl drop-database
//! ```
//!
//! Flags, outputs and texts are those of etcdutl 3.5; `--bump-revision`, `--mark-compacted` and
//! `hashkv` are from 3.6. etcdutl cannot read these files, and `glass utl` cannot read etcd's.
//!
//! Stricter than etcdutl: `snapshot status` compares the hash behind the database, and `defrag` the
//! checksums of all pages, before it copies them.
//!
//! `drop-database` is of this program only: etcd has no way to heal a member in its place.
//!
//! Left out: `backup`, `migrate`.

use std::{
    error::Error,
    fmt::Write as _,
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
};

use glass_etcd::{
    config::{self, Asked, ServerConfig},
    member::{
        heal,
        restore::{self, Contents, KeyHash, Restore, Status, with_causes},
    },
};

use crate::fail;

/// The command line of `glass utl`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Restore saved snapshots, and say what is in them
    Snapshot {
        #[command(subcommand)]
        command: Snapshot,
    },
    /// Hash the keys in a database file or a saved snapshot, as members do
    Hashkv {
        /// The file; no member may use it
        file: PathBuf,
        /// The revision up to which the keys are hashed. 0 is the newest
        #[arg(long, default_value_t = 0)]
        rev: i64,
        /// The form of the output
        #[arg(short = 'w', long = "write-out", default_value = "simple")]
        form: Form,
    },
    /// Give the room of free pages in a database file back to the disk
    Defrag {
        /// The data directory; no member may use it
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// Put a damaged database aside, if the log or another member makes it anew at the next start
    DropDatabase {
        /// The data directory; no member may use it
        #[arg(long)]
        data_dir: PathBuf,
        /// The directory of the log, if it is not in the data directory
        #[arg(long)]
        wal_dir: Option<PathBuf>,
        /// Peer URLs of other members, with commas between them
        #[arg(long, value_delimiter = ',')]
        peer_urls: Vec<String>,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Snapshot {
    /// Say what a saved snapshot contains: hash, revision, number of rows, size
    Status {
        /// The saved file
        file: PathBuf,
        /// The form of the output
        #[arg(short = 'w', long = "write-out", default_value = "simple")]
        form: Form,
    },
    /// Make a data directory of a saved snapshot, for a member of a new cluster
    Restore(RestoreArgs),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Form {
    /// One line, with commas
    Simple,
    /// One object
    Json,
    /// A table
    Table,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    /// The saved file
    file: PathBuf,
    /// The data directory that is made; it may exist if it is empty. '' is NAME.etcd
    #[arg(long)]
    data_dir: String,
    /// A directory of its own for the log; it may not exist
    #[arg(long)]
    wal_dir: Option<String>,
    /// The name of this member
    #[arg(long, default_value = "default")]
    name: String,
    /// The members of the new cluster, by name and peer URL
    #[arg(long, default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// The token of the new cluster, from which its ids are made
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// The peer URLs of this member
    #[arg(long, default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// Accept a file without a hash, such as one copied from a data directory
    #[arg(long)]
    skip_hash_check: bool,
    /// By how much the revision rises, so that it is later than any that a client has seen
    #[arg(long, default_value_t = 0, requires = "mark_compacted")]
    bump_revision: u64,
    /// Count all revisions up to the raised one as compacted, so that watchers notice
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> ExitCode {
    let report = panic::take_hook();
    // redb panics at damaged pages, of which the error tells in one line.
    panic::set_hook(Box::new(move |panic| {
        if !restore::is_caught(panic) {
            report(panic);
        }
    }));
    let done = match &args.command {
        Command::Snapshot { command: Snapshot::Status { file, form } } => status(file, *form),
        Command::Snapshot { command: Snapshot::Restore(args) } => restore(args),
        Command::Hashkv { file, rev, form } => hash_kv(file, *rev, *form),
        Command::Defrag { data_dir } => defragment(data_dir),
        Command::DropDatabase { data_dir, wal_dir, peer_urls } => drop_database(&heal::Request {
            data_dir: data_dir.clone(),
            wal_dir: wal_dir.clone(),
            peer_urls: peer_urls.clone(),
        }),
    };
    match done {
        Ok(text) => crate::print(&text),
        Err(error) => fail(&error),
    }
}

fn status(file: &Path, form: Form) -> Result<String, String> {
    let status = restore::status(file).map_err(told)?;
    Ok(in_form(&status, form))
}

fn hash_kv(file: &Path, revision: i64, form: Form) -> Result<String, String> {
    let found = restore::hash_kv(file, revision).map_err(told)?;
    Ok(hash_in_form(&found, form))
}

fn hash_in_form(found: &KeyHash, form: Form) -> String {
    let KeyHash { hash, revision, compacted } = found;
    let cells = [hash.to_string(), revision.to_string(), compacted.to_string()];
    match form {
        Form::Simple => format!("{}\n", cells.join(", ")),
        Form::Json => format!(
            "{{\"hash\":{hash},\"hashRevision\":{revision},\"compactRevision\":{compacted}}}\n"
        ),
        Form::Table => table(["hash", "hash revision", "compact revision"], &cells),
    }
}

/// An error with its causes, in one line.
fn told(error: impl Error) -> String {
    with_causes(&error)
}

fn in_form(status: &Status, form: Form) -> String {
    let Status { contents: Contents { hash, rows, revision }, size } = status;
    let cells = [format!("{hash:x}"), revision.to_string(), rows.to_string(), human(*size)];
    match form {
        Form::Simple => format!("{}\n", cells.join(", ")),
        Form::Json => format!(
            "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{rows},\"totalSize\":{size}}}\n"
        ),
        Form::Table => table(["hash", "revision", "total keys", "total size"], &cells),
    }
}

/// A table of one row, as etcdutl draws it.
fn table<const N: usize>(heads: [&str; N], cells: &[String; N]) -> String {
    let widths: Vec<usize> =
        heads.iter().zip(cells).map(|(head, cell)| head.len().max(cell.len())).collect();
    let line: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    let mut text = format!("{line}+\n");
    for (head, width) in heads.iter().zip(&widths) {
        let _ = write!(text, "| {:^width$} ", head.to_uppercase());
    }
    let _ = write!(text, "|\n{line}+\n");
    for (cell, width) in cells.iter().zip(&widths) {
        let _ = write!(text, "| {cell:>width$} ");
    }
    let _ = write!(text, "|\n{line}+\n");
    text
}

/// A number of bytes for people, in powers of a thousand, as etcd's tools write it.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut unit, mut divisor) = (0, 1_u64);
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        (unit, divisor) = (unit + 1, divisor * 1000);
    }
    // Rounded to one decimal, which is shown below ten; from ten on, that decimal is rounded once
    // more, and a five to the even number, as Go's %.0f does.
    let tenths = (u128::from(bytes) * 10 + u128::from(divisor) / 2) / u128::from(divisor);
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        let (whole, rest) = (tenths / 10, tenths % 10);
        let up = 5 < rest || (rest == 5 && whole % 2 == 1);
        format!("{} {}", whole + u128::from(up), UNITS[unit])
    }
}

fn restore(args: &RestoreArgs) -> Result<String, String> {
    let config = member(args)?;
    let what = Restore { skip_hash_check: args.skip_hash_check, bump_revision: args.bump_revision };
    restore::restore(&config, &args.file, what).map_err(told)?;
    Ok(format!("restored {} into {}\n", args.file.display(), config.data_dir.display()))
}

/// The member for which the directory is, checked as at its start.
fn member(args: &RestoreArgs) -> Result<ServerConfig, String> {
    let mut words = vec![
        format!("--name={}", args.name),
        format!("--data-dir={}", args.data_dir),
        format!("--initial-cluster={}", args.initial_cluster),
        format!("--initial-cluster-token={}", args.initial_cluster_token),
        format!("--initial-advertise-peer-urls={}", args.initial_advertise_peer_urls),
    ];
    words.extend(args.wal_dir.iter().map(|dir| format!("--wal-dir={dir}")));
    match config::parse(&words, &[]) {
        Ok(Asked::Start(parsed)) => Ok(parsed.config),
        Ok(_) => Err("a member cannot start with these flags".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn defragment(data_dir: &Path) -> Result<String, String> {
    let done = restore::defragment(data_dir).map_err(|error| {
        let (data_dir, why) = (data_dir.display(), told(error));
        format!("Failed to defragment etcd data[{data_dir}] ({why})")
    })?;
    let [before, after] = [done.before, done.after].map(human);
    Ok(format!("Finished defragmenting {}: {before} before, {after} now\n", data_dir.display()))
}

fn drop_database(request: &heal::Request) -> Result<String, String> {
    let heal::Dropped { aside, source } = heal::drop_database(request).map_err(|it| it.report())?;
    let source = match source {
        heal::Source::Log(last) => format!("the log makes it anew, which has entries 1 to {last}"),
        heal::Source::Member(url) => format!("the member at {url} gives it a new one"),
    };
    let aside = aside.display();
    Ok(format!("The database is {aside} now. Start the member: {source}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_by_etcds_tools() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (9_950, "10 kB"),
            (1_250_000, "1.3 MB"),
            (5_000_000_000, "5.0 GB"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn a_status_has_etcds_forms() {
        let contents = Contents { hash: 0xab_cdef, revision: 7, rows: 12 };
        let status = Status { contents, size: 20_480 };
        assert_eq!(in_form(&status, Form::Simple), "abcdef, 7, 12, 20 kB\n");
        let json = "{\"hash\":11259375,\"revision\":7,\"totalKey\":12,\"totalSize\":20480}\n";
        assert_eq!(in_form(&status, Form::Json), json);
        let table = "\
+--------+----------+------------+------------+
|  HASH  | REVISION | TOTAL KEYS | TOTAL SIZE |
+--------+----------+------------+------------+
| abcdef |        7 |         12 |      20 kB |
+--------+----------+------------+------------+
";
        assert_eq!(in_form(&status, Form::Table), table);
    }

    #[test]
    fn a_hash_of_keys_has_etcds_forms() {
        let found = KeyHash { hash: 1_084_519_789, revision: 19, compacted: -1 };
        assert_eq!(hash_in_form(&found, Form::Simple), "1084519789, 19, -1\n");
        let json = "{\"hash\":1084519789,\"hashRevision\":19,\"compactRevision\":-1}\n";
        assert_eq!(hash_in_form(&found, Form::Json), json);
        let table = "\
+------------+---------------+------------------+
|    HASH    | HASH REVISION | COMPACT REVISION |
+------------+---------------+------------------+
| 1084519789 |            19 |               -1 |
+------------+---------------+------------------+
";
        assert_eq!(hash_in_form(&found, Form::Table), table);
    }
}
