//! Records that are longer than 10 MiB, and lengths that only claim to be.

use std::{fs, io::Write as _, os::unix::fs::FileExt as _};

use super::*;

const LARGE: usize = 12 << 20;

/// A log whose second entry is large; the path of its only segment.
fn with_a_large_entry() -> (Log, PathBuf) {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(16 << 20)).unwrap();
    wal.save(&[entry(1, 1, 100)], Some(&state(1, 9, 1)), true).unwrap();
    wal.save(&[entry(2, 1, LARGE)], None, true).unwrap();
    drop(wal);
    let path = log.segments()[0].clone();
    (log, path)
}

/// Goal: a member keeps what an etcd with a large `--max-request-bytes` has put into the log.
/// Method: large entries in the last segment and in older ones, longer than their segments; they
/// are read from the open log, and at two starts.
#[test]
fn a_record_may_be_longer_than_ten_mebibytes_and_than_its_segment() {
    let log = Log::new();
    let (mut wal, locations) = create(&log.dir, &METADATA, &options(4096)).unwrap();
    let lens = [10, LARGE, 10, 10_485_690, 10];
    let all: Vec<Entry> = (1..).zip(lens).map(|(index, len)| entry(index, 1, len)).collect();
    for entry in &all {
        wal.save(std::slice::from_ref(entry), Some(&state(1, 1, entry.index)), true).unwrap();
    }
    assert!(locations.entries(1, 6, u64::MAX).unwrap() == all);
    assert!(locations.entries(2, 6, 1).unwrap() == all[1..2]);
    drop((wal, locations));
    assert!(2 < log.segments().len());
    for _ in 0..2 {
        assert!(log.read(4096).unwrap().1 == all);
    }
}

/// Goal: the rules of the torn tail hold for a large record. Method: its end is cut off, one of its
/// sectors has zeros, one of its bits is wrong, its length has another bit.
#[test]
fn a_large_record_is_torn_or_damaged_by_the_same_rules() {
    let (log, path) = with_a_large_entry();
    let bytes = fs::read(&path).unwrap();
    let at = frames(&bytes)[5];
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        log.read(16 << 20).map(|(recovered, _)| recovered.last_index)
    };
    assert_eq!(read(&bytes).unwrap(), 2);
    assert_eq!(read(&bytes[..at + LARGE / 2]).unwrap(), 1);
    let mut torn = bytes.clone();
    torn[11 << 20..(11 << 20) + 512].fill(0);
    assert_eq!(read(&torn).unwrap(), 1);
    let mut flipped = vec![(11 << 20, 1)];
    // Lengths that end before the record, behind it, behind the file, and beyond all bounds.
    flipped.extend([(at + 2, 0x80), (at + 2, 0x10), (at + 3, 0x01), (at + 3, 0x40), (at + 5, 1)]);
    for (byte, bits) in flipped {
        let mut damaged = bytes.clone();
        damaged[byte] ^= bits;
        let error = read(&damaged).unwrap_err();
        let is_there = matches!(error, Error::Corrupt { offset, .. } if offset == at as u64);
        assert!(is_there, "byte {byte}, bits {bits}: {error}");
    }
}

/// Goal: a length in a damaged file costs no memory. Method: a frame at the end of a small segment
/// announces almost a gibibyte, to a start and to a reader of entries.
#[test]
fn a_length_beyond_the_file_makes_no_room_for_it() {
    let log = Log::new();
    let bytes = written(&log, &[100]);
    let end = *frames(&bytes).last().unwrap();
    let path = log.segments()[0].clone();
    for claimed in [record::SIZE_LIMIT - 8, record::SIZE_LIMIT] {
        let mut wild = bytes.clone();
        wild[end..end + 8].copy_from_slice(&Frame::word(claimed).to_le_bytes());
        // A record that agrees with its frame.
        wild[end + 8..end + 12].copy_from_slice(&[8, 2, 16, 0]);
        let mut head = vec![26];
        record::put_varint(&mut head, claimed);
        (&mut wild[end + 12..]).write_all(&head).unwrap();
        fs::write(&path, &wild).unwrap();
        let file = File::open_read_only(&path).unwrap();
        let (mut scan, mut crc) = (reader::Scan::new(&file).unwrap(), 0);
        let found = loop {
            match scan.next(crc, true) {
                Ok(reader::Found::Record(found)) => crc = record::chain(crc, &found),
                other => break other.map(|found| matches!(found, reader::Found::Torn)),
            }
        };
        match claimed < record::SIZE_LIMIT {
            true => assert!(found.unwrap()),
            false => {
                let error = found.unwrap_err();
                let is_length = matches!(error, Error::Corrupt { reason: Reason::Length, .. });
                assert!(is_length, "{error}");
            }
        }
        assert!(scan.room() < 2 << 20, "{} bytes for a file of {}", scan.room(), wild.len());
    }
    // The file is damaged while the log is open.
    fs::write(&path, &bytes).unwrap();
    let (_wal, locations, _) = open(&log.dir, &options(16384)).unwrap();
    let at = frames(&bytes)[3] as u64;
    let word = Frame::word(record::SIZE_LIMIT - 8).to_le_bytes();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&word, at).unwrap();
    let error = locations.entries(1, 2, u64::MAX).unwrap_err();
    assert!(matches!(error, Error::Corrupt { reason: Reason::Short, .. }), "{error}");
}

#[test]
fn a_record_that_no_message_could_bring_is_refused_before_it_is_written() {
    let log = Log::new();
    let (mut wal, _) = create(&log.dir, &METADATA, &options(4096)).unwrap();
    // Pages of zeros that nobody touches take no memory.
    let data = vec![0; record::SIZE_LIMIT as usize].into();
    let entry = Entry { index: 1, term: 1, data, ..Entry::default() };
    let error = wal.save(&[entry], None, true).unwrap_err();
    assert!(matches!(error, Error::TooLarge { index: 1, .. }), "{error}");
}
