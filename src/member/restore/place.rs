//! Where a restore works, until everything is on the disk.
//!
//! ```text
//!   data-dir/restoring/member/snap/db, restored ─┬─ rename ─▶ data-dir/member/
//!   data-dir/restoring/member/wal/ ──────────────┘
//!   WAL-DIR.restoring/ ────────────────────────────── rename ─▶ WAL-DIR/      (with --wal-dir)
//!   data-dir/restoring/ ───── removed, last of all
//! ```
//!
//! Invariants
//! * A member does not start in a directory that has `restoring`, so it finds all of a restored
//!   directory or is refused, wherever the restore was killed.
//! * A restore that fails removes what it has made, and nothing else.

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use super::{Error, data::Dirs, data::RESTORING, file, step};
use crate::{config::ServerConfig, storage::disk};

/// A data directory that is being made.
#[derive(Debug)]
pub(super) struct Place<'a> {
    wanted: &'a ServerConfig,
    /// The directory of the log, if it is not in the data directory's usual place.
    wal: Option<PathBuf>,
    /// The same member, with the directories in which the restore works.
    pub(super) working: ServerConfig,
    pub(super) dirs: Dirs,
    made: Made,
}

/// What was made so far; it is removed when this is dropped.
#[derive(Debug, Default)]
struct Made {
    trees: Vec<PathBuf>,
    /// Folders above the trees, the deepest first. Others may have put something there meanwhile.
    folders: Vec<PathBuf>,
}

impl<'a> Place<'a> {
    pub(super) fn begin(wanted: &'a ServerConfig) -> Result<Place<'a>, Error> {
        check_empty(wanted)?;
        let wal = wal_dir(wanted)?;
        let restoring = wanted.data_dir.join(RESTORING);
        let unfinished = wal.as_deref().map(unfinished);
        let mut made = Made::default();
        let mut working = wanted.clone();
        made.note_missing(&restoring);
        claim(&restoring, wanted)?;
        made.trees.push(restoring.clone());
        for path in unfinished.iter() {
            if path.exists() {
                return Err(Error::WalExists { path: path.clone() });
            }
            made.note_missing(path);
            made.trees.push(path.clone());
        }
        (working.data_dir, working.wal_dir) = (restoring, unfinished);
        let dirs = Dirs::make(&working)?;
        step("restore-begun", &wanted.data_dir)?;
        Ok(Place { wanted, wal, working, dirs, made })
    }

    /// The name that the database will have.
    pub(super) fn database(&self) -> PathBuf {
        self.wanted.data_dir.join("member/snap/db")
    }

    /// Gives the directories their names.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let data_dir = &self.wanted.data_dir;
        let (from, member) = (self.working.data_dir.join("member"), data_dir.join("member"));
        disk::sync_dir(&from).map_err(file(&member))?;
        self.made.trees.push(member.clone());
        rename(&from, &member)?;
        step("restore-named", &member)?;
        if let (Some(from), Some(wal)) = (&self.working.wal_dir, &self.wal) {
            self.made.trees.push(wal.clone());
            rename(from, wal)?;
            step("restore-log-named", wal)?;
        }
        for folder in &self.made.folders {
            disk::sync_dir(parent(folder)).map_err(file(folder))?;
        }
        fs::remove_dir(&self.working.data_dir).map_err(file(&self.working.data_dir))?;
        disk::sync_dir(data_dir).map_err(file(data_dir))?;
        // Dropped, it would be removed.
        self.made.trees.clear();
        self.made.folders.clear();
        Ok(())
    }
}

impl Made {
    /// Notes the folders above a tree that are going to be made.
    fn note_missing(&mut self, tree: &Path) {
        let missing = |path: &&Path| {
            let found = fs::symlink_metadata(path);
            found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        let above = tree.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
        self.folders.extend(above.take_while(missing).map(Path::to_owned));
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // The first error is the one to tell.
        for tree in &self.trees {
            let _ = fs::remove_dir_all(tree);
        }
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// As etcd: the data directory may exist if it is empty, that of the log may not.
fn check_empty(config: &ServerConfig) -> Result<(), Error> {
    let path = &config.data_dir;
    let is_empty = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    if !is_empty {
        return Err(Error::NotEmpty { path: path.clone() });
    }
    match &config.wal_dir {
        Some(path) if path.exists() => Err(Error::WalExists { path: path.clone() }),
        _ => Ok(()),
    }
}

/// Makes the directory in which the restore works. Another restore that works there is left alone.
fn claim(restoring: &Path, wanted: &ServerConfig) -> Result<(), Error> {
    let make = |path: &Path, recursive: bool| {
        fs::DirBuilder::new().recursive(recursive).mode(0o700).create(path)
    };
    make(&wanted.data_dir, true).map_err(file(&wanted.data_dir))?;
    match make(restoring, false) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::NotEmpty { path: wanted.data_dir.clone() })
        }
        made => made.map_err(file(restoring)),
    }
}

/// The directory of the log, if it is not the usual one. The log may not lie among the member's
/// other files, nor around them: a rename of one would fail or move the other.
fn wal_dir(config: &ServerConfig) -> Result<Option<PathBuf>, Error> {
    let Some(path) = &config.wal_dir else { return Ok(None) };
    let wal = resolved(path).map_err(file(path))?;
    let data = resolved(&config.data_dir).map_err(file(&config.data_dir))?;
    let member = data.join("member");
    if wal == member.join("wal") {
        return Ok(None);
    }
    if [&member, &data.join(RESTORING)].iter().any(|own| wal.starts_with(own))
        || data.starts_with(&wal)
    {
        return Err(Error::WalAmongData { path: path.clone() });
    }
    Ok(Some(wal))
}

/// The path without symbolic links, as far as it exists.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let existing = path.ancestors().find_map(|part| Some((part, fs::canonicalize(part).ok()?)));
    Ok(match existing {
        Some((part, found)) => match path.strip_prefix(part) {
            Ok(rest) if rest.as_os_str().is_empty() => found,
            Ok(rest) => found.join(rest),
            Err(_) => path,
        },
        None => path,
    })
}

fn unfinished(wal: &Path) -> PathBuf {
    let mut name: OsString = wal.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(RESTORING);
    wal.with_file_name(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(file(to))?;
    disk::sync_dir(parent(to)).map_err(file(to))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
