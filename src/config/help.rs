//! The texts of `--help` and `--version`.

use std::fmt::Write as _;

use super::flags::{Effect, FLAGS, Flag, Kind};

/// The version of etcd whose API this server has: clients and members that ask for a version get
/// this one.
pub const ETCD_VERSION: &str = "3.5.33";

/// The text of `--version`. Its first line has the form that scripts look for; our own version
/// follows.
pub fn version_text() -> String {
    format!("etcd Version: {ETCD_VERSION}\nGlass etcd Version: {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`: flags that work with a line each, the others by name.
pub fn help() -> String {
    let mut text = "Usage:\n\n  glass serve [flags]\n    Start an etcd member.\n\n  \
                    Every flag is also a variable (--data-dir: ETCD_DATA_DIR) and a key of the\n  \
                    file that --config-file names.\n\nFlags:\n"
        .to_owned();
    for flag in FLAGS {
        if let Effect::Works(what) = flag.effect {
            let default = if flag.kind == Kind::Bool && flag.default == "false" {
                String::new()
            } else {
                format!(" '{}'", flag.default)
            };
            // Writing to a String cannot fail.
            let _ = write!(text, "  --{}{default}\n    {what}\n", flag.name);
        }
    }
    text.push_str("\nAccepted, but without effect yet:\n");
    names(&mut text, |flag| flag.effect == Effect::Inert);
    text.push_str("\nNot supported yet, refused:\n");
    names(&mut text, |flag| matches!(flag.effect, Effect::Refused(_)));
    text
}

/// The names of some flags, a line each.
fn names(text: &mut String, wanted: impl Fn(&Flag) -> bool) {
    for flag in FLAGS.iter().filter(|flag| wanted(flag)) {
        let _ = writeln!(text, "  --{}", flag.name);
    }
}
