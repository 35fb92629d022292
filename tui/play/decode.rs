//! Turns the bytes that a terminal sends into inputs: keys, clicks, turns of the wheel, pastes.
//!
//! ```text
//!   a, é, Ctrl-A      one character                       ─► Key
//!   ESC [ 1 ; 5 C     a sequence: numbers, a last letter  ─► Key, Click, Wheel
//!   ESC [ 200 ~ …     text that was pasted                ─► Pasted, at ESC [ 201 ~
//! ```
//!
//! crossterm has a decoder, but it reads the terminal itself: after the first key of a chunk it
//! leaves the rest to an event that may never come (crossterm#1057), and a paste without an end
//! swallows every later key (crossterm#1060).
//!
//! Invariants: no sequence and no paste is longer than its bound; every byte is decided by the
//! bytes after it or by a silence, so nothing that a terminal sends can make the player deaf.
//! Unknown sequences are dropped as a whole, because their letters were not typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Input;
use crate::state::steps::Direction;

/// The longest paste in bytes that is kept; more than any text field takes.
const PASTE_MAX: usize = 1 << 20;
/// The longest sequence that terminals send, in bytes, and some more.
const SEQUENCE_MAX: usize = 64;
/// What a terminal puts before and behind a paste.
const PASTE: &[u8] = b"\x1b[200~";
const PASTED: &[u8] = b"\x1b[201~";

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The bytes that are not decided yet.
    bytes: Vec<u8>,
    /// The paste that has begun.
    paste: Option<Vec<u8>>,
    /// Whether a part of that paste found no room.
    is_too_long: bool,
}

/// What the first bytes are: an input or nothing, and their number.
type Decided = (Option<Input>, usize);

impl Decoder {
    /// Whether some bytes wait for others, or for a silence.
    pub(super) fn waits(&self) -> bool {
        !self.bytes.is_empty() || self.paste.is_some()
    }

    /// Whether a paste has begun and not ended.
    pub(super) fn is_in_paste(&self) -> bool {
        self.paste.is_some()
    }

    /// Takes the next bytes. Returns the inputs that they complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Input> {
        self.bytes.extend_from_slice(bytes);
        let mut inputs = Vec::new();
        loop {
            if self.paste.is_some() {
                match self.paste_on() {
                    Some(input) => inputs.push(input),
                    None => return inputs,
                }
            } else if self.bytes.starts_with(PASTE) {
                self.bytes.drain(..PASTE.len());
                (self.paste, self.is_too_long) = (Some(Vec::new()), false);
            } else {
                let Some((input, length)) = first(&self.bytes) else { return inputs };
                self.bytes.drain(..length);
                inputs.extend(input);
            }
        }
    }

    /// Decides what waits, after a silence: a lone ESC was the key, and the rest of a sequence or
    /// of a paste does not come any more.
    pub(super) fn silence(&mut self) -> Option<Input> {
        let rest = std::mem::take(&mut self.bytes);
        if self.paste.take().is_some() {
            return Some(Input::Pasted(Err("the terminal has not said where the paste ends")));
        }
        (rest == [ESC]).then(|| key(KeyCode::Esc, KeyModifiers::NONE))
    }

    /// Moves bytes to the paste, up to its end.
    fn paste_on(&mut self) -> Option<Input> {
        let end = self.bytes.windows(PASTED.len()).position(|part| part == PASTED);
        // The last bytes may be the beginning of the end.
        let length = end.unwrap_or(self.bytes.len().saturating_sub(PASTED.len() - 1));
        let paste = self.paste.as_mut()?;
        self.is_too_long |= PASTE_MAX < paste.len() + length;
        if !self.is_too_long {
            paste.extend_from_slice(&self.bytes[..length]);
        }
        self.bytes.drain(..length);
        end?;
        self.bytes.drain(..PASTED.len());
        let paste = self.paste.take()?;
        Some(Input::Pasted(match self.is_too_long {
            true => Err("the paste is longer than 1 MiB"),
            false => Ok(String::from_utf8_lossy(&paste).into_owned()),
        }))
    }
}

const ESC: u8 = 0x1b;

/// What the first bytes are; `None` if that depends on bytes that have not come.
fn first(bytes: &[u8]) -> Option<Decided> {
    match bytes {
        [] | [ESC] => None,
        // As Alt-Esc is no key of ours, the first of two was typed by itself.
        [ESC, ESC, ..] => Some((Some(key(KeyCode::Esc, KeyModifiers::NONE)), 1)),
        [ESC, b'[', ..] => sequence(bytes),
        [ESC, b'O', letter, ..] => Some((named(*letter, KeyModifiers::NONE), 3)),
        [ESC, b'O'] => None,
        [ESC, rest @ ..] => {
            let (input, length) = character(rest)?;
            let input = input.map(|input| match input {
                Input::Key(key) => {
                    Input::Key(KeyEvent { modifiers: key.modifiers | KeyModifiers::ALT, ..key })
                }
                other => other,
            });
            Some((input, length + 1))
        }
        _ => character(bytes),
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Input {
    Input::Key(KeyEvent::new(code, modifiers))
}

/// A character, or a key that sends one byte.
fn character(bytes: &[u8]) -> Option<Decided> {
    let none = KeyModifiers::NONE;
    let (code, modifiers) = match bytes[0] {
        b'\r' | b'\n' => (KeyCode::Enter, none),
        b'\t' => (KeyCode::Tab, none),
        0x08 | 0x7f => (KeyCode::Backspace, none),
        0 => (KeyCode::Char(' '), KeyModifiers::CONTROL),
        letter @ 0x01..=0x1a => (KeyCode::Char((letter | 0x60).into()), KeyModifiers::CONTROL),
        digit @ 0x1c..=0x1f => (KeyCode::Char((digit - 0x1c + b'4').into()), KeyModifiers::CONTROL),
        _ => return utf8(bytes),
    };
    Some((Some(key(code, modifiers)), 1))
}

/// A character of up to four bytes; a byte that begins none is dropped.
fn utf8(bytes: &[u8]) -> Option<Decided> {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if 0 < error.valid_up_to() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        // It may go on with the next bytes.
        Err(error) if error.error_len().is_none() => return None,
        Err(_) => return Some((None, 1)),
    };
    let typed = valid.chars().next()?;
    let shift = if typed.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
    Some((Some(key(KeyCode::Char(typed), shift)), typed.len_utf8()))
}

/// A sequence after `ESC [`: parameters, and the letter that says what they mean.
fn sequence(bytes: &[u8]) -> Option<Decided> {
    match bytes.get(2) {
        // The console of Linux: F1 to F5.
        Some(b'[') => {
            let letter = *bytes.get(3)?;
            let number = letter.wrapping_sub(b'A').wrapping_add(1);
            let is_key = (1..=5).contains(&number);
            return Some((is_key.then(|| key(KeyCode::F(number), KeyModifiers::NONE)), 4));
        }
        // The oldest form of the mouse: three bytes, each 32 more than its number.
        Some(b'M') => {
            let at = bytes.get(3..6)?;
            let [button, column, line] = [0, 1, 2].map(|n| u16::from(at[n].saturating_sub(32)));
            return Some((mouse(button, column, line, true), 6));
        }
        _ => {}
    }
    let is_last = |byte: &u8| (0x40..=0x7e).contains(byte);
    let length = match bytes[2..].iter().take(SEQUENCE_MAX).position(is_last) {
        Some(place) => place + 3,
        None if bytes.len() < SEQUENCE_MAX => return None,
        None => return Some((None, SEQUENCE_MAX)),
    };
    let (body, last) = (&bytes[2..length - 1], bytes[length - 1]);
    Some((meaning(body, last), length))
}

fn meaning(body: &[u8], last: u8) -> Option<Input> {
    let text = std::str::from_utf8(body).ok()?;
    let is_sgr = text.starts_with('<');
    let numbers: Vec<u16> =
        text.trim_start_matches('<').split(';').map(|n| n.parse().unwrap_or(0)).collect();
    let modifiers = modifiers(numbers.get(1).copied().unwrap_or(1));
    match (last, &numbers[..]) {
        (b'M' | b'm', [button, column, line]) if is_sgr => {
            mouse(*button, *column, *line, last == b'M')
        }
        (b'M', [button, column, line]) => mouse(button.saturating_sub(32), *column, *line, true),
        (b'~', [number, ..]) => {
            let code = match number {
                1 | 7 => KeyCode::Home,
                2 => KeyCode::Insert,
                3 => KeyCode::Delete,
                4 | 8 => KeyCode::End,
                5 => KeyCode::PageUp,
                6 => KeyCode::PageDown,
                11..=15 => KeyCode::F(u8::try_from(number - 10).ok()?),
                17..=21 => KeyCode::F(u8::try_from(number - 11).ok()?),
                23..=24 => KeyCode::F(u8::try_from(number - 12).ok()?),
                _ => return None,
            };
            Some(key(code, modifiers))
        }
        // With another number before them, letters answer questions that nobody here asked.
        (_, [0 | 1, ..]) => named(last, modifiers),
        _ => None,
    }
}

/// The keys that a letter names.
fn named(letter: u8, modifiers: KeyModifiers) -> Option<Input> {
    let code = match letter {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(letter - b'P' + 1),
        b'Z' => KeyCode::BackTab,
        _ => return None,
    };
    Some(key(code, modifiers))
}

/// xterm's number for the keys that are held: one more than the sum of their bits.
fn modifiers(number: u16) -> KeyModifiers {
    let bits = number.saturating_sub(1);
    let bit = |at: u16, held| if bits & at == 0 { KeyModifiers::NONE } else { held };
    bit(1, KeyModifiers::SHIFT) | bit(2, KeyModifiers::ALT) | bit(4, KeyModifiers::CONTROL)
}

/// A press of the left button, or a notch of the wheel; moves and releases are not wanted.
fn mouse(button: u16, column: u16, line: u16, is_press: bool) -> Option<Input> {
    // Without the bits of Shift, Alt and Ctrl.
    match button & !0b1_1100 {
        0 if is_press => Some(Input::Click(column.saturating_sub(1), line.saturating_sub(1))),
        64 => Some(Input::Wheel(Direction::Back)),
        65 => Some(Input::Wheel(Direction::Forward)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs as text, so that they can be compared.
    fn decoded(chunks: &[&[u8]]) -> String {
        let mut decoder = Decoder::default();
        let inputs: Vec<Input> = chunks.iter().flat_map(|chunk| decoder.take(chunk)).collect();
        let last = decoder.silence();
        assert!(!decoder.waits(), "a silence decides everything");
        let said = inputs.iter().chain(&last).map(|input| match input {
            Input::Key(key) if key.modifiers.is_empty() => format!("{}", key.code),
            Input::Key(key) => format!("{}-{}", key.modifiers, key.code),
            Input::Click(column, line) => format!("click {column} {line}"),
            Input::Wheel(direction) => format!("wheel {direction:?}"),
            Input::Pasted(Ok(text)) => format!("paste {text:?}"),
            Input::Pasted(Err(why)) => format!("no paste: {why}"),
            _ => "?".to_owned(),
        });
        said.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_terminals_send_for_a_key_is_that_key() {
        for (bytes, expected) in [
            (&b"a"[..], "a"),
            ("é→".as_bytes(), "é →"),
            (b"\r\t\x7f\x08", "Enter Tab Backspace Backspace"),
            (b"\x01\x1a", "Control-a Control-z"),
            (b"\x1b", "Esc"),
            (b"\x1b\x1b", "Esc Esc"),
            (b"\x1b[A\x1bOB\x1b[C\x1bOD", "Up Down Right Left"),
            (b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[7~\x1b[8~", "Home End Home End Home End"),
            (b"\x1b[5~\x1b[6~\x1b[3~\x1b[Z", "Page Up Page Down Del Back Tab"),
            (b"\x1b[1;5C\x1b[3;2~", "Control-Right Shift-Del"),
            (b"\x1bOP\x1b[15~\x1b[[B\x1b[24~", "F1 F5 F2 F12"),
            (b"\x1bx", "Alt-x"),
        ] {
            assert_eq!(expected, decoded(&[bytes]), "{bytes:?}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(expected, decoded(&single), "{bytes:?}, byte by byte");
        }
    }

    #[test]
    fn the_mouse_is_understood_in_its_three_forms() {
        let sgr = b"\x1b[<0;3;4M\x1b[<0;3;4m\x1b[<64;3;4M\x1b[<65;1;1M\x1b[<35;9;9M";
        assert_eq!("click 2 3 wheel Back wheel Forward", decoded(&[sgr]));
        assert_eq!("click 2 3 click 2 3", decoded(&[b"\x1b[M #$\x1b[32;3;4M"]));
    }

    #[test]
    fn what_is_no_key_is_dropped_and_nothing_behind_it() {
        for noise in [&b"\x1b[?62;1c"[..], b"\x1b[200X", b"\xff", b"\x1b[99~", b"\x1b[12;34R"] {
            let bytes = [noise, b"q"].concat();
            assert_eq!("q", decoded(&[&bytes]), "{noise:?}");
        }
        let endless = [&b"\x1b["[..], &[b'1'; 200], b"q"].concat();
        assert!(decoded(&[&endless]).ends_with('q'));
        assert_eq!("", decoded(&[b"\x1b[1;"]), "a silence ends it");
    }

    #[test]
    fn every_key_of_a_long_chunk_is_read() {
        let many = vec![b'x'; 3000];
        assert_eq!(3000, decoded(&[&many, b"\x1b"]).matches('x').count());
    }

    #[test]
    fn a_paste_is_one_input_wherever_it_is_cut() {
        let bytes = b"a\x1b[200~stop s y\n\x1b[A\x1b[201~b";
        for at in 0..bytes.len() {
            let said = decoded(&[&bytes[..at], &bytes[at..]]);
            assert_eq!("a paste \"stop s y\\n\\u{1b}[A\" b", said, "cut at {at}");
        }
    }

    #[test]
    fn a_paste_without_an_end_ends_with_a_silence() {
        let said = decoded(&[b"\x1b[200~half of it"]);
        assert_eq!("no paste: the terminal has not said where the paste ends", said);
        let mut decoder = Decoder::default();
        assert!(decoder.take(b"\x1b[200~half").is_empty() && decoder.is_in_paste());
        assert!(decoder.silence().is_some() && !decoder.is_in_paste());
        assert_eq!(1, decoder.take(b"q").len(), "later keys are keys again");
    }

    #[test]
    fn a_paste_that_is_too_long_is_refused_as_a_whole() {
        let long = vec![b'x'; PASTE_MAX + 1];
        let said = decoded(&[b"\x1b[200~", &long, b"\x1b[201~q"]);
        assert_eq!("no paste: the paste is longer than 1 MiB q", said);
    }
}
