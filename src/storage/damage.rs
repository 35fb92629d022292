//! A damaged database: what is said of it, and what the member does before it ends.
//!
//! ```text
//!   a row does not fit its checksum ─┐
//!   a revision has no row ───────────┼─▶ log ─▶ alarm CORRUPT ─▶ "cannot use …", exit 1
//!   redb panics at a page ───────────┘          (if the member runs)
//! ```
//!
//! A member whose file is damaged must not go on: it would serve other data than the rest of the
//! cluster, or apply entries to it. It ends as it does when its disk fails. Before that it raises
//! the alarm CORRUPT under its own id, so that the others and their operator know of it. After its
//! end the cluster has what it needs to make the file anew, and the message says how.
//!
//! Invariants
//! * What was damaged has been given to nobody.
//! * The message names the file, the place, and the way out, in one line.
//! * The alarm is tried for a bounded time. The member ends also without it.

use std::{
    fs,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::fatal;

/// The name of the mark beside a database that was restored from a snapshot.
pub const RESTORED_MARK: &str = "restored";

/// Raises the alarm; set while a member runs.
static ALARM: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();
/// Whether a thread is about to end the process.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Sets what raises the alarm of a damaged database. It may be called on any thread, and must
/// return within a bounded time. Only the first call has an effect.
pub fn set_alarm(alarm: impl Fn() + Send + Sync + 'static) {
    let _ = ALARM.set(Box::new(alarm));
}

/// The end of a member whose database is damaged.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {file}: the database is damaged ({why}). {way_out}")]
struct Damaged<'a> {
    file: String,
    why: &'a str,
    way_out: &'static str,
}

/// Ends the member because of its database: raises the alarm, and says what is damaged.
pub fn end(file: &Path, why: &str) -> ! {
    if IS_ENDING.swap(true, Ordering::Relaxed) {
        // The thread that was first has the reason, and ends the process.
        loop {
            thread::park();
        }
    }
    if let Some(alarm) = ALARM.get() {
        tracing::error!(file = %file.display(), why, "the database is damaged: raising the alarm");
        alarm();
    }
    fatal(&Damaged { file: file.display().to_string(), why, way_out: way_out(file) })
}

/// What an operator can do about a damaged database.
pub fn way_out(file: &Path) -> &'static str {
    match file.with_file_name(RESTORED_MARK).try_exists() {
        Ok(true) | Err(_) if has_snapshot(file) => {
            "It was restored from a snapshot, and the log does not have its rows: move the file away \
             (glass utl drop-database does it) and start the member again while another one runs, \
             which gives it a new one; if there is none, remove this member from the cluster and \
             add it with an empty data directory"
        }
        Ok(false) if has_snapshot(file) => {
            "Move the file away (glass utl drop-database does it) and start the member again: it is \
             made anew from the log, if that has everything, and if not, another member that runs \
             gives it a new one"
        }
        Ok(false) => {
            "Move the file away (glass utl drop-database does it) and start the member again: it is \
             made anew from the log"
        }
        // The log may not have its rows.
        Ok(true) | Err(_) => {
            "It was restored from a snapshot, and the log does not have its rows: restore it again, \
             or move the file away (glass utl drop-database does it) and start the member again \
             while another one runs, which gives it a new one"
        }
    }
}

/// Whether a `.snap` file lies beside the database, so that the log's first entries may be gone.
fn has_snapshot(file: &Path) -> bool {
    let beside = file.parent().map(fs::read_dir);
    let Some(Ok(mut beside)) = beside else { return true };
    beside.any(|entry| {
        entry.is_ok_and(|entry| entry.path().extension().is_some_and(|it| it == "snap"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::own_process;

    #[test]
    fn the_way_out_of_damage_depends_on_what_the_log_has() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("db");
        assert!(way_out(&db).ends_with("made anew from the log"));
        fs::write(dir.path().join("0000000000000002-0000000000000007.snap"), "").unwrap();
        assert!(way_out(&db).contains("if that has everything"));
        fs::write(dir.path().join(RESTORED_MARK), "").unwrap();
        let restored = way_out(&db);
        let expected = !restored.contains("made anew") && !restored.contains("restore it again");
        assert!(expected && restored.contains("remove this member"), "{restored}");
        fs::remove_file(dir.path().join("0000000000000002-0000000000000007.snap")).unwrap();
        let way_out = way_out(&db);
        let expected = way_out.contains("restore it again") && !way_out.contains("made anew");
        assert!(expected, "{way_out}");
    }

    /// Goal: the alarm comes first and comes once, whichever thread finds the damage. Method: two
    /// threads find it at the same time, in a process of their own.
    #[test]
    fn damage_raises_the_alarm_once_and_then_ends_the_process() {
        if own_process::is_alone() {
            set_alarm(|| eprintln!("the alarm is raised"));
            thread::spawn(|| end(Path::new("a/db"), "a row"));
            end(Path::new("a/db"), "a row");
        }
        let test = "storage::damage::tests::damage_raises_the_alarm_once_and_then_ends_the_process";
        let output = own_process::run(test);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let (raised, ended) = ("the alarm is raised", "fatal: cannot use a/db: ");
        assert_eq!([raised, ended].map(|text| said.matches(text).count()), [1, 1], "{said}");
        assert!(said.find(raised) < said.find(ended), "{said}");
        assert!(said.contains("is damaged (a row). Move the file away ("), "{said}");
    }
}
