//! HPACK (RFC 7541): decodes a header block into its fields, and encodes a block that needs no
//! table.
//!
//! A pass over the first block, without a table, shows whether a connection needs repair. If it
//! does, every block is decoded with the client's table, and rewritten with literals and indexes of
//! the standard's table, so that h2 needs no earlier block.

use bytes::Bytes;
use http::uri::Authority;

use super::{
    fields::{Field, Table, is_standard, size_of, standard},
    huffman,
};

/// Replaces an authority of which no part is valid.
const PLACEHOLDER: &[u8] = b"-";

/// The index of `:authority` in the static table, and its name.
const AUTHORITY: usize = 1;
const NAME: &[u8] = b":authority";

/// How many bytes may follow an integer's prefix: enough for any value in a block.
const INTEGER_BYTES: usize = 4;

/// The first byte of an indexed field, and of a literal that is not to be stored in a table.
const INDEXED: u8 = 0x80;
const NEVER: u8 = 0x10;

/// Whether h2 would refuse the block's first `:authority`.
pub(super) fn is_to_be_mended(block: &[u8]) -> bool {
    first_authority(block).is_some_and(|value| host(&value).is_some())
}

fn first_authority(block: &[u8]) -> Option<Vec<u8>> {
    let mut walk = Walk { block, at: 0 };
    loop {
        let name = match walk.form()? {
            // The standard's field with that name has an empty value; Go's encoder sends this index
            // for an empty authority.
            Form::Indexed(AUTHORITY) => return Some(Vec::new()),
            Form::Literal { name, .. } => name,
            Form::Indexed(_) | Form::Resize(_) => continue,
        };
        let is_authority = match name {
            0 => walk.text()?.decode()? == NAME,
            index => index == AUTHORITY,
        };
        let value = walk.text()?;
        if is_authority {
            return value.decode();
        }
    }
}

/// The block with a valid authority and without a table; `None` if it cannot be parsed, or if the
/// size of its fields exceeds `list_max`.
pub(super) fn mend(block: &[u8], table: &mut Table, list_max: usize) -> Option<Vec<u8>> {
    let mut walk = Walk { block, at: 0 };
    let (mut mended, mut size) = (Vec::with_capacity(2 * block.len()), 0);
    while walk.at < block.len() {
        let Some((field, how)) = walk.next_field(table)? else { continue };
        size += size_of(&field.0, &field.1);
        if list_max < size {
            return None;
        }
        match how {
            How::Index(index) => mended.extend(integer(INDEXED, 7, index)),
            How::Literal(first) => write(&mut mended, &field, first),
        }
    }
    Some(mended)
}

/// Writes a field; `first` says whether later hops may store it in a table.
fn write(block: &mut Vec<u8>, (name, value): &Field, first: u8) {
    let mended = if name == NAME { host(value) } else { None };
    let value = mended.as_deref().unwrap_or(value);
    match standard(name, value) {
        Some((index, true)) if first == 0 => {
            block.extend(integer(INDEXED, 7, index));
            return;
        }
        Some((index, _)) => block.extend(integer(first, 4, index)),
        None => {
            block.push(first);
            write_text(block, name);
        }
    }
    write_text(block, value);
}

fn write_text(block: &mut Vec<u8>, text: &[u8]) {
    block.extend(integer(0, 7, text.len()));
    block.extend_from_slice(text);
}

/// A valid replacement for this authority; `None` if h2 accepts the authority itself.
fn host(value: &[u8]) -> Option<Vec<u8>> {
    if Authority::try_from(value).is_ok() {
        return None;
    }
    let scheme = value.windows(3).position(|at| at == b"://").map_or(0, |at| at + 3);
    let host = &value[scheme..];
    let host = host.strip_suffix(b"/").unwrap_or(host);
    let is_one = Authority::try_from(host).is_ok();
    Some(if is_one { host } else { PLACEHOLDER }.to_vec())
}

/// Encodes an integer after the `prefix_bits` low bits of `first` (RFC 7541 5.1).
pub(super) fn integer(first: u8, prefix_bits: u32, value: usize) -> Vec<u8> {
    let max = (1_u8 << prefix_bits) - 1;
    // The casts are of values that fit by construction.
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

/// The representation of the next field in the block (RFC 7541 6), by its first byte and integer.
enum Form {
    /// The field with this index.
    Indexed(usize),
    /// A literal: the name's index, or 0; whether it is stored in the table; and the first byte
    /// with which it is rewritten.
    Literal { name: usize, is_kept: bool, first: u8 },
    /// No field: the table's size changes.
    Resize(usize),
}

/// A string literal as encoded in the block.
struct Text<'a> {
    is_huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn decode(&self) -> Option<Vec<u8>> {
        match self.is_huffman {
            true => huffman::decode(self.bytes),
            false => Some(self.bytes.to_vec()),
        }
    }
}

/// How a field is passed on.
#[derive(Debug, PartialEq, Eq)]
enum How {
    /// By its index in the standard's table, as it came. A block of such fields has a hundred times
    /// as many as one of literals, so they must not be looked for in the table.
    Index(usize),
    /// As a literal with this first byte.
    Literal(u8),
}

/// A pass over a header block.
struct Walk<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn form(&mut self) -> Option<Form> {
        let first = *self.block.get(self.at)?;
        Some(match first {
            INDEXED.. => Form::Indexed(self.integer(7)?),
            0x40.. => Form::Literal { name: self.integer(6)?, is_kept: true, first: 0 },
            0x20.. => Form::Resize(self.integer(5)?),
            _ => Form::Literal { name: self.integer(4)?, is_kept: false, first: first & NEVER },
        })
    }

    /// The next field, and how it is passed on; `Some(None)` is none.
    fn next_field(&mut self, table: &mut Table) -> Option<Option<(Field, How)>> {
        let (name, is_kept, first) = match self.form()? {
            Form::Indexed(index) => {
                let field = table.get(index)?;
                // An empty authority is none, so it is written anew.
                let is_good = is_standard(index) && index != AUTHORITY;
                let how = if is_good { How::Index(index) } else { How::Literal(0) };
                return Some(Some((field, how)));
            }
            Form::Resize(size) => return table.resize(size).map(|()| None),
            Form::Literal { name, is_kept, first } => (name, is_kept, first),
        };
        let name = match name {
            0 => Bytes::from(self.text()?.decode()?),
            index => table.get(index)?.0,
        };
        let field = (name, Bytes::from(self.text()?.decode()?));
        if is_kept {
            table.insert(&field);
        }
        Some(Some((field, How::Literal(first))))
    }

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
        let bytes = self.block.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(Text { is_huffman, bytes })
    }
}

/// All fields of a block.
#[cfg(test)]
pub(super) fn fields(block: &[u8], table: &mut Table) -> Option<Vec<Field>> {
    let mut walk = Walk { block, at: 0 };
    let mut fields = Vec::new();
    while walk.at < block.len() {
        fields.extend(walk.next_field(table)?.map(|(field, _)| field));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_there_and_back_and_long_ones_are_not_understood() {
        for prefix_bits in [4, 5, 6, 7] {
            for value in (0..600).chain([16_383, 16_384, 2_000_000, 200_000_000]) {
                let block = integer(0, prefix_bits, value);
                let mut walk = Walk { block: &block, at: 0 };
                assert_eq!(walk.integer(prefix_bits), Some(value));
                assert_eq!(walk.at, block.len());
            }
        }
        // The RFC's example, C.1.2.
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
        for block in [&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x01][..], &[0x7f, 0x80], &[]] {
            assert_eq!(Walk { block, at: 0 }.integer(7), None);
        }
    }

    /// The three requests of RFC 7541, C.4, one after the other.
    #[test]
    fn blocks_of_the_rfc_come_out_as_literals() {
        let mut table = Table::new();
        let name = ":authority: www.example.com";
        let cases: [(&[u8], &[&str]); 3] = [
            (
                b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                &[":method: GET", ":scheme: http", ":path: /", name],
            ),
            (
                b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
                &[":method: GET", ":scheme: http", ":path: /", name, "cache-control: no-cache"],
            ),
            (
                b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\
                  \xb8\xe8\xb4\xbf",
                &[
                    ":method: GET",
                    ":scheme: https",
                    ":path: /index.html",
                    name,
                    "custom-key: custom-value",
                ],
            ),
        ];
        for (block, expected) in cases {
            let mended = mend(block, &mut table, 1000).unwrap();
            let told = fields(&mended, &mut Table::new()).unwrap();
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let told: Vec<String> = told
                .iter()
                .map(|(name, value)| format!("{}: {}", text(name), text(value)))
                .collect();
            assert_eq!(told, expected);
        }
        assert_eq!(mend(cases[1].0, &mut table, 100), None);
    }

    #[test]
    fn an_index_of_the_standards_table_stays_as_it_came() {
        let mut table = Table::new();
        let block = [0x83, 0x86, 0x84, 0x8f, 0xbd];
        assert_eq!(mend(&block, &mut table, 1000).as_deref(), Some(&block[..]));
        let mut walk = Walk { block: &block, at: 0 };
        let (field, how) = walk.next_field(&mut table).unwrap().unwrap();
        assert_eq!((&field.1[..], how), (&b"POST"[..], How::Index(3)));
        // An empty authority is none; and a field of the client's own table is in none of h2's.
        assert_eq!(mend(&[0x81], &mut table, 1000).as_deref(), Some(&b"\x01\x01-"[..]));
        let own = b"\x40\x01a\x01b\xbe";
        let spelled = b"\x00\x01a\x01b\x00\x01a\x01b";
        assert_eq!(mend(own, &mut table, 1000).as_deref(), Some(&spelled[..]));
    }

    #[test]
    fn an_empty_authority_is_found_in_every_form() {
        for field in [&b"\x81"[..], b"\x41\x00", b"\x41\x80", b"\x01\x00", b"\x11\x00"] {
            assert!(is_to_be_mended(&[b"\x83\x86", field].concat()), "{field:x?}");
        }
        assert!(is_to_be_mended(b"\x83\x00\x0a:authority\x00"));
        assert!(!is_to_be_mended(b"\x83\x86\x41\x01a"));
    }

    #[test]
    fn never_indexed_literals_stay_so() {
        let block = b"\x10\x05token\x01x";
        assert_eq!(mend(block, &mut Table::new(), 1000).as_deref(), Some(&block[..]));
        let authority = b"\x11\x00";
        let mended = mend(authority, &mut Table::new(), 1000);
        assert_eq!(mended.as_deref(), Some(&b"\x11\x01-"[..]));
    }
}
