//! A JSON value as a flat list of nodes, in the order of its text.
//!
//! ```text
//!   {"a": [1, "x"]}   ──▶   0 object  1 "a"  2 array  3 number  4 "x"
//!                           next: 5          next: 5
//! ```
//!
//! A node knows where its text is and which node comes after it and all that is in it. So a message
//! is read without recursion, and each byte is looked at once, however deep the value is.
//!
//! Invariant: the text is one valid value, as [`super::scan`] has found it.

use super::scan::is_space;

/// A kind of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Type {
    /// What Go calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
        }
    }

    /// The type of a value by its first byte.
    pub(super) fn of(first: u8) -> Self {
        match first {
            b'{' => Self::Object,
            b'[' => Self::Array,
            b'"' => Self::String,
            b't' | b'f' => Self::Bool,
            b'n' => Self::Null,
            _ => Self::Number,
        }
    }
}

/// A value within the text.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Type,
    /// Where its text begins and ends.
    text: [u32; 2],
    /// The place of the first node that is not a part of it.
    next: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Tape<'a> {
    text: &'a [u8],
    nodes: Vec<Node>,
}

impl<'a> Tape<'a> {
    /// Reads a valid value, which is shorter than 4 GiB, as the longest body is.
    pub(super) fn of(text: &'a [u8]) -> Self {
        let (mut nodes, mut open, mut at) = (Vec::<Node>::new(), Vec::new(), 0);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        while let Some(byte) = text.get(at) {
            let kind = Type::of(*byte);
            match byte {
                b'{' | b'[' => {
                    open.push(nodes.len());
                    nodes.push(Node { kind, text: [place(at), 0], next: 0 });
                    at += 1;
                }
                b'}' | b']' => {
                    at += 1;
                    let next = place(nodes.len());
                    if let Some(node) = open.pop().and_then(|node| nodes.get_mut(node)) {
                        (node.text[1], node.next) = (place(at), next);
                    }
                }
                b',' | b':' => at += 1,
                byte if is_space(*byte) => at += 1,
                _ => {
                    let end = at + length_of(&text[at..]);
                    let next = place(nodes.len() + 1);
                    nodes.push(Node { kind, text: [place(at), place(end)], next });
                    at = end;
                }
            }
        }
        Self { text, nodes }
    }

    pub(super) fn kind(&self, node: usize) -> Type {
        self.nodes[node].kind
    }

    /// The text of a node, with the quotes of a string.
    pub(super) fn text(&self, node: usize) -> &'a [u8] {
        let [from, to] = self.nodes[node].text;
        &self.text[from as usize..to as usize]
    }

    /// The place of the first node that is not a part of this one.
    pub(super) fn next(&self, node: usize) -> usize {
        self.nodes[node].next as usize
    }

    /// The elements of an array, or the keys and values of an object in turn.
    pub(super) fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        let (mut at, end) = (node + 1, self.next(node));
        std::iter::from_fn(move || {
            let child = at;
            (child < end).then(|| at = self.next(child))?;
            Some(child)
        })
    }
}

/// The length of the string, number or word with which this begins.
fn length_of(text: &[u8]) -> usize {
    if text[0] != b'"' {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b':') || is_space(*byte);
        return text.iter().position(ends).unwrap_or(text.len());
    }
    let mut at = 1;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// What a string says. `text` has its quotes. As in Go, bytes that are not UTF-8 and halves of
/// pairs become U+FFFD, each.
pub(super) fn unquoted(text: &[u8]) -> String {
    let text = &text[1..text.len() - 1];
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        if *byte != b'\\' {
            plain.push(*byte);
            at += 1;
            continue;
        }
        let escaped = text.get(at + 1).copied().unwrap_or(b'\\');
        at += 2;
        plain.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (letter, length) = letter(&text[at..]);
                at += length;
                plain.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => other,
        });
    }
    let mut valid = String::with_capacity(plain.len());
    for chunk in plain.utf8_chunks() {
        valid.push_str(chunk.valid());
        valid.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    valid
}

/// The letter of the digits after `\u`, and perhaps of another `\u` with its other half, and how
/// many bytes that takes.
fn letter(text: &[u8]) -> (char, usize) {
    let unit = |text: &[u8]| {
        let digits = text.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u16::from_str_radix(digits, 16).ok())
    };
    let first = unit(text).unwrap_or(0xfffd);
    if let Some(letter) = char::from_u32(first.into()) {
        return (letter, 4);
    }
    let second = text.get(4..).and_then(|rest| rest.strip_prefix(b"\\u")).and_then(unit);
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match pair {
        Some(letter) => (letter, 10),
        None => (char::REPLACEMENT_CHARACTER, 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_text_and_what_comes_after_them() {
        let tape = Tape::of(br#" {"a\"": [1, "x,]"], "b": {} , "c":null} "#);
        let children: Vec<_> = tape.children(0).map(|node| tape.text(node)).collect();
        let expected: [&[u8]; 6] =
            [br#""a\"""#, br#"[1, "x,]"]"#, br#""b""#, b"{}", br#""c""#, b"null"];
        assert_eq!(children, expected);
        let array: Vec<_> = tape.children(2).map(|node| tape.kind(node)).collect();
        assert_eq!(array, [Type::Number, Type::String]);
        assert_eq!(tape.next(0), 9);
    }

    #[test]
    fn strings_are_read_as_go_reads_them() {
        for (text, expected) in [
            (r#""plain""#, "plain"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
            (r#""\ud83d\u0041\udc00""#, "\u{fffd}A\u{fffd}"),
        ] {
            assert_eq!(unquoted(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(unquoted(b"\"a\xe2\x82b\""), "a\u{fffd}\u{fffd}b");
    }
}
