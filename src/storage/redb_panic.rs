//! A panic of redb, and its most frequent cause: a malformed page of the database.
//!
//! redb trusts its pages. A member lets it compare all their checksums when the file is opened, but
//! damage since then, by the disk or by a copy over the file, is found by the first reader of the
//! page, which may panic; and so may the opening. To an operator a backtrace says nothing: the
//! operator needs the file's name and the way out. So the member ends as it does when a row does
//! not fit its checksum ([`damage`]), and not as it does for a bug. A tool that looks at a file
//! makes an error of the panic ([`caught`]).
//!
//! Left out: damage that leaves a page readable. The checksums of rows find it.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    path::{Component, Path},
};

use super::damage;

thread_local! {
    /// Whether this thread is in [`caught`].
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// The panic that the hook has seen in there.
    static ENDED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Ends the member if it was redb that panicked, over the database `file`. For a panic hook.
pub fn end_if_damaged(panic: &PanicHookInfo<'_>, file: &Path) {
    let is_of_redb = panic.location().is_some_and(|place| is_of_redb(Path::new(place.file())));
    if is_of_redb && !CAUGHT.get() {
        damage::end(file, &ended(panic));
    }
}

/// The place and the text of a panic.
fn ended(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload_as_str().unwrap_or("no reason");
    let Some(place) = panic.location() else { return format!("redb ended: {text}") };
    let name = Path::new(place.file()).file_name().unwrap_or_default().to_string_lossy();
    format!("redb ended at {name}:{}: {text}", place.line())
}

/// Whether the panic is one that [`caught`] makes an error of, so that a hook has nothing to tell.
/// For a panic hook.
pub fn is_caught(panic: &PanicHookInfo<'_>) -> bool {
    if CAUGHT.get() {
        // The first one has the reason; a later one comes while the file is closed.
        ENDED.with_borrow_mut(|seen| {
            seen.get_or_insert_with(|| ended(panic));
        });
    }
    CAUGHT.get()
}

/// Calls redb, on this thread, over a file that may be damaged. A panic is an error, with what
/// [`is_caught`] has noted of it.
pub fn caught<T>(look: impl FnOnce() -> T) -> Result<T, String> {
    CAUGHT.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(look));
    CAUGHT.set(false);
    let ended = ENDED.take();
    done.map_err(|_| ended.unwrap_or_else(|| "redb ended".to_owned()))
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
