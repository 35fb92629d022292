//! The process: its file descriptors, memory, CPU time and start, for `/metrics`.
//!
//! etcd exports the descriptors under two names each: those of Prometheus's own collector for
//! processes, and its own, which it updates every ten minutes. The rest is read from `/proc`, and
//! is missing where there is none.

use std::{fs, sync::OnceLock};

use nix::{
    sys::resource::{RLIM_INFINITY, Resource, UsageWho, getrlimit, getrusage},
    sys::time::TimeValLike as _,
    unistd::{SysconfVar, sysconf},
};

/// Directories that list a process's open files: on Linux, and on macOS.
const DIRECTORIES: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// The numbers of the process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    open: Option<u64>,
    cpu_seconds: Option<f64>,
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
}

impl Process {
    /// Reads them.
    pub(super) fn read() -> Process {
        let (virtual_bytes, resident_bytes) = memory().unzip();
        Process {
            open: open_descriptors(),
            cpu_seconds: cpu_seconds(),
            virtual_bytes,
            resident_bytes,
        }
    }

    /// The number with this name, if it is one of the process and the system tells it.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match name {
            "os_fd_used" | "process_open_fds" => self.open.map(|open| open as f64),
            "os_fd_limit" | "process_max_fds" => limit(Resource::RLIMIT_NOFILE),
            "process_cpu_seconds_total" => self.cpu_seconds,
            "process_resident_memory_bytes" => self.resident_bytes.map(|bytes| bytes as f64),
            "process_start_time_seconds" => started(),
            "process_virtual_memory_bytes" => self.virtual_bytes.map(|bytes| bytes as f64),
            "process_virtual_memory_max_bytes" => limit(Resource::RLIMIT_AS),
            _ => None,
        }
    }
}

/// Number of open file descriptors; `None` where the system does not report it.
fn open_descriptors() -> Option<u64> {
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

/// A soft limit; no limit is the largest number, as in Go.
fn limit(resource: Resource) -> Option<f64> {
    let (soft, _) = getrlimit(resource).ok()?;
    Some(if soft == RLIM_INFINITY { u64::MAX as f64 } else { soft as f64 })
}

fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Some(us as f64 / 1e6)
}

/// Virtual and resident memory, in bytes.
fn memory() -> Option<(u64, u64)> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = pages.split_whitespace().map(str::parse::<u64>);
    let page = page_bytes()?;
    let (all, resident) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some((all * page, resident * page))
}

fn page_bytes() -> Option<u64> {
    u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()
}

/// When the process started, in seconds since 1970: the system's start, and the ticks from there.
fn started() -> Option<f64> {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The process's name is in parentheses, and may have spaces; it is the second field.
        let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let per_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        Some(boot + ticks / per_second as f64)
    })
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
        let most = limit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(before + 100 < now && now as f64 <= most, "{before}, {now}");
        drop(files);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_time_and_start_are_plausible() {
        let process = Process::read();
        let number = |name| process.number(name).unwrap();
        let resident = number("process_resident_memory_bytes");
        assert!(1e6 < resident && resident <= number("process_virtual_memory_bytes"));
        assert!(0.0 < number("process_cpu_seconds_total"));
        let (now, start) =
            (crate::clock::wall().as_secs_f64(), number("process_start_time_seconds"));
        assert!(start <= now + 2.0 && now - start < 24.0 * 3600.0, "{start}, {now}");
    }
}
