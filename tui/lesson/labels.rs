//! Labels: how a recording says which of its stories a scenario calls by which name.
//!
//! Each request of a scenario is sent in a trace whose id is its label: `l:` and up to fourteen
//! letters. The member records that id with the request (`rpc.context`). So the labels are in the
//! recording itself, and no second file can disagree with it.

use std::collections::BTreeMap;

use glass_etcd::{
    story::{Recording, query::callers},
    trace::{Stage, context::Context},
};

use super::scenario::LABEL_MAX;

/// How a trace id begins that is a label.
const MARK: [u8; 2] = *b"l:";
/// The length of a trace id, in bytes.
const BYTES: usize = 16;

/// The trace in which the request of this label is sent. `number` tells requests apart.
pub(super) fn context(label: &str, number: u64) -> Context {
    let mut bytes = [0; BYTES];
    bytes[..MARK.len()].copy_from_slice(&MARK);
    for (place, byte) in bytes[MARK.len()..].iter_mut().zip(label.bytes()) {
        *place = byte;
    }
    Context { trace: u128::from_be_bytes(bytes), span: number, is_sampled: true }
}

/// The label that a trace id is.
fn label(trace: u128) -> Option<String> {
    let bytes = trace.to_be_bytes();
    let text = bytes.strip_prefix(&MARK)?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(LABEL_MAX);
    let (text, rest) = text.split_at(end);
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let is_label = !text.is_empty() && text.iter().all(is_word) && rest.iter().all(|b| *b == 0);
    is_label.then(|| text.iter().map(|byte| char::from(*byte)).collect())
}

/// The request of each label of a recording. A stream and its message have two; the message is what
/// was asked for, and it comes later.
pub(crate) fn labels(recording: &Recording) -> BTreeMap<String, u64> {
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let begun = |id: u64| {
        let own = recording.events.iter().filter(|event| event.id == id);
        let rpcs = own.filter(|event| event.stage == Stage::Rpc);
        rpcs.map(|event| event.clock).min().unwrap_or(0)
    };
    for event in &recording.events {
        let Some(context) = callers::context(event) else { continue };
        let Some(label) = label(context.trace) else { continue };
        let (clock, id) = (begun(event.id), event.id);
        let known = found.entry(label).or_insert((clock, id));
        *known = (*known).max((clock, id));
    }
    found.into_iter().map(|(label, (_, id))| (label, id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_tells_its_label() {
        for text in ["a", "put-on-two", "fourteen-chars"] {
            assert_eq!(Some(text.to_owned()), label(context(text, 1).trace), "{text}");
        }
        assert_eq!(None, label(context("", 1).trace));
        assert_eq!(None, label(0x6c3a_6100_6200_0000_0000_0000_0000_0000));
        assert_eq!(None, label(u128::MAX));
    }
}
