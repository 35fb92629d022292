//! The flags of the log (etcd: `Config.setupLogging`).

use std::path::PathBuf;

use serde::Deserialize;

use super::{LogFormat, LogLevel, LogOutput, ProcessOptions, args::Given, error::ConfigError};

/// When a log file is full, and which old ones stay (`--log-rotation-config-json`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rotation {
    /// The most megabytes of a file; 0 means 100, as in etcd.
    pub maxsize: u64,
    /// Days after which an old file is removed; 0 for never.
    pub maxage: u64,
    /// The most old files that stay; 0 for all.
    pub maxbackups: usize,
    /// Whether the names of old files have the machine's time, and not UTC.
    pub localtime: bool,
    /// Whether old files are compressed.
    pub compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { maxsize: 100, maxage: 0, maxbackups: 0, localtime: false, compress: false }
    }
}

/// Reads the flags.
pub(super) fn process_options(
    given: &Given,
    warnings: &mut Vec<String>,
) -> Result<ProcessOptions, ConfigError> {
    match given.text("logger") {
        "zap" => {}
        "capnslog" => return Err(ConfigError::Capnslog),
        other => return Err(ConfigError::Logger(other.to_owned())),
    }
    let level = given.text("log-level");
    let log_level =
        LogLevel::from_name(level).ok_or_else(|| ConfigError::LogLevel(level.to_owned()))?;
    let log_format = match given.text("log-format") {
        "console" => LogFormat::Console,
        _ => LogFormat::Json,
    };
    let log_outputs = outputs(given, warnings)?;
    let log_rotation = rotation(given, &log_outputs, warnings)?;
    let trace_chrome = Some(given.text("trace-chrome")).filter(|path| !path.is_empty());
    let trace_chrome = trace_chrome.map(PathBuf::from);
    Ok(ProcessOptions { log_level, log_format, log_outputs, log_rotation, trace_chrome })
}

fn outputs(given: &Given, warnings: &mut Vec<String>) -> Result<Vec<LogOutput>, ConfigError> {
    let names: Vec<&str> = given.text("log-outputs").split(',').map(str::trim).collect();
    let mut outputs = Vec::new();
    for name in names.iter().copied().filter(|name| !name.is_empty()) {
        let output = match name {
            "default" if 1 < names.len() => return Err(ConfigError::DefaultAmongOutputs),
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                warnings
                    .push("log output systemd/journal is not supported; using stderr".to_owned());
                LogOutput::Stderr
            }
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() { Err(ConfigError::NoLogOutput) } else { Ok(outputs) }
}

/// How the log file is rotated; `None` if it is not.
fn rotation(
    given: &Given,
    outputs: &[LogOutput],
    warnings: &mut Vec<String>,
) -> Result<Option<Rotation>, ConfigError> {
    if !given.boolean("enable-log-rotation") {
        return Ok(None);
    }
    // Several outputs may have one file among them, as in etcd.
    match outputs.iter().filter(|output| matches!(output, LogOutput::File(_))).count() {
        1 => {}
        _ => return Err(ConfigError::RotationWithoutFile),
    }
    let rotation: Rotation = serde_json::from_str(given.text("log-rotation-config-json"))
        .map_err(|error| ConfigError::Rotation(error.to_string()))?;
    for (is_asked, name) in [(rotation.compress, "compress"), (rotation.localtime, "localtime")] {
        if is_asked {
            warnings.push(format!("--log-rotation-config-json: {name} has no effect here"));
        }
    }
    Ok(Some(rotation))
}
