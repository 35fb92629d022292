//! The output of the processes: lines prefixed with the process's name, or one file per process.
//!
//! Reading never stops, because a process that prints into a full pipe would block. [`Lines`] drops
//! and counts what the terminal cannot accept in time.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::lines::Lines;

/// Length in bytes at which a line is split.
const LINE_BYTES: usize = 8192;
/// Size in bytes from which a log file is renamed before the next start.
const FILE_BYTES: u64 = 16 << 20;
/// ANSI codes of cyan, yellow, green, magenta, blue, red.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// The prefix of the process at position `at`.
pub(crate) fn prefix(name: &str, width: usize, at: usize, colour: bool) -> String {
    match colour {
        true => format!("\x1b[{}m{name:width$} |\x1b[0m ", COLOURS[at % COLOURS.len()]),
        false => format!("{name:width$} | "),
    }
}

/// Copies the output of a process, line by line, until it ends.
pub(crate) async fn copy(pipe: impl AsyncRead + Unpin, prefix: String, lines: Lines) {
    let mut reader = BufReader::with_capacity(LINE_BYTES, pipe);
    let mut line = Vec::new();
    loop {
        let chunk = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(chunk) => chunk,
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |at| at + 1);
        line.extend_from_slice(&chunk[..end.unwrap_or(taken)]);
        reader.consume(taken);
        if end.is_some() || line.len() >= LINE_BYTES {
            lines.put(format!("{prefix}{}", clean(&line)));
            line.clear();
        }
    }
    if !line.is_empty() {
        lines.put(format!("{prefix}{}", clean(&line)));
    }
}

/// Removes carriage returns, which would let one process overwrite another's prefix.
fn clean(line: &[u8]) -> String {
    String::from_utf8_lossy(line).replace('\r', "")
}

/// The log file of a process; an existing one is appended to, or renamed once it is too large.
pub(crate) fn log_file(base: &Path, name: &str) -> io::Result<File> {
    let path = base.join(format!("{name}.log"));
    if fs::metadata(&path).is_ok_and(|data| data.len() > FILE_BYTES) {
        fs::rename(&path, base.join(format!("{name}.log.1")))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn copied(text: &[u8]) -> String {
        let memory = Memory::default();
        let (lines, flush) =
            Lines::start(vec![Box::new(memory.clone())], |n| n.to_string()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(copy(text, prefix("a", 2, 0, false), lines));
        drop(flush);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_line_has_its_prefix_and_the_last_needs_no_end() {
        assert_eq!(copied(b"one\ntwo\r\n\nrest"), "a  | one\na  | two\na  | \na  | rest\n");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let text = vec![b'x'; 3 * LINE_BYTES];
        let longest = copied(&text).lines().map(str::len).max().unwrap();
        assert!(longest < 2 * LINE_BYTES + 10, "{longest}");
    }

    #[test]
    fn a_large_log_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = log_file(dir.path(), "m").unwrap();
        file.set_len(FILE_BYTES + 1).unwrap();
        let file = log_file(dir.path(), "m").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(dir.path().join("m.log.1").exists());
    }
}
