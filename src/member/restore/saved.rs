//! A saved file: a database, and behind it the hash of its bytes (etcd: `copyAndVerifyDB`).

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{Error, file};
use crate::storage::{digest_hex, disk};

/// The bytes of the hash behind a saved database.
const HASH: usize = 32;
/// A database is as long as some number of these, and a saved one longer by a hash (etcd:
/// hasChecksum).
const SECTOR: u64 = 512;
/// The bytes that are read at a time.
const PART: u64 = 1 << 20;

/// The file, which is never written.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) path: PathBuf,
    /// The bytes of the database.
    pub(super) len: u64,
    pub(super) has_hash: bool,
}

impl Saved {
    pub(super) fn open(path: &Path) -> Result<Saved, Error> {
        let found = fs::metadata(path).map_err(file(path))?;
        if !found.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let has_hash = found.len() % SECTOR == HASH as u64;
        let len = if has_hash { found.len() - HASH as u64 } else { found.len() };
        Ok(Saved { path: path.to_owned(), len, has_hash })
    }

    /// Compares the database with its hash, if it has one.
    pub(super) fn check_hash(&self) -> Result<(), Error> {
        if self.has_hash { self.read(true, |_, _| Ok(())) } else { Ok(()) }
    }

    /// Copies the database without its hash. Errors name the copy `name`.
    pub(super) fn copy(&self, to: &Path, name: &Path, check: bool) -> Result<(), Error> {
        let copy = disk::File::create(to).map_err(file(name))?;
        self.read(check && self.has_hash, |part, offset| {
            fail::fail_point!("restore-disk-full", |_| Err(file(name)(
                nix::errno::Errno::ENOSPC.into()
            )));
            copy.write_at(part, offset).map_err(file(name))
        })?;
        copy.sync_all().map_err(file(name))
    }

    /// Shows the database part by part, each with its offset; then compares it with the hash.
    fn read(
        &self,
        check: bool,
        mut see: impl FnMut(&[u8], u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut from = fs::File::open(&self.path).map_err(file(&self.path))?;
        let (mut hash, mut offset) = (Sha256::new(), 0);
        let mut bytes = vec![0; usize::try_from(PART.min(self.len)).unwrap_or(usize::MAX)];
        while offset < self.len {
            let part = usize::try_from(PART.min(self.len - offset)).unwrap_or(usize::MAX);
            let part = &mut bytes[..part];
            from.read_exact(part).map_err(file(&self.path))?;
            if check {
                hash.update(&*part);
            }
            see(part, offset)?;
            offset += part.len() as u64;
        }
        let mut expected = [0; HASH];
        if !check {
            return Ok(());
        }
        from.read_exact(&mut expected).map_err(file(&self.path))?;
        let found = hash.finalize();
        if expected == found[..] {
            return Ok(());
        }
        let [expected, found] = [&expected[..], &found[..]].map(digest_hex);
        Err(Error::OtherHash { path: self.path.clone(), expected, found })
    }
}
