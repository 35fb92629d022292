//! The control socket, through which `glass run` in another terminal reaches the running `glass
//! up`.
//!
//! It is a Unix socket in the data directory; a request is one line of JSON, and so is the reply. A
//! process that can open it can stop the cluster, so only the owner has access to the directory.
//! The path of a Unix socket is short (104 bytes on macOS): where ours would be longer, the socket
//! is in a new directory below the temporary one, and a file names it.
//!
//! A lock on a file, not the socket, shows whether a `glass up` is running: a lock ends with its
//! process, a socket does not. The holder of the lock may remove a leftover socket.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use glass_etcd::clock;
use nix::fcntl::{Flock, FlockArg};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use super::{
    Handle,
    api::{Command, Reply},
    plan::StartError,
};

/// Longest request, in bytes.
const REQUEST_BYTES: u64 = 4096;
/// Longest reply, in bytes: a line per process of any reasonable Procfile.
const REPLY_BYTES: u64 = 1 << 20;
/// How long a request may take to arrive on an open connection.
const REQUEST_TIME: Duration = Duration::from_secs(2);
/// How long a reply may take: longer than the five seconds after which a stop becomes a kill.
const REPLY_TIME: Duration = Duration::from_secs(20);
/// How many connections are served at once; others wait.
const CONNECTIONS_MAX: usize = 16;
/// Longest socket path that every system accepts, in bytes.
const PATH_BYTES: usize = 100;

/// The holder is the only `glass up` of its directory. Its drop removes the socket.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: PathBuf,
    pointer: PathBuf,
    /// The directory that was created for the socket alone.
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

/// Creates the directory, and claims it.
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
    // Left behind by a `glass up` that was killed.
    let old = socket_path(base);
    let _ = fs::remove_file(&old);
    let _ = fs::remove_file(&pointer);
    let short = base.join("up.sock");
    if short.as_os_str().len() <= PATH_BYTES {
        return Ok(Claim { socket: short, pointer, made: None, _lock: lock });
    }
    // Creating a directory fails if it exists, so another user cannot have prepared it.
    let unique = format!("glass-{}-{:x}", std::process::id(), clock::wall().as_nanos());
    let made = std::env::temp_dir().join(unique);
    DirBuilder::new().mode(0o700).create(&made).map_err(files("cannot make directory", &made))?;
    let socket = made.join("up.sock");
    fs::write(&pointer, socket.display().to_string()).map_err(files("cannot write", &pointer))?;
    Ok(Claim { socket, pointer, made: Some(made), _lock: lock })
}

/// Path of this directory's socket, if there is one.
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

/// The places for connections.
pub(crate) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS_MAX))
}

/// Waits until all connections have their replies, for a moment at most.
pub(crate) async fn finish(places: &Semaphore) {
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(REQUEST_TIME, places.acquire_many(all)).await;
}

/// Serves connections, until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, handle: Handle, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = handle.clone();
                // Bounded by the permits; ends with its connection.
                tokio::spawn(async move {
                    let _ = answer(stream, &handle).await;
                    drop(place);
                });
            }
            // Most likely the file descriptors are used up, and others may close some.
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

/// Why `glass run` got no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No `glass up` is running.
    #[error("glass up is not running here (no answer at {0})")]
    NotRunning(PathBuf),
    /// A `glass up` is running, but the exchange failed.
    #[error("no answer from glass up: {0}")]
    Io(#[from] io::Error),
}

/// Sends a request to the `glass up` of this directory. Blocks; for another process, not for the
/// player.
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
