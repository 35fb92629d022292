//! The appendices with the flags and the metrics: their tables are those of the code.

use std::fmt::Write as _;

use glass_etcd::{
    config::flags::{self, Effect, Flag, Kind},
    metrics::{self, Family, Source},
};

use super::Text;

const FLAGS: &str = "book/src/flags.md";
const METRICS: &str = "book/src/metrics.md";

/// Compares a page with the code, or writes it.
fn holds(page: &str, tables: &[String]) {
    let text = Text::read(page).text;
    let mut tables = tables.iter();
    let (mut expected, mut is_in_table) = (String::new(), false);
    for line in text.lines() {
        if !line.starts_with('|') {
            is_in_table = false;
            expected.push_str(&format!("{line}\n"));
        } else if !std::mem::replace(&mut is_in_table, true) {
            expected.push_str(tables.next().expect("a table of the code"));
        }
    }
    assert_eq!(tables.next(), None, "{page} has too few tables");
    if std::env::var_os("GLASS_DRAW").is_some() {
        std::fs::write(page, &expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "{page} is not what GLASS_DRAW=1 cargo test --test book tables writes"
    );
}

/// Text that Markdown shows as it is.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn flag_row(flag: &Flag) -> String {
    let default = match (flag.kind, flag.default) {
        (Kind::Bool, "false") | (_, "") => String::new(),
        (_, default) => format!("`{}`", plain(default)),
    };
    let what = match flag.effect {
        Effect::Works(what) => plain(what),
        Effect::Inert(why) => format!("*accepted, no effect*: {}", plain(why)),
        Effect::Refused(why) => format!("*refused*: {}", plain(why)),
        Effect::Legacy => "*ignored, as by etcd*".to_owned(),
    };
    format!("| `--{}` | {default} | {what} |\n", flag.name)
}

fn flag_table(group: &[Flag]) -> String {
    let rows: String = group.iter().map(flag_row).collect();
    format!("| flag | default | effect |\n|---|---|---|\n{rows}")
}

fn metric_row(family: &Family) -> String {
    let Family { name, help, kind, source } = family;
    let here = match source {
        Source::Absent(why) => format!("*not here*: {}", plain(why)),
        _ => String::new(),
    };
    format!("| `{name}` | {} | {} | {here} |\n", kind.name(), plain(help))
}

fn metric_table(wanted: impl Fn(&str) -> bool) -> String {
    let mut table = "| name | type | meaning | here |\n|---|---|---|---|\n".to_owned();
    for family in metrics::families().filter(|family| wanted(family.name)) {
        let _ = write!(table, "{}", metric_row(family));
    }
    table
}

#[test]
fn the_table_of_flags_is_that_of_the_code() {
    let tables: Vec<String> = flags::groups().map(|(_, group)| flag_table(group)).collect();
    holds(FLAGS, &tables);
    let page = Text::read(FLAGS).text;
    for (title, _) in flags::groups() {
        assert!(page.contains(&format!("\n## {title}\n")), "{FLAGS}: no section {title}");
    }
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let is_ours = |name: &str| name.starts_with("glass_");
    holds(METRICS, &[metric_table(|name| !is_ours(name)), metric_table(is_ours)]);
}

#[test]
fn a_row_says_what_a_flag_and_a_name_do() {
    let flag = flags::find("metrics").unwrap();
    assert!(flag_row(flag).starts_with("| `--metrics` | `basic` | extensive also"));
    let tls = flags::find("cert-file").unwrap();
    assert_eq!(flag_row(tls), "| `--cert-file` |  | *refused*: TLS is not supported yet |\n");
    assert_eq!(plain("a|b <c>"), "a\\|b &lt;c>");
    let proxy = metric_table(|name| name == "etcd_grpc_proxy_cache_hits_total");
    assert!(proxy.ends_with("| *not here*: a member is no proxy |\n"), "{proxy}");
}
