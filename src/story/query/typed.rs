//! A key as a user types it: its text, or the form in which lists show a key that no terminal can.
//!
//! Lists escape what is not printable ASCII (`\xe6\xbc\xa2`, `\n`, `\\`). A text with a backslash
//! can be either: it is the key itself if any step names that, and the escaped form otherwise. So
//! both can be found, and a key copied from a list is found unless a step names that very text.

use super::find::names;
use crate::story::Recording;

/// The key that this text means in the recording. With `is_part`, a part of a key.
pub fn key(recording: &Recording, text: &str, is_part: bool) -> Vec<u8> {
    let literal = text.as_bytes();
    let Some(meant) = unescaped(literal).filter(|meant| *meant != literal) else {
        return literal.to_vec();
    };
    let mut keys = recording.events.iter().flat_map(|event| &event.key);
    if keys.any(|key| names(key, literal, is_part)) { literal.to_vec() } else { meant }
}

/// The bytes of an escaped text; `None` if it is none.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (letter, after) = rest.split_first()?;
        rest = after;
        bytes.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' | b'"' | b'\'' => *letter,
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digits = std::str::from_utf8(digits).ok().filter(|it| !it.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        story::{Event, KeyText},
        trace::Stage,
    };

    #[test]
    fn what_lists_show_of_a_key_means_that_key() {
        let mut recording = Recording::default();
        for bytes in [&b"\xe6\xbc\xa2"[..], b"a \"b\"\n", b"dir\\name", b"dir\\new"] {
            assert_eq!(bytes, key(&recording, &bytes.escape_ascii().to_string(), false));
        }
        assert_eq!(b"\\q\\", &key(&recording, "\\q\\", false)[..], "no escaped form");
        assert_eq!(b"\\x+1", &key(&recording, "\\x+1", false)[..], "no hexadecimal digits");
        let text = KeyText { bytes: b"dir\\new".to_vec(), length: 7 };
        recording.events.push(Event { key: Some(text), ..Event::mark(0, Stage::Key, 1) });
        assert_eq!(b"dir\\new", &key(&recording, "dir\\new", false)[..], "it is named as it is");
        assert_eq!(b"\\new", &key(&recording, "\\new", true)[..]);
        assert_eq!(b"\new", &key(&recording, "\\new", false)[..]);
    }
}
