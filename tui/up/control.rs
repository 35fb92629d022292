//! The control socket: how `glass run` in another terminal reaches the `glass up` that is running.
//!
//! A Unix socket in the data directory; one line of JSON there, one line of JSON back. Whoever can
//! open it can stop the cluster, so the directory is its owner's only. A Unix socket's path is
//! short (104 bytes on macOS): where ours would be longer, the socket lies in a directory of its
//! own below the temporary one, and a file says where.
//!
//! A lock on a file, not the socket, says whether somebody is running: a lock goes away with its
//! process, a socket does not. Who has the lock may remove a socket that is left over.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use glass_etcd::clock;
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::{
    Handle,
    api::{Command, Reply},
    plan::StartError,
};

/// The longest request.
const REQUEST_BYTES: u64 = 4096;
/// The longest answer: a line for each process of any sensible Procfile.
const REPLY_BYTES: u64 = 1 << 20;
/// How long a request may take to come in once the connection is open.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// How long an answer may take: longer than the five seconds after which a stop becomes a kill.
const REPLY_TIME: Duration = Duration::from_secs(20);
/// How many connections are served at once; others wait.
const CONNECTIONS_MAX: usize = 16;
/// The longest path that every system takes.
const PATH_BYTES: usize = 100;

/// Who holds this is the one `glass up` of its directory. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: PathBuf,
    pointer: PathBuf,
    /// A directory that was made for the socket only.
    made: Option<PathBuf>,
    _lock: Flock<fs::File>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.pointer);
        if let Some(dir) = &self.made {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Makes the directory, and claims it.
pub(crate) fn claim(base: &Path) -> Result<Claim, StartError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Files { what, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(base)
        .map_err(files("cannot make directory", base))?;
    let path = base.join("up.lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(files("cannot write", &path))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| StartError::Running(path))?;
    let pointer = base.join("up.path");
    // Left over from one that was killed.
    let old = socket_path(base);
    let _ = fs::remove_file(&old);
    let _ = fs::remove_file(&pointer);
    let short = base.join("up.sock");
    if short.as_os_str().len() <= PATH_BYTES {
        return Ok(Claim { socket: short, pointer, made: None, _lock: lock });
    }
    // Making a directory fails if there is one, so nobody can have prepared it for us.
    let unique = format!("glass-{}-{:x}", std::process::id(), clock::wall().as_nanos());
    let made = std::env::temp_dir().join(unique);
    DirBuilder::new().mode(0o700).create(&made).map_err(files("cannot make directory", &made))?;
    let socket = made.join("up.sock");
    fs::write(&pointer, socket.display().to_string()).map_err(files("cannot write", &pointer))?;
    Ok(Claim { socket, pointer, made: Some(made), _lock: lock })
}

/// Where the socket of this directory is, if there is one.
fn socket_path(base: &Path) -> PathBuf {
    match fs::read_to_string(base.join("up.path")) {
        Ok(path) => PathBuf::from(path.trim()),
        Err(_) => base.join("up.sock"),
    }
}

impl Claim {
    /// Opens the socket. Needs a tokio runtime.
    pub(crate) fn listen(&self) -> Result<UnixListener, StartError> {
        let owner_only = fs::Permissions::from_mode(0o600);
        UnixListener::bind(&self.socket)
            .and_then(|listener| fs::set_permissions(&self.socket, owner_only).map(|()| listener))
            .map_err(|source| StartError::Files {
                what: "cannot listen on",
                path: self.socket.clone(),
                source,
            })
    }
}

/// Answers connections, until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, handle: Handle) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = handle.clone();
                // Bounded by the places; ends with its connection.
                tokio::spawn(async move {
                    let _ = answer(stream, &handle).await;
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: others may give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(stream: UnixStream, handle: &Handle) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut request = tokio::io::BufReader::new(read.take(REQUEST_BYTES));
    let reply = match tokio::time::timeout(REQUEST_TIME, request.read_line(&mut line)).await {
        Ok(Ok(0)) | Err(_) => return Ok(()),
        Ok(Err(error)) => Reply::refused(error.to_string()),
        Ok(Ok(_)) => match serde_json::from_str::<Command>(&line) {
            Ok(command) => handle.command(command).await,
            Err(error) => Reply::refused(format!("not a request: {error}")),
        },
    };
    let mut text = serde_json::to_string(&reply).map_err(io::Error::other)?;
    text.push('\n');
    tokio::time::timeout(REQUEST_TIME, write.write_all(text.as_bytes())).await?
}

/// Why `glass run` got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody is there.
    #[error("glass up is not running here (no answer at {0})")]
    NotRunning(PathBuf),
    /// Somebody is there, and something went wrong.
    #[error("no answer from glass up: {0}")]
    Io(#[from] io::Error),
}

/// Asks the `glass up` of this directory. Blocks; for another process, not for the player.
pub(crate) fn ask(base: &Path, command: &Command) -> Result<Reply, AskError> {
    let path = socket_path(base);
    let mut stream = StdStream::connect(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning(path),
        _ => AskError::Io(error),
    })?;
    stream.set_read_timeout(Some(REPLY_TIME))?;
    stream.set_write_timeout(Some(REQUEST_TIME))?;
    let mut line = serde_json::to_string(command).map_err(io::Error::other)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut reply = String::new();
    BufReader::new(stream.take(REPLY_BYTES)).read_line(&mut reply)?;
    if reply.is_empty() {
        return Err(AskError::Io(io::Error::other("it ended")));
    }
    Ok(serde_json::from_str(&reply).map_err(io::Error::other)?)
}
