//! The thread that reads the terminal, because a read blocks.
//!
//! It asks the terminal whether there are bytes before it reads them, and asks anew each time, so
//! nothing that has come is forgotten. Between two questions it looks whether the player closes. A
//! silence decides what the bytes so far leave open (see [`super::decode`]).

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use glass_etcd::clock;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::mpsc;

use super::{Input, decode::Decoder};

/// How long the thread waits for bytes before it checks whether it should end. Also the silence
/// after which a lone ESC was the key.
const KEY_WAIT: Duration = Duration::from_millis(50);
/// How many of these intervals the player waits for the thread when it closes.
const KEY_WAITS_AT_END: u32 = 6;
/// The silence after which a paste has no end. A slow connection may pause for some time, and what
/// came after that would be keys.
const PASTE_WAIT: Duration = Duration::from_secs(3);
/// The most bytes that are read at once.
const READ_BYTES: usize = 4096;

/// See the module's text.
pub(super) struct Keyboard {
    pub(super) receiver: mpsc::Receiver<Input>,
    is_closing: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keyboard {
    pub(super) fn open() -> io::Result<Keyboard> {
        // When it is full the thread waits, and the terminal keeps what comes meanwhile.
        let (sender, receiver) = mpsc::channel(64);
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&is_closing);
        let terminal = terminal()?;
        let reader = thread::Builder::new().name("keyboard".to_owned());
        let thread = reader.spawn(move || {
            if read_keys(terminal, &sender, &closing).is_err() {
                // The terminal is gone. If the player is, too, nobody needs to know.
                _ = sender.blocking_send(Input::Terminated);
            }
        })?;
        Ok(Keyboard { receiver, is_closing, thread: Some(thread) })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        // A full channel would keep the thread from noticing the end.
        self.receiver.close();
        let Some(thread) = self.thread.take() else { return };
        for _ in 0..KEY_WAITS_AT_END {
            if thread.is_finished() {
                // The panic hook has already reported a panic of that thread.
                _ = thread.join();
                return;
            }
            thread::sleep(KEY_WAIT);
        }
        // Another process has read the bytes that this one was told of, and the read waits. The
        // thread then ends with the process, which must not wait for it.
    }
}

/// The terminal: the standard input, or the one that this process belongs to.
fn terminal() -> io::Result<File> {
    match io::stdin().is_terminal() {
        true => Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?)),
        false => File::open("/dev/tty"),
    }
}

/// Returns when the player closes; fails when the terminal is gone.
fn read_keys(
    mut terminal: File,
    sender: &mpsc::Sender<Input>,
    is_closing: &AtomicBool,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut heard = clock::now();
    let mut bytes = [0; READ_BYTES];
    while !is_closing.load(Ordering::Relaxed) {
        let inputs = if has_bytes(&terminal)? {
            let length = read(&mut terminal, &mut bytes)?;
            heard = clock::now();
            decoder.take(&bytes[..length])
        } else if decoder.waits() && is_silent(&decoder, heard) {
            decoder.silence().into_iter().collect()
        } else {
            continue;
        };
        for input in inputs {
            if sender.blocking_send(input).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn is_silent(decoder: &Decoder, heard: Instant) -> bool {
    !decoder.is_in_paste() || PASTE_WAIT <= clock::now() - heard
}

/// Whether a read would return at once; waits for that for a moment.
fn has_bytes(terminal: &File) -> io::Result<bool> {
    let mut asked = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(KEY_WAIT).unwrap_or(PollTimeout::ZERO);
    match poll(&mut asked, wait) {
        // The end of the terminal is news, too: the read then fails.
        Ok(found) => Ok(0 < found),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads what is there. The end of a terminal is an error.
fn read(terminal: &mut File, bytes: &mut [u8]) -> io::Result<usize> {
    match terminal.read(bytes) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        // The standard input does not wait if another program has set that.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        read => read,
    }
}
