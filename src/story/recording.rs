//! Recordings as files: NDJSON, one object per line, with names instead of numbers.
//!
//! ```text
//! {"glass":1,"members":[{"id":"264ae6bc59e99892","cluster":"…","name":"etcd-01","version":"0.1.0",
//!   "boots":[{"boot":1,"wall_ns":1700000000000000000}]}]}
//! {"member":0,"boot":1,"stage":"wal.fsync","kind":"span","clock":12,"end":15,"at":120000,
//!   "took":900000,"thread":"wal","flags":["kept"],"fields":{"first":42,"last":42,…}}
//! {"members":[…]}
//! {"dropped":[0,12,0]}
//! ```
//!
//! The first line states the version of the format. A line with `members` replaces the table, when
//! the first records of a member arrive after the file was begun; a line with `dropped` says how
//! many records each member is known to have lost.
//!
//! Names of stages and fields are public API (see the vocabulary). Numbers: `at` and `took` are
//! nanoseconds, `at` since the member's start; `clock` and `end` are the member's clock at the
//! start and at the end of the step. Numbers that JSON readers would round (ids, links, members)
//! are strings of 16 hex digits; methods, message types and roles are names; flags are true or
//! false. `id`, `link`, `flags`, `code`, `key` and `range_end` are left out if they have no value.
//! A key is `{"text":"foo","length":3}`, or has `hex` instead of `text` if it is not UTF-8; the end
//! of a range has the same form.
//!
//! A reader skips a byte order mark. It skips stages and fields that it does not know, and counts
//! the former. It rejects malformed lines, by number, and two recordings in one file, because the
//! steps of one would get the members and the times of the other. Only the last line may be cut
//! short, because the recorder may have been killed.

use std::io::{self, BufRead, Read as _, Write};

pub(crate) mod json;

use crate::story::{Event, MemberInfo, Recording};

/// The version of the format that is written, and the highest that can be read.
pub const VERSION: u64 = 1;

/// The longest line, in bytes. A step has less than a thousand; the table of members grows with
/// their starts.
const LINE_MAX: u64 = 4 << 20;

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The records that the file holds.
    pub recording: Recording,
    /// Number of lines whose stage this version does not know.
    pub unknown: u64,
    /// Whether the last line was cut short.
    pub is_cut: bool,
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("reading the recording")]
    Io(#[from] io::Error),
    /// The first line is not a header.
    #[error("not a recording of `glass trace record`: {0}")]
    NoHeader(String),
    /// The file has a later version.
    #[error("line 1: the recording has version {0}, this program reads up to {VERSION}")]
    Version(u64),
    /// A line is malformed.
    #[error("line {line}: {reason}")]
    Line {
        /// Line number, from 1.
        line: u64,
        /// The reason, for people.
        reason: String,
    },
}

/// Writes a recording, line by line.
pub struct Writer<W: Write> {
    out: W,
    members: Vec<MemberInfo>,
    dropped: Vec<u64>,
}

impl<W: Write> Writer<W> {
    /// Writes the first line. Errors are those of `out`.
    pub fn new(mut out: W, members: &[MemberInfo]) -> io::Result<Writer<W>> {
        json::write_line(&mut out, &json::header(VERSION, members))?;
        Ok(Writer { out, members: members.to_vec(), dropped: Vec::new() })
    }

    /// Writes members, boots and losses that are new since the last call.
    pub fn update(&mut self, recording: &Recording) -> io::Result<()> {
        if self.members != recording.members {
            self.members.clone_from(&recording.members);
            json::write_line(&mut self.out, &json::members(&self.members))?;
        }
        let is_lost = recording.dropped.iter().any(|lost| *lost != 0);
        if is_lost && self.dropped != recording.dropped {
            self.dropped.clone_from(&recording.dropped);
            json::write_line(&mut self.out, &json::dropped(&self.dropped))?;
        }
        Ok(())
    }

    /// Writes a line for this event. Errors are those of `out`.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        write_event(&mut self.out, event)
    }

    /// Flushes the buffered lines.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes one event as a line, for streaming without a file.
pub fn write_event<W: Write>(mut out: W, event: &Event) -> io::Result<()> {
    json::write_line(&mut out, &json::EventLine(event))
}

/// Writes a whole recording.
pub fn write<W: Write>(out: W, recording: &Recording) -> io::Result<()> {
    let mut writer = Writer::new(out, &recording.members)?;
    writer.update(recording)?;
    for event in &recording.events {
        writer.event(event)?;
    }
    writer.flush()
}

/// Reads a whole recording.
pub fn read<R: BufRead>(input: R) -> Result<Read, ReadError> {
    read_with(input, |_| {})
}

/// Reads a recording line by line. After each line, `each` receives the recording so far and may
/// take events out of it. So a reader that keeps only a part of a file needs memory only for that
/// part.
pub fn read_with<R: BufRead>(
    mut input: R,
    mut each: impl FnMut(&mut Recording),
) -> Result<Read, ReadError> {
    let mut read = Read::default();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if (&mut input).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        if let Some(form) = form_of(&line).filter(|_| number == 1) {
            return Err(ReadError::NoHeader(form.to_owned()));
        }
        if line.len() as u64 == LINE_MAX {
            let reason = format!("longer than {} MiB", LINE_MAX >> 20);
            return Err(match number {
                1 => ReadError::NoHeader(format!("its first line is {reason}")),
                line => ReadError::Line { line, reason },
            });
        }
        let is_whole = line.last() == Some(&b'\n');
        match read_line(&line, number, &mut read) {
            Err(ReadError::Line { .. }) if !is_whole => read.is_cut = true,
            other => other?,
        }
        each(&mut read.recording);
    }
    if number == 0 {
        return Err(ReadError::NoHeader("the file is empty".to_owned()));
    }
    read.recording.dropped.resize(read.recording.members.len(), 0);
    Ok(read)
}

/// What else a file is that begins with these bytes, and the way out.
fn form_of(bytes: &[u8]) -> Option<&'static str> {
    let forms: [(&[u8], &str); 9] = [
        (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"),
        (b"\xfd7zXZ\0", "it is compressed with xz; unpack it first"),
        (b"BZh", "it is compressed with bzip2; unpack it first"),
        (b"PK\x03\x04", "it is a zip archive; unpack it first"),
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
        (b"{\0", UTF_16),
        (b"\0{", UTF_16),
    ];
    forms.into_iter().find(|(begin, _)| bytes.starts_with(begin)).map(|(_, form)| form)
}

const UTF_16: &str = "it is text in UTF-16; convert it to UTF-8 first";
/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn read_line(line: &[u8], number: u64, read: &mut Read) -> Result<(), ReadError> {
    if number == 1 {
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let header = json::read_header(line).map_err(ReadError::NoHeader)?;
        if VERSION < header.0 {
            return Err(ReadError::Version(header.0));
        }
        read.recording.members = header.1;
        return Ok(());
    }
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let wrong = |reason| ReadError::Line { line: number, reason };
    match json::read_line(line, read.recording.members.len()).map_err(wrong)? {
        json::Line::Event(event) => read.recording.events.push(*event),
        json::Line::Unknown => read.unknown += 1,
        json::Line::Members(members) if members.len() < read.recording.members.len() => {
            return Err(wrong("the table of members shrinks".to_owned()));
        }
        json::Line::Members(members) => {
            let known = read.recording.members.iter().zip(&members).enumerate();
            let is_other = |(_, (old, new)): &(usize, (&MemberInfo, &MemberInfo))| {
                (old.member_id, old.cluster_id) != (new.member_id, new.cluster_id)
            };
            if let Some((place, _)) = known.into_iter().find(is_other) {
                return Err(wrong(format!("member {place} of the table becomes another one")));
            }
            read.recording.members = members;
        }
        json::Line::Dropped(dropped) => read.recording.dropped = dropped,
    }
    Ok(())
}

#[cfg(test)]
mod tests;
