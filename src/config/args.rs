//! Values from the command line and from environment variables.
//!
//! The rules are those of Go's `flag` package: one dash or two, `--name=value` or `--name value`, a
//! boolean alone means true and never takes the next word, the last of several values counts, and
//! the first word that is no flag ends the flags, which etcd refuses. Variables set flags that the
//! command line does not. etcd refuses to start when both are given; here the flag wins, and a
//! warning names the variable.

use std::collections::BTreeMap;

use super::{
    error::ConfigError,
    flags::{self, Effect, Flag, Kind},
    values,
};

/// The given values, each checked, by the names of their flags.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: BTreeMap<&'static str, String>,
    /// `--help` or `-h` came first.
    pub(super) help: bool,
}

impl Given {
    /// Adds a checked value.
    pub(super) fn put(&mut self, flag: &'static Flag, value: String) {
        self.values.insert(flag.name, value);
    }

    /// Whether the flag was given, by any source.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Every flag that was given, with its value, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Flag, &str)> {
        self.values.iter().filter_map(|(name, value)| Some((flags::find(name)?, value.as_str())))
    }

    /// The value of the flag, or its default.
    pub(super) fn text(&self, name: &'static str) -> &str {
        match self.values.get(name) {
            Some(value) => value,
            None => flags::find(name).expect("asked for by a name of the table").default,
        }
    }

    /// The value as a number without sign.
    pub(super) fn uint(&self, name: &'static str) -> u64 {
        values::uint(self.text(name)).expect("checked when it was given")
    }

    /// The value as a number.
    pub(super) fn int(&self, name: &'static str) -> i64 {
        values::int(self.text(name)).expect("checked when it was given")
    }

    /// The value of a boolean flag.
    pub(super) fn boolean(&self, name: &'static str) -> bool {
        values::boolean(self.text(name)).expect("checked when it was given")
    }
}

/// Reads the command line, without the program's name.
pub(super) fn from_command_line(args: &[String]) -> Result<Given, ConfigError> {
    let mut given = Given::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(body) = arg.strip_prefix('-').filter(|body| !body.is_empty()) else {
            return Err(ConfigError::Positional(arg.clone()));
        };
        if body == "-" {
            break;
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(ConfigError::Syntax(arg.clone()));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = flags::find(name) else {
            if matches!(name, "help" | "h") {
                given.help = true;
                return Ok(given);
            }
            return Err(ConfigError::Undefined(name.to_owned()));
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => args.next().cloned().ok_or(ConfigError::NoArgument(flag.name))?,
        };
        check(flag, &value)?;
        given.put(flag, value);
    }
    match args.next() {
        Some(arg) => Err(ConfigError::Positional(arg.clone())),
        None => Ok(given),
    }
}

fn check(flag: &'static Flag, value: &str) -> Result<(), ConfigError> {
    // etcd's ignored flags take anything.
    if flag.effect == Effect::Legacy {
        return Ok(());
    }
    values::check(flag.kind, value).map_err(|source| match flag.kind {
        Kind::Bool => ConfigError::Boolean { flag: flag.name, value: value.to_owned() },
        _ => ConfigError::Value { flag: flag.name, value: value.to_owned(), source },
    })
}

/// The environment variable of a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Sets flags that were not given from environment variables; returns warnings.
pub(super) fn add_variables(
    given: &mut Given,
    env: &[(String, String)],
) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("ETCD_")) {
        let Some(flag) = flags::FLAGS.iter().find(|flag| variable(flag.name) == *name) else {
            // Only the name, because the value may be a secret.
            warnings.push(format!("unrecognized environment variable {name}"));
            continue;
        };
        if value.is_empty() {
            continue;
        }
        if given.has(flag.name) {
            warnings.push(format!("--{} is given, so {name} is not used", flag.name));
            continue;
        }
        if flag.effect != Effect::Legacy {
            values::check(flag.kind, value).map_err(|source| ConfigError::Variable {
                variable: name.clone(),
                value: value.clone(),
                source,
            })?;
        }
        given.put(flag, value.clone());
    }
    Ok(warnings)
}
