//! Base64, in its standard alphabet: the form of bytes in JSON.
//!
//! Text is read as Go's `encoding/json` reads it: padding is required, line ends are skipped, bits
//! that are left over are ignored, and an error names the byte at which Go stops. The alphabet of
//! URLs is refused, as in etcd.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends these bytes as text. Only the last piece of several may have a length that is not a
/// multiple of three.
pub(super) fn encode(bytes: &[u8], text: &mut Vec<u8>) {
    let sextet = |bits: u32, at: u32| ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letters = [0, 1, 2, 3].map(|at| sextet(bits, at));
        text.extend(&letters[..=group.len()]);
        text.extend(&b"=="[..3 - group.len()]);
    }
}

/// The bytes of a text, or the place of the byte at which it is wrong.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    loop {
        let (mut bits, mut known) = (0_u32, 0);
        while known < 4 {
            let Some(&letter) = text.get(at) else {
                // The letters of an incomplete group are counted back, without line ends.
                return if known == 0 { Ok(bytes) } else { Err(at - known) };
            };
            at += 1;
            match value(letter) {
                Some(value) => {
                    bits = bits << 6 | value;
                    known += 1;
                }
                None if is_line_end(letter) => (),
                None if letter == b'=' && 2 <= known => {
                    end_of_padding(text, at, known)?;
                    bits <<= 6 * (4 - known);
                    bytes.extend(&bits.to_be_bytes()[1..known]);
                    return Ok(bytes);
                }
                None => return Err(at - 1),
            }
        }
        bytes.extend(&bits.to_be_bytes()[1..]);
    }
}

/// Checks what follows the first `=` of a group with this number of letters.
fn end_of_padding(text: &[u8], mut at: usize, known: usize) -> Result<(), usize> {
    let skip = |at: &mut usize| {
        while text.get(*at).copied().is_some_and(is_line_end) {
            *at += 1;
        }
    };
    if known == 2 {
        skip(&mut at);
        match text.get(at) {
            None => return Err(text.len()),
            Some(b'=') => at += 1,
            Some(_) => return Err(at - 1),
        }
    }
    skip(&mut at);
    if at < text.len() { Err(at) } else { Ok(()) }
}

fn is_line_end(letter: u8) -> bool {
    matches!(letter, b'\n' | b'\r')
}

fn value(letter: u8) -> Option<u32> {
    Some(u32::from(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_each_length_come_back() {
        for length in 0..200_u8 {
            let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(211)).collect();
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            assert_eq!(text.len(), usize::from(length).div_ceil(3) * 4);
            assert_eq!(decode(&text), Ok(bytes));
        }
    }

    /// Goal: texts are taken or refused as by etcd, at the same byte. Method: the cases of Go's
    /// decoder.
    #[test]
    fn a_wrong_text_is_refused_at_the_byte_at_which_go_stops() {
        for (text, expected) in [
            ("Zm9v", Ok("foo")),
            ("Zm\n9v\r\n", Ok("foo")),
            ("Zg==", Ok("f")),
            ("Zh==", Ok("f")),
            ("Zg=\n=\n", Ok("f")),
            ("Zm8=", Ok("fo")),
            ("", Ok("")),
            ("Zm9", Err(0)),
            ("Zm9vZm9", Err(4)),
            ("Z", Err(0)),
            ("_-_-", Err(0)),
            ("Zm9v-m9v", Err(4)),
            ("=", Err(0)),
            ("Z===", Err(1)),
            ("Zg=", Err(3)),
            ("Zg=x", Err(2)),
            ("Zg==x", Err(4)),
            ("Zm9vZg==Zm9v", Err(8)),
            ("Zm8=Z", Err(4)),
        ] {
            let decoded = decode(text.as_bytes());
            assert_eq!(decoded, expected.map(|text| text.as_bytes().to_vec()), "{text:?}");
        }
    }
}
