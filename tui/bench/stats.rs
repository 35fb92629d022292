//! Latencies, and the report that etcd's tool prints.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::{Value, json};

use super::proc::Usage;

/// Buckets per doubling of the latency: a percentile is off by less than 1/128.
const STEPS: u64 = 128;
/// Percentiles of the report.
const PERCENTILES: [f64; 8] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9];
/// Lines of the histogram.
const BARS: usize = 10;
/// Characters of its longest bar.
const BAR_WIDTH: u64 = 40;

/// A distribution of latencies in constant memory: the width of a bucket grows with its value.
#[derive(Default)]
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
    sum_of_squares: f64,
    least_ns: u64,
    most_ns: u64,
}

impl Latency {
    /// Adds the latency of one request.
    pub(crate) fn add(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(ns);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.least_ns = if self.count == 0 { ns } else { self.least_ns.min(ns) };
        self.most_ns = self.most_ns.max(ns);
        self.count += 1;
        self.sum += ns as f64;
        self.sum_of_squares += (ns as f64) * (ns as f64);
    }

    /// Number of requests that were measured.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency in seconds that `percent` of the requests did not exceed; 0 without requests.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = ((self.count as f64) * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if rank <= seen {
                return seconds(middle_of(bucket).clamp(self.least_ns, self.most_ns) as f64);
            }
        }
        0.0
    }

    fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { seconds(self.sum / self.count as f64) }
    }

    fn deviation(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let count = self.count as f64;
        let mean = self.sum / count;
        seconds((self.sum_of_squares / count - mean * mean).max(0.0).sqrt())
    }

    /// Upper edge in seconds and count of each of [`BARS`] + 1 steps from fastest to slowest.
    fn bars(&self) -> Vec<(f64, u64)> {
        let step = (self.most_ns - self.least_ns) / BARS as u64;
        let mut bars: Vec<(u64, u64)> =
            (0..=BARS as u64).map(|at| (self.least_ns + at * step, 0)).collect();
        for (bucket, &count) in self.buckets.iter().enumerate().filter(|(_, count)| **count != 0) {
            let ns = middle_of(bucket).clamp(self.least_ns, self.most_ns);
            let at = bars.iter().position(|(edge, _)| ns <= *edge).unwrap_or(BARS);
            bars[at].1 += count;
        }
        bars.into_iter().map(|(edge, count)| (seconds(edge as f64), count)).collect()
    }
}

/// Below [`STEPS`] each value has its own bucket; above it each doubling has [`STEPS`].
fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let doubling = u64::from(ns.ilog2() - STEPS.ilog2());
    (doubling * STEPS + (ns >> doubling)) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let doubling = bucket / STEPS - 1;
    let low = (bucket - doubling * STEPS) << doubling;
    low + ((1 << doubling) >> 1)
}

fn seconds(ns: f64) -> f64 {
    ns / 1e9
}

/// The result of one run.
pub(crate) struct Report {
    /// The command and its load, for the heading.
    pub(crate) title: String,
    /// Durations of the requests that succeeded.
    pub(crate) latency: Latency,
    /// Requests that failed, by error.
    pub(crate) errors: BTreeMap<String, u64>,
    /// From the first counted request to the end.
    pub(crate) took: Duration,
    /// CPU time and memory of the members.
    pub(crate) usage: Usage,
}

impl Report {
    /// Successful requests a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latency.count() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// CPU of all servers per request, in microseconds.
    pub(crate) fn server_cpu_us(&self) -> Option<f64> {
        self.usage.server_cpu().map(|cpu| self.each_us(cpu))
    }

    fn each_us(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / (self.latency.count().max(1) as f64)
    }

    /// The report as etcd's tool prints it, followed by the servers' cost.
    pub(crate) fn to_text(&self, precise: bool) -> String {
        let number = |value: f64| if precise { value.to_string() } else { format!("{value:.4}") };
        let mut text = format!("bench with {}\n\nSummary:\n", self.title);
        for (name, value) in [
            ("Total", self.took.as_secs_f64()),
            ("Slowest", seconds(self.latency.most_ns as f64)),
            ("Fastest", seconds(self.latency.least_ns as f64)),
            ("Average", self.latency.average()),
            ("Stddev", self.latency.deviation()),
        ] {
            let _ = writeln!(text, "  {name}:\t{} secs.", number(value));
        }
        let _ = writeln!(text, "  Requests/sec:\t{}", number(self.per_second()));
        self.add_bars(&mut text, number);
        text.push_str("\nLatency distribution:\n");
        for percent in PERCENTILES {
            let latency = number(self.latency.percentile(percent));
            let _ = writeln!(text, "  {percent}% in {latency} secs.");
        }
        if !self.errors.is_empty() {
            text.push_str("\nError distribution:\n");
        }
        for (error, count) in &self.errors {
            let _ = writeln!(text, "  [{count}]\t{error}");
        }
        self.add_cost(&mut text);
        text
    }

    fn add_bars(&self, text: &mut String, number: impl Fn(f64) -> String) {
        let bars = self.latency.bars();
        let longest = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
        text.push_str("\nResponse time histogram:\n");
        for (edge, count) in bars {
            let bar = "∎".repeat((count * BAR_WIDTH / longest) as usize);
            let _ = writeln!(text, "  {} [{count}]\t|{bar}", number(edge));
        }
    }

    fn add_cost(&self, text: &mut String) {
        let micros = |cpu: Option<Duration>| {
            cpu.map_or("n/a".to_owned(), |cpu| format!("{:.1} us", self.each_us(cpu)))
        };
        let _ = writeln!(text, "\nCPU per request:\n  client:\t{}", micros(self.usage.client));
        if self.usage.servers.is_empty() {
            return;
        }
        let _ = writeln!(text, "  servers:\t{}", micros(self.usage.server_cpu()));
        for server in &self.usage.servers {
            let rss = server.rss_kib.map_or("n/a".to_owned(), |kib| format!("{} MiB", kib / 1024));
            let _ = writeln!(text, "  pid {}:\t{}, RSS {rss}", server.pid, micros(server.cpu));
        }
    }

    /// The report as JSON. Times are in milliseconds, CPU in microseconds per request.
    pub(crate) fn to_json(&self) -> Value {
        let each = |cpu: Option<Duration>| cpu.map(|cpu| self.each_us(cpu));
        let percentiles: serde_json::Map<String, Value> = PERCENTILES
            .iter()
            .map(|p| (format!("p{p}"), json!(self.latency.percentile(*p) * 1e3)))
            .collect();
        let servers: Vec<Value> = (self.usage.servers.iter())
            .map(|s| json!({"pid": s.pid, "cpu_us": each(s.cpu), "rss_kib": s.rss_kib}))
            .collect();
        json!({
            "operation": self.title,
            "requests": self.latency.count(),
            "errors": self.errors,
            "seconds": self.took.as_secs_f64(),
            "requests_per_second": self.per_second(),
            "latency_ms": percentiles,
            "average_ms": self.latency.average() * 1e3,
            "slowest_ms": self.latency.most_ns as f64 / 1e6,
            "client_cpu_us": each(self.usage.client),
            "server_cpu_us": self.server_cpu_us(),
            "servers": servers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values_us: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        values_us.into_iter().for_each(|us| latency.add(Duration::from_micros(us)));
        latency
    }

    #[test]
    fn percentiles_are_within_one_percent() {
        let latency = of(1..=10_000);
        for (percent, expected) in
            [(10.0, 1e-3), (50.0, 5e-3), (99.0, 9.9e-3), (99.9, 9.99e-3), (100.0, 1e-2)]
        {
            let found = latency.percentile(percent);
            assert!((found / expected - 1.0).abs() < 0.01, "p{percent}: {found}");
        }
    }

    #[test]
    fn buckets_are_in_order_and_hold_their_own_middle() {
        let mut last = 0;
        for shift in 0..60 {
            for value in [1u64 << shift, (1 << shift) + (1 << shift >> 1), (2 << shift) - 1] {
                let bucket = bucket_of(value);
                assert!(last <= bucket, "{value}");
                assert_eq!(bucket_of(middle_of(bucket)), bucket, "{value}");
                last = bucket;
            }
        }
    }

    #[test]
    fn the_report_counts_every_request_once() {
        let latency = of([10, 20, 30, 40, 1000]);
        assert_eq!(latency.bars().iter().map(|(_, count)| count).sum::<u64>(), 5);
        let report = Report {
            title: "put".to_owned(),
            latency,
            errors: BTreeMap::from([("code 14: x".to_owned(), 2)]),
            took: Duration::from_millis(500),
            usage: Usage::default(),
        };
        let text = report.to_text(false);
        assert!(text.contains("  Requests/sec:\t10.0000\n"), "{text}");
        assert!(text.contains("  99.9% in 0.0010 secs.\n"), "{text}");
        assert!(text.contains("  [2]\tcode 14: x\n"), "{text}");
        assert_eq!(report.to_json()["requests"], 5);
    }

    #[test]
    fn a_run_without_answers_prints_zeros() {
        let report = Report {
            title: "put".to_owned(),
            latency: Latency::default(),
            errors: BTreeMap::new(),
            took: Duration::from_secs(1),
            usage: Usage::default(),
        };
        assert!(report.to_text(true).contains("Requests/sec:\t0\n"));
    }
}
