//! Runs a test in a process of its own.
//!
//! Failpoints are global to a process, and tests share theirs: a failpoint that one test turns on
//! would lose the writes of its neighbours. A test that needs one therefore starts the test binary
//! again, for itself only.

use std::{
    env,
    process::{Command, Output},
};

const MARK: &str = "GLASS_TEST_ALONE";

/// Whether this process was started by [`run`] for the one test in it.
pub(crate) fn is_alone() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts the named test (its full path, without the crate) alone and returns how it ended.
pub(crate) fn run(test: &str) -> Output {
    let binary = env::current_exe().unwrap();
    let mut command = Command::new(binary);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(MARK, "1").env_remove("FAILPOINTS").output().unwrap()
}

/// Runs `body` alone, and fails if it fails. `test` is the full path of the calling test.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if is_alone() {
        return body();
    }
    let output = run(test);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
