//! Client libraries in Go, Rust, Python and JavaScript, with tests that nobody here wrote.
//!
//! `tests/clients/prepare` fetches libraries and suites from the registries; what it has not
//! fetched is left out. Each test here runs suites against a cluster of three; etcd's own tests of
//! its Go client and of etcdctl start clusters themselves, and kill, cut off and restart members.
//! With `GLASS_IT_SUBJECT` the same runs against etcd: what fails there as well is not ours.
//!
//! What is excluded is named with the reason. [`GO`] and [`E2E`] name what is run instead, because
//! most of a few hundred tests would take too long for each run of `cargo test`; `CLIENTS_GO=.`
//! runs all.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// How long one suite may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// Lines of a suite's output that a failure prints.
const LINES: usize = 80;

/// What has no service here yet, and what cannot hold here.
const NO_AUTH: &str = "auth is not here yet";
const NO_METHOD: &str = "the method is not here yet";
const OWN_CLOCK: &str =
    "it puts the process's clock forward, which calls under way do not always survive";
const NOT_WITH_ETCD: &str = "it fails with etcd 3.5.1, too";

/// Tests of the crate etcd-client that are not run.
const RUST_EXCLUDED: &[(&str, &str)] = &[
    ("test_auth", NO_AUTH),
    ("test_auth_refresh_token", NO_AUTH),
    ("test_auth_refresh_token_once_for_concurrent_calls", NO_AUTH),
    ("test_role", NO_AUTH),
    ("test_user", NO_AUTH),
    ("test_defragment", NO_METHOD),
    ("test_move_leader", NO_METHOD),
    ("test_snapshot", NO_METHOD),
];

/// Tests of the Python package etcd3 that are not run.
const ETCD3_EXCLUDED: &[(&str, &str)] = &[
    ("test_etcd3.py::TestEtcd3::test_snapshot", NO_METHOD),
    ("test_etcd3.py::TestClient::test_user_pwd_auth", NOT_WITH_ETCD),
];

/// Tests of the Python package aetcd that are not run.
const AETCD_EXCLUDED: &[(&str, &str)] = &[
    ("integration/test_auth.py", NO_AUTH),
    ("integration/test_maintenance.py::test_snapshot", NO_METHOD),
];

/// Tests of npm's etcd3 that are not run; parts of their names.
const JAVASCRIPT_EXCLUDED: &[(&str, &str)] = &[
    ("roles and auth", NO_AUTH),
    ("a watcher is cancelled upon creation", NO_AUTH),
    ("allows disabling auto keep alives", OWN_CLOCK),
    ("lease.* crons", OWN_CLOCK),
];

/// Tests of etcd's Go client and API that are run, by program; a `|` between names.
const GO: &[(&str, &str)] = &[
    (
        "clientv3_integration",
        "TestKVRange|TestKVDeleteRange|TestKVCompact|TestKVPutStoppedServerAndClose|TestLeaseGrant|\
         TestLeaseKeepAlive|TestLeaseRevoke|TestLeaseTimeToLive|TestLeaseWithRequireLeader|\
         TestLeasingTxnOwnerGet|TestMemberList|TestNamespacePutGet|TestNamespaceWatch|\
         TestMaintenanceHashKV|TestMaintenanceStatus|TestDialForeignEndpoint|TestRejectOldCluster|\
         TestDropReadUnderNetworkPartition|TestTxnError|TestTxnWriteFail|TestTxnNested|\
         TestWatchResumeInitRev|TestWatchResumeCompacted|TestWatchCompactRevision|\
         TestWatchWithFilter|TestWatchWithRequireLeader|TestWatchFragmentEnable|\
         TestWatchWithProgressNotify|TestWatchCancelOnServer|TestKVLargeRequests|\
         TestBalancerUnderServerShutdownPut",
    ),
    (
        "integration",
        "TestV3TxnTooManyOps|TestV3TxnDuplicateKeys|TestV3TxnRevision|TestV3TxnRangeCompare|\
         TestV3TxnNestedPath|TestV3PutIgnoreLease|TestV3TooLargeRequest|TestV3CompactCurrentRev|\
         TestV3LeaseExpire|TestV3LeaseKeepAlive|TestV3LeaseFailover|TestV3LeaseRequireLeader|\
         TestV3LeaseRecoverAndRevoke|TestV3WatchFutureRevision|TestV3WatchMultipleEventsTxnSynced|\
         TestV3WatchEmptyKey|TestV3WatchCloseCancelSynced|TestV3WatchWithPrevKV|\
         TestNetworkPartition3MembersLeaderInMinority|TestElectionSessionRecampaign|\
         TestMutexSessionRelock|TestDoubleBarrier|TestSTMConflict|TestV3HealthCheck|\
         TestV3WatchCancellation|TestV3LargeRequests",
    ),
    ("clientv3_ordering", "TestEndpointSwitchResolvesViolation|TestKvOrdering|TestTxnOrdering"),
    // Elections, locks and transactions as Go's users write them, and what they print.
    ("clientv3_concurrency", ".*"),
    ("clientv3", "ExampleKV_.*|ExampleLease_.*|ExampleCluster_memberList|ExampleClient_metrics"),
];

/// etcd's own tests of etcdctl that are run. Left out: auth, TLS, changes of membership, snapshots,
/// defragmentation, moving the leader, proxies and the JSON gateway, which are not here yet; and
/// `TestCtlV3Alarm`, `TestCtlV3GetFormat`, `TestV3MetricsInsecure`, which fail with etcd 3.5.1,
/// too.
const E2E: &str = "TestCtlV3Version|TestCtlV3(Put|Get|Del)(Timeout|Quorum|Rev|KeysOnly)?|\
    TestCtlV3PutIgnore(Value|Lease)|TestCtlV3TxnInteractive(Success|Fail)|\
    TestCtlV3Compact(Physical)?|TestCtlV3Watch(Timeout|Interactive)?|\
    TestCtlV3Lease(GrantTimeToLive|GrantLeases|TestTimeToLiveExpired|KeepAlive|KeepAliveOnce|Revoke)|\
    TestCtlV3Lock|TestCtlV3Elect|TestCtlV3Endpoint(Health|Status|HashKV)|TestCtlV3MakeMirror.*|\
    TestEtcdMultiPeer";

/// Goal: etcd's own tests of its Go client and of its API pass.
#[tokio::test]
async fn gos_client_passes_etcds_own_tests() {
    let Some(dir) = prepared("go") else { return };
    for (program, tests) in GO {
        let mut command = Command::new(dir.join(format!("{program}.test")));
        command.args(["-test.v".to_owned(), chosen(tests)]).current_dir(&dir);
        command.env("CLIENTS_MEMBER", member().join(" "));
        run(&format!("etcd's {program}"), "--- PASS", &mut command).await;
    }
}

/// Goal: etcd's own tests of etcdctl pass with etcdctl as it is and members of ours. Each starts a
/// cluster of three.
#[tokio::test]
async fn etcdctl_passes_its_own_tests() {
    let Some(dir) = prepared("go") else { return };
    let tools = programs::etcdctls();
    let Some(etcdctl) = tools.iter().find(|tool| tool.version.starts_with("3.4.")) else {
        return left_out("etcdctl's own tests: there is no etcdctl 3.4");
    };
    // They look for both programs in one folder.
    let programs = tempfile::tempdir().unwrap();
    let at = |name: &str| programs.path().join(name);
    let words = member().join("' '");
    fs::write(at("etcd"), format!("#!/bin/sh\nexec '{words}' \"$@\"\n")).unwrap();
    fs::set_permissions(at("etcd"), fs::Permissions::from_mode(0o755)).unwrap();
    let whole = Command::new("which").arg(&etcdctl.path).output().unwrap().stdout;
    symlink(String::from_utf8_lossy(&whole).trim_end(), at("etcdctl")).unwrap();
    let mut command = Command::new(dir.join("tests_e2e.test"));
    command.args(["-test.v".to_owned(), chosen(E2E), "-bin-dir".to_owned()]).arg(programs.path());
    run("etcdctl's own tests", "--- PASS", command.current_dir(&dir)).await;
}

/// The argument that chooses tests of a Go program.
fn chosen(tests: &str) -> String {
    let tests = env::var("CLIENTS_GO").unwrap_or_else(|_| format!("^({tests})$"));
    format!("-test.run={tests}")
}

/// Goal: the crate etcd-client passes its own tests.
#[tokio::test]
async fn rusts_client_passes_its_own_tests() {
    let Some(dir) = prepared("rust") else { return };
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    for program in ["client", "namespace"] {
        let mut command = Command::new(dir.join(program));
        command.args(["--test-threads=1", "--exact"]);
        command.args(RUST_EXCLUDED.iter().flat_map(|(test, _)| ["--skip", *test]));
        command.env("CLIENTS_ENDPOINT", cluster.members[0].client_address());
        run(&format!("etcd-client's {program}"), "... ok", &mut command).await;
    }
}

/// Goal: the Python packages etcd3 and aetcd pass their own tests.
#[tokio::test]
async fn pythons_clients_pass_their_own_tests() {
    let Some(dir) = prepared("python") else { return };
    let tools = programs::etcdctls();
    let Some(etcdctl) = tools.iter().find(|tool| tool.version.starts_with("3.5.")) else {
        return left_out("Python's clients: they call etcdctl 3.5, and there is none");
    };
    let tools = etcdctl.path.parent().unwrap().display();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/bin");
    let path = format!("{}:{tools}:{}", own.display(), env::var("PATH").unwrap_or_default());
    // Both packages' authors test with a tool that gives members these names.
    let cluster = Cluster::start_named(&Kind::subject(), 3, &[], "pifpaf").await;
    let url = format!("http://{}", cluster.members[0].client_address());
    let others = [1, 2].map(|at| cluster.process_id(at).to_string()).join(" ");
    let aetcd: &[&str] = &["-oasyncio_mode=auto", "--with-cluster"];
    for (package, excluded, args) in
        [("etcd3", ETCD3_EXCLUDED, &[][..]), ("aetcd", AETCD_EXCLUDED, aetcd)]
    {
        let mut command = Command::new(dir.join(package).join("bin/python"));
        command.args(["-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]).args(args);
        command.args(excluded.iter().map(|(test, _)| format!("--deselect=tests/{test}")));
        command.arg("tests").current_dir(dir.join(package));
        command.env("PATH", &path).env("CLIENTS_OTHERS", &others);
        command.env("PYTHON_ETCD_HTTP_URL", &url).env("TEST_ETCD_HTTP_URL", &url);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("TEST_ETCD_VERSION", "v3.5.5");
        run(package, " PASSED ", &mut command).await;
    }
}

/// Goal: npm's etcd3 does what its users do with it, and goes on when a member dies.
#[tokio::test]
async fn javascripts_client_works_and_outlives_a_member() {
    let Some(dir) = prepared("javascript") else { return };
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let addresses: Vec<String> = cluster
        .members
        .iter()
        .map(|member| format!("http://{}", member.client_address()))
        .collect();
    let mut command = Command::new("node");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/javascript/etcd3.mjs");
    command.args(["--test", "--test-reporter=tap"]).arg(script);
    command.env("CLIENTS_MODULES", dir).env("CLIENTS_ENDPOINTS", addresses.join(","));
    command.env("CLIENTS_VICTIM", cluster.process_id(0).to_string());
    run("etcd3 of npm", "\nok ", &mut command).await;
}

/// Goal: npm's etcd3 passes its own tests, those of the version whose package has them.
#[tokio::test]
async fn javascripts_client_passes_its_own_tests() {
    let Some(dir) = prepared("javascript") else { return };
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let modules = dir.join("suite/node_modules");
    let tests = modules.join("etcd3/lib/test");
    let excluded: Vec<&str> = JAVASCRIPT_EXCLUDED.iter().map(|(test, _)| *test).collect();
    let mut command = Command::new("node");
    command.arg(modules.join("mocha/bin/mocha.js")).args(["--exit", "--reporter=tap"]);
    command.args(["--timeout=10000", "--invert", "--grep"]).arg(excluded.join("|"));
    command.arg("--require").arg(tests.join("_setup.js")).arg(tests.join("*.test.js"));
    command.env("ETCD_ADDR", cluster.members[0].client_address()).env("ETCD_VERSION", "3.5.1");
    run("etcd3 of npm, its own tests", "\nok ", &mut command).await;
}

/// The folder of a language, if `tests/clients/prepare` has made one.
fn prepared(language: &str) -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = || env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let dir = env::var_os("GLASS_CLIENTS").map(PathBuf::from);
    let dir = dir.or_else(|| Some(cache()?.join("glass-ci/clients")))?.join(language);
    if dir.join("sum").exists() {
        return Some(dir);
    }
    left_out(&format!("{language}'s clients: tests/clients/prepare has not fetched them"));
    None
}

/// The command that starts a member, for those who start theirs themselves.
fn member() -> Vec<String> {
    let program = Kind::subject().command();
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    words.map(|word| word.to_str().unwrap().to_owned()).collect()
}

/// Runs a suite to its end; it must succeed, and have passed at least one test. Suites have limits
/// of time of their own, which a loaded machine may miss: a failure is tried once more.
async fn run(name: &str, passed: &str, command: &mut Command) {
    let first = run_once(name, passed, command).await;
    let result = match first {
        Ok(()) => return,
        Err(failure) => {
            println!("{failure}");
            run_once(name, passed, command).await
        }
    };
    result.unwrap_or_else(|failure| panic!("twice: {failure}"));
}

async fn run_once(name: &str, passed: &str, command: &mut Command) -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;

    let dir = tempfile::TempDir::with_prefix("glass-clients-").unwrap();
    let path = dir.path().join("output");
    let output = fs::File::create(&path).unwrap();
    command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    // Members that a suite has started end with it.
    command.env("TMPDIR", dir.path()).env("RUST_BACKTRACE", "0").process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let group = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"));
    let exit = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(exit) = child.try_wait().unwrap() {
                return exit;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // Nobody is left if all went well.
    let _ = killpg(group, Signal::SIGKILL);
    if exit.is_err() {
        let _ = child.wait();
    }
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    let count = text.matches(passed).count();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n");
    if !exit.as_ref().is_ok_and(|exit| exit.success()) {
        return Err(format!("{name}: {exit:?}\n{tail}"));
    }
    if count == 0 {
        return Err(format!("{name} ran no test\n{tail}"));
    }
    println!("{name}: {count} tests passed");
    Ok(())
}
