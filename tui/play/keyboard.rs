//! The thread that reads the terminal, because a read blocks.
//!
//! It asks the terminal whether there are bytes before it reads them, and asks anew each time, so
//! nothing that has come is forgotten. Between two questions it looks whether the player closes. A
//! silence decides what the bytes so far leave open (see [`super::decode`]).
//!
//! A terminal that does not mark pastes sends pasted text like typed text, but all of it at once.
//! Nobody types a line end and more behind it within a moment, so such keys are handed over
//! together ([`Input::AtOnce`]): what they mean depends on the screen.

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

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
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
/// The silence that ends a text that came at once: a terminal may send it in parts.
const PART_WAIT: Duration = Duration::from_millis(10);
/// The most bytes of such a text that are waited for.
const TEXT_MAX: usize = 1 << 16;
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
        let inputs = if has_bytes(&terminal, KEY_WAIT)? {
            let length = read(&mut terminal, &mut bytes)?;
            let mut chunk = bytes[..length].to_vec();
            while is_of_lines(&chunk) && has_bytes(&terminal, PART_WAIT)? {
                let length = read(&mut terminal, &mut bytes)?;
                chunk.extend_from_slice(&bytes[..length]);
            }
            heard = clock::now();
            together(decoder.take(&chunk))
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

/// Whether bytes that came at once have a line end among others, so that more of them may follow.
fn is_of_lines(bytes: &[u8]) -> bool {
    1 < bytes.len() && bytes.len() < TEXT_MAX && bytes.iter().any(|byte| b"\r\n".contains(byte))
}

/// Joins keys of text that came at once, if a line end is not the last of them.
fn together(inputs: Vec<Input>) -> Vec<Input> {
    let mut joined = Vec::new();
    let mut text = Vec::new();
    for input in inputs {
        match input {
            Input::Key(key) if character_of(key).is_some() => text.push(key),
            other => {
                joined.extend(one_or_many(std::mem::take(&mut text)));
                joined.push(other);
            }
        }
    }
    joined.extend(one_or_many(text));
    joined
}

fn one_or_many(keys: Vec<KeyEvent>) -> Vec<Input> {
    match ends_within(&keys) {
        true => vec![Input::AtOnce(keys)],
        false => keys.into_iter().map(Input::Key).collect(),
    }
}

/// Whether a line ends in these keys, and they go on behind it.
pub(super) fn ends_within(keys: &[KeyEvent]) -> bool {
    let end = keys.iter().position(|key| key.code == KeyCode::Enter);
    end.is_some_and(|end| end + 1 < keys.len())
}

/// The character that a key of a text stands for.
pub(super) fn character_of(key: KeyEvent) -> Option<char> {
    if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
        return None;
    }
    match key.code {
        KeyCode::Char(character) => Some(character),
        KeyCode::Enter => Some('\n'),
        KeyCode::Tab => Some('\t'),
        _ => None,
    }
}

fn is_silent(decoder: &Decoder, heard: Instant) -> bool {
    !decoder.is_in_paste() || PASTE_WAIT <= clock::now() - heard
}

/// Whether a read would return at once; waits for that for a moment.
fn has_bytes(terminal: &File, wait: Duration) -> io::Result<bool> {
    let mut asked = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs of one chunk, as lengths: of a single key 1, of keys that came at once more.
    fn lengths(chunk: &[u8]) -> Vec<usize> {
        let length = |input: Input| match input {
            Input::AtOnce(keys) => keys.len(),
            _ => 1,
        };
        together(Decoder::default().take(chunk)).into_iter().map(length).collect()
    }

    #[test]
    fn keys_behind_a_line_end_come_together_and_others_alone() {
        assert_eq!(vec![7], lengths(b"put a\rx"));
        assert_eq!(vec![4], lengths("é\r漢\r".as_bytes()));
        assert_eq!(vec![1; 4], lengths(b"abc\r"), "Enter is the last");
        assert_eq!(vec![1; 3], lengths(b"abc"));
        assert_eq!(vec![1, 1, 3], lengths(b"\r\x1b[Ca\rb"), "an arrow is no text");
        assert_eq!(vec![1, 1], lengths(b"\r\x01"));
    }

    #[test]
    fn only_a_line_end_among_other_bytes_is_waited_behind() {
        assert!(is_of_lines(b"put a 1\r") && is_of_lines(b"\nx"));
        assert!(!is_of_lines(b"\r") && !is_of_lines(b"put a 1"));
        assert!(!is_of_lines(&[b'\r'; TEXT_MAX]));
    }
}
