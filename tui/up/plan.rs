//! Turns the Procfile's lines into processes that can be started, and finds every mistake that can
//! be found before the first of them starts.

use std::{
    collections::BTreeMap,
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
};

use glass_etcd::config::{self, Address, Asked, ConfigError, Parsed, ServerConfig};

use super::procfile::{self, Command, ProcfileError};

/// How to start a process.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Its name in the Procfile.
    pub(crate) name: String,
    /// Path of the program.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Environment settings before the command.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory: the directory of the Procfile.
    pub(crate) dir: PathBuf,
    /// Whether a shell runs it, so that processes the shell started have to be killed as well.
    pub(crate) is_shell: bool,
    /// The parsed flags, if it is a Glass etcd member.
    pub(crate) member: Option<Box<Parsed>>,
}

/// Why a cluster cannot be started; each text is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The Procfile cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Path of the Procfile.
        path: PathBuf,
        source: io::Error,
    },
    /// The Procfile is malformed.
    #[error("{path}: {source}")]
    Procfile {
        /// Path of the Procfile.
        path: PathBuf,
        /// The line and the reason.
        source: ProcfileError,
    },
    /// A member's flags are invalid.
    #[error("{name}: {source}")]
    Config { name: String, source: Box<ConfigError> },
    /// The address is in use, or not usable.
    #[error("{name}: cannot listen on {address}: {source}")]
    Port {
        name: String,
        /// The address it would listen on.
        address: Address,
        source: io::Error,
    },
    /// Two members would listen on the same address.
    #[error("{name} and {other} both listen on {address}")]
    SamePort { name: String, other: String, address: Address },
    /// `--fresh` was given, but the member's data is outside the data directory.
    #[error("{name}: --fresh removes data below {base} only, and this member's is in {dir}")]
    Elsewhere {
        name: String,
        /// The directory below which `--fresh` removes data.
        base: PathBuf,
        /// The member's data directory.
        dir: PathBuf,
    },
    /// A file or directory of `glass up` cannot be created or removed.
    #[error("{what} {path}: {source}")]
    Files { what: &'static str, path: PathBuf, source: io::Error },
    /// Another `glass up` uses the same directory.
    #[error("members run already, and {0} is locked: `glass play` shows what they do")]
    Running(PathBuf),
    /// The operating system refused a thread or an event queue.
    #[error("cannot run: {0}")]
    Thread(io::Error),
}

/// The processes that `glass up` starts, and their directory.
#[derive(Debug)]
pub(crate) struct Plans {
    /// In the order of the Procfile.
    pub(crate) plans: Vec<Plan>,
    /// Directory of data, logs and the control socket.
    pub(crate) base: PathBuf,
}

/// Reads the Procfile. `data_dir` moves the members' data below another directory.
pub(crate) fn read(procfile: &Path, data_dir: Option<&Path>) -> Result<Plans, StartError> {
    let fail = |source| StartError::Read { path: procfile.to_owned(), source };
    let text = fs::read_to_string(procfile).map_err(fail)?;
    let lines = procfile::parse(&text)
        .map_err(|source| StartError::Procfile { path: procfile.to_owned(), source })?;
    let dir = directory_of(procfile).map_err(fail)?;
    let base = base(procfile, data_dir).map_err(fail)?;
    let exe = std::env::current_exe().map_err(StartError::Thread)?;
    let moved = data_dir.is_some().then_some(base.as_path());
    let plans = lines
        .into_iter()
        .map(|line| plan(line, &exe, &dir, moved))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Plans { plans, base })
}

/// The directory that contains a Procfile.
fn directory_of(procfile: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(procfile)?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Directory of data, logs and the control socket: by default `.glass` beside the Procfile.
pub(crate) fn base(procfile: &Path, data_dir: Option<&Path>) -> io::Result<PathBuf> {
    match data_dir {
        Some(dir) => std::path::absolute(dir),
        None => Ok(directory_of(procfile)?.join(".glass")),
    }
}

fn plan(
    line: procfile::Line,
    exe: &Path,
    dir: &Path,
    moved: Option<&Path>,
) -> Result<Plan, StartError> {
    let name = line.name;
    let (env, mut words) = match line.command {
        Command::Words { env, words } => (env, words),
        Command::Shell(text) => {
            let (args, dir) = (vec!["-c".to_owned(), text], dir.to_owned());
            let program = PathBuf::from("sh");
            return Ok(Plan {
                name,
                program,
                args,
                env: Vec::new(),
                dir,
                is_shell: true,
                member: None,
            });
        }
    };
    let program = words.remove(0);
    let is_glass = is_glass(&program, exe, dir);
    let (mut args, dir, is_ours) = (words, dir.to_owned(), is_ours(&program));
    let program = if is_ours { exe.to_owned() } else { PathBuf::from(program) };
    let mut member = None;
    if is_glass && args.first().is_some_and(|command| command == "serve") {
        move_data(&mut args, &dir, moved, &name);
        member = check(&name, &args[1..], &env)?;
    }
    Ok(Plan { name, program, args, env, dir, is_shell: false, member })
}

/// Whether a Procfile's program is this one: `glass`, or one that cargo builds here. Other runners
/// need the path; here it means the running executable.
fn is_ours(program: &str) -> bool {
    let path = program.strip_prefix("./").unwrap_or(program);
    matches!(path, "glass" | "target/release/glass" | "target/debug/glass")
}

/// Whether a Procfile's program is a Glass etcd, this one or another: its name says so, or it is
/// the file that is running. Such a program is started at its path, which may be a link of this one
/// or an older one, and its members are members.
fn is_glass(program: &str, exe: &Path, dir: &Path) -> bool {
    let path = Path::new(program);
    let is_running = || {
        let (path, exe) = (dir.join(path).canonicalize(), exe.canonicalize());
        path.is_ok_and(|path| exe.is_ok_and(|exe| path == exe))
    };
    path.file_name().is_some_and(|name| name == "glass") || is_running()
}

/// Makes the data directory absolute, and moves it below `moved` if that is given.
fn move_data(args: &mut Vec<String>, dir: &Path, moved: Option<&Path>, name: &str) {
    let flags = ["--data-dir", "-data-dir"];
    let target = |value: &str| match moved {
        Some(base) => base.join(Path::new(value).file_name().unwrap_or(name.as_ref())),
        None => dir.join(value),
    };
    let mut is_value = false;
    let mut found = false;
    for arg in args.iter_mut() {
        if is_value {
            *arg = target(arg).display().to_string();
        } else if let Some((flag, value)) = arg.split_once('=')
            && flags.contains(&flag)
        {
            *arg = format!("--data-dir={}", target(value).display());
            found = true;
        }
        is_value = !is_value && flags.contains(&arg.as_str());
        found |= is_value;
    }
    if let (false, Some(_)) = (found, moved) {
        args.push(format!("--data-dir={}", target(name).display()));
    }
}

/// Parses a member's flags as the member will, so that a mistake shows before anything starts.
fn check(
    name: &str,
    args: &[String],
    env: &[(String, String)],
) -> Result<Option<Box<Parsed>>, StartError> {
    let mut all: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    all.extend(env.iter().cloned());
    let all: Vec<_> = all.into_iter().collect();
    match config::parse(args, &all) {
        Ok(Asked::Start(parsed)) => Ok(Some(parsed)),
        Ok(Asked::Help | Asked::Version) => Ok(None),
        Err(error) => Err(StartError::Config { name: name.to_owned(), source: Box::new(error) }),
    }
}

/// Fails if a member could not listen. Socket files are only compared, because a trial would create
/// them.
pub(crate) fn check_ports(plans: &[Plan]) -> Result<(), StartError> {
    let mut taken: BTreeMap<Address, (String, Option<TcpListener>)> = BTreeMap::new();
    for plan in plans {
        let Some(parsed) = &plan.member else { continue };
        for address in addresses(&parsed.config, &plan.dir) {
            let name = plan.name.clone();
            if let Some((other, _)) = taken.get(&address) {
                return Err(StartError::SamePort { name: other.clone(), other: name, address });
            }
            // Held until all are checked. The standard library sets SO_REUSEADDR, so ports of
            // connections that have just ended do not count as in use.
            let listener = match &address {
                Address::Tcp(port) => TcpListener::bind(port).map(Some),
                Address::Unix(_) => Ok(None),
            };
            match listener {
                Ok(listener) => drop(taken.insert(address, (name, listener))),
                Err(source) => return Err(StartError::Port { name, address, source }),
            }
        }
    }
    Ok(())
}

/// All listen addresses of a member that runs in this directory.
fn addresses<'a>(
    config: &'a ServerConfig,
    dir: &'a Path,
) -> impl Iterator<Item = Address> + use<'a> {
    let listen = &config.listen;
    let clients = listen.clients.iter().chain(&listen.http).chain(&listen.metrics);
    let clients = clients.map(|address| match address {
        Address::Tcp(port) => Address::Tcp(*port),
        Address::Unix(path) => Address::Unix(dir.join(path)),
    });
    clients.chain(config.listen_peer.iter().copied().map(Address::Tcp))
}

/// `--fresh`: removes the members' data, and nothing else.
pub(crate) fn remove_data(plans: &Plans) -> Result<(), StartError> {
    for plan in &plans.plans {
        let Some(parsed) = &plan.member else { continue };
        let elsewhere = |dir: &Path| StartError::Elsewhere {
            name: plan.name.clone(),
            base: plans.base.clone(),
            dir: dir.to_owned(),
        };
        if let Some(dir) = &parsed.config.wal_dir {
            return Err(elsewhere(dir));
        }
        let dir = &parsed.config.data_dir;
        let climbs = dir.components().any(|part| part == std::path::Component::ParentDir);
        if climbs || !dir.starts_with(&plans.base) {
            return Err(elsewhere(dir));
        }
        let member = dir.join("member");
        if !is_member_data(&member) {
            continue;
        }
        fs::remove_dir_all(&member).map_err(|source| StartError::Files {
            what: "cannot remove",
            path: member,
            source,
        })?;
    }
    Ok(())
}

/// Whether this is a real directory, not a link, with a log or a database in it.
fn is_member_data(member: &Path) -> bool {
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|data| data.is_dir());
    is_dir(member) && (is_dir(&member.join("wal")) || is_dir(&member.join("snap")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVE: &str = "./target/release/glass serve --name m --initial-cluster m=http://127.0.0.1:1 \
                         --initial-advertise-peer-urls http://127.0.0.1:1";

    fn plans(
        procfile: &str,
        data_dir: Option<&str>,
    ) -> (tempfile::TempDir, Result<Plans, StartError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Procfile");
        fs::write(&path, procfile).unwrap();
        let data_dir = data_dir.map(|sub| dir.path().join(sub));
        let plans = read(&path, data_dir.as_deref());
        (dir, plans)
    }

    #[test]
    fn our_own_program_is_the_one_that_is_running() {
        let (dir, plans) = plans(&format!("m: {SERVE} --data-dir .glass/m\nx: echo a\n"), None);
        let plans = plans.unwrap();
        assert_eq!(plans.plans[0].program, std::env::current_exe().unwrap());
        assert_eq!(plans.plans[1].program, PathBuf::from("echo"));
        let config = &plans.plans[0].member.as_ref().unwrap().config;
        assert_eq!(config.data_dir, dir.path().join(".glass/m"));
        assert_eq!(plans.base, dir.path().join(".glass"));
        assert!(plans.plans[1].member.is_none());
        for other in ["etcd", "/usr/bin/glass", "x/target/release/glass"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    /// Goal: the player finds members that another path of the program runs.
    #[test]
    fn a_member_is_known_under_every_path_of_the_program() {
        let exe = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("renamed");
        std::os::unix::fs::symlink(&exe, &link).unwrap();
        let other = link.display().to_string();
        for program in ["/usr/local/bin/glass", "../bin/glass", exe.to_str().unwrap(), &other] {
            let line = SERVE.replace("./target/release/glass", program);
            let (_dir, plans) = plans(&format!("m: {line}\n"), None);
            let plan = &plans.unwrap().plans[0];
            assert!(plan.member.is_some(), "{program}");
            assert_eq!(PathBuf::from(program), plan.program);
        }
    }

    #[test]
    fn data_moves_below_another_directory() {
        for given in [" --data-dir .glass/m", " --data-dir=.glass/m", " -data-dir .glass/m", ""] {
            let (dir, plans) = plans(&format!("m: {SERVE}{given}\n"), Some("d"));
            let plans = plans.unwrap();
            let config = &plans.plans[0].member.as_ref().unwrap().config;
            assert_eq!(config.data_dir, dir.path().join("d/m"), "{given}");
        }
    }

    #[test]
    fn wrong_flags_are_found_before_anything_starts() {
        let (_dir, plans) = plans("m: glass serve --bogus\n", None);
        assert_eq!(plans.unwrap_err().to_string(), "m: flag provided but not defined: -bogus");
    }

    #[test]
    fn a_port_in_use_is_found_before_anything_starts() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let listen = format!(
            "--listen-client-urls http://{address} --advertise-client-urls http://{address} \
             --listen-peer-urls http://127.0.0.1:0"
        );
        let (_dir, plans) = plans(&format!("m: {SERVE} {listen}\n"), None);
        let error = check_ports(&plans.unwrap().plans).unwrap_err().to_string();
        assert!(error.starts_with(&format!("m: cannot listen on {address}: ")), "{error}");
        drop(held);
    }

    #[test]
    fn fresh_removes_member_data_and_nothing_else() {
        let (dir, plans) = plans(&format!("m: {SERVE} --data-dir .glass/m\n"), None);
        let plans = plans.unwrap();
        let data = dir.path().join(".glass/m");
        fs::create_dir_all(data.join("member/notes")).unwrap();
        remove_data(&plans).unwrap();
        assert!(data.join("member/notes").exists(), "that was no member's data");
        fs::create_dir_all(data.join("member/wal")).unwrap();
        fs::write(data.join("mine"), "").unwrap();
        remove_data(&plans).unwrap();
        assert!(!data.join("member").exists() && data.join("mine").exists());
    }

    #[test]
    fn fresh_refuses_to_touch_data_elsewhere() {
        for place in ["elsewhere/m", ".glass/../m"] {
            let (dir, plans) = plans(&format!("m: {SERVE} --data-dir {place}\n"), None);
            fs::create_dir_all(dir.path().join(place).join("member/wal")).ok();
            let error = remove_data(&plans.unwrap()).unwrap_err();
            assert!(matches!(error, StartError::Elsewhere { .. }), "{error}");
        }
    }
}
