//! The pages as mdBook renders them from the sources in the binary.
//!
//! ```text
//!   $TMPDIR/glass-book-XXXXXX    .lock, held as long as the process works here
//!           ├── book/, src/ …    the sources
//!           └── rendered/        what mdBook makes of them
//! ```
//!
//! The directory is removed when the pages are in memory. A process that is killed before that
//! leaves it behind, and the next one removes it: the lock of a process ends with it, in whichever
//! container it ran. Only directories of the same user are touched, and none that may still be in
//! the making.

use std::{
    collections::HashMap,
    error::Error,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use glass_etcd::clock;
use mdbook_driver::{MDBook, config::Config};
use tempfile::TempDir;

use super::files::FILES;

/// How the name of a directory begins.
const PREFIX: &str = "glass-book-";
/// The file whose lock says that a process works in the directory.
const LOCK: &str = ".lock";
/// A directory that is younger may be one whose lock is not taken yet.
const AGE_MIN: Duration = Duration::from_secs(60);

/// The files of the rendered book, by their paths.
pub(super) type Pages = HashMap<String, Bytes>;

/// Renders the book. The settings are those of `book.toml` alone, without `MDBOOK_` variables.
pub(super) fn pages() -> Result<Pages, Box<dyn Error>> {
    let (dir, _lock) = workplace(&std::env::temp_dir())?;
    for (path, text) in FILES {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
        fs::write(path, text)?;
    }
    let (book, out) = (dir.path().join("book"), dir.path().join("rendered"));
    let mut config = Config::from_disk(book.join("book.toml"))?;
    config.build.build_dir.clone_from(&out);
    MDBook::load_with_config(book, config)?.build()?;
    let mut pages = Pages::new();
    read(&out, &out, &mut pages)?;
    Ok(pages)
}

/// A new directory to work in, and its lock; those that nobody works in any more are removed.
fn workplace(parent: &Path) -> io::Result<(TempDir, File)> {
    let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
    let lock = File::create(dir.path().join(LOCK))?;
    lock.try_lock()?;
    let own = fs::symlink_metadata(dir.path())?.uid();
    for entry in fs::read_dir(parent)?.flatten() {
        let is_named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_named && is_left_behind(&entry.path(), own) {
            // Somebody else may remove it at the same time, and it is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok((dir, lock))
}

/// Whether this is a directory of this user in which no process works any more.
fn is_left_behind(dir: &Path, user: u32) -> bool {
    let Ok(data) = fs::symlink_metadata(dir) else { return false };
    let made = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let is_old = made.is_some_and(|made| made + AGE_MIN <= clock::wall());
    if !data.is_dir() || data.uid() != user || !is_old {
        return false;
    }
    match File::open(dir.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // What cannot be told is left alone.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Reads the files below a directory.
fn read(root: &Path, dir: &Path, pages: &mut Pages) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            read(root, &path, pages)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            pages.insert(name.display().to_string(), fs::read(&path)?.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: `glass book` that is killed in its first second leaves nothing behind for ever, and
    /// no process loses the directory that it works in.
    #[test]
    fn a_directory_is_removed_only_if_nobody_works_in_it_any_more() {
        let parent = tempfile::tempdir().unwrap();
        let age = |path: &Path| {
            let file = File::open(path).unwrap();
            let made = file.metadata().unwrap().modified().unwrap();
            file.set_modified(made - 2 * AGE_MIN).unwrap();
        };
        let make = |name: &str| {
            let dir = parent.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("page"), "left").unwrap();
            dir
        };
        let (left, older) = (make("glass-book-left"), make("glass-book-older"));
        File::create(left.join(LOCK)).unwrap();
        let others = ["glass-book-young", "glass-bookshelf", "other"].map(make);
        let (used, _lock) = workplace(parent.path()).unwrap();
        let file = parent.path().join("glass-book-file");
        fs::write(&file, "").unwrap();
        for path in [left.as_path(), &older, &others[1], &others[2], &file, used.path()] {
            age(path);
        }

        let (own, _own_lock) = workplace(parent.path()).unwrap();
        assert!(!left.exists() && !older.exists());
        assert!(others.iter().all(|dir| dir.join("page").exists()) && file.exists());
        assert!(used.path().exists() && own.path().exists());
    }
}
