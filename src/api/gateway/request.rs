//! Requests over HTTP as calls of gRPC: the metadata, the deadline, and the messages.
//!
//! | header | becomes |
//! |---|---|
//! | `Authorization` | `authorization`, in which etcd looks for a token |
//! | `Grpc-Metadata-NAME` | `name` |
//! | `Grpc-Timeout` | the call's deadline |
//! | `traceparent` | itself; the glass reads it, and etcd would leave it out |
//!
//! All others end here. etcd hands some of them over as `grpcgateway-NAME`, and never reads them.
//!
//! A body is read whole for a call with one message, and value by value for a stream. It has a
//! bound, because JSON may be as long as its author likes, however short the message.

use axum::body::{Body, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tonic::Status;

use super::{
    read,
    scan::{Scanner, Step},
    schema::Message,
};
use crate::server::dropped::Deadline;

/// What is before the name of metadata in a header.
const METADATA: &str = "grpc-metadata-";

/// Bytes of JSON that a message may have in addition to twice its own limit.
const ROOM: usize = 64 << 10;

/// The metadata of the call, with the content type of gRPC.
pub(super) fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let named = name.as_str().strip_prefix(METADATA);
        let named = named.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let is_taken_over = name == header::AUTHORIZATION || name == "traceparent";
        if let Some(name) = named.or_else(|| is_taken_over.then(|| name.clone())) {
            metadata.append(name, value.clone());
        }
    }
    // These belong to the protocol.
    for name in ["grpc-timeout", "grpc-encoding", "grpc-accept-encoding"] {
        metadata.remove(name);
    }
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    metadata
}

/// The deadline that `Grpc-Timeout` gives, if any.
///
/// # Errors
///
/// INVALID_ARGUMENT if it cannot be read.
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Deadline>, Status> {
    let Some(value) = headers.get("grpc-timeout").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let invalid = || Status::invalid_argument(format!("invalid grpc-timeout: {text}"));
    let unit = text.chars().next_back().ok_or_else(invalid)?;
    let nanos = match unit {
        'H' => 3_600_000_000_000,
        'M' => 60_000_000_000,
        'S' => 1_000_000_000,
        'm' => 1_000_000,
        'u' => 1_000,
        'n' => 1_u64,
        _ => return Err(invalid()),
    };
    let number: i64 = text[..text.len() - 1].parse().map_err(|_| invalid())?;
    match u64::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Deadline::after(Duration::from_nanos(number.saturating_mul(nanos)))),
        Err(_) => Ok(Deadline::after(Duration::ZERO)),
    }
}

/// The values in a body, each as a message.
#[derive(Debug)]
pub(super) struct Requests {
    message: &'static Message,
    body: Option<Body>,
    /// What has been read of the body, from the value that comes next.
    text: Vec<u8>,
    /// Up to where the scanner has seen it.
    seen: usize,
    scanner: Scanner,
    max: usize,
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    /// The body is over.
    End,
    /// It is no message, for this reason.
    Invalid(String),
    /// It is longer than this number of bytes.
    TooLong(usize),
}

/// A message, and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The bytes of the message.
    pub(super) message: Vec<u8>,
    /// How many bytes of JSON it was.
    pub(super) json: usize,
}

impl Requests {
    /// Reads messages of this type, each of at most this number of bytes.
    pub(super) fn new(message: &'static Message, body: Body, message_max: usize) -> Self {
        let max = message_max.saturating_mul(2).saturating_add(ROOM);
        let (text, scanner) = (Vec::new(), Scanner::new());
        Self { message, body: Some(body), text, seen: 0, scanner, max }
    }

    /// The type of the messages.
    pub(super) fn name(&self) -> &'static str {
        self.message.name
    }

    /// Waits until the text of the next value is there, and returns its length.
    async fn arrive(&mut self) -> Result<usize, NoMessage> {
        loop {
            if let Some(end) = self.scan().map_err(NoMessage::Invalid)? {
                return Ok(end);
            }
            if self.max < self.text.len() {
                return Err(NoMessage::TooLong(self.max));
            }
            let Some(body) = &mut self.body else {
                return match (self.scanner.has_begun(), self.scanner.ends_here()) {
                    (false, _) => Err(NoMessage::End),
                    (true, true) => Ok(self.seen),
                    (true, false) => Err(NoMessage::Invalid("unexpected EOF".to_owned())),
                };
            };
            match body.frame().await {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.text.extend(data);
                }
                // A client that has hung up will not read what is wrong.
                Some(Err(_)) => self.body = None,
                None => self.body = None,
            }
        }
    }

    /// Follows what has come and was not seen. Returns where the value ends, if it does.
    fn scan(&mut self) -> Result<Option<usize>, String> {
        while let Some(byte) = self.text.get(self.seen) {
            match self.scanner.step(*byte)? {
                Step::More => self.seen += 1,
                Step::Ends => return Ok(Some(self.seen + 1)),
                Step::Ended => return Ok(Some(self.seen)),
            }
        }
        Ok(None)
    }

    /// Waits for the next value to be there. Nothing of it is translated yet.
    pub(super) async fn ready(&mut self) -> Result<Value<'_>, NoMessage> {
        let end = self.arrive().await?;
        Ok(Value { requests: self, end })
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Read, NoMessage> {
        self.ready().await?.read()
    }
}

/// A value that is there.
#[derive(Debug)]
pub(super) struct Value<'a> {
    requests: &'a mut Requests,
    end: usize,
}

impl Value<'_> {
    /// Translates it.
    pub(super) fn read(self) -> Result<Read, NoMessage> {
        let Self { requests, end } = self;
        let rest = requests.text.split_off(end);
        let text = std::mem::replace(&mut requests.text, rest);
        (requests.seen, requests.scanner) = (0, Scanner::new());
        let json = text.trim_ascii();
        let message = read::message(requests.message, json).map_err(NoMessage::Invalid)?;
        Ok(Read { message, json: json.len() })
    }
}

/// A message as gRPC frames it.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.push(0);
    // A body with a longer message is refused before.
    framed.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed.into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;

    use super::{super::routes, *};

    fn requests(pieces: &[&str], max: usize) -> Requests {
        let pieces: Vec<Result<Bytes, Infallible>> =
            pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece.as_bytes()))).collect();
        let message = routes::find("/v3/lease/keepalive").unwrap().request;
        Requests::new(message, Body::from_stream(stream::iter(pieces)), max)
    }

    fn lease(id: u8, json: usize) -> Result<Read, NoMessage> {
        Ok(Read { message: vec![8, id], json })
    }

    #[tokio::test]
    async fn values_follow_each_other_with_or_without_white_space_in_any_pieces() {
        let text = " {\"ID\":7}{\"ID\":8}\n\n{\"ID\":\"9\"} ";
        let bytes: Vec<&str> = (0..text.len()).map(|at| &text[at..=at]).collect();
        for pieces in [vec![text], bytes] {
            let mut requests = requests(&pieces, 100);
            assert_eq!(requests.next().await, lease(7, 8));
            assert_eq!(requests.next().await, lease(8, 8));
            assert_eq!(requests.next().await, lease(9, 10));
            assert_eq!(requests.next().await, Err(NoMessage::End));
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_in_a_value_or_is_too_long_gives_no_message() {
        let invalid = |text: &str| Err(NoMessage::Invalid(text.to_owned()));
        assert_eq!(requests(&[" \n"], 100).next().await, Err(NoMessage::End));
        assert_eq!(requests(&["{\"ID\":"], 100).next().await, invalid("unexpected EOF"));
        let number =
            "json: cannot unmarshal number into Go value of type map[string]json.RawMessage";
        assert_eq!(requests(&["55"], 100).next().await, invalid(number));
        assert_eq!(requests(&["nullx"], 100).next().await, Ok(Read { message: vec![], json: 4 }));
        let long = format!("{{\"x\":\"{}", "y".repeat(ROOM + 200));
        let max = ROOM + 2 * 50;
        assert_eq!(requests(&[&long], 50).next().await, Err(NoMessage::TooLong(max)));
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(header).collect()
    }

    #[test]
    fn metadata_are_the_headers_that_say_so_and_the_token() {
        let metadata = metadata(&headers(&[
            ("authorization", "token"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-timeout", "1S"),
            ("grpc-metadata-content-type", "text/plain"),
            ("hasleader", "false"),
            ("cookie", "a=b"),
        ]));
        let mut names: Vec<_> =
            metadata.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        names.sort_unstable();
        let expected = [
            ("authorization", "token"),
            ("content-type", "application/grpc"),
            ("hasleader", "true"),
            ("te", "trailers"),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_timeout_is_read_as_the_gateway_of_etcd_reads_it() {
        let of = |text: &'static str| deadline(&headers(&[("grpc-timeout", text)]));
        assert_eq!(deadline(&HeaderMap::new()).unwrap(), None);
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of("0S").unwrap(), None);
        assert!(!of("123456789012m").unwrap().unwrap().is_over());
        assert!(of("-1S").unwrap().unwrap().is_over());
        for text in ["5x", "S", "5", "1.5S"] {
            let refused = of(text).unwrap_err();
            assert_eq!(refused.message(), format!("invalid grpc-timeout: {text}"));
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
    }
}
