//! Client libraries in Go, Rust, Python and JavaScript, with tests that nobody here wrote.
//!
//! `tests/clients/prepare` fetches libraries and suites from the registries; what it has not fetched
//! is left out. Each test here runs suites against a cluster of three; etcd's own Go tests start
//! clusters themselves, of one to three, and kill, cut off and restart members. With
//! `GLASS_IT_SUBJECT` the same runs against etcd: what fails there as well is not ours.
//!
//! What is excluded is named with the reason. [`GO`] names what is run instead, because most of a
//! few hundred tests would take too long for each run of `cargo test`; `CLIENTS_GO=.` runs all.

use std::{
    env, fs,
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
const OTHER_NAMES: &str = "it looks for members by the names that its authors' tool gives them";

/// Tests of the crate etcd-client that are not run.
const RUST_EXCLUDED: &[(&str, &str)] = &[
    ("test_auth", NO_AUTH),
    ("test_auth_refresh_token", NO_AUTH),
    ("test_auth_refresh_token_once_for_concurrent_calls", NO_AUTH),
    ("test_role", NO_AUTH),
    ("test_user", NO_AUTH),
    ("test_defragment", NO_METHOD),
    ("test_election", NO_METHOD),
    ("test_hash", NO_METHOD),
    ("test_lock", NO_METHOD),
    ("test_move_leader", NO_METHOD),
    ("test_snapshot", NO_METHOD),
];

/// Tests of the Python package etcd3 that are not run.
const ETCD3_EXCLUDED: &[(&str, &str)] = &[
    ("TestEtcd3::test_hash", NO_METHOD),
    ("TestEtcd3::test_snapshot", NO_METHOD),
    ("TestClient::test_user_pwd_auth", NO_AUTH),
    ("TestEtcd3::test_member_list", OTHER_NAMES),
    ("TestEtcd3::test_get_key_serializable", OTHER_NAMES),
    ("TestEtcd3::test_get_prefix_serializable", OTHER_NAMES),
];

/// Files of the Python package aetcd that are run: those on auth and maintenance need what is not
/// here yet, and those on watches and locks sleep for more than a minute.
const AETCD: &[&str] = &["test_kv.py", "test_lease.py", "test_cluster.py"];

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
         TestWatchWithProgressNotify|TestBalancerUnderServerShutdownPut",
    ),
    (
        "integration",
        "TestV3TxnTooManyOps|TestV3TxnDuplicateKeys|TestV3TxnRevision|TestV3TxnRangeCompare|\
         TestV3TxnNestedPath|TestV3PutIgnoreLease|TestV3TooLargeRequest|TestV3CompactCurrentRev|\
         TestV3LeaseExpire|TestV3LeaseKeepAlive|TestV3LeaseFailover|TestV3LeaseRequireLeader|\
         TestV3LeaseRecoverAndRevoke|TestV3WatchFutureRevision|TestV3WatchMultipleEventsTxnSynced|\
         TestV3WatchEmptyKey|TestV3WatchCloseCancelSynced|TestV3WatchWithPrevKV|\
         TestNetworkPartition3MembersLeaderInMinority|TestElectionSessionRecampaign|\
         TestMutexSessionRelock|TestDoubleBarrier|TestSTMConflict|TestV3HealthCheck",
    ),
    ("clientv3_ordering", "TestEndpointSwitchResolvesViolation|TestKvOrdering|TestTxnOrdering"),
];

/// Goal: etcd's own tests of its Go client and of its API pass.
#[tokio::test]
async fn gos_client_passes_etcds_own_tests() {
    let Some(dir) = prepared("go") else { return };
    for (program, tests) in GO {
        let tests = env::var("CLIENTS_GO").unwrap_or_else(|_| format!("^({tests})$"));
        let mut command = Command::new(dir.join(format!("{program}.test")));
        command.args(["-test.v", "-test.run", &tests]).current_dir(&dir);
        run(&format!("etcd's {program}"), "--- PASS", member(command)).await;
    }
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
        run(&format!("etcd-client's {program}"), "... ok", command).await;
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
    let path = format!("{tools}:{}", env::var("PATH").unwrap_or_default());
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let url = format!("http://{}", cluster.members[0].client_address());
    let etcd3 =
        ETCD3_EXCLUDED.iter().map(|(test, _)| format!("--deselect=tests/test_etcd3.py::{test}"));
    let etcd3: Vec<String> = etcd3.chain(["tests".to_owned()]).collect();
    let aetcd = AETCD.iter().map(|file| format!("tests/integration/{file}"));
    let aetcd = ["-oasyncio_mode=auto".to_owned()].into_iter().chain(aetcd).collect();
    for (package, args) in [("etcd3", etcd3), ("aetcd", aetcd)] {
        let mut command = Command::new(dir.join(package).join("bin/python"));
        command.args(["-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]).args(args);
        command.current_dir(dir.join(package)).env("PATH", &path);
        command.env("PYTHON_ETCD_HTTP_URL", &url).env("TEST_ETCD_HTTP_URL", &url);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("TEST_ETCD_VERSION", "v3.5.5");
        run(package, " PASSED ", command).await;
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
    run("etcd3 of npm", "\nok ", command).await;
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

/// Tells etcd's Go tests how to start a member.
fn member(mut command: Command) -> Command {
    let program = Kind::subject().command();
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    command.env("CLIENTS_MEMBER", words.join(" "));
    command
}

/// Runs a suite to its end; it must succeed, and have passed at least one test.
async fn run(name: &str, passed: &str, mut command: Command) {
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
    assert!(exit.as_ref().is_ok_and(|exit| exit.success()), "{name}: {exit:?}\n{tail}");
    assert!(0 < count, "{name} ran no test\n{tail}");
    println!("{name}: {count} tests passed");
}
