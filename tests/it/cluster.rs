//! Members as child processes, in a temporary directory, on loopback.
//!
//! A [`Cluster`] keeps the names, ports and data directories of its members through kills and
//! restarts. All waiting is polling with a deadline. When a test fails, the end of each member's
//! log is printed; when it ends, all processes are killed.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use glass_etcd::{clock, pb::etcdserverpb::MemberListRequest};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    client::{Client, eventually},
    ports,
    programs::Kind,
    proxy::Wires,
};

/// From the start of the processes until each member serves linearizable reads.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(40);
/// How often a cluster is started with new ports after a port clash.
const ATTEMPTS: usize = 5;
/// Lines of each log that a failed test prints.
const LOG_LINES: usize = 40;

/// One member, running or not.
pub(crate) struct Member {
    /// `--name`.
    pub(crate) name: String,
    /// Port for clients.
    pub(crate) client_port: u16,
    /// Port for members.
    pub(crate) peer_port: u16,
    /// The port that the others dial, if the wire can be cut.
    pub(crate) wire_port: Option<u16>,
    /// The program that it runs.
    pub(crate) kind: Kind,
    /// `--data-dir`.
    pub(crate) data_dir: PathBuf,
    /// `--initial-cluster` of a member that joins a running cluster.
    pub(crate) joins: Option<String>,
    /// Flags beside those that each member gets.
    pub(crate) extra: Vec<String>,
    /// Environment for the next start, `FAILPOINTS` for example.
    pub(crate) env: Vec<(String, String)>,
    /// A command that starts its program, `sh -c "ulimit …"` for example; it must `exec` the
    /// program.
    pub(crate) prefix: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
}

impl Member {
    /// Member `at` of the cluster in this directory. Nothing runs.
    fn prepare(dir: &Path, at: usize, kind: &Kind) -> Self {
        Self {
            name: format!("m{at}"),
            client_port: ports::free(),
            peer_port: ports::free(),
            wire_port: None,
            kind: kind.clone(),
            data_dir: dir.join(format!("m{at}")),
            joins: None,
            extra: Vec::new(),
            env: Vec::new(),
            prefix: Vec::new(),
            log: dir.join(format!("m{at}.log")),
            process: None,
        }
    }

    /// The address for clients, as `127.0.0.1:port`.
    pub(crate) fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// The URL for members.
    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.wire_port.unwrap_or(self.peer_port))
    }
}

/// The members of one cluster.
pub(crate) struct Cluster {
    /// The program that the members run.
    pub(crate) kind: Kind,
    /// In the order of their names, `m0` first.
    pub(crate) members: Vec<Member>,
    token: String,
    /// Deleted when the cluster is dropped.
    dir: TempDir,
}

impl Cluster {
    /// Starts `size` members and waits until each of them serves.
    pub(crate) async fn start(kind: &Kind, size: usize) -> Self {
        Self::start_with(kind, size, &[]).await
    }

    /// [`Cluster::start`] with additions to the environment of all members.
    pub(crate) async fn start_with(kind: &Kind, size: usize, env: &[(&str, &str)]) -> Self {
        Self::start_named(kind, size, env, "m").await
    }

    /// [`Cluster::start`] with member names that begin with `name`, for programs that expect them.
    pub(crate) async fn start_named(
        kind: &Kind,
        size: usize,
        env: &[(&str, &str)],
        name: &str,
    ) -> Self {
        let mut attempt = 1;
        loop {
            let mut cluster = Self::prepare(kind, size);
            for (at, member) in cluster.members.iter_mut().enumerate() {
                member.name = format!("{name}{at}");
            }
            for at in 0..size {
                cluster.set_env(at, env);
                cluster.spawn(at);
            }
            match cluster.ready().await {
                Ok(()) => return cluster,
                Err(complaint) if attempt == ATTEMPTS || !cluster.met_a_clash() => {
                    panic!("the cluster does not become ready: {complaint}")
                }
                Err(_) => attempt += 1,
            }
        }
    }

    /// Starts members with additions to the environment of each, behind wires that can be cut.
    pub(crate) async fn start_wired(kinds: &[Kind], env: &[&[(&str, &str)]]) -> (Self, Wires) {
        let mut attempt = 1;
        loop {
            let mut cluster = Self::prepare(&kinds[0], kinds.len());
            for (member, kind) in cluster.members.iter_mut().zip(kinds) {
                (member.kind, member.wire_port) = (kind.clone(), Some(ports::free()));
            }
            let wires: Vec<_> = (cluster.members.iter())
                .map(|member| (member.wire_port.unwrap_or_default(), member.peer_port))
                .collect();
            let wires = Wires::start(&wires).await;
            for (at, env) in env.iter().enumerate() {
                cluster.set_env(at, env);
            }
            (0..kinds.len()).for_each(|at| cluster.spawn(at));
            match (cluster.ready().await, wires) {
                (Ok(()), Ok(wires)) => return (cluster, wires),
                (result, wires) if attempt == ATTEMPTS => {
                    panic!("the cluster does not become ready: {result:?}, {:?}", wires.err())
                }
                _ => attempt += 1,
            }
        }
    }

    /// Cuts off these members from all others, and heals all other wires.
    pub(crate) async fn cut_off(&self, wires: &Wires, members: &[usize]) {
        let mut cut = Vec::new();
        for at in members {
            let status = self.client(*at).status().await.unwrap();
            let id = status.header.expect("a status has a header").member_id;
            cut.push((id, self.members[*at].peer_port));
        }
        wires.cut_off(&cut);
    }

    /// Allocates names, ports and directories; nothing runs yet.
    pub(crate) fn prepare(kind: &Kind, size: usize) -> Self {
        let dir = TempDir::with_prefix("glass-it-").unwrap();
        let members: Vec<Member> =
            (0..size).map(|at| Member::prepare(dir.path(), at, kind)).collect();
        // Ports are part of the token, so that no two clusters share an id.
        let token = format!("it-{}", members[0].peer_port);
        Self { kind: kind.clone(), members, token, dir }
    }

    /// Allocates one more member, which is to join; nothing runs, and the cluster does not know it.
    pub(crate) fn prepare_another(&mut self, kind: &Kind) -> usize {
        let at = self.members.len();
        self.members.push(Member::prepare(self.dir.path(), at, kind));
        at
    }

    /// Replaces the additions to a member's environment, from its next start on.
    pub(crate) fn set_env(&mut self, at: usize, env: &[(&str, &str)]) {
        self.members[at].env =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// The flags of a member, the same at each start.
    fn flags(&self, at: usize) -> Vec<String> {
        let member = &self.members[at];
        let cluster: Vec<String> = (self.members.iter())
            .filter(|member| member.joins.is_none())
            .map(|member| format!("{}={}", member.name, member.peer_url()))
            .collect();
        let (cluster, state) = match &member.joins {
            Some(members) => (members.clone(), "existing"),
            None => (cluster.join(","), "new"),
        };
        let client = format!("http://{}", member.client_address());
        [
            ("--name", member.name.clone()),
            ("--data-dir", member.data_dir.display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", format!("http://127.0.0.1:{}", member.peer_port)),
            ("--initial-advertise-peer-urls", member.peer_url()),
            ("--initial-cluster", cluster),
            ("--initial-cluster-state", state.to_owned()),
            ("--initial-cluster-token", self.token.clone()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .chain(member.extra.clone())
        .collect()
    }

    /// `--initial-cluster-token`.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Its directory, which is deleted with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A Procfile of its members, for a `glass up` that runs them instead of this.
    pub(crate) fn procfile(&self) -> String {
        let line = |at: usize| {
            format!("{}: glass serve {}\n", self.members[at].name, self.flags(at).join(" "))
        };
        (0..self.members.len()).map(line).collect()
    }

    /// Starts one member without waiting.
    pub(crate) fn spawn(&mut self, at: usize) {
        assert!(self.members[at].process.is_none(), "member {at} runs already");
        let log = OpenOptions::new().create(true).append(true).open(&self.members[at].log);
        let log: File = log.unwrap();
        let mut command = prefixed(&self.members[at].prefix, self.members[at].kind.command());
        command.args(self.flags(at)).envs(self.members[at].env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn();
        let process =
            process.unwrap_or_else(|error| panic!("{:?}: {error}", self.members[at].kind));
        self.members[at].process = Some(process);
    }

    /// Waits until all members serve; an error if they do not in time, or one has ended.
    async fn ready(&mut self) -> Result<(), String> {
        let deadline = clock::now() + READY_WITHIN;
        for at in 0..self.members.len() {
            let mut client = self.client(at);
            while let Err(complaint) = self.serves(&mut client).await {
                if let Some(exit) = self.exited(at) {
                    return Err(format!("m{at} ended with {exit}"));
                }
                if deadline <= clock::now() {
                    return Err(format!("m{at}: {complaint}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Succeeds if the member reaches a leader and all members have published their names.
    async fn serves(&self, client: &mut Client) -> Result<(), String> {
        client.everything(false).await.map_err(|status| status.to_string())?;
        let list = client.cluster.member_list(MemberListRequest { linearizable: true }).await;
        let members = list.map_err(|status| status.to_string())?.into_inner().members;
        let started = members.iter().filter(|member| !member.name.is_empty()).count();
        if started < self.members.len() {
            return Err(format!("{started} members have started"));
        }
        Ok(())
    }

    /// Waits until all members serve, and have published their names.
    pub(crate) async fn wait_all_ready(&mut self) {
        if let Err(complaint) = self.ready().await {
            panic!("the cluster does not become ready: {complaint}");
        }
    }

    /// Waits until one member serves linearizable reads.
    pub(crate) async fn wait_ready(&self, at: usize) {
        let client = self.client(at);
        eventually(&format!("m{at} serves"), READY_WITHIN, || {
            let mut client = client.clone();
            async move {
                client.everything(false).await.map(|_| ()).map_err(|status| status.to_string())
            }
        })
        .await;
    }

    /// A client of one member.
    pub(crate) fn client(&self, at: usize) -> Client {
        Client::new(self.members[at].client_port)
    }

    /// The member whose status says that it leads; waits until there is one.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", READY_WITHIN, || async {
            for at in (0..self.members.len()).filter(|at| self.members[*at].process.is_some()) {
                let status = self.client(at).status().await.map_err(|status| status.to_string())?;
                if status.header.is_some_and(|header| header.member_id == status.leader) {
                    return Ok(at);
                }
            }
            Err("there is no leader".to_owned())
        })
        .await
    }

    /// SIGKILL: the process cannot clean up. Its page cache survives.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().expect("only a running member is killed");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The id of a running member's process, for programs that kill it themselves.
    pub(crate) fn process_id(&self, at: usize) -> u32 {
        self.members[at].process.as_ref().expect("only a running member has one").id()
    }

    /// SIGSTOP: the process neither runs nor closes its connections.
    pub(crate) fn pause(&self, at: usize) {
        self.signal(at, Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self, at: usize) {
        self.signal(at, Signal::SIGCONT);
    }

    /// SIGTERM: a request to stop.
    pub(crate) fn terminate(&self, at: usize) {
        self.signal(at, Signal::SIGTERM);
    }

    /// Any other signal.
    pub(crate) fn signal(&self, at: usize, signal: Signal) {
        let process =
            self.members[at].process.as_ref().expect("only a running member gets signals");
        let pid = i32::try_from(process.id()).expect("process ids fit");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// The member's exit status, if it has ended.
    pub(crate) fn exited(&mut self, at: usize) -> Option<ExitStatus> {
        let process = self.members[at].process.as_mut()?;
        let exit = process.try_wait().unwrap()?;
        self.members[at].process = None;
        Some(exit)
    }

    /// Waits until the member ends by itself; `None` if it still runs after that time.
    pub(crate) async fn wait_exit(&mut self, at: usize, within: Duration) -> Option<ExitStatus> {
        let deadline = clock::now() + within;
        while clock::now() < deadline {
            if let Some(exit) = self.exited(at) {
                return Some(exit);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// All output of a member, standard output and error, of all starts.
    pub(crate) fn log(&self, at: usize) -> String {
        String::from_utf8_lossy(&fs::read(&self.members[at].log).unwrap_or_default()).into_owned()
    }

    fn met_a_clash(&self) -> bool {
        let clash = |at| self.log(at).to_lowercase().contains("address already in use");
        (0..self.members.len()).any(clash)
    }
}

/// The command, started by a prefix command.
fn prefixed(prefix: &[String], command: Command) -> Command {
    let Some((first, rest)) = prefix.split_first() else { return command };
    let mut outer = Command::new(first);
    outer.args(rest).arg(command.get_program()).args(command.get_args());
    outer
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                // The process may have ended already.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        if !thread::panicking() {
            return;
        }
        for at in 0..self.members.len() {
            let log = self.log(at);
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            eprintln!("--- m{at}, {:?}, in {}", self.kind, self.dir.path().display());
            lines[from..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
