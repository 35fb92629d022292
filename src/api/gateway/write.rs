//! From a message's bytes to JSON, piece by piece.
//!
//! ```text
//!   bytes ──▶ [ Writer ] ──▶ {"header":{"revision":"2"},"kvs":[{"key":"Zm9v", …
//!   bytes ──▶               …
//! ```
//!
//! An answer may be as long as a client likes, so it is never whole here: a field is written once
//! its bytes are there, and the bytes of a value in groups of three. Messages that are open are a
//! list, so nothing recurses.
//!
//! The form is that of golang/protobuf's `jsonpb`, as etcd's gateway uses it: names as declared,
//! 64-bit integers as texts, enums by name, bytes as base64, no fields that have their default.
//! Those are not among the bytes either, nor is anything out of order
//! ([`super::schema`]'s tests), so the bytes are translated as they come.

use super::{
    base64,
    schema::{Field, Kind, Message},
};

/// A message that does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A message of which not all bytes have come.
#[derive(Debug)]
struct Open {
    message: &'static Message,
    /// Bytes that are missing.
    left: usize,
    /// The number of the list that was begun and may go on; 0 if there is none.
    list: u32,
    has_fields: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Writer {
    open: Vec<Open>,
    /// Bytes of the open field that are missing, while it is one of bytes.
    bytes_left: usize,
    /// Bytes of an unknown field that are missing.
    skipped_left: usize,
    /// What has come and is not written yet.
    input: Vec<u8>,
    text: Vec<u8>,
}

impl Writer {
    /// Begins a message of this type and of this length in bytes.
    pub(super) fn begin(&mut self, message: &'static Message, length: usize) {
        self.text.push(b'{');
        self.open.push(Open { message, left: length, list: 0, has_fields: false });
    }

    /// Whether the message is not complete.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The text so far, which is handed over.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// Appends text that is no part of the message.
    pub(super) fn push(&mut self, text: &str) {
        self.text.extend(text.as_bytes());
    }

    /// Takes the next bytes of the message.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.input.extend(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &*input;
        while self.step(&mut rest)? {}
        if !rest.is_empty() && self.open.is_empty() {
            return Err(Malformed);
        }
        self.input = rest.to_vec();
        Ok(())
    }

    /// Writes the next part; `false` if its bytes have not all come, or none is missing.
    fn step(&mut self, rest: &mut &[u8]) -> Result<bool, Malformed> {
        if 0 < self.bytes_left {
            return Ok(self.bytes(rest));
        }
        if 0 < self.skipped_left {
            let length = self.skipped_left.min(rest.len());
            (self.skipped_left, *rest) = (self.skipped_left - length, &rest[length..]);
            return Ok(0 < length);
        }
        let Some(open) = self.open.last_mut() else { return Ok(false) };
        if open.left == 0 {
            self.text.extend(if open.list != 0 { "]}" } else { "}" }.bytes());
            self.open.pop();
            return Ok(true);
        }
        let mut ahead = *rest;
        let Some(tag) = varint(&mut ahead)? else { return Ok(false) };
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        let field = open.message.fields_declared.iter().find(|field| field.number == number);
        let written = match tag & 7 {
            0 => varint(&mut ahead)?.map(|value| self.number(field, value)),
            1 => self.skip(8),
            2 => match varint(&mut ahead)? {
                None => None,
                Some(length) => {
                    let length = usize::try_from(length).map_err(|_| Malformed)?;
                    self.sized(field, length, rest.len() - ahead.len(), &mut ahead)?
                }
            },
            5 => self.skip(4),
            _ => return Err(Malformed),
        };
        let Some(inner) = written else { return Ok(false) };
        let used = (rest.len() - ahead.len()).checked_add(inner).ok_or(Malformed)?;
        // The message to which the field belongs, which may have been followed by one in it.
        let at = self.open.len() - 1 - usize::from(self.is_inner(field, tag));
        let left = &mut self.open[at].left;
        *left = left.checked_sub(used).ok_or(Malformed)?;
        *rest = ahead;
        Ok(true)
    }

    /// Whether this field has opened a message.
    fn is_inner(&self, field: Option<&Field>, tag: u64) -> bool {
        tag & 7 == 2 && field.is_some_and(|field| matches!(field.kind, Kind::Message(_)))
    }

    /// Skips an unknown field's bytes, which follow.
    fn skip(&mut self, length: usize) -> Option<usize> {
        self.skipped_left = length;
        Some(length)
    }

    /// Writes a field of a type with a length. `head` bytes of it have been read. Returns how many
    /// of those that follow belong to it and stay there; `None` if some are missing.
    fn sized(
        &mut self,
        field: Option<&'static Field>,
        length: usize,
        head: usize,
        ahead: &mut &[u8],
    ) -> Result<Option<usize>, Malformed> {
        let open = self.open.last().ok_or(Malformed)?;
        if open.left.checked_sub(head).is_none_or(|left| left < length) {
            return Err(Malformed);
        }
        let Some(field) = field else { return Ok(self.skip(length)) };
        match field.kind {
            Kind::Message(message) => {
                self.name(field);
                self.begin(message, length);
                Ok(Some(length))
            }
            Kind::Bytes => {
                self.name(field);
                self.text.push(b'"');
                self.bytes_left = length;
                if length == 0 {
                    self.text.push(b'"');
                }
                Ok(Some(length))
            }
            _ if ahead.len() < length => Ok(None),
            Kind::String => {
                self.name(field);
                string(&String::from_utf8_lossy(&ahead[..length]), &mut self.text);
                *ahead = &ahead[length..];
                Ok(Some(0))
            }
            // A list of numbers in one piece.
            _ => {
                let mut numbers = &ahead[..length];
                while !numbers.is_empty() {
                    let number = varint(&mut numbers)?.ok_or(Malformed)?;
                    self.number(Some(field), number);
                }
                *ahead = &ahead[length..];
                Ok(Some(0))
            }
        }
    }

    /// Writes the bytes of the open field that have come.
    fn bytes(&mut self, rest: &mut &[u8]) -> bool {
        let length = match self.bytes_left <= rest.len() {
            true => self.bytes_left,
            false => rest.len() / 3 * 3,
        };
        base64::encode(&rest[..length], &mut self.text);
        (self.bytes_left, *rest) = (self.bytes_left - length, &rest[length..]);
        if self.bytes_left == 0 {
            self.text.push(b'"');
        }
        0 < length
    }

    /// Writes a field of a type without a length.
    fn number(&mut self, field: Option<&'static Field>, value: u64) -> usize {
        let Some(field) = field else { return 0 };
        self.name(field);
        let text = match field.kind {
            Kind::Bool => (value != 0).to_string(),
            Kind::Uint32 => (value as u32).to_string(),
            Kind::Int64 => format!("\"{}\"", value as i64),
            Kind::Uint64 => format!("\"{value}\""),
            Kind::Enum(kind) => {
                let known = kind.values.iter().find(|(_, number)| *number == value as i32);
                known.map_or((value as i32).to_string(), |(name, _)| format!("\"{name}\""))
            }
            Kind::String | Kind::Bytes | Kind::Message(_) => "null".to_owned(),
        };
        self.push(&text);
        0
    }

    /// Writes what stands before a value: a comma, the name, the beginning or the end of a list.
    fn name(&mut self, field: &Field) {
        let Some(open) = self.open.last_mut() else { return };
        let text = &mut self.text;
        if field.is_list && open.list == field.number {
            text.push(b',');
            return;
        }
        if open.list != 0 {
            text.push(b']');
        }
        if open.has_fields {
            text.push(b',');
        }
        open.has_fields = true;
        open.list = if field.is_list { field.number } else { 0 };
        text.push(b'"');
        text.extend(field.name.as_bytes());
        text.extend(if field.is_list { "\":[" } else { "\":" }.bytes());
    }
}

/// The next varint; `None` if not all of its bytes have come.
fn varint(rest: &mut &[u8]) -> Result<Option<u64>, Malformed> {
    let mut value = 0;
    for (at, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = &rest[at + 1..];
            return Ok(Some(value));
        }
    }
    if rest.len() < 10 { Ok(None) } else { Err(Malformed) }
}

/// Appends a text as Go's `encoding/json` writes it, which also escapes what HTML would read.
pub(super) fn string(value: &str, text: &mut Vec<u8>) {
    text.push(b'"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend([b'\\', letter as u8]),
            '\n' => text.extend(b"\\n"),
            '\r' => text.extend(b"\\r"),
            '\t' => text.extend(b"\\t"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.extend(format!("\\u{:04x}", u32::from(letter)).bytes());
            }
            _ => text.extend(letter.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        api::gateway::schema::METHODS,
        pb::{
            etcdserverpb::{
                AlarmMember, AlarmResponse, HashResponse, LeaseTimeToLiveResponse, PutResponse,
                RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnResponse,
                WatchResponse, response_op::Response,
            },
            mvccpb::{Event, KeyValue},
        },
    };

    /// The JSON of a message, which comes in pieces of this length.
    fn written(path: &str, bytes: &[u8], piece: usize) -> Result<String, Malformed> {
        let method = METHODS.iter().find(|method| method.path.ends_with(path)).unwrap();
        let mut writer = Writer::default();
        writer.begin(method.response, bytes.len());
        writer.feed(&[])?;
        for piece in bytes.chunks(piece) {
            writer.feed(piece)?;
        }
        if writer.is_open() {
            Err(Malformed)
        } else {
            Ok(String::from_utf8(writer.take()).unwrap())
        }
    }

    fn assert_json(path: &str, message: &impl prost::Message, expected: &str) {
        let bytes = message.encode_to_vec();
        for piece in [1, 2, 3, 5, 7, 1 << 20] {
            let text = written(path, &bytes, piece);
            assert_eq!(text.as_deref(), Ok(expected), "in pieces of {piece} bytes");
        }
    }

    fn kv(key: &'static str, value: &'static str) -> KeyValue {
        KeyValue { key: key.into(), value: value.into(), version: 1, ..KeyValue::default() }
    }

    #[test]
    fn an_answer_is_the_same_text_in_however_many_pieces_it_comes() {
        let header =
            Some(ResponseHeader { cluster_id: u64::MAX, revision: 2, ..Default::default() });
        let kvs = vec![kv("a", "value"), kv("b", ""), kv("c", "vv")];
        let range = RangeResponse { header, kvs, more: true, count: 4 };
        let text = r#"{"header":{"cluster_id":"18446744073709551615","revision":"2"},"kvs":[{"key":"YQ==","version":"1","value":"dmFsdWU="},{"key":"Yg==","version":"1"},{"key":"Yw==","version":"1","value":"dnY="}],"more":true,"count":"4"}"#;
        assert_json("KV/Range", &range, text);
        assert_json("KV/Range", &RangeResponse::default(), "{}");
        let prev_kv = Some(KeyValue::default());
        assert_json("KV/Put", &PutResponse { header: None, prev_kv }, r#"{"prev_kv":{}}"#);
        let keys = vec!["a".into(), "".into(), "ccc".into()];
        let view = LeaseTimeToLiveResponse { id: -1, keys, ..Default::default() };
        assert_json("LeaseTimeToLive", &view, r#"{"ID":"-1","keys":["YQ==","","Y2Nj"]}"#);
    }

    #[test]
    fn numbers_enums_and_texts_have_the_form_of_jsonpb() {
        assert_json("Maintenance/Hash", &HashResponse { header: None, hash: 7 }, r#"{"hash":7}"#);
        let alarms = [1, 9].map(|alarm| AlarmMember { member_id: 3, alarm }).to_vec();
        let text = r#"{"alarms":[{"memberID":"3","alarm":"NOSPACE"},{"memberID":"3","alarm":9}]}"#;
        assert_json("Maintenance/Alarm", &AlarmResponse { header: None, alarms }, text);
        let errors = vec!["<a> & \"b\"\n\u{1}\u{7f}é".to_owned(), String::new()];
        let status = StatusResponse { errors, is_learner: true, ..Default::default() };
        let text = "{\"errors\":[\"\\u003ca\\u003e \\u0026 \\\"b\\\"\\n\\u0001\u{7f}é\",\"\"],\"isLearner\":true}";
        assert_json("Maintenance/Status", &status, text);
        let events = vec![Event { r#type: 1, kv: Some(kv("a", "")), prev_kv: None }];
        let text = r#"{"events":[{"type":"DELETE","kv":{"key":"YQ==","version":"1"}}]}"#;
        assert_json("Watch/Watch", &WatchResponse { events, ..Default::default() }, text);
    }

    #[test]
    fn transactions_inside_of_transactions_are_written_as_messages() {
        let inner = TxnResponse { succeeded: true, ..Default::default() }.encode_to_vec();
        let put = Response::ResponsePut(PutResponse::default());
        let responses = [put, Response::ResponseTxn(inner.into())];
        let responses = responses.map(|response| ResponseOp { response: Some(response) }).to_vec();
        let text = r#"{"responses":[{"response_put":{}},{"response_txn":{"succeeded":true}}]}"#;
        assert_json("KV/Txn", &TxnResponse { responses, ..Default::default() }, text);
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for bytes in [
            &[0x0a, 5, 1][..],
            &[0x12, 3, 0x0a, 5, 1],
            &[0x07],
            &[0x20, 0x80],
            &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            for piece in [1, 100] {
                assert_eq!(written("KV/Range", bytes, piece), Err(Malformed), "{bytes:?}");
            }
        }
        // Unknown fields of all forms.
        let unknown =
            [0xf8, 7, 1, 0xf9, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 7, 2, 1, 2, 0xfd, 7, 1, 2, 3, 4];
        assert_eq!(written("KV/Range", &unknown, 3).as_deref(), Ok("{}"));
    }
}
