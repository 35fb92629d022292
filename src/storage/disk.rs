//! One type for every durable file: the log's segments, and the database's file below redb.
//!
//! ```text
//!   write_at ──▶ [page cache] ──sync──▶ disk          the usual way
//!   write_at ──▶ [ pages in our memory ] ──sync──▶ file   lossy, for tests
//! ```
//!
//! A file that is opened while the failpoint `disk-lossy` is active keeps its writes in memory
//! until they are synced. Killing the process then loses exactly what a power failure could lose,
//! so a test finds writes that were acknowledged too early. Reads see all writes. Failpoints exist
//! in test builds only. A file that must not be changed is opened in the same way
//! ([`File::look`]), and never synced.
//!
//! Not modelled: a rename that was not followed by [`sync_dir`] stays done, and what is lost is
//! lost whole. The log's own tests tear single sectors by surgery on the file.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The unit in which a lossy file remembers unsynced writes, in bytes.
const PAGE: u64 = 4096;

/// A durable file. Reads and writes name their offset, so that threads can share it.
#[derive(Debug)]
pub struct File {
    file: std::fs::File,
    path: PathBuf,
    /// Present if the file was opened lossy, or only to look at it.
    unsynced: Option<Mutex<Unsynced>>,
}

/// Writes to a file that were not synced.
#[derive(Debug)]
struct Unsynced {
    /// The length that readers see.
    len: u64,
    /// The shortest length since the last sync: beyond it the real file's content is void.
    floor: u64,
    /// Whole pages, by their number.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl File {
    /// Creates an empty file, readable by its owner only, or empties the one that is there.
    pub fn create(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        File::new(options.read(true).write(true).create(true).truncate(true).mode(0o600), path)
    }

    /// Opens a file that exists, for reading and writing.
    pub fn open(path: &Path) -> io::Result<File> {
        File::new(OpenOptions::new().read(true).write(true), path)
    }

    /// Opens a file that exists, for reading. It sees what has reached the real file.
    pub fn open_read_only(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().read(true).open(path)?;
        Ok(File { file, path: path.to_owned(), unsynced: None })
    }

    /// Opens the first `len` bytes of a file that is not to be changed. What is written stays in
    /// memory, and a sync fails.
    pub fn look(path: &Path, len: u64) -> io::Result<File> {
        let file = OpenOptions::new().read(true).open(path)?;
        let unsynced = Unsynced { len, floor: len, pages: BTreeMap::new() };
        Ok(File { file, path: path.to_owned(), unsynced: Some(Mutex::new(unsynced)) })
    }

    /// Opens a file for reading and writing; if there is none, makes an empty one, readable by its
    /// owner only.
    pub fn open_or_create(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        File::new(options, path)
    }

    /// The operating system's file, for locks and for its map of blocks.
    pub(super) fn real(&self) -> &std::fs::File {
        &self.file
    }

    fn new(options: &OpenOptions, path: &Path) -> io::Result<File> {
        let file = options.open(path)?;
        let len = file.metadata()?.len();
        let unsynced =
            is_lossy().then(|| Mutex::new(Unsynced { len, floor: len, pages: BTreeMap::new() }));
        Ok(File { file, path: path.to_owned(), unsynced })
    }

    /// The path under which the file was opened. A later rename does not change it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the path by which errors name the file, after it was renamed.
    pub fn renamed(self, path: &Path) -> File {
        File { path: path.to_owned(), ..self }
    }

    /// Fills `buffer` from `offset` on, as far as the file goes, and returns how far that was.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.unsynced {
            None => read_fully(&self.file, buffer, offset),
            Some(unsynced) => lock(unsynced).read(&self.file, buffer, offset),
        }
    }

    /// Writes all of `bytes` at `offset`; the file grows where needed.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.unsynced {
            None => self.file.write_all_at(bytes, offset),
            Some(unsynced) => lock(unsynced).write(&self.file, bytes, offset),
        }
    }

    /// Cuts the file, or extends it with zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.unsynced {
            None => self.file.set_len(len),
            Some(unsynced) => lock(unsynced).set_len(&self.file, len),
        }
    }

    /// Extends the file with zeros and reserves the room for them, so that later writes neither
    /// change the file's size nor run out of disk.
    pub fn preallocate(&self, len: u64) -> io::Result<()> {
        if self.unsynced.is_none() && self.len()? < len && reserve(&self.file, len)? {
            return Ok(());
        }
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    /// The length in bytes.
    #[allow(
        clippy::len_without_is_empty,
        reason = "nobody asks a durable file whether it is empty"
    )]
    pub fn len(&self) -> io::Result<u64> {
        match &self.unsynced {
            None => Ok(self.file.metadata()?.len()),
            Some(unsynced) => Ok(lock(unsynced).len),
        }
    }

    /// Returns when the content is on the disk, and the length as far as reading it needs it.
    pub fn sync_data(&self) -> io::Result<()> {
        self.settle()?;
        self.file.sync_data()
    }

    /// Returns when content and metadata are on the disk.
    pub fn sync_all(&self) -> io::Result<()> {
        self.settle()?;
        self.file.sync_all()
    }

    /// Writes the bytes that a lossy file has held back to the real file.
    fn settle(&self) -> io::Result<()> {
        match &self.unsynced {
            None => Ok(()),
            Some(unsynced) => lock(unsynced).settle(&self.file),
        }
    }
}

impl Unsynced {
    fn read(&self, file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let count = to_usize(self.len.saturating_sub(offset).min(wanted));
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let start = to_usize(at % PAGE);
            let part = (count - done).min(to_usize(PAGE) - start);
            let page = self.page(file, at / PAGE)?;
            buffer[done..done + part].copy_from_slice(&page[start..start + part]);
            done += part;
        }
        Ok(count)
    }

    fn write(&mut self, file: &std::fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let start = to_usize(at % PAGE);
            let part = (bytes.len() - done).min(to_usize(PAGE) - start);
            let mut page = self.page(file, at / PAGE)?;
            page[start..start + part].copy_from_slice(&bytes[done..done + part]);
            self.pages.insert(at / PAGE, page);
            done += part;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&mut self, file: &std::fs::File, len: u64) -> io::Result<()> {
        if len < self.len {
            let mut page = self.page(file, len / PAGE)?;
            page[to_usize(len % PAGE)..].fill(0);
            drop(self.pages.split_off(&(len / PAGE)));
            if !len.is_multiple_of(PAGE) {
                self.pages.insert(len / PAGE, page);
            }
            self.floor = self.floor.min(len);
        }
        self.len = len;
        Ok(())
    }

    /// A copy of the page as readers see it.
    fn page(&self, file: &std::fs::File, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; to_usize(PAGE)].into_boxed_slice();
        let start = number * PAGE;
        let real = to_usize(self.floor.saturating_sub(start).min(PAGE));
        read_fully(file, &mut page[..real], start)?;
        Ok(page)
    }

    fn settle(&mut self, file: &std::fs::File) -> io::Result<()> {
        if self.floor < file.metadata()?.len() {
            file.set_len(self.floor)?;
        }
        file.set_len(self.len)?;
        for (number, page) in std::mem::take(&mut self.pages) {
            let start = number * PAGE;
            let inside = to_usize(self.len.saturating_sub(start).min(PAGE));
            file.write_all_at(&page[..inside], start)?;
        }
        self.floor = self.len;
        Ok(())
    }
}

/// Returns when the directory's entries are on the disk: what was created, renamed or removed.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// The directory that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// How many bytes an ordinary user may still write to the file system that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    fail::fail_point!("disk-free-bytes", |bytes| {
        Ok(bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0))
    });
    let system = nix::sys::statvfs::statvfs(path)?;
    // The types of these fields differ between systems.
    #[allow(clippy::useless_conversion, reason = "as above")]
    let (blocks, size) = (u64::from(system.blocks_available()), u64::from(system.fragment_size()));
    Ok(blocks.saturating_mul(size))
}

/// Whether files that are opened now lose unsynced writes.
fn is_lossy() -> bool {
    fail::fail_point!("disk-lossy", |_| true);
    false
}

/// A poisoned lock means that a test failed while it held one; the pages are still good.
fn lock(unsynced: &Mutex<Unsynced>) -> MutexGuard<'_, Unsynced> {
    unsynced.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn read_fully(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reserves blocks up to `len` and extends the file; false where the file system cannot.
#[cfg(target_os = "linux")]
fn reserve(file: &std::fs::File, len: u64) -> io::Result<bool> {
    use nix::{errno::Errno, fcntl};
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let len = len.try_into().map_err(too_long)?;
    match fcntl::fallocate(file, fcntl::FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Elsewhere the length is all that can be set.
#[cfg(not(target_os = "linux"))]
fn reserve(_file: &std::fs::File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{random::Random, storage::own_process::alone};

    fn content(path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap()
    }

    fn seen(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; to_usize(file.len().unwrap())];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// The same steps on a real and on a lossy file must read the same, at every step.
    fn scribble(file: &File, seed: u64) -> Vec<Vec<u8>> {
        let mut random = Random::new(seed);
        let mut next = |bound: u64| random.below(bound);
        let mut views = Vec::new();
        for step in 0..200 {
            match next(10) {
                0 => file.set_len(next(20_000)).unwrap(),
                1 => file.sync_data().unwrap(),
                2 => file.preallocate(next(20_000)).unwrap(),
                _ => {
                    let bytes = vec![step; to_usize(next(6000))];
                    file.write_at(&bytes, next(14_000)).unwrap();
                }
            }
            views.push(seen(file));
        }
        views
    }

    #[test]
    fn a_lossy_file_reads_like_a_real_one() {
        alone("storage::disk::tests::a_lossy_file_reads_like_a_real_one", || {
            for seed in 0..20 {
                let dir = tempfile::tempdir().unwrap();
                let real = File::create(&dir.path().join("real")).unwrap();
                assert!(real.unsynced.is_none());
                fail::cfg("disk-lossy", "return").unwrap();
                let lossy = File::create(&dir.path().join("lossy")).unwrap();
                assert!(lossy.unsynced.is_some());
                fail::remove("disk-lossy");
                assert!(scribble(&real, seed) == scribble(&lossy, seed));
                lossy.sync_all().unwrap();
                assert!(content(real.path()) == content(lossy.path()));
            }
        });
    }

    #[test]
    fn a_lossy_file_loses_exactly_the_unsynced_writes() {
        alone("storage::disk::tests::a_lossy_file_loses_exactly_the_unsynced_writes", || {
            fail::cfg("disk-lossy", "return").unwrap();
            let dir = tempfile::tempdir().unwrap();
            let file = File::create(&dir.path().join("f")).unwrap();
            file.write_at(b"synced", 0).unwrap();
            file.sync_data().unwrap();
            file.write_at(b"LOST", 2).unwrap();
            file.set_len(9000).unwrap();
            assert_eq!(content(file.path()), b"synced");
            assert_eq!(&seen(&file)[..7], b"syLOST\0");
            drop(file);
            let again = File::open(&dir.path().join("f")).unwrap();
            assert_eq!(seen(&again), b"synced");
        });
    }

    #[test]
    fn preallocated_room_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(&dir.path().join("f")).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.preallocate(10_000).unwrap();
        file.preallocate(100).unwrap();
        let bytes = seen(&file);
        assert_eq!((bytes.len(), bytes[0]), (10_000, b'x'));
        assert!(bytes[1..].iter().all(|byte| *byte == 0));
    }
}
