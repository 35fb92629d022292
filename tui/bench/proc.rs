//! The CPU time and memory that processes use, from Linux's `/proc`.
//!
//! Throughput on a shared machine varies by a factor of two with other load; CPU time per request
//! hardly varies. Other systems have no such `/proc`, and the figures are n/a.

use std::{fs, time::Duration};

use nix::sys::resource::{UsageWho, getrusage};

/// Ticks per second of the times in `/proc/PID/stat`: Linux's ABI fixes this on every processor
/// that Rust supports, regardless of the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

/// The state of this process and of the servers at one moment.
pub(crate) struct Sample {
    own: Option<Duration>,
    servers: Vec<Server>,
}

/// One server process at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    /// User and system time since its start, all threads.
    pub(crate) cpu: Option<Duration>,
    /// Resident memory in KiB.
    pub(crate) rss_kib: Option<u64>,
}

/// The cost of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of this process.
    pub(crate) client: Option<Duration>,
    /// CPU time of each server in the run, and its memory at the end.
    pub(crate) servers: Vec<Server>,
}

impl Sample {
    /// Reads this process and `pids`.
    pub(crate) fn take(pids: &[u32]) -> Self {
        Self { own: own_cpu(), servers: pids.iter().map(|&pid| server(pid)).collect() }
    }
}

impl Usage {
    /// The difference of two samples.
    pub(crate) fn between(before: &Sample, after: &Sample) -> Self {
        let difference = |after: Option<Duration>, before: Option<Duration>| {
            after.zip(before).map(|(after, before)| after.saturating_sub(before))
        };
        let servers = after.servers.iter().zip(&before.servers);
        Self {
            client: difference(after.own, before.own),
            servers: servers
                .map(|(after, before)| Server {
                    cpu: difference(after.cpu, before.cpu),
                    ..after.clone()
                })
                .collect(),
        }
    }

    /// CPU time of all servers; `None` if one could not be read, or there are none.
    pub(crate) fn server_cpu(&self) -> Option<Duration> {
        if self.servers.is_empty() {
            return None;
        }
        self.servers.iter().map(|server| server.cpu).sum()
    }
}

fn own_cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let duration = |seconds: i64, micros: i64| {
        Some(Duration::new(u64::try_from(seconds).ok()?, 0) + micros_of(micros)?)
    };
    let (user, system) = (usage.user_time(), usage.system_time());
    // The fields have other integer types on other systems.
    #[allow(clippy::useless_conversion, reason = "i32 on macOS")]
    let sum = duration(user.tv_sec().into(), user.tv_usec().into())?
        + duration(system.tv_sec().into(), system.tv_usec().into())?;
    Some(sum)
}

fn micros_of(micros: i64) -> Option<Duration> {
    Some(Duration::from_micros(u64::try_from(micros).ok()?))
}

fn server(pid: u32) -> Server {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Server { pid, cpu: cpu_of(&stat), rss_kib: rss_of(&status) }
}

/// Fields 14 and 15 of `stat`, counted after the name, because a name may contain anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn rss_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_of(""), None);
    }

    #[test]
    fn memory_is_the_resident_part() {
        assert_eq!(rss_of("VmPeak:\t 9 kB\nVmRSS:\t  190000 kB\n"), Some(190_000));
        assert_eq!(rss_of("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn one_unreadable_server_makes_the_sum_unknown() {
        let known = Server { pid: 1, cpu: Some(Duration::from_secs(1)), rss_kib: None };
        let unknown = Server { cpu: None, ..known.clone() };
        let sum = |servers| Usage { client: None, servers }.server_cpu();
        assert_eq!(sum(vec![known.clone()]), Some(Duration::from_secs(1)));
        assert_eq!(sum(vec![known, unknown]), None);
        assert_eq!(sum(Vec::new()), None);
    }
}
