//! Events and errors as etcd writes them: the order of the fields, and what is left out, are those
//! of its Go structs, and texts are escaped as Go escapes them.
//!
//! Nothing here calls itself, so a path may have any number of components.

use super::time::rfc3339;
use crate::server::v2store::{Answer, Event, Path, Refusal, View};

/// What answers leave out of every path: clients' keys are below it (etcd: StoreKeysPrefix).
const KEYS: &[u8] = b"/1";

/// An answer of the store: an event, and the nodes below the one that was read.
pub(super) fn answer(answer: &Answer) -> Vec<u8> {
    written(&answer.event, &answer.below)
}

/// An event for a watcher.
pub(super) fn event(event: &Event) -> Vec<u8> {
    written(event, &[])
}

/// The answer to a write whose client wants no values.
pub(super) fn action(event: &Event) -> Vec<u8> {
    format!("{{\"action\":\"{}\"}}\n", event.action.name()).into_bytes()
}

fn written(event: &Event, below: &[View]) -> Vec<u8> {
    let mut out = format!("{{\"action\":\"{}\",\"node\":", event.action.name()).into_bytes();
    node(&mut out, &event.node, below);
    if let Some(prev) = &event.prev {
        out.extend(b",\"prevNode\":");
        node(&mut out, prev, &[]);
    }
    out.extend(b"}\n");
    out
}

/// An error, with its number and its text.
pub(super) fn error(code: u16, message: &str, cause: &[u8], index: u64) -> Vec<u8> {
    let mut out = format!("{{\"errorCode\":{code},\"message\":").into_bytes();
    string(&mut out, message.as_bytes());
    if !cause.is_empty() {
        out.extend(b",\"cause\":");
        string(&mut out, cause);
    }
    out.extend(format!(",\"index\":{index}}}\n").into_bytes());
    out
}

/// The cause of a refusal, without the store's own directory in front of a path.
pub(super) fn cause(refusal: &Refusal) -> &[u8] {
    refusal.cause.strip_prefix(KEYS).unwrap_or(&refusal.cause)
}

/// A node, and those below it, each directory before what is in it.
fn node(out: &mut Vec<u8>, top: &View, below: &[View]) {
    // The nodes that are begun and not ended, each in the one before it, with whether something
    // has been written in it.
    let mut open = vec![(top, false)];
    begin(out, top);
    for view in below {
        while let Some((last, has_nodes)) = open.last_mut() {
            if view.key.depth() <= last.key.depth() {
                end(out, last, *has_nodes);
                open.pop();
                continue;
            }
            out.extend_from_slice(if *has_nodes { b"," } else { b",\"nodes\":[" });
            *has_nodes = true;
            break;
        }
        begin(out, view);
        open.push((view, false));
    }
    while let Some((last, has_nodes)) = open.pop() {
        end(out, last, has_nodes);
    }
}

fn begin(out: &mut Vec<u8>, view: &View) {
    out.push(b'{');
    let key = key(&view.key);
    if !key.is_empty() {
        field(out, "key");
        string(out, &key);
    }
    if let Some(value) = &view.value {
        field(out, "value");
        string(out, value);
    }
    if view.is_dir {
        field(out, "dir");
        out.extend(b"true");
    }
    if view.expires != 0 {
        field(out, "expiration");
        string(out, rfc3339(view.expires).as_bytes());
    }
    if view.ttl != 0 {
        field(out, "ttl");
        out.extend(view.ttl.to_string().into_bytes());
    }
}

fn end(out: &mut Vec<u8>, view: &View, has_nodes: bool) {
    if has_nodes {
        out.push(b']');
    }
    for (name, index) in [("modifiedIndex", view.modified), ("createdIndex", view.created)] {
        if index != 0 {
            field(out, name);
            out.extend(index.to_string().into_bytes());
        }
    }
    out.push(b'}');
}

fn key(path: &Path) -> Vec<u8> {
    let text = path.text();
    text.strip_prefix(KEYS).map(<[u8]>::to_vec).unwrap_or(text)
}

fn field(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend(format!("\"{name}\":").into_bytes());
}

/// A text as Go's encoder writes it: safe in HTML, and each byte that is no UTF-8 replaced.
pub(super) fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\\' => out.extend([b'\\', letter as u8]),
                '\n' => out.extend(b"\\n"),
                '\r' => out.extend(b"\\r"),
                '\t' => out.extend(b"\\t"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    out.extend(format!("\\u{:04x}", u32::from(letter)).into_bytes());
                }
                letter => out.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        chunk.invalid().iter().for_each(|_| out.extend(b"\\ufffd"));
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_go_escapes_them() {
        let written = |text: &[u8]| {
            let mut out = Vec::new();
            string(&mut out, text);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(b"a\"\\\n\x08\x7f<&>"),
            "\"a\\\"\\\\\\n\\u0008\x7f\\u003c\\u0026\\u003e\""
        );
        assert_eq!(
            written(b"\xff\xe2\x82A\xed\xa0\x80"),
            format!("\"{0}{0}{0}A{0}{0}{0}\"", "\\ufffd")
        );
        assert_eq!(written("ü\u{2028}".as_bytes()), "\"ü\\u2028\"");
    }

    #[test]
    fn nodes_stand_in_their_directories() {
        let view = |path: &str, is_dir: bool| View {
            key: Path::clean(path.as_bytes()),
            value: (!is_dir).then(|| "v".into()),
            is_dir,
            modified: 2,
            created: 1,
            ..View::default()
        };
        let below = [view("/1/a", true), view("/1/a/b", true), view("/1/a/b/c", false)];
        let below = below.into_iter().chain([view("/1/d", false)]);
        let mut out = Vec::new();
        node(&mut out, &view("/1", true), &below.collect::<Vec<_>>());
        let end = r#""modifiedIndex":2,"createdIndex":1}"#;
        let expected = [
            r#"{"dir":true,"nodes":[{"key":"/a","dir":true,"nodes":[{"key":"/a/b","dir":true,"#,
            r#""nodes":[{"key":"/a/b/c","value":"v","#,
            end,
            "],",
            end,
            "],",
            end,
            r#",{"key":"/d","value":"v","#,
            end,
            "],",
            end,
        ];
        assert_eq!(String::from_utf8(out).unwrap(), expected.concat());
    }
}
