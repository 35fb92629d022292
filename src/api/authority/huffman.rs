//! HPACK's Huffman code (RFC 7541, appendix B), decoded.
//!
//! The code is canonical: codes of one length count upwards, and the longer ones begin where the
//! shorter ones end. So the symbols in order are the whole table, and each further bit requires one
//! comparison: is the prefix so far below the first longer code?

/// The longest code in bits.
const LONGEST: usize = 30;

/// The symbols by the length of their code, in the order of their codes. The mark of the end (EOS),
/// which may not be sent, follows the last one.
const SYMBOLS: &[(usize, &[u8])] = &[
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (
        22,
        b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\
          \xc4\xc6\xe4\xe8\xe9",
    ),
    (
        23,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\
          \xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    ),
    (24, b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, b"\xc7\xcf\xea\xeb"),
    (26, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\
          \x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    ),
    (30, b"\x0a\x0d\x16"),
];

/// The codes of one length: the first one, and their symbols in order.
type Length = (u32, &'static [u8]);

/// The codes by their length in bits.
const LENGTHS: [Length; LONGEST + 1] = lengths();

const fn lengths() -> [Length; LONGEST + 1] {
    let mut lengths: [Length; LONGEST + 1] = [(0, b""); LONGEST + 1];
    let (mut length, mut first, mut row) = (0, 0, 0);
    while length <= LONGEST {
        first <<= 1;
        let mut symbols: &[u8] = b"";
        if SYMBOLS[row].0 == length {
            symbols = SYMBOLS[row].1;
            row += 1;
        }
        lengths[length] = (first, symbols);
        first += symbols.len() as u32;
        length += 1;
    }
    lengths
}

/// Decodes a text; `None` if a code is invalid, or the padding is not all ones.
pub fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let (mut text, mut code, mut length) = (Vec::with_capacity(coded.len() * 8 / 5), 0_u32, 0);
    for byte in coded {
        for at in (0..8).rev() {
            (code, length) = (code << 1 | u32::from(byte >> at & 1), length + 1);
            let (first, symbols) = LENGTHS.get(length)?;
            let place = code.checked_sub(*first).and_then(|place| usize::try_from(place).ok());
            if let Some(symbol) = place.and_then(|place| symbols.get(place)) {
                text.push(*symbol);
                (code, length) = (0, 0);
            }
        }
    }
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Encodes a text as clients do.
    pub(in crate::api::authority) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let coded = LENGTHS.iter().enumerate().find_map(|(length, (first, symbols))| {
                let place = symbols.iter().position(|symbol| symbol == byte)?;
                Some(format!("{:0length$b}", *first as usize + place))
            });
            bits.push_str(&coded.expect("every byte has a code"));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let byte = |bits: &[u8]| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap();
        bits.as_bytes().chunks(8).map(byte).collect()
    }

    /// The examples of RFC 7541, C.4 and C.6, what a Go client sends, and rare symbols.
    #[test]
    fn it_is_decoded_as_the_rfc_has_it() {
        let cases: [(&[u8], &[u8]); 6] = [
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
            (&[0xff, 0xfe, 0x1f, 0xfe, 0xff], b"\\}"),
            // The codes of the RFC's table for 22 and 249.
            (&[0xff, 0xff, 0xff, 0xfb, 0xff, 0xff, 0xff, 0xbf], &[22, 249]),
        ];
        for (coded, text) in cases {
            assert_eq!(decode(coded).as_deref(), Some(text), "{coded:x?}");
        }
    }

    #[test]
    fn every_byte_comes_back_and_each_has_one_code() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).as_deref(), Some(&all[..]));
        for byte in 0..=255 {
            assert_eq!(decode(&encode(&[byte])), Some(vec![byte]));
        }
        // EOS is the only code of 30 bits that is left.
        let (first, symbols) = LENGTHS[LONGEST];
        assert_eq!(first as usize + symbols.len(), (1 << 30) - 1);
    }

    #[test]
    fn invalid_codes_and_wrong_padding_are_refused() {
        // EOS; a whole byte of padding; padding with zeros.
        for coded in [&[0xff, 0xff, 0xff, 0xff][..], &[0x64, 0x02, 0xff], &[0x07 << 3]] {
            assert_eq!(decode(coded), None, "{coded:x?}");
        }
        assert_eq!(decode(&[0x07]), Some(b"0".to_vec()));
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
