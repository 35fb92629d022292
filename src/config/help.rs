//! The texts of `--help` and `--version`.

use std::fmt::Write as _;

use super::flags::{Effect, Flag, Kind, groups};

/// The version of etcd whose API this server has: clients and members that ask for a version get
/// this one.
pub const ETCD_VERSION: &str = "3.5.33";

/// The text of `--version`. Its first line has the form that scripts look for; our own version
/// follows.
pub fn version_text() -> String {
    format!("etcd Version: {ETCD_VERSION}\nGlass etcd Version: {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`: etcd's groups; in each, the flags that work with a line, and the others by
/// name with the reason.
pub fn help() -> String {
    let mut text = "Usage:\n\n  glass serve [flags]\n    Start an etcd member.\n\n  \
                    Every flag is also a variable (--data-dir: ETCD_DATA_DIR) and a key of the\n  \
                    file that --config-file names.\n"
        .to_owned();
    for (title, flags) in groups() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{title}:");
        for flag in flags {
            one(&mut text, flag);
        }
    }
    text
}

fn one(text: &mut String, flag: &Flag) {
    let default = match flag.kind {
        Kind::Bool if flag.default == "false" => String::new(),
        _ => format!(" '{}'", flag.default),
    };
    let _ = match flag.effect {
        Effect::Works(what) => write!(text, "  --{}{default}\n    {what}\n", flag.name),
        Effect::Inert(why) => writeln!(text, "  --{}\n    no effect here: {why}", flag.name),
        Effect::Refused(why) => writeln!(text, "  --{}\n    refused: {why}", flag.name),
        Effect::Legacy => writeln!(text, "  --{}", flag.name),
    };
}
