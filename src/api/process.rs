//! The process's file descriptors, for `/metrics`.
//!
//! etcd exports the same numbers under two names each: those of Prometheus's own collector for
//! processes, and its own, which it updates every ten minutes.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// Directories that list a process's open files: on Linux, and on macOS.
const DIRECTORIES: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// Number of open file descriptors; `None` where the system does not report it.
pub(super) fn open_descriptors() -> Option<u64> {
    DIRECTORIES.iter().find_map(|directory| {
        // Since Linux 6.2 it is the directory's size, which is free to read.
        let size = fs::metadata(directory).ok()?.len();
        if directory.starts_with("/proc") && 0 < size {
            return Some(size);
        }
        // The descriptor that reads the directory does not count.
        Some((fs::read_dir(directory).ok()?.count() as u64).saturating_sub(1))
    })
}

/// The limit on open file descriptors.
pub(super) fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_descriptors_are_counted() {
        let before = open_descriptors().expect("Linux and macOS tell");
        // Other tests of this process open and close files meanwhile.
        let files: Vec<_> = (0..200).map(|_| tempfile::tempfile().unwrap()).collect();
        let now = open_descriptors().unwrap();
        assert!(before + 100 < now && now <= descriptor_limit().unwrap(), "{before}, {now}");
        drop(files);
    }
}
