//! The flight recorder: the records that a member still has, written to a file when it crashes or
//! gets SIGUSR1.
//!
//! ```text
//!   a thread panics ─────┐
//!   the disk fails ──────┼──▶ rings + history ──▶ <data-dir>/glass/flight-….ndjson
//!   SIGUSR1 ─────────────┘                        (a recording: `glass play FILE`)
//! ```
//!
//! The rings hold the last moments of every thread, kept or not; the history holds ten seconds of
//! what was kept. Together they show what the member did before its end, and cost nothing until
//! then. A member that is killed by SIGKILL or by a power failure writes nothing.
//!
//! Invariants: writing never waits for a lock that the dying thread could hold; a disk that is full
//! ends the writing and not the member; at most [`FILES_MAX`] files are kept, the newest.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crate::{
    storage,
    story::{Recording, intake::Intake, recording},
    trace::{collect::Collector, record::BYTES},
};

/// The most files to keep; older ones are removed.
const FILES_MAX: usize = 5;

static FLIGHT: OnceLock<Flight> = OnceLock::new();

struct Flight {
    collector: Arc<Collector>,
    directory: PathBuf,
    /// Set while a thread writes, so that a second thread that panics does not wait for it.
    is_writing: AtomicBool,
    /// The files written since the start; with the boot number it makes names that sort by time.
    written: AtomicU32,
}

/// Why the member writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A thread has panicked.
    Panic,
    /// A disk operation has failed, and the member ends.
    Storage,
    /// The process got SIGUSR1.
    Asked,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Cause::Panic => "panic",
            Cause::Storage => "storage",
            Cause::Asked => "asked",
        }
    }
}

/// Sets what to write and where, and has it written when a failed disk ends the member. Called
/// once, after the collector has started; until then [`write()`] does nothing.
pub fn arm(collector: Arc<Collector>, directory: PathBuf) {
    // A directory of an earlier version may be open to other users.
    if let Err(error) = tighten(&directory) {
        tracing::warn!(%error, path = %directory.display(), "could not close the directory to other users");
    }
    let (is_writing, written) = (AtomicBool::new(false), AtomicU32::new(0));
    let flight = Flight { collector, directory, is_writing, written };
    // A process is one member; further calls, in tests, have no effect.
    let _ = FLIGHT.set(flight);
    // This may fail, too; the first failure is the one that is reported.
    storage::set_last_act(|| drop(write(Cause::Storage)));
}

/// Writes the records, and returns the file. `None` if [`arm`] was not called, or if another thread
/// is writing.
///
/// # Errors
///
/// If the file cannot be written, for example because the disk is full. The unfinished file is
/// removed.
pub fn write(cause: Cause) -> Option<io::Result<PathBuf>> {
    let flight = FLIGHT.get()?;
    if flight.is_writing.swap(true, Ordering::Acquire) {
        return None;
    }
    let written = flight.write(cause);
    flight.is_writing.store(false, Ordering::Release);
    Some(written)
}

impl Flight {
    fn write(&self, cause: Cause) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        tighten(&self.directory)?;
        remove_old(&self.directory)?;
        let (boot, number) = (self.collector.hello().boot, self.written.load(Ordering::Relaxed));
        self.written.store(number + 1, Ordering::Relaxed);
        let name = format!("flight-{boot:05}-{number:04}-{}.ndjson", cause.name());
        let path = self.directory.join(name);
        let under_way = path.with_extension("tmp");
        let written = self.write_to(&under_way).and_then(|()| fs::rename(&under_way, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&under_way);
            return Err(error);
        }
        Ok(path)
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = BufWriter::new(file);
        recording::write(&mut out, &self.recording())?;
        out.flush()
    }

    /// The member's records, as a recording of this member alone.
    fn recording(&self) -> Recording {
        let (records, lost) = self.collector.everything();
        let mut bytes = Vec::with_capacity(records.len() * BYTES);
        records.iter().for_each(|record| record.encode(&mut bytes));
        let mut intake = Intake::default();
        let place = intake.hello(self.collector.hello()).expect("the first member has a place");
        intake.batch(place, &bytes, lost).expect("whole records of a member that said hello");
        intake.recording
    }
}

/// Restricts the directory, if it exists, to its owner, because the files contain keys.
fn tighten(directory: &Path) -> io::Result<()> {
    match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(error) => Err(error),
    }
}

/// Makes room for one more file. The names sort by time.
fn remove_old(directory: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("flight-"))
        })
        .collect();
    files.sort_unstable();
    let surplus = (files.len() + 1).saturating_sub(FILES_MAX);
    files.iter().take(surplus).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{
        story::recording,
        trace::{Stage, collect::Info},
    };

    fn flight(directory: &Path) -> Flight {
        let (name, version) = ("etcd-01".to_owned(), "0.1.0".to_owned());
        let info =
            Info { member_id: 0x7171, cluster_id: 9, name, version, boot: 2, wall_ns: 1_000_000 };
        Flight {
            collector: crate::trace::start(info).expect("a thread can be spawned"),
            directory: directory.to_owned(),
            is_writing: AtomicBool::new(false),
            written: AtomicU32::new(0),
        }
    }

    #[test]
    fn records_in_the_rings_are_written_even_if_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let id = 0x7171 << 48 | 0x4402;
        drop(crate::stage!(RpcValidate, id, operations = 77));
        let path = flight(directory.path()).write(Cause::Asked).unwrap();
        assert!(path.to_str().unwrap().ends_with("flight-00002-0000-asked.ndjson"));
        assert_eq!(0o600, mode(&path));
        let read = recording::read(io::BufReader::new(File::open(path).unwrap())).unwrap();
        let events = read.recording.events;
        let ours = events.iter().find(|event| event.id == id).expect("the step is there");
        let seen =
            (ours.stage, ours.boot, crate::field!(ours, RpcValidate, operations), ours.flags);
        assert_eq!((Stage::RpcValidate, 2, 77, 0), seen);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn others_are_kept_out_of_a_new_directory_and_of_one_that_let_them_in() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("glass");
        flight(&directory).write(Cause::Asked).unwrap();
        assert_eq!(0o700, mode(&directory));
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        tighten(&directory).unwrap();
        assert_eq!(0o700, mode(&directory));
        tighten(&data.path().join("missing")).unwrap();
    }

    #[test]
    fn only_the_newest_files_are_kept_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        for at in 0..9 {
            let name = format!("flight-00001-{at:04}-asked.ndjson");
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::write(directory.path().join("mine"), "").unwrap();
        remove_old(directory.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(FILES_MAX, left.len());
        assert_eq!("flight-00001-0005-asked.ndjson", left[0]);
        assert_eq!("mine", left[4]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("glass");
        fs::write(&file, "").unwrap();
        assert!(flight(&file).write(Cause::Panic).is_err());
    }
}
