//! The error of a member with a defect in its data directory: it names the file and the operating
//! system's reason, each once.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::bad_start::{copy, refused};
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// A user without rights to root's files.
const NOBODY: u32 = 65534;

/// One defect: how to cause it in a good data directory, the path below it that the error must
/// name, and the reason.
struct Case {
    spoil: fn(&Path),
    path: &'static str,
    reason: &'static str,
}

fn segment(data: &Path) -> PathBuf {
    let mut files = fs::read_dir(data.join("member/wal")).unwrap();
    files.next().unwrap().unwrap().path()
}

/// Replaces anything at the path with a file.
fn file(path: &Path) {
    remove(path);
    fs::write(path, "").unwrap();
}

/// Replaces anything at the path with a directory.
fn directory(path: &Path) {
    remove(path);
    fs::create_dir(path).unwrap();
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Defects that affect even root.
const FOR_ALL: &[Case] = &[
    Case { spoil: file, path: "", reason: "file exists" },
    Case {
        spoil: |data| {
            remove(data);
            symlink(data, data).unwrap();
        },
        path: "",
        reason: "file exists",
    },
    Case { spoil: |data| file(&data.join("member")), path: "/member", reason: "file exists" },
    Case {
        spoil: |data| file(&data.join("member/wal")),
        path: "/member/wal",
        reason: "not a directory",
    },
    Case {
        spoil: |data| {
            remove(&data.join("member/wal"));
            symlink("wal", data.join("member/wal")).unwrap();
        },
        path: "/member/wal",
        reason: "too many levels of symbolic links",
    },
    Case { spoil: |data| directory(&segment(data)), path: ".wal", reason: "is a directory" },
    Case {
        spoil: |data| directory(&data.join("member/wal/1.tmp")),
        path: "/member/wal/1.tmp",
        reason: "is a directory",
    },
    Case {
        spoil: |data| directory(&data.join("member/snap/db")),
        path: "/member/snap/db",
        reason: "is a directory",
    },
    Case {
        spoil: |data| directory(&data.join("member/boot")),
        path: "/member/boot",
        reason: "is a directory",
    },
];

/// Defects that affect a user without rights.
const FOR_NOBODY: &[Case] = &[
    Case { spoil: |data| set_mode(&segment(data), 0), path: ".wal", reason: "permission denied" },
    // It can be entered but not listed: "no log" would be a guess.
    Case {
        spoil: |data| set_mode(&data.join("member/wal"), 0o300),
        path: "/member/wal",
        reason: "permission denied",
    },
    // It can be read but not written: the next segment would end the member.
    Case {
        spoil: |data| set_mode(&data.join("member/wal"), 0o500),
        path: "/member/wal/probe.tmp",
        reason: "permission denied",
    },
    Case {
        spoil: |data| set_mode(&data.join("member/snap/db"), 0),
        path: "/member/snap/db",
        reason: "permission denied",
    },
    Case {
        spoil: |data| set_mode(&data.join("member/boot"), 0),
        path: "/member/boot",
        reason: "permission denied",
    },
    Case { spoil: |data| set_mode(data, 0o500), path: "/.touch", reason: "permission denied" },
];

/// A cluster of one member that has run, and its data.
async fn with_data() -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    cluster.client(0).put("k", "v").await.unwrap();
    cluster.kill(0);
    let good = cluster.members[0].data_dir.clone();
    (cluster, good)
}

/// The member must end with one line that has path and reason, each once.
async fn is_refused(cluster: &mut Cluster, case: &Case) {
    let data = cluster.members[0].data_dir.display().to_string();
    let path = format!("{}{}", if case.path.starts_with('.') { "" } else { &data }, case.path);
    let before = cluster.log(0).len();
    refused(cluster, 0, &[&path.to_lowercase(), case.reason]).await;
    let log = cluster.log(0)[before..].to_lowercase();
    let line = log.lines().find(|line| line.contains("the member has failed"));
    let line = line.unwrap_or_else(|| panic!("{path}: {log}"));
    assert_eq!(line.matches(case.reason).count(), 1, "{path}: {line}");
    assert_eq!(line.matches(&path.to_lowercase()).count(), 1, "{path}: {line}");
}

#[tokio::test]
async fn a_start_that_fails_names_the_file_and_the_reason() {
    if Kind::subject() != Kind::Glass {
        return left_out("start errors in our words");
    }
    let (mut cluster, good) = with_data().await;
    for (number, case) in FOR_ALL.iter().enumerate() {
        let data = good.with_extension(format!("bad-{number}"));
        copy(&good, &data);
        (case.spoil)(&data);
        cluster.members[0].data_dir = data;
        is_refused(&mut cluster, case).await;
    }
    cluster.members[0].data_dir = good.with_file_name("n".repeat(300));
    refused(&mut cluster, 0, &["cannot use the data directory", "file name too long"]).await;
}

#[tokio::test]
async fn a_start_without_rights_names_the_file_and_the_reason() {
    if Kind::subject() != Kind::Glass {
        return left_out("start errors in our words");
    }
    let (mut cluster, good) = with_data().await;
    // A file belongs to the user who creates it.
    let is_root = fs::metadata(&good).unwrap().uid() == 0;
    if is_root {
        if !can_run_without_rights(&cluster) {
            return left_out("starts without rights: this is root, and there is no setpriv");
        }
        cluster.members[0].prefix = without_rights();
        give_away(good.parent().unwrap());
    }
    for (number, case) in FOR_NOBODY.iter().enumerate() {
        let data = good.with_extension(format!("closed-{number}"));
        copy(&good, &data);
        if is_root {
            give_away(&data);
        }
        (case.spoil)(&data);
        cluster.members[0].data_dir.clone_from(&data);
        is_refused(&mut cluster, case).await;
        // Allows the removal of the temporary directory.
        ["", "member/wal"].iter().for_each(|below| set_mode(&data.join(below), 0o700));
    }
}

fn without_rights() -> Vec<String> {
    let id = |flag: &str| format!("--{flag}={NOBODY}");
    vec!["setpriv".to_owned(), id("reuid"), id("regid"), "--clear-groups".to_owned()]
}

/// Whether the program can run as a user without rights, on this machine.
fn can_run_without_rights(cluster: &Cluster) -> bool {
    let program = cluster.kind.command().get_program().to_owned();
    let words = without_rights();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program).arg("--version");
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}

/// Collects everything below a directory, with its mode.
fn modes(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let metadata = fs::metadata(path).unwrap();
    found.push((path.to_owned(), metadata.mode() & 0o7777));
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| modes(&entry.unwrap().path(), found));
    }
}

/// Goal: only the owner can access keys and values. Method: check the mode of everything that a
/// member creates, including the flight recorder's file; then start with files that an earlier
/// version has left open, and a directory that the operator has opened, which the log names but the
/// member does not change.
#[tokio::test]
async fn only_the_owner_can_access_a_members_files() {
    if Kind::subject() != Kind::Glass {
        return left_out("modes of our files");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 1).await;
    let data = cluster.members[0].data_dir.clone();
    write_flight(&cluster, 1).await;
    let is_private = |data: &Path| {
        let mut found = Vec::new();
        modes(data, &mut found);
        assert!(9 <= found.len(), "{found:?}");
        for (path, mode) in found {
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{}", path.display());
        }
    };
    is_private(&data);
    assert!(!cluster.log(0).contains("is open to other users"), "{}", cluster.log(0));
    cluster.kill(0);
    set_mode(&data.join("glass"), 0o755);
    set_mode(&data.join("member/boot"), 0o644);
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    is_private(&data);
    cluster.kill(0);
    for below in ["", "member", "member/snap", "member/wal"] {
        set_mode(&data.join(below), 0o755);
    }
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    let log = cluster.log(0);
    assert_eq!(log.matches("is open to other users").count(), 4, "{log}");
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o755, "it is the operator's");
}

async fn write_flight(cluster: &Cluster, count: usize) {
    cluster.signal(0, nix::sys::signal::Signal::SIGUSR1);
    eventually("the flight recorder is written", Duration::from_secs(20), || async {
        let files = cluster.log(0).matches("wrote the flight recorder").count();
        if count <= files { Ok(()) } else { Err(format!("{files} files")) }
    })
    .await;
}
