//! Permissions of a member's files: only their owner may read them.
//!
//! | path | mode | if it is wider |
//! |---|---|---|
//! | `DATA-DIR`, `member`, `member/snap`, the log's directory | 0700 | a warning: the operator may have made it so |
//! | segments of the log, `member/snap/db` | 0600 | a warning for the directory above |
//! | `member/boot` | 0600 | tightened |
//! | `glass` (the flight recorder's) | 0700 | tightened |
//! | files in it | 0600 | the directory keeps others out |
//!
//! The log and the database have every key and value, and the flight recorder has keys. etcd makes
//! its directories in the same way, and warns as well (etcd: `fileutil.TouchDirAll`,
//! `CheckDirPermission`). A directory in which nothing can be written is refused by both.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use super::Error;

/// Makes a directory that only its owner may enter, or warns if an existing one lets others in.
/// Checks that files can be made in it.
pub(super) fn private_dir(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::DataDir { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    warn_if_open(path)?;
    let probe = path.join(".touch");
    write_private(&probe, "").and_then(|()| {
        fs::remove_file(&probe).map_err(|source| Error::DataDir { path: probe.clone(), source })
    })
}

/// Warns of a directory that other users may enter or list. A missing one will be made
/// with the right mode.
pub(super) fn warn_if_open(path: &Path) -> Result<(), Error> {
    let mode = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(|source| Error::DataDir { path: path.to_owned(), source })?,
    };
    let mode = mode.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = %format!("{mode:04o}"),
            recommended = "0700",
            "a directory of this member's data is open to other users"
        );
    }
    Ok(())
}

/// Writes a file that only its owner may read, also if it was there before.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        std::io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|source| Error::DataDir { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::log_lines::LogLines;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn directories_are_made_private_and_open_ones_are_named() {
        let temp = tempfile::tempdir().unwrap();
        let (outer, inner) = (temp.path().join("a"), temp.path().join("a/b"));
        let told = LogLines::default();
        told.while_in(|| private_dir(&inner).unwrap());
        assert_eq!((mode(&outer), mode(&inner), told.lines().len()), (0o700, 0o700, 0));
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0, "the probe is gone");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o750)).unwrap();
        told.while_in(|| private_dir(&inner).unwrap());
        assert_eq!((mode(&inner), told.lines().len()), (0o750, 1), "it is the operator's");
        assert_eq!(told.count(&format!("path={} mode=0750", inner.display())), 1);
    }

    #[test]
    fn a_file_is_private_also_if_it_was_not_before() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("boot");
        fs::write(&file, "a long text").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&file, "7\n").unwrap();
        assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o600, "7\n"));
    }

    #[test]
    fn a_failed_write_is_an_error_with_path_and_cause() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.join("below"), file.clone()] {
            let error = private_dir(&path).unwrap_err();
            assert!(matches!(&error, Error::DataDir { path: named, .. } if *named == path));
        }
        assert!(write_private(temp.path(), "").is_err());
    }
}
