//! From JSON to a message's bytes.
//!
//! ```text
//!   text ──scan──▶ one valid value ──tape──▶ nodes ──▶ parts, in order ──▶ bytes, from their end
//! ```
//!
//! The bytes are written from their end, because a message's length stands before it. Neither step
//! recurses: a transaction may contain transactions, as deep as JSON permits.
//!
//! The rules are those of etcd's gateway (golang/protobuf's `jsonpb`, which ignores unknown fields
//! there), its texts too:
//!
//! * A field may have either of its names. If it has both, the one in camel case counts; of the
//!   same name twice, the last.
//! * `null` is no value. In a list it is an empty one.
//! * Numbers may be texts, of which only the quotes are taken away. Enums are names or numbers.
//! * Bytes are base64, or an array of numbers, as Go reads into a slice of bytes.
//! * Fields are read in the order of their declaration, and the first mistake is the answer. Of the
//!   members of a oneof the last one declared counts.

use super::{
    base64, scan,
    schema::{Enum, Field, Kind, Message},
    tape::{Tape, Type, unquoted},
};

/// What is written, in the order of the message.
enum Part {
    /// A message begins, in the field with this number.
    Open(u32),
    /// The message ends that was the last to begin.
    Close,
    Number(u32, u64),
    /// Bytes of a field, by their place in the heap.
    Bytes(u32, [usize; 2]),
}

/// What is still to be read. The last one is the next.
enum Todo {
    Message(&'static Message, usize),
    Value(&'static Field, usize),
    /// The elements of a list from the first to before the second node.
    Elements(&'static Field, [usize; 2]),
    Close,
}

/// Go's text for a value of the wrong type.
fn mistyped(kind: Type, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", kind.name())
}

/// The bytes of a message of this type that `text`, one valid JSON value, describes.
///
/// # Errors
///
/// What is wrong with the text, in etcd's words.
pub(super) fn message(of: &'static Message, text: &[u8]) -> Result<Vec<u8>, String> {
    let mut reader = Reader { tape: Tape::of(text), parts: Vec::new(), heap: Vec::new() };
    let mut todo = vec![Todo::Message(of, 0)];
    while let Some(next) = todo.pop() {
        match next {
            Todo::Message(message, node) => reader.fields(message, node, &mut todo)?,
            Todo::Value(field, node) if field.is_list => match reader.tape.kind(node) {
                Type::Array => todo.push(Todo::Elements(field, [node + 1, reader.tape.next(node)])),
                other => return Err(mistyped(other, "[]json.RawMessage")),
            },
            Todo::Value(field, node) => reader.value(field, node, &mut todo)?,
            Todo::Elements(_, [at, end]) if at == end => (),
            Todo::Elements(field, [at, end]) => {
                todo.push(Todo::Elements(field, [reader.tape.next(at), end]));
                reader.value(field, at, &mut todo)?;
            }
            Todo::Close => reader.parts.push(Part::Close),
        }
    }
    Ok(reader.bytes())
}

struct Reader<'a> {
    tape: Tape<'a>,
    parts: Vec<Part>,
    heap: Vec<u8>,
}

impl Reader<'_> {
    /// Finds the fields of a message, which are read next.
    fn fields(
        &self,
        message: &'static Message,
        node: usize,
        todo: &mut Vec<Todo>,
    ) -> Result<(), String> {
        match self.tape.kind(node) {
            Type::Null => return Ok(()),
            Type::Object => (),
            other => return Err(mistyped(other, "map[string]json.RawMessage")),
        }
        let mut values = vec![[None; 2]; message.fields_declared.len()];
        let mut children = self.tape.children(node);
        while let Some((key, value)) = children.next().zip(children.next()) {
            let key = unquoted(self.tape.text(key));
            for (field, values) in message.fields_declared.iter().zip(&mut values) {
                for (name, place) in [field.name, field.json].into_iter().zip(values) {
                    if name == key {
                        *place = Some(value);
                    }
                }
            }
        }
        for (field, [declared, json]) in message.fields_declared.iter().zip(values).rev() {
            if let Some(value) = json.or(declared).filter(|at| self.tape.kind(*at) != Type::Null) {
                todo.push(Todo::Value(field, value));
            }
        }
        Ok(())
    }

    /// Reads a field's value, or an element of its list.
    fn value(
        &mut self,
        field: &'static Field,
        node: usize,
        todo: &mut Vec<Todo>,
    ) -> Result<(), String> {
        let text = self.tape.text(node);
        let number = match field.kind {
            Kind::Message(message) => {
                self.parts.push(Part::Open(field.number));
                todo.extend([Todo::Close, Todo::Message(message, node)]);
                return Ok(());
            }
            Kind::String => {
                let bytes = match self.tape.kind(node) {
                    Type::String => unquoted(text).into_bytes(),
                    Type::Null => Vec::new(),
                    other => return Err(mistyped(other, "string")),
                };
                self.push_bytes(field, &bytes);
                return Ok(());
            }
            Kind::Bytes => {
                let bytes = self.bytes_of(node)?;
                self.push_bytes(field, &bytes);
                return Ok(());
            }
            Kind::Bool => match self.tape.kind(node) {
                Type::Bool => u64::from(text == b"true"),
                Type::Null => 0,
                other => return Err(mistyped(other, "bool")),
            },
            Kind::Enum(kind) => enum_number(kind, text)?,
            Kind::Int64 => integer(unquote(text)?, "int64", parse::<i64>)?,
            Kind::Uint32 => integer(unquote(text)?, "uint32", parse::<u32>)?,
            Kind::Uint64 => integer(unquote(text)?, "uint64", parse::<u64>)?,
        };
        if number != 0 || field.is_list || field.is_of_oneof {
            self.parts.push(Part::Number(field.number, number));
        }
        Ok(())
    }

    fn push_bytes(&mut self, field: &Field, bytes: &[u8]) {
        if !bytes.is_empty() || field.is_list || field.is_of_oneof {
            let from = self.heap.len();
            self.heap.extend(bytes);
            self.parts.push(Part::Bytes(field.number, [from, self.heap.len()]));
        }
    }

    fn bytes_of(&self, node: usize) -> Result<Vec<u8>, String> {
        match self.tape.kind(node) {
            Type::Null => Ok(Vec::new()),
            Type::String => base64::decode(unquoted(self.tape.text(node)).as_bytes())
                .map_err(|at| format!("illegal base64 data at input byte {at}")),
            Type::Array => {
                let element = |node| match self.tape.kind(node) {
                    Type::Null => Ok(0),
                    _ => integer(self.tape.text(node), "uint8", parse::<u8>),
                };
                let bytes = self.tape.children(node).map(element);
                bytes.map(|byte| byte.map(|byte| byte.to_le_bytes()[0])).collect()
            }
            other => Err(mistyped(other, "[]uint8")),
        }
    }

    /// Writes all parts, from the last to the first.
    fn bytes(self) -> Vec<u8> {
        let (mut reversed, mut ends) = (Vec::with_capacity(self.heap.len()), Vec::new());
        for part in self.parts.iter().rev() {
            match part {
                Part::Close => ends.push(reversed.len()),
                Part::Open(number) => {
                    let length = reversed.len() - ends.pop().unwrap_or(0);
                    push_varint(&mut reversed, length as u64);
                    push_varint(&mut reversed, u64::from(number << 3 | 2));
                }
                Part::Number(number, value) => {
                    push_varint(&mut reversed, *value);
                    push_varint(&mut reversed, u64::from(number << 3));
                }
                Part::Bytes(number, [from, to]) => {
                    reversed.extend(self.heap[*from..*to].iter().rev());
                    push_varint(&mut reversed, (to - from) as u64);
                    push_varint(&mut reversed, u64::from(number << 3 | 2));
                }
            }
        }
        reversed.reverse();
        reversed
    }
}

/// Appends a varint's bytes from the last to the first.
fn push_varint(reversed: &mut Vec<u8>, mut value: u64) {
    let from = reversed.len();
    while 0x7f < value {
        reversed.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    reversed.push(value as u8);
    reversed[from..].reverse();
}

/// The number of an enum's value, which is a name, or a number that need not have one.
fn enum_number(kind: &Enum, text: &[u8]) -> Result<u64, String> {
    if Type::of(text[0]) != Type::String {
        return integer(text, "protoreflect.EnumNumber", parse::<i32>);
    }
    let name = &text[1..text.len() - 1];
    let known = kind.values.iter().find(|(known, _)| known.as_bytes() == name);
    known.map(|(_, number)| i64::from(*number) as u64).ok_or_else(|| {
        let text = scan::quote(&String::from_utf8_lossy(text));
        format!("unknown value {text} for enum {}", kind.name)
    })
}

/// The text of a number without quotes around it. What stands between quotes has to be a JSON value
/// of its own.
fn unquote(text: &[u8]) -> Result<&[u8], String> {
    match text {
        [b'"', inner @ .., b'"'] => {
            scan::check(inner)?;
            Ok(inner.trim_ascii())
        }
        text => Ok(text),
    }
}

/// An integer of the Go type that is called `wanted`, as a varint carries it.
fn integer(text: &[u8], wanted: &str, parse: fn(&str) -> Option<u64>) -> Result<u64, String> {
    match Type::of(text[0]) {
        Type::Null => Ok(0),
        Type::Number => {
            let text = String::from_utf8_lossy(text);
            let why =
                || format!("json: cannot unmarshal number {text} into Go value of type {wanted}");
            parse(&text).ok_or_else(why)
        }
        other => Err(mistyped(other, wanted)),
    }
}

/// A whole number; negative ones are extended to 64 bits.
fn parse<T: std::str::FromStr + TryInto<i128>>(text: &str) -> Option<u64> {
    let number: i128 = text.parse::<T>().ok()?.try_into().ok()?;
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{
        api::gateway::schema::METHODS,
        pb::etcdserverpb::{
            LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest, WatchRequest,
            compare::TargetUnion, request_op::Request, watch_request::RequestUnion,
        },
    };

    fn read(path: &str, text: &str) -> Result<Vec<u8>, String> {
        scan::check(text.as_bytes())?;
        let method = METHODS.iter().find(|method| method.path.ends_with(path)).unwrap();
        message(method.request, text.as_bytes())
    }

    fn range(text: &str) -> Result<RangeRequest, String> {
        read("KV/Range", text).map(|bytes| RangeRequest::decode(&*bytes).unwrap())
    }

    #[test]
    fn both_spellings_of_a_name_are_read_and_the_last_value_counts() {
        let expected =
            RangeRequest { key: "foo".into(), range_end: "b".into(), ..Default::default() };
        for text in [
            r#"{"key":"Zm9v","range_end":"Yg=="}"#,
            r#"{"rangeEnd":"Yg==","range_end":"YQ==","key":"Zm9v"}"#,
            r#"{"key":"YQ==","key":"Zm9v","range_end":"Yg==","limit":null,"nope":[{"key":"YQ=="}]}"#,
            r#"{"\u006bey":[102,111,111],"rangeEnd":"Yg==","limit":"0"}"#,
        ] {
            assert_eq!(range(text).as_ref(), Ok(&expected), "{text}");
        }
        assert_eq!(range("null"), Ok(RangeRequest::default()));
        assert_eq!(range(r#"{"KEY":"Zm9v"}"#), Ok(RangeRequest::default()));
    }

    #[test]
    fn numbers_are_texts_or_numbers_and_enums_names_or_numbers() {
        let of = |text: &str| range(text).map(|range| (range.limit, range.sort_order));
        assert_eq!(of(r#"{"limit":"-9223372036854775808"}"#), Ok((i64::MIN, 0)));
        assert_eq!(of(r#"{"limit":7,"sort_order":"DESCEND"}"#), Ok((7, 2)));
        assert_eq!(of(r#"{"limit":" 7 ","sortOrder":1}"#), Ok((7, 1)));
        assert_eq!(of(r#"{"limit":"null","sort_order":-9}"#), Ok((0, -9)));
        let grant = read("Lease/LeaseGrant", r#"{"TTL":"100","ID":77,"ttl":5}"#).unwrap();
        let expected = LeaseGrantRequest { ttl: 100, id: 77 };
        assert_eq!(LeaseGrantRequest::decode(&*grant), Ok(expected));
    }

    /// Goal: clients see the texts that they know. Method: the answers of etcd 3.5.1 to these
    /// bodies, and those that follow from the same rules of Go.
    #[test]
    fn a_mistake_has_the_text_of_etcd() {
        let cannot = "json: cannot unmarshal";
        for (text, expected) in [
            (r#"{"key":"Zm9"}"#, "illegal base64 data at input byte 0".to_owned()),
            (r#"{"key":5}"#, format!("{cannot} number into Go value of type []uint8")),
            (r#"{"key":[300]}"#, format!("{cannot} number 300 into Go value of type uint8")),
            (r#"{"key":{}}"#, format!("{cannot} object into Go value of type []uint8")),
            (r#"{"limit":1.5}"#, format!("{cannot} number 1.5 into Go value of type int64")),
            (r#"{"limit":true}"#, format!("{cannot} bool into Go value of type int64")),
            (r#"{"limit":"[]"}"#, format!("{cannot} array into Go value of type int64")),
            (r#"{"limit":"x"}"#, "invalid character 'x' looking for beginning of value".to_owned()),
            (r#"{"limit":"5x"}"#, "invalid character 'x' after top-level value".to_owned()),
            (r#"{"limit":""}"#, "unexpected end of JSON input".to_owned()),
            (r#"{"serializable":"true"}"#, format!("{cannot} string into Go value of type bool")),
            (r#"{"serializable":1}"#, format!("{cannot} number into Go value of type bool")),
            ("[]", format!("{cannot} array into Go value of type map[string]json.RawMessage")),
            (
                r#"{"sort_order":"nope"}"#,
                r#"unknown value "\"nope\"" for enum etcdserverpb.RangeRequest.SortOrder"#
                    .to_owned(),
            ),
            (
                r#"{"sort_order":1.5}"#,
                format!("{cannot} number 1.5 into Go value of type protoreflect.EnumNumber"),
            ),
        ] {
            assert_eq!(range(text), Err(expected), "{text}");
        }
        let list = format!("{cannot} object into Go value of type []json.RawMessage");
        assert_eq!(read("KV/Txn", r#"{"success":{}}"#), Err(list));
        let first = r#"{"limit":true,"key":5}"#;
        assert_eq!(range(first), Err(format!("{cannot} number into Go value of type []uint8")));
    }

    #[test]
    fn members_of_a_oneof_are_present_even_if_they_are_zero_and_the_last_declared_counts() {
        let text = r#"{"compare":[{"key":"YQ==","target":"VERSION","version":"0"}],
            "success":[{"request_put":{"key":"YQ=="},"requestRange":{"key":"Yg=="}},null],
            "failure":[{"request_txn":{"success":[{"request_delete_range":{"key":"YQ=="}}]}}]}"#;
        let txn = TxnRequest::decode(&*read("KV/Txn", text).unwrap()).unwrap();
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::Version(0)));
        let put = PutRequest { key: "a".into(), ..Default::default() };
        assert_eq!(txn.success[0].request, Some(Request::RequestPut(put)));
        assert_eq!(txn.success[1].request, None);
        let Some(Request::RequestTxn(inner)) = &txn.failure[0].request else { panic!() };
        assert_eq!(TxnRequest::decode(inner.clone()).unwrap().success.len(), 1);
        let watch =
            read("Watch/Watch", r#"{"create_request":{"filters":["NODELETE",0]}}"#).unwrap();
        let watch = WatchRequest::decode(&*watch).unwrap().request_union;
        let Some(RequestUnion::CreateRequest(create)) = watch else { panic!() };
        assert_eq!(create.filters, [1, 0]);
    }

    /// Goal: the depth of a request costs no stack. Method: as many transactions inside of each
    /// other as JSON permits, on a thread with little stack.
    #[test]
    fn transactions_inside_of_each_other_take_no_stack() {
        let read_deep = || {
            let depth = 3_300;
            let text = r#"{"success":[{"request_txn":"#.repeat(depth) + "{}" + &"}]}".repeat(depth);
            let mut bytes = read("KV/Txn", &text).unwrap();
            for _ in 0..depth {
                let txn = TxnRequest::decode(&*bytes).unwrap();
                let Some(Request::RequestTxn(inner)) = &txn.success[0].request else { panic!() };
                bytes = inner.to_vec();
            }
            assert!(bytes.is_empty());
        };
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(read_deep);
        thread.unwrap().join().unwrap();
    }
}
