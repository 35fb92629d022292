//! The configuration file: the same settings under the same names, as YAML.
//!
//! The file replaces the command line and the variables; nothing is merged. As in etcd, it differs
//! from the command line in three ways: durations are whole nanoseconds, lists may be YAML lists,
//! and TLS has two sections of its own, whose keys lack the prefix:
//!
//! ```yaml
//! name: etcd-01
//! grpc-keepalive-interval: 7200000000000
//! peer-transport-security:
//!   cert-file: peer.crt        # --peer-cert-file
//! ```
//!
//! etcd ignores keys that it does not know; here a warning names them. In a security section they
//! are an error.

use std::{fs, path::Path};

use serde_yaml_ng::Value;

use super::{
    args::Given,
    error::ConfigError,
    flags::{self, Effect, Flag, Kind},
    values,
};

/// The sections for TLS, and the prefix that makes a key in them a flag's name.
const SECTIONS: [(&str, &str); 2] =
    [("client-transport-security", ""), ("peer-transport-security", "peer-")];
/// Keys of a section whose flag has another name: the prefix is put before that name.
const SECTION_KEYS: [(&str, &str, &str); 4] = [
    ("client-transport-security", "crl-file", "client-crl-file"),
    ("client-transport-security", "allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security", "allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security", "allowed-hostname", "peer-cert-allowed-hostname"),
];

/// Reads the file; returns its values, and warnings.
pub(super) fn read(path: &Path) -> Result<(Given, Vec<String>), ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    let (mut given, mut unknown) = (Given::default(), Vec::new());
    for (key, value) in mapping(path, &text)? {
        if let Some((section, prefix)) = SECTIONS.iter().find(|(section, _)| *section == key) {
            read_section(path, section, prefix, &value, &mut given)?;
            continue;
        }
        match flags::find(&key) {
            Some(flag) => put(path, flag, &key, &value, &mut given)?,
            None => unknown.push(key),
        }
    }
    let warnings = match unknown.is_empty() {
        true => Vec::new(),
        false => vec![format!("{}: unknown keys: {}", path.display(), unknown.join(", "))],
    };
    Ok((given, warnings))
}

/// The file's keys and values; an empty file has none.
fn mapping(path: &Path, text: &str) -> Result<Vec<(String, Value)>, ConfigError> {
    let value: Value = serde_yaml_ng::from_str(text)
        .map_err(|source| ConfigError::Yaml { path: path.to_owned(), source })?;
    let not_a_mapping = || ConfigError::NotAMapping(path.to_owned());
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Mapping(mapping) => mapping
            .into_iter()
            .map(|(key, value)| {
                Ok((key.as_str().ok_or_else(not_a_mapping)?.to_ascii_lowercase(), value))
            })
            .collect(),
        _ => Err(not_a_mapping()),
    }
}

fn read_section(
    path: &Path,
    section: &str,
    prefix: &str,
    value: &Value,
    given: &mut Given,
) -> Result<(), ConfigError> {
    let Value::Mapping(mapping) = value else {
        return match value {
            Value::Null => Ok(()),
            _ => Err(wrong_type(path, section, value, "keys and values")),
        };
    };
    for (key, value) in mapping {
        let key = key.as_str().unwrap_or("").to_ascii_lowercase();
        let other = SECTION_KEYS.iter().find(|(of, name, _)| *of == section && *name == key);
        let flag =
            other.map_or_else(|| format!("{prefix}{key}"), |(_, _, flag)| (*flag).to_owned());
        let flag = flags::find(&flag)
            .filter(|flag| matches!(flag.effect, Effect::Refused(_)))
            .ok_or_else(|| ConfigError::SecurityKey {
                section: section.to_owned(),
                key: key.clone(),
            })?;
        put(path, flag, &format!("{section}.{key}"), value, given)?;
    }
    Ok(())
}

/// Adds one key's value, in the form that the flag has on the command line.
fn put(
    path: &Path,
    flag: &'static Flag,
    key: &str,
    value: &Value,
    given: &mut Given,
) -> Result<(), ConfigError> {
    if value.is_null() || flag.effect == Effect::Legacy {
        return Ok(());
    }
    let text = match flag.kind {
        Kind::Bool => value.as_bool().map(|yes| yes.to_string()),
        Kind::Uint | Kind::Uint32 => value.as_u64().map(|number| number.to_string()),
        Kind::Int => value.as_i64().map(|number| number.to_string()),
        Kind::Duration => value.as_i64().map(|ns| format!("{ns}ns")),
        Kind::Text | Kind::Urls | Kind::Origins | Kind::OneOf(_) => text(value),
    };
    let text = text.ok_or_else(|| wrong_type(path, key, value, expected(flag.kind)))?;
    values::check(flag.kind, &text).map_err(|source| ConfigError::Key {
        path: path.to_owned(),
        key: key.to_owned(),
        value: text.clone(),
        source,
    })?;
    given.put(flag, text);
    Ok(())
}

/// A scalar as text; a list of them, joined by commas.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Sequence(items) => {
            items.iter().map(text).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Uint | Kind::Uint32 => "a number from 0",
        Kind::Int => "a whole number",
        Kind::Duration => "a whole number of nanoseconds",
        Kind::Text | Kind::OneOf(_) => "text",
        Kind::Urls | Kind::Origins => "URLs, separated by commas",
    }
}

fn wrong_type(path: &Path, key: &str, value: &Value, expected: &'static str) -> ConfigError {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) | Value::Tagged(_) => "a section",
    };
    ConfigError::Type { path: path.to_owned(), key: key.to_owned(), found, expected }
}
