//! The parameters of a request: those of the body before those of the query, as Go's `ParseForm`
//! puts them together.
//!
//! Names and values are bytes: Go does not look at their encoding. A body counts only for PUT and
//! POST, as `application/x-www-form-urlencoded`; one of another type is not read at all.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderValue, Method, header},
};
use tokio::{sync::Semaphore, time::timeout};

/// The longest form that is read (Go: maxFormSize).
const BYTES_MAX: usize = 10 << 20;

/// Forms up to this length are read without a permit.
const SMALL: usize = 64 << 10;

/// Longer ones are read eight at a time.
static LARGE: Semaphore = Semaphore::const_new(8);

/// How long a form may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The parameters, in the order in which they count.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// Go's text about the first that cannot be decoded.
    pub(super) async fn read(
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        body: Body,
    ) -> Result<Self, String> {
        let mut form = Self::default();
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_form = kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
        let of_body = match is_form && [Method::PUT, Method::POST].contains(method) {
            true => form.add(&collect(headers, body).await?),
            false => Ok(()),
        };
        let of_query = form.add(query.unwrap_or_default().as_bytes());
        of_body.and(of_query).map(|()| form)
    }

    /// Adds the parameters of an encoded list. Returns the first error, like Go's, but after all
    /// that can be read.
    fn add(&mut self, encoded: &[u8]) -> Result<(), String> {
        let mut result = Ok(());
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if pair.contains(&b';') {
                result = result.and(Err("invalid semicolon separator in query".to_owned()));
                continue;
            }
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let [name, value] = [parts.next(), parts.next()].map(Option::unwrap_or_default);
            match (unescape(name, true), unescape(value, true)) {
                (Ok(name), Ok(value)) => self.0.push((name, value)),
                (Err(error), _) | (_, Err(error)) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(given, _)| given == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// The first value, or nothing.
    pub(super) fn text(&self, name: &str) -> &[u8] {
        self.get(name).unwrap_or_default()
    }

    /// A number of 64 bits; 0 if it is not given (Go: `ParseUint`).
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let Some(value) = self.get(name) else { return Some(0) };
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
    }

    /// A truth value; no if it is not given (Go: `ParseBool`).
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            None | Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Some(false),
            Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Some(true),
            Some(_) => None,
        }
    }
}

async fn collect(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, String> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let read = async {
        // The semaphore is never closed.
        let _permit = match length {
            Some(length) if length <= SMALL => None,
            _ => LARGE.acquire().await.ok(),
        };
        to_bytes(body, BYTES_MAX).await
    };
    match timeout(PATIENCE, read).await {
        Ok(Ok(body)) => Ok(body.into()),
        Ok(Err(_)) if length.is_none_or(|length| BYTES_MAX < length) => {
            Err("http: POST too large".to_owned())
        }
        Ok(Err(_)) => Err("unexpected EOF".to_owned()),
        Err(_) => Err("the form has not arrived in time".to_owned()),
    }
}

/// Decodes `%xx`, and `+` if it stands for a space (Go: `unescape`).
pub(super) fn unescape(text: &[u8], plus_is_space: bool) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let hex = |at: usize| text.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else {
                    let wrong = &text[at..text.len().min(at + 3)];
                    return Err(format!("invalid URL escape {}", quoted(wrong)));
                };
                decoded.extend(u8::try_from(high << 4 | low));
                at += 2;
            }
            b'+' if plus_is_space => decoded.push(b' '),
            byte => decoded.push(*byte),
        }
        at += 1;
    }
    Ok(decoded)
}

/// Three bytes as Go's `%q` shows them.
fn quoted(bytes: &[u8]) -> String {
    let mut text = "\"".to_owned();
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => text.extend(['\\', letter]),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                letter if letter.is_control() => {
                    text.push_str(&format!("\\x{:02x}", u32::from(letter)));
                }
                letter => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(method: Method, kind: &str, query: &str, body: &str) -> Result<Form, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        Form::read(&method, &headers, Some(query), Body::from(body.to_owned())).await
    }

    const KIND: &str = "application/x-www-form-urlencoded; charset=utf-8";

    #[tokio::test]
    async fn the_body_counts_before_the_query_and_only_as_a_form() {
        let form = read(Method::PUT, KIND, "a=q&b=2", "a=x+y%00&c").await.unwrap();
        assert_eq!((form.text("a"), form.text("b")), (&b"x y\0"[..], &b"2"[..]));
        assert_eq!((form.get("c"), form.get("d")), (Some(&b""[..]), None));
        for (method, kind) in [(Method::PUT, "text/plain"), (Method::DELETE, KIND)] {
            let form = read(method, kind, "a=q", "a=x").await.unwrap();
            assert_eq!(form.text("a"), b"q");
        }
    }

    #[tokio::test]
    async fn what_go_cannot_decode_is_refused_in_its_words() {
        for (body, expected) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%", "invalid URL escape \"%\""),
            ("a=%\"b", "invalid URL escape \"%\\\"b\""),
            ("a;b=1&c=%z", "invalid semicolon separator in query"),
        ] {
            assert_eq!(read(Method::PUT, KIND, "", body).await.unwrap_err(), expected, "{body}");
        }
        let long = "x".repeat(BYTES_MAX + 1);
        let refused = read(Method::PUT, KIND, "", &long).await.unwrap_err();
        assert_eq!(refused, "http: POST too large");
    }

    #[tokio::test]
    async fn numbers_and_flags_are_those_of_go() {
        let form = "n=18446744073709551615&big=18446744073709551616&plus=%2B1&empty=&t=T&no=False";
        let form = read(Method::GET, "", form, "").await.unwrap();
        let numbers = ["n", "big", "plus", "empty", "absent"].map(|name| form.number(name));
        assert_eq!(numbers, [Some(u64::MAX), None, None, None, Some(0)]);
        let flags = ["t", "no", "empty", "n", "absent"].map(|name| form.flag(name));
        assert_eq!(flags, [Some(true), Some(false), None, None, Some(false)]);
    }
}
