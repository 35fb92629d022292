//! What the members print: the ends of the log files that `glass up` writes for its player.
//!
//! The files are read only while somebody looks at them, and only what was appended since: of an
//! old file the end, and of a member that logs fast the newest. A `glass up` without a player
//! prints the lines itself and writes no files; then there is nothing to read.
//!
//! Bounded: the first read of a file and each later one, and the length of a line.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The most bytes of one read.
const READ_BYTES: u64 = 128 << 10;
/// Length in bytes at which a line is cut.
const LINE_BYTES: usize = 4096;

/// A line of a member's log, and the name of its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) name: String,
    pub(crate) line: String,
}

/// The log files of the processes of a `glass up`.
#[derive(Debug)]
pub(crate) struct LogFiles(Vec<Tail>);

/// A file, and how far it was read.
#[derive(Debug)]
struct Tail {
    name: String,
    path: PathBuf,
    offset: u64,
}

impl LogFiles {
    /// The files of these processes in the directory of their `glass up`.
    pub(crate) fn of(base: &Path, names: &[String]) -> LogFiles {
        let mut names: Vec<&String> = names.iter().collect();
        names.sort();
        names.dedup();
        let tail = |name: &String| Tail {
            name: name.clone(),
            path: base.join(format!("{name}.log")),
            offset: 0,
        };
        LogFiles(names.into_iter().map(tail).collect())
    }

    /// The lines that were completed since the last call. A file that is not there has none.
    pub(crate) fn read(&mut self) -> Vec<Said> {
        self.0.iter_mut().flat_map(|tail| tail.read().unwrap_or_default()).collect()
    }
}

impl Tail {
    fn read(&mut self) -> io::Result<Vec<Said>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        // A file that was set aside begins anew.
        let known = if length < self.offset { 0 } else { self.offset };
        let from = known.max(length.saturating_sub(READ_BYTES));
        if from == length {
            self.offset = length;
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(length - from).read_to_end(&mut bytes)?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            self.offset = known;
            return Ok(Vec::new());
        };
        self.offset = from + end as u64 + 1;
        let mut lines = bytes[..end].split(|byte| *byte == b'\n');
        if from != known {
            // It began before what was read.
            lines.next();
        }
        let said = |line: &[u8]| {
            let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES)]);
            Said { name: self.name.clone(), line: line.into_owned() }
        };
        Ok(lines.map(said).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn lines(files: &mut LogFiles) -> Vec<String> {
        files.read().into_iter().map(|said| format!("{} {}", said.name, said.line)).collect()
    }

    #[test]
    fn only_complete_and_new_lines_are_read_and_a_renamed_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["b".to_owned(), "a".to_owned(), "a".to_owned()];
        let mut files = LogFiles::of(dir.path(), &names);
        assert_eq!(lines(&mut files), [""; 0]);
        let path = dir.path().join("a.log");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(lines(&mut files), ["a one", "a two"]);
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ee\n").unwrap();
        fs::write(dir.path().join("b.log"), "x\n").unwrap();
        assert_eq!(lines(&mut files), ["a three", "b x"]);
        fs::write(&path, "new\n").unwrap();
        assert_eq!(lines(&mut files), ["a new"]);
    }

    #[test]
    fn of_a_large_file_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..40_000).map(|line| format!("line {line}\n")).collect();
        fs::write(dir.path().join("a.log"), &text).unwrap();
        let mut files = LogFiles::of(dir.path(), &["a".to_owned()]);
        let read = lines(&mut files);
        assert!(read.len() < 40_000 && read[0].starts_with("a line "), "{}", read[0]);
        assert_eq!(read.last().unwrap(), "a line 39999");
    }
}
