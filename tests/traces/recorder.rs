//! A `glass trace record` that runs beside a cluster.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use glass_etcd::story::{Recording, recording};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    client::eventually,
    cluster::{Cluster, Member},
};

/// How far the recorder may be behind.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);

/// The process, and its file.
pub(super) struct Recorder {
    child: Child,
    /// Path of the recording.
    pub(super) file: PathBuf,
    _dir: TempDir,
}

impl Recorder {
    /// Starts to record all members; returns when each of them is in the file.
    pub(super) async fn start(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recording.ndjson");
        let endpoints: Vec<String> = cluster.members.iter().map(Member::client_address).collect();
        let child = Command::new(env!("CARGO_BIN_EXE_glass"))
            .args(["trace", "record", &file.display().to_string()])
            .args(["--endpoints", &endpoints.join(",")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let recorder = Self { child, file, _dir: dir };
        recorder
            .until("all members", |recording| {
                let count = recording.members.len();
                if count == endpoints.len() { Ok(()) } else { Err(format!("{count}")) }
            })
            .await;
        recorder
    }

    /// The recording in the file so far.
    pub(super) fn read(&self) -> Result<Recording, String> {
        let file = File::open(&self.file).map_err(|error| error.to_string())?;
        let read = recording::read(BufReader::new(file)).map_err(|error| error.to_string())?;
        Ok(read.recording)
    }

    /// Waits until `look` accepts the recording.
    pub(super) async fn until(&self, what: &str, look: impl Fn(&Recording) -> Result<(), String>) {
        eventually(what, RECORDED_WITHIN, || async { look(&self.read()?) }).await;
    }

    /// Sends the process a signal.
    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Ends it as Ctrl-C does; returns exit status, standard error, and the recording.
    pub(super) fn stop(mut self) -> (ExitStatus, String, Recording) {
        self.signal(Signal::SIGINT);
        let (mut said, status) = (String::new(), self.child.wait().unwrap());
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let read = recording::read(BufReader::new(File::open(&self.file).unwrap())).unwrap();
        assert_eq!((0, false), (read.unknown, read.is_cut), "{said}");
        (status, said, read.recording)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
