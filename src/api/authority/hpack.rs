//! As much of HPACK (RFC 7541) as it takes to find one literal in a header block.
//!
//! The block is walked without a table: of an indexed field it is enough to know where it ends.
//! Huffman codes are known up to 13 bits, which is all that a host, a port and a field's name are
//! made of. What goes beyond that is "not found".

use std::ops::Range;

use http::uri::Authority;

/// What stands for an authority of which nothing can be kept: one byte, so that it is never longer.
pub(super) const NOBODY: &[u8] = b"-";

/// The index of `:authority` in the static table.
const AUTHORITY: usize = 1;

/// How many bytes may follow an integer's prefix: enough for two million.
const INTEGER_BYTES: usize = 3;

/// The symbols by the length of their code. The code is canonical (RFC 7541 appendix B): codes of
/// one length count upwards, and the longer ones begin where the shorter ones end.
const SYMBOLS: &[(u32, &[u8])] = &[
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
];

/// Where the block's first literal `:authority` has its value, length included, and what has to
/// stand there instead; `None` if h2 accepts it, or if there is none.
pub(super) fn mended_authority(block: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let mut walk = Walk { block, at: 0 };
    loop {
        let prefix_bits = match *block.get(walk.at)? {
            // Indexed.
            0x80.. => {
                walk.integer(7)?;
                continue;
            }
            // Literal, into the table.
            0x40.. => 6,
            // Size of the table.
            0x20.. => {
                walk.integer(5)?;
                continue;
            }
            // Literal, not into the table, or never into any.
            _ => 4,
        };
        let is_authority = match walk.integer(prefix_bits)? {
            0 => walk.text()?.decode().is_some_and(|name| name == b":authority"),
            index => index == AUTHORITY,
        };
        let start = walk.at;
        let value = walk.text()?;
        if is_authority {
            let host = host(&value.decode()?)?;
            return Some((start..walk.at, host));
        }
    }
}

/// What h2 accepts in place of this value, as a string literal, not Huffman-coded.
fn host(value: &[u8]) -> Option<Vec<u8>> {
    if value.is_empty() || Authority::try_from(value).is_ok() {
        return None;
    }
    let scheme = value.windows(3).position(|at| at == b"://").map_or(0, |at| at + 3);
    let host = &value[scheme..];
    let host = host.strip_suffix(b"/").unwrap_or(host);
    let host = if Authority::try_from(host).is_ok() { host } else { NOBODY };
    Some([&integer(0, 7, host.len()), host].concat())
}

/// An integer behind the `prefix_bits` low bits of `first` (RFC 7541 5.1).
pub(super) fn integer(first: u8, prefix_bits: u32, value: usize) -> Vec<u8> {
    let max = (1_u8 << prefix_bits) - 1;
    // Casts of what was made to fit in the line itself.
    if value < usize::from(max) {
        return vec![first | value as u8];
    }
    let (mut bytes, mut rest) = (vec![first | max], value - usize::from(max));
    while 0x80 <= rest {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A string literal as it stands in the block.
struct Text<'a> {
    is_huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn decode(&self) -> Option<Vec<u8>> {
        match self.is_huffman {
            true => huffman(self.bytes),
            false => Some(self.bytes.to_vec()),
        }
    }
}

/// A walk over a header block.
struct Walk<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let max = (1_u8 << prefix_bits) - 1;
        let prefix = self.byte()? & max;
        let mut value = usize::from(prefix);
        if prefix < max {
            return Some(value);
        }
        for at in 0..INTEGER_BYTES {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let is_huffman = *self.block.get(self.at)? & 0x80 != 0;
        let len = self.integer(7)?;
        let bytes = self.block.get(self.at..self.at + len)?;
        self.at += len;
        Some(Text { is_huffman, bytes })
    }
}

fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let longest = SYMBOLS.last().map_or(0, |(bits, _)| *bits);
    let (mut text, mut code, mut bits) = (Vec::new(), 0_u32, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, bits) = (code << 1 | u32::from(bit), bits + 1);
        if let Some(symbol) = symbol(code, bits) {
            text.push(symbol);
            (code, bits) = (0, 0);
        } else if longest <= bits {
            return None;
        }
    }
    // The last byte is filled up with ones.
    (bits < 8 && code == (1 << bits) - 1).then_some(text)
}

/// The symbol of a code of so many bits, none of whose beginnings is a code.
fn symbol(code: u32, bits: u32) -> Option<u8> {
    let (mut first, mut before) = (0, 0);
    for (length, symbols) in SYMBOLS {
        first <<= length - before;
        if *length == bits {
            let at = usize::try_from(code.checked_sub(first)?).ok()?;
            return symbols.get(at).copied();
        }
        first += u32::try_from(symbols.len()).ok()?;
        before = *length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, C.4 and C.6, and what a Go client sends.
    #[test]
    fn huffman_is_decoded_as_the_rfc_has_it() {
        let cases: [(&[u8], &[u8]); 4] = [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
                b"www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x64, 0x02], b"302"),
            (
                &[
                    0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x6e, 0x32,
                    0xc8, 0x5c, 0x6f,
                ],
                b"http://127.0.0.1:33165",
            ),
        ];
        for (coded, text) in cases {
            assert_eq!(huffman(coded).as_deref(), Some(text));
        }
    }

    #[test]
    fn huffman_with_foreign_codes_or_wrong_padding_is_not_understood() {
        // A code of 15 bits; a whole byte of padding; padding of zeros.
        for coded in [&[0xff, 0xf8][..], &[0x64, 0x02, 0xff], &[0x07 << 3]] {
            assert_eq!(huffman(coded), None, "{coded:x?}");
        }
        assert_eq!(huffman(&[0x07]), Some(b"0".to_vec()));
    }

    #[test]
    fn integers_survive_there_and_back_and_long_ones_are_not_understood() {
        for prefix_bits in [4, 5, 6, 7] {
            for value in (0..600).chain([16_383, 16_384, 2_000_000]) {
                let block = integer(0, prefix_bits, value);
                let mut walk = Walk { block: &block, at: 0 };
                assert_eq!(walk.integer(prefix_bits), Some(value));
                assert_eq!(walk.at, block.len());
            }
        }
        // The RFC's example, C.1.2.
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
        for block in [&[0x7f, 0x80, 0x80, 0x80, 0x01][..], &[0x7f, 0x80], &[]] {
            assert_eq!(Walk { block, at: 0 }.integer(7), None);
        }
    }
}
