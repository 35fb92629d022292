//! A log file that begins anew when it is full (etcd: lumberjack, `--enable-log-rotation`).
//!
//! ```text
//!   etcd.log                                  the present file
//!   etcd-2026-12-01T15-35-41.247.log          a full one, named after the moment of the exchange
//! ```
//!
//! A line is never divided. A file that is full already when the member starts is exchanged before
//! the first line. Old files beyond `maxbackups`, or older than `maxage` days, are removed after an
//! exchange; only files of this form are, so others in the directory stay. All of this happens on
//! the thread that writes lines, so no request waits for it.
//!
//! If the exchange fails, the present file grows beyond its limit: a log that is too long is better
//! than none.
//!
//! Left out: compression, and the machine's own time in names; a warning says so at the start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use glass_etcd::{clock, config::Rotation};

use crate::timestamp::timestamp;

/// lumberjack's default, for a `maxsize` of 0.
const MEGABYTES_DEFAULT: u64 = 100;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The present file.
pub(crate) struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    rotation: Rotation,
    /// The lines that are not written yet: whole lines go into one file.
    line: Vec<u8>,
}

impl Rotating {
    /// Opens the file, and appends to what it has.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = append(path)?;
        let bytes = file.metadata()?.len();
        let megabytes = match rotation.maxsize {
            0 => MEGABYTES_DEFAULT,
            megabytes => megabytes,
        };
        let bytes_max = megabytes.saturating_mul(1 << 20);
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max, rotation, line: Vec::new() })
    }

    /// Writes the lines that wait, in the next file if they do not fit into this one.
    fn write_line(&mut self) -> io::Result<()> {
        let len = self.line.len() as u64;
        if 0 < self.bytes && self.bytes_max < self.bytes + len {
            // If this fails, the file grows; see the module's text.
            let _ = self.exchange(clock::wall());
        }
        let written = self.file.write_all(&self.line);
        self.line.clear();
        written?;
        self.bytes += len;
        Ok(())
    }

    fn exchange(&mut self, wall: Duration) -> io::Result<()> {
        fs::rename(&self.path, self.old_path(wall))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        self.remove_old(wall)
    }

    /// The parts of an old file's name around its time: `etcd-` and `.log`.
    fn around(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let extension = match part(self.path.extension()) {
            none if none.is_empty() => none,
            extension => format!(".{extension}"),
        };
        (format!("{}-", part(self.path.file_stem())), extension)
    }

    fn old_path(&self, wall: Duration) -> PathBuf {
        let (before, after) = self.around();
        self.path.with_file_name(format!("{before}{}{after}", name_of(wall)))
    }

    /// Removes the old files that need not stay. Their names are in the order of their age.
    fn remove_old(&self, wall: Duration) -> io::Result<()> {
        let (before, after) = self.around();
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut old: Vec<String> = fs::read_dir(directory)?
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| {
                let time = name.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
                time.is_some_and(is_name)
            })
            .collect();
        old.sort_unstable_by(|a, b| b.cmp(a));
        let age = Duration::from_secs(self.rotation.maxage.saturating_mul(DAY));
        let oldest = format!("{before}{}", name_of(wall.saturating_sub(age)));
        for (place, name) in old.iter().enumerate() {
            let too_many = self.rotation.maxbackups != 0 && self.rotation.maxbackups <= place;
            let too_old = self.rotation.maxage != 0 && *name < oldest;
            if too_many || too_old {
                fs::remove_file(directory.join(name))?;
            }
        }
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.write_line()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The time in an old file's name: `2026-12-01T15-35-41.247`, in UTC.
fn name_of(wall: Duration) -> String {
    timestamp(wall).trim_end_matches('Z').replace(':', "-")
}

/// Whether a text has the form of [`name_of`].
fn is_name(text: &str) -> bool {
    const FORM: &str = "0000-00-00T00-00-00.000";
    let fits = |(c, form): (char, char)| if form == '0' { c.is_ascii_digit() } else { c == form };
    text.len() == FORM.len() && text.chars().zip(FORM.chars()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<_> =
            names.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_exchanged_between_two_lines_and_few_old_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        fs::write(dir.path().join("etcd-notes.log"), "not ours").unwrap();
        let rotation = Rotation { maxbackups: 2, ..Rotation::default() };
        let mut log = Rotating::open(&path, rotation).unwrap();
        log.bytes_max = 10;
        for number in 0..6_u64 {
            log.write_all(format!("line {number}").as_bytes()).unwrap();
            log.write_all(b"\n").unwrap();
            // Each old file has a name of its own.
            std::thread::sleep(Duration::from_millis(3));
        }
        let names = files(dir.path());
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 5\n");
        assert_eq!(fs::read_to_string(dir.path().join(&names[1])).unwrap(), "line 4\n");
        assert!(names.contains(&"etcd-notes.log".to_owned()));
        // A new start appends.
        let mut log = Rotating::open(&path, rotation).unwrap();
        log.write_all(b"more\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 5\nmore\n");
    }

    #[test]
    fn old_files_go_after_their_days() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let log = Rotating::open(&path, Rotation { maxage: 2, ..Rotation::default() }).unwrap();
        let now = clock::wall();
        for days in [1, 3] {
            let old = log.old_path(now - Duration::from_secs(days * DAY));
            fs::write(old, "old").unwrap();
        }
        log.remove_old(now).unwrap();
        assert_eq!(files(dir.path()).len(), 2, "the present one, and that of yesterday");
    }

    #[test]
    fn a_file_that_cannot_be_exchanged_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let mut log = Rotating::open(&path, Rotation::default()).unwrap();
        log.bytes_max = 4;
        log.write_all(b"one\n").unwrap();
        // Its name is gone, so there is nothing to rename.
        fs::remove_file(&path).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(log.bytes, 8);
    }
}
