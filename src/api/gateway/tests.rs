//! Random JSON: all that a client may send is a message or a mistake with a text, and no panic.

use serde::de::IgnoredAny;

use super::{read, scan, schema::METHODS, write::Writer};

/// Pieces of which texts are made. Some of them are what messages expect.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    " ",
    "x",
    "null",
    "true",
    "1",
    "-5",
    "1e5",
    "{}",
    "[]",
    "\"key\":",
    "\"success\":",
    "\"request_txn\":",
    "\"requestPut\":",
    "\"compare\":",
    "\"target\":",
    "\"create_request\":",
    "\"filters\":",
    "\"ID\":",
    "\"YQ==\"",
    "\"VERSION\"",
    "\"7\"",
    "\"\\n\"",
];

/// Goal: no text makes the gateway panic, and no valid JSON is refused as JSON, nor the other way
/// round. Method: random texts, from a fixed seed; each is read as every message, and what comes of
/// it is written as JSON again. serde_json is the second opinion.
#[test]
fn random_texts_are_messages_or_mistakes() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let (mut messages, mut mistakes) = (0, 0);
    for _ in 0..40_000 {
        let length = random(14);
        let text: String = (0..length).map(|_| PIECES[random(PIECES.len())]).collect();
        let is_valid = scan::check(text.as_bytes()).is_ok();
        let second = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        assert_eq!(is_valid, second, "{text}");
        for method in METHODS.iter().filter(|_| is_valid) {
            match read::message(method.request, text.trim().as_bytes()) {
                Ok(bytes) => {
                    messages += 1;
                    let mut writer = Writer::default();
                    writer.begin(method.request, bytes.len());
                    writer.feed(&[]).unwrap();
                    bytes.chunks(2).for_each(|piece| writer.feed(piece).unwrap());
                    let written = String::from_utf8(writer.take()).unwrap();
                    assert!(!writer.is_open() && scan::check(written.as_bytes()).is_ok(), "{text}");
                    assert!(read::message(method.request, written.as_bytes()).is_ok(), "{written}");
                }
                Err(text) => {
                    mistakes += 1;
                    assert!(!text.is_empty());
                }
            }
        }
    }
    assert!(100 < messages && 100 < mistakes, "{messages} messages, {mistakes} mistakes");
}
