//! Real members for `glass bench compare`: started on loopback, killed when dropped.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{RangeRequest, kv_client::KvClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};
use tonic::transport::Endpoint;

use super::Error;

/// Size of a comparison's clusters, and of the data put into them.
#[derive(clap::Args, Clone)]
pub(crate) struct TestBed {
    /// Number of members of each cluster.
    #[arg(long, default_value_t = 3)]
    pub(crate) members: usize,
    /// Directory for the data; it must be on a disk.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    pub(crate) val_size: usize,
    /// Number of different keys.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) key_space_size: u64,
}

/// How long a cluster may take until every member answers a linearizable read.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// etcd's counters of fsyncs: the WAL's, and the file's (each commit of bbolt syncs twice).
const FSYNC_METRICS: [&str; 2] = [
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_count",
];

/// A cluster of one program; everything it writes is in one directory.
pub(crate) struct Members {
    program: PathBuf,
    dir: PathBuf,
    members: Vec<Member>,
    /// Whether every member has served a read.
    ready: bool,
}

struct Member {
    process: Child,
    client: String,
    log: PathBuf,
}

impl Members {
    /// Starts `size` members of `program` with data below `dir`, and waits until all serve.
    pub(crate) async fn start(program: &Path, dir: PathBuf, size: usize) -> Result<Self, Error> {
        fs::create_dir_all(&dir)?;
        let ports = free_ports(size * 2)?;
        let peers: Vec<String> =
            ports[size..].iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let cluster: Vec<String> =
            peers.iter().enumerate().map(|(at, peer)| format!("m{at}={peer}")).collect();
        let mut cluster_of =
            Self { program: program.to_owned(), dir, members: Vec::new(), ready: false };
        for (at, peer) in peers.iter().enumerate() {
            let client = format!("127.0.0.1:{}", ports[at]);
            let flags = [
                ("--name", format!("m{at}")),
                ("--data-dir", cluster_of.dir.join(format!("m{at}")).display().to_string()),
                ("--listen-client-urls", format!("http://{client}")),
                ("--advertise-client-urls", format!("http://{client}")),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer.clone()),
                ("--initial-cluster", cluster.join(",")),
                ("--initial-cluster-state", "new".to_owned()),
                ("--log-level", "warn".to_owned()),
            ];
            cluster_of.spawn(at, client, &flags)?;
        }
        let deadline = clock::now() + READY_WITHIN;
        for at in 0..size {
            cluster_of.wait_for(at, deadline).await?;
        }
        cluster_of.ready = true;
        Ok(cluster_of)
    }

    fn spawn(&mut self, at: usize, client: String, flags: &[(&str, String)]) -> Result<(), Error> {
        let log = self.dir.join(format!("m{at}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(&self.program);
        // A program called `etcd` takes etcd's flags directly; ours has a subcommand for them.
        if self.program.file_stem() != Some(OsStr::new("etcd")) {
            command.arg("serve");
        }
        flags.iter().for_each(|(name, value)| _ = command.arg(name).arg(value));
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| self.problem(error.to_string(), &log))?;
        self.members.push(Member { process, client, log });
        Ok(())
    }

    async fn wait_for(&mut self, at: usize, deadline: Instant) -> Result<(), Error> {
        loop {
            let member = &mut self.members[at];
            if read_once(&member.client).await {
                return Ok(());
            }
            let exit = member.process.try_wait()?;
            let log = member.log.clone();
            if let Some(exit) = exit {
                return Err(self.problem(format!("ended with {exit}"), &log));
            }
            if deadline <= clock::now() {
                return Err(self.problem("does not become ready".to_owned(), &log));
            }
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn problem(&self, detail: String, log: &Path) -> Error {
        Error::Member {
            program: self.program.display().to_string(),
            detail,
            log: log.display().to_string(),
        }
    }

    /// Where clients connect, as `host:port`.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.process.id()).collect()
    }

    /// Fsyncs of each member so far, WAL and file, from its `/metrics`; `None` for a member that
    /// does not serve them.
    pub(crate) async fn fsyncs(&self) -> Vec<[Option<u64>; 2]> {
        let mut counts = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let metrics = http_get(&member.client, "/metrics").await.unwrap_or_default();
            counts.push(FSYNC_METRICS.map(|name| metric(&metrics, name)));
        }
        counts
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            // If the kill fails, nothing more can be done.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
        // A benchmark's data is of no use afterwards; the log of a member that failed to start is.
        if self.ready {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Distinct free ports: all are held until the last is known.
fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    let held: Result<Vec<TcpListener>, _> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let ports: Result<Vec<u16>, _> =
        held?.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
    ports
}

/// True if a linearizable read succeeds, so there is a leader that the member can reach.
async fn read_once(client: &str) -> bool {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{client}")) else { return false };
    let endpoint = endpoint.timeout(Duration::from_secs(2));
    let Ok(channel) = endpoint.connect().await else { return false };
    let request = RangeRequest { key: "ready".into(), ..Default::default() };
    KvClient::new(channel).range(request).await.is_ok()
}

/// The body of a GET, without a client library: the server closes the connection after it.
async fn http_get(authority: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn metric(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.trim().parse::<f64>().ok()? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE a_count counter\na_count_more 7\na_count 1.2e+03\n";
        assert_eq!(metric(text, "a_count"), Some(1200));
        assert_eq!(metric(text, "a"), None);
    }
}
