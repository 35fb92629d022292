//! A panic of redb, and its most frequent cause: a malformed page of the database.
//!
//! redb trusts its pages. It looks at their checksums when a file was not closed in order, and then
//! only as far as it must. Damage since then, by the disk or by a copy over the file, is found by
//! the first reader of the page, which panics. To an operator a backtrace says nothing: the
//! operator needs the file's name and the way out. So the member ends as it does when its disk
//! fails, and not as it does for a bug.
//!
//! Left out: damage that leaves a page readable. Values have no checksum that is looked at, here or
//! in etcd; HashKV compares members.

use std::{
    panic::PanicHookInfo,
    path::{Component, Path},
};

use super::fatal;

/// The text and the place of redb's panic.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use {file}: the database is damaged (redb ended at {place}: {text}). Move the file away \
     and start the member again: it is made anew from the log"
)]
struct Damaged {
    file: String,
    place: String,
    text: String,
}

/// Ends the member if it was redb that panicked, over the database `file`. For a panic hook.
pub fn end_if_damaged(panic: &PanicHookInfo<'_>, file: &Path) {
    let Some(place) = panic.location().filter(|place| is_of_redb(Path::new(place.file()))) else {
        return;
    };
    let name = Path::new(place.file()).file_name().unwrap_or_default().to_string_lossy();
    fatal(&Damaged {
        file: file.display().to_string(),
        place: format!("{name}:{}", place.line()),
        text: panic.payload_as_str().unwrap_or("no reason").to_owned(),
    })
}

/// Whether a source file is one of redb's, which lie in a directory with its name and version.
fn is_of_redb(source: &Path) -> bool {
    source.components().any(|part| match part {
        Component::Normal(name) => {
            let name = name.to_string_lossy();
            name == "redb" || name.starts_with("redb-")
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_in_redbs_directory_are_redbs() {
        for source in
            ["/registry/src/index/redb-3.1.0/src/tree_store/btree.rs", "vendor/redb/src/db.rs"]
        {
            assert!(is_of_redb(Path::new(source)), "{source}");
        }
        for source in [
            "src/storage/redb_file.rs",
            "src/storage/backend/file.rs",
            "/rustc/library/core/src/panicking.rs",
        ] {
            assert!(!is_of_redb(Path::new(source)), "{source}");
        }
    }
}
