//! What the state asks of the terminal and of the disk, done by the loop: copies, files, a
//! comparison, a pause of the whole program.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};

use glass_etcd::{clock, story::recording};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Screen;
use crate::{
    state::{State, Wish, words},
    svg, trace,
    view::{self, Look},
};

/// Longest text that is copied: terminals refuse longer ones.
const COPY_BYTES: usize = 4096;
/// How many names are tried for a file.
const NAMES_MAX: usize = 100;
/// How long the process lives on after its signal if it is stopped at all; then it was continued.
const STOPS_WITHIN: Duration = Duration::from_millis(50);
/// The least time between two keys of a person, with room for a busy machine.
const CONTINUES_AFTER: Duration = Duration::from_millis(100);
/// What is said if nothing has stopped.
const NO_SHELL: &str = "the player runs on: no shell here could continue it";

/// Does what the state has asked for.
pub(super) fn grant(screen: &mut Screen, state: &mut State, look: Look) -> io::Result<()> {
    for wish in state.wishes() {
        match wish {
            Wish::Copy(text) => {
                let mut out = io::stdout().lock();
                out.write_all(osc52(&text).as_bytes())?;
                out.flush()?;
            }
            Wish::Save => {
                let said = save(screen, state, look);
                state.say(said.unwrap_or_else(|error| format!("not saved: {error}")));
            }
            Wish::Compare(a, b) => match trace::compared(state.recording(), [a, b]) {
                Ok(lines) => state.show_compared("COMPARED".to_owned(), lines),
                Err(why) => state.say(why),
            },
            Wish::Redraw => screen.redraw()?,
            Wish::Mouse => {
                let said = match screen.toggle_mouse()? {
                    true => "the mouse is taken: clicks and the wheel act; M frees it",
                    false => "the mouse is free: the terminal selects text with it",
                };
                state.say(said.to_owned());
            }
            Wish::Suspend => {
                screen.close();
                let was_stopped = suspend();
                screen.reopen()?;
                state.touch();
                if !was_stopped? {
                    state.say(NO_SHELL.to_owned());
                }
            }
        }
    }
    Ok(())
}

/// Stops the job of which the player is a part, as the terminal itself would: a parent that waits
/// for it, such as a script or cargo, stops with it, and the shell learns of both. Members are in
/// groups of their own. Returns whether it has stopped: the system discards the signal if no shell
/// is there to continue the job.
fn suspend() -> io::Result<bool> {
    let begun = clock::now();
    kill(Pid::from_raw(0), Signal::SIGTSTP)?;
    // Another thread may have taken the signal, so this one can come here before it is stopped.
    std::thread::sleep(STOPS_WITHIN);
    Ok(STOPS_WITHIN + CONTINUES_AFTER < clock::now() - begun)
}

/// The sequence that makes a terminal copy this text.
fn osc52(text: &str) -> String {
    format!("\x1b]52;c;{}\x07", base64(&text.as_bytes()[..text.len().min(COPY_BYTES)]))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Saves the recording, and the screen as a picture, beside each other.
fn save(screen: &mut Screen, state: &State, look: Look) -> io::Result<String> {
    let since_1970 = clock::wall();
    let (name, file) = new_file(since_1970)?;
    recording::write(BufWriter::new(file), state.recording())?;
    let drawn = screen.terminal.draw(|frame| _ = view::draw(frame, state, look))?;
    let picture = PathBuf::from(&name).with_extension("svg");
    File::create(&picture)?.write_all(svg::svg(drawn.buffer).as_bytes())?;
    Ok(format!("saved {name} (glass play plays it) and {}", picture.display()))
}

/// A file that did not exist before, named after the time of day.
fn new_file(since_1970: Duration) -> io::Result<(String, File)> {
    let time = words::time_of_day(u64::try_from(since_1970.as_nanos()).unwrap_or(0));
    let time: String = time.chars().take(8).filter(char::is_ascii_digit).collect();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 1..=NAMES_MAX {
        let again = if number == 1 { String::new() } else { format!("-{number}") };
        let name = format!("glass-{time}{again}.ndjson");
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(file) => return Ok((name, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_in_the_form_that_terminals_read() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"g"), "Zw==");
        assert_eq!(base64(b"gl"), "Z2w=");
        assert_eq!(osc52("glass"), "\x1b]52;c;Z2xhc3M=\x07");
    }
}
