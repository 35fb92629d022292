//! Prometheus's text format, version 0.0.4, with numbers as Go writes them.
//!
//! A query over members of etcd and of this server adds up buckets by the text of their bound, so
//! `1.048576e+06` must not be `1048576` here.

use std::fmt::Write as _;

use super::{Histogram, Kind};

/// A page of metrics. Writing into a string cannot fail.
#[derive(Debug, Default)]
pub struct Text(String);

/// Labels of a sample, in the order in which they are written.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// The lines before the samples of a name.
    pub fn head(&mut self, name: &str, help: &str, kind: Kind) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {}", number(value));
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let snapshot = histogram.snapshot();
        let all = [(f64::INFINITY, snapshot.count)];
        for (bound, count) in snapshot.buckets.iter().chain(&all) {
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&number(*bound)));
            let _ = writeln!(self.0, " {count}");
        }
        for (suffix, value) in [("sum", snapshot.sum), ("count", snapshot.count as f64)] {
            self.sample(&format!("{name}_{suffix}"), labels, value);
        }
    }

    fn labels(&mut self, labels: Labels<'_>, bound: Option<&str>) {
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{name}=\"{value}\"");
            before = ',';
        }
        if before == ',' {
            self.0.push('}');
        }
    }

    /// The whole page.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A number as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it: with an exponent, of two
/// digits at least, below 1e-4 and from 1e6 on.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value < 0.0 { "-Inf" } else { "+Inf" }.to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.0001, "0.0001"),
            (0.00005, "5e-05"),
            (0.1024, "0.1024"),
            (52.4288, "52.4288"),
            (20_480.0, "20480"),
            (262_144.0, "262144"),
            (1_048_576.0, "1.048576e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (1_796_137_232.66, "1.79613723266e+09"),
            (1.844_674_407_370_955_2e19, "1.8446744073709552e+19"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_in_labels_cannot_end_them() {
        let mut text = Text::default();
        text.head("a", "b\nc\\d", Kind::Gauge);
        text.sample("a", &[("x", "1\"2\\3\n4"), ("y", "")], 2.0);
        let expected = "# HELP a b\\nc\\\\d\n# TYPE a gauge\na{x=\"1\\\"2\\\\3\\n4\",y=\"\"} 2\n";
        assert_eq!(text.into_string(), expected);
    }
}
