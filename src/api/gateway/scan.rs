//! Finds the end of a JSON value, byte by byte, and says what is wrong with one.
//!
//! ```text
//!   bytes ──▶ [ Scanner ] ──▶ More … More, End        a value, of any depth up to DEPTH_MAX
//!                        ╰──▶ invalid character 'x' looking for beginning of value
//! ```
//!
//! The texts are those of Go's `encoding/json`, because clients of etcd's gateway see them. A
//! scanner keeps its state between two pieces of a body, so a value that arrives in many pieces is
//! scanned once. It does not recurse: the open objects and arrays are a list.
//!
//! Left out: what a value means ([`super::tape`]).

/// Objects and arrays that may be open at once, as in Go.
const DEPTH_MAX: usize = 10_000;

/// What a byte does to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value is not complete, or has not begun.
    More,
    /// It ends with this byte.
    Ends,
    /// It has ended before this byte, which is not a part of it.
    Ended,
}

/// An object or an array that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// An object whose next colon has not come yet.
    Key,
    /// An object after a colon.
    Member,
    Array,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    AfterValue,
    String,
    Escape,
    /// This number of digits of `\u` is missing.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// `true`, `false` or `null`, of which this number of letters has come.
    Word(&'static str, usize),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    open: Vec<Open>,
    has_begun: bool,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self { state: State::Value, open: Vec::new(), has_begun: false }
    }

    /// Whether anything but white space has come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether the value is complete if nothing follows: only a number ends in this way.
    pub(super) fn ends_here(&self) -> bool {
        let is_number = matches!(
            self.state,
            State::Zero | State::Digits | State::Fraction | State::ExponentDigits
        );
        self.open.is_empty() && is_number
    }

    /// Takes the next byte.
    pub(super) fn step(&mut self, byte: u8) -> Result<Step, String> {
        self.has_begun |= !is_space(byte);
        match self.state {
            State::Value | State::ValueOrEnd => self.value(byte),
            State::Key | State::KeyOrEnd => self.key(byte),
            State::AfterValue => self.after_value(byte),
            State::String | State::Escape | State::Hex(_) => self.string(byte),
            State::Word(word, at) => self.word(byte, word, at),
            _ => self.number(byte),
        }
    }

    fn goes_on(&mut self, state: State) -> Result<Step, String> {
        self.state = state;
        Ok(Step::More)
    }

    fn value(&mut self, byte: u8) -> Result<Step, String> {
        match byte {
            byte if is_space(byte) => Ok(Step::More),
            b']' if self.state == State::ValueOrEnd => self.after_value(byte),
            b'{' => self.opens(Open::Key, State::KeyOrEnd),
            b'[' => self.opens(Open::Array, State::ValueOrEnd),
            b'"' => self.goes_on(State::String),
            b'-' => self.goes_on(State::Minus),
            b'0' => self.goes_on(State::Zero),
            b'1'..=b'9' => self.goes_on(State::Digits),
            b't' => self.goes_on(State::Word("true", 1)),
            b'f' => self.goes_on(State::Word("false", 1)),
            b'n' => self.goes_on(State::Word("null", 1)),
            byte => Err(invalid(byte, "looking for beginning of value")),
        }
    }

    fn opens(&mut self, open: Open, state: State) -> Result<Step, String> {
        self.open.push(open);
        if DEPTH_MAX < self.open.len() {
            return Err("exceeded max depth".to_owned());
        }
        self.goes_on(state)
    }

    fn key(&mut self, byte: u8) -> Result<Step, String> {
        match byte {
            byte if is_space(byte) => Ok(Step::More),
            b'}' if self.state == State::KeyOrEnd => self.closes(),
            b'"' => self.goes_on(State::String),
            byte => Err(invalid(byte, "looking for beginning of object key string")),
        }
    }

    /// The last object or array is complete.
    fn closes(&mut self) -> Result<Step, String> {
        self.open.pop();
        self.ends()
    }

    /// A value is complete.
    fn ends(&mut self) -> Result<Step, String> {
        self.state = State::AfterValue;
        Ok(if self.open.is_empty() { Step::Ends } else { Step::More })
    }

    fn after_value(&mut self, byte: u8) -> Result<Step, String> {
        let Some(open) = self.open.last_mut() else { return Ok(Step::Ended) };
        self.state = State::AfterValue;
        match (*open, byte) {
            (_, byte) if is_space(byte) => Ok(Step::More),
            (Open::Key, b':') => {
                *open = Open::Member;
                self.goes_on(State::Value)
            }
            (Open::Member, b',') => {
                *open = Open::Key;
                self.goes_on(State::Key)
            }
            (Open::Array, b',') => self.goes_on(State::Value),
            (Open::Member, b'}') | (Open::Array, b']') => self.closes(),
            (Open::Key, byte) => Err(invalid(byte, "after object key")),
            (Open::Member, byte) => Err(invalid(byte, "after object key:value pair")),
            (Open::Array, byte) => Err(invalid(byte, "after array element")),
        }
    }

    fn string(&mut self, byte: u8) -> Result<Step, String> {
        match (self.state, byte) {
            (State::String, b'"') => self.ends(),
            (State::String, b'\\') => self.goes_on(State::Escape),
            (State::String, 0..0x20) => Err(invalid(byte, "in string literal")),
            (State::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                self.goes_on(State::String)
            }
            (State::Escape, b'u') => self.goes_on(State::Hex(4)),
            (State::Escape, byte) => Err(invalid(byte, "in string escape code")),
            (State::Hex(left), byte) if byte.is_ascii_hexdigit() => {
                self.goes_on(if left == 1 { State::String } else { State::Hex(left - 1) })
            }
            (State::Hex(_), byte) => Err(invalid(byte, "in \\u hexadecimal character escape")),
            _ => Ok(Step::More),
        }
    }

    fn word(&mut self, byte: u8, word: &'static str, at: usize) -> Result<Step, String> {
        let wanted = word.as_bytes()[at];
        if byte != wanted {
            let context = format!("in literal {word} (expecting {})", quoted(wanted));
            return Err(invalid(byte, &context));
        }
        match at + 1 == word.len() {
            true => self.ends(),
            false => self.goes_on(State::Word(word, at + 1)),
        }
    }

    fn number(&mut self, byte: u8) -> Result<Step, String> {
        use State::{Digits, Exponent, ExponentDigits, ExponentSign, Fraction, Minus, Point, Zero};
        match (self.state, byte) {
            (Minus, b'0') => self.goes_on(Zero),
            (Minus, b'1'..=b'9') => self.goes_on(Digits),
            (Minus, byte) => Err(invalid(byte, "in numeric literal")),
            (Digits, b'0'..=b'9') => Ok(Step::More),
            (Zero | Digits, b'.') => self.goes_on(Point),
            (Zero | Digits | Fraction, b'e' | b'E') => self.goes_on(Exponent),
            (Point | Fraction, b'0'..=b'9') => self.goes_on(Fraction),
            (Point, byte) => Err(invalid(byte, "after decimal point in numeric literal")),
            (Exponent, b'+' | b'-') => self.goes_on(ExponentSign),
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => self.goes_on(ExponentDigits),
            (Exponent | ExponentSign, byte) => Err(invalid(byte, "in exponent of numeric literal")),
            (_, byte) => self.after_value(byte),
        }
    }
}

/// Whether this is one JSON value, with white space around it.
pub(super) fn check(text: &[u8]) -> Result<(), String> {
    let mut scanner = Scanner::new();
    let mut rest = text.iter();
    for byte in &mut rest {
        let step = scanner.step(*byte)?;
        if step != Step::More {
            let after = [*byte];
            let mut after = after.iter().filter(|_| step == Step::Ended).chain(rest);
            return match after.find(|byte| !is_space(**byte)) {
                Some(byte) => Err(invalid(*byte, "after top-level value")),
                None => Ok(()),
            };
        }
    }
    if scanner.ends_here() {
        return Ok(());
    }
    scanner.step(b' ')?;
    Err("unexpected end of JSON input".to_owned())
}

/// White space in JSON.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn invalid(byte: u8, context: &str) -> String {
    format!("invalid character {} {context}", quoted(byte))
}

/// A byte between single quotes, as Go writes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        byte => {
            let text = quote(&char::from(byte).to_string());
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

/// Text between double quotes, as Go's `%q` writes it.
pub(super) fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        let code = u32::from(letter);
        // Writing into a string cannot fail.
        let _ = match letter {
            '"' | '\\' => write!(quoted, "\\{letter}"),
            '\x07' => write!(quoted, "\\a"),
            '\x08' => write!(quoted, "\\b"),
            '\x0c' => write!(quoted, "\\f"),
            '\n' => write!(quoted, "\\n"),
            '\r' => write!(quoted, "\\r"),
            '\t' => write!(quoted, "\\t"),
            '\x0b' => write!(quoted, "\\v"),
            ' '..='~' => write!(quoted, "{letter}"),
            '\0'..='\x7f' => write!(quoted, "\\x{code:02x}"),
            '\u{80}'..='\u{a0}' | '\u{ad}' => write!(quoted, "\\u{code:04x}"),
            letter => write!(quoted, "{letter}"),
        };
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each mistake has Go's text. Method: the texts that etcd 3.5.1 has answered for these
    /// bodies, and those of Go's scanner for the contexts that etcd's answers do not reach.
    #[test]
    fn each_mistake_has_the_text_of_go() {
        for (text, expected) in [
            ("{x}", "invalid character 'x' looking for beginning of object key string"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":\"\\x\"}", "invalid character 'x' in string escape code"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1}", "invalid character '}' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("5 x", "invalid character 'x' after top-level value"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("-", "invalid character ' ' in numeric literal"),
            ("[", "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            ("\u{e9}", "invalid character 'Ã' looking for beginning of value"),
        ] {
            assert_eq!(check(text.as_bytes()).unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn values_of_all_kinds_are_valid_with_white_space_around_them() {
        for text in
            ["null", " 5\n", "-0.1e+9", "\"\\u00e9\\/\"", "[]", "{ }", "[ {\"a\" : [1,2]} ]"]
        {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_value_is_as_deep_as_in_go_and_no_deeper() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(deep(DEPTH_MAX).as_bytes()), Ok(()));
        let refused = check(deep(DEPTH_MAX + 1).as_bytes());
        assert_eq!(refused, Err("exceeded max depth".to_owned()));
    }

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        assert_eq!(quote("\"a\\b\u{1}\n\u{85}é"), r#""\"a\\b\x01\n\u0085é""#);
    }
}
