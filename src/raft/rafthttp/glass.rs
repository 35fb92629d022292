//! The glass on the wire: matches each send on one member with its receive on another.
//!
//! The dialler of a stream sends a random number of 24 bits in the header `X-Glass`, a writer that
//! speaks glass answers with the same; both then count the frames. TCP is FIFO, so equal counts
//! name the same frame, and no byte of the streams has to change.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::{HeaderMap, HeaderValue};
use raft::eraftpb::{Message, MessageType};

use crate::{
    mark, pb, stage,
    trace::{self, FLAG_NOISE, Span},
};

/// Carries the number of a stream, as hex, in both directions.
pub(super) const STREAM_HEADER: &str = "x-glass";
/// Carries the link of the message in a pipeline request, as hex.
pub(super) const LINK_HEADER: &str = "x-glass-link";

const NUMBER_BITS: u32 = 24;
const FRAME_BITS: u32 = 40;

/// Counts the frames of one stream.
#[derive(Debug)]
pub(super) struct Frames {
    number: u64,
    count: u64,
}

impl Frames {
    /// Counts for the stream with this number; `None` when the other end does not speak glass.
    pub(super) fn new(number: Option<u64>) -> Frames {
        Frames { number: number.unwrap_or(0), count: 0 }
    }

    /// The link of the next frame, or 0 if the other end does not count.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        if self.number == 0 {
            return 0;
        }
        self.number << FRAME_BITS | self.count & ((1 << FRAME_BITS) - 1)
    }
}

/// A number for a new stream; never 0. It only has to differ from those of other streams.
pub(super) fn random_number() -> u64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> (64 - NUMBER_BITS)).max(1)
}

/// A number or link as a header's value.
pub(super) fn header(value: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("{value:x}")).expect("hex digits are a header value")
}

/// The number of the stream that these headers open, if their sender speaks glass.
pub(super) fn stream_number(headers: &HeaderMap) -> Option<u64> {
    hex(headers, STREAM_HEADER).filter(|number| (1..1 << NUMBER_BITS).contains(number))
}

/// The link of the message in this pipeline request; 0 if its sender does not speak glass.
pub(super) fn link(headers: &HeaderMap) -> u64 {
    hex(headers, LINK_HEADER).unwrap_or(0)
}

fn hex(headers: &HeaderMap, name: &str) -> Option<u64> {
    u64::from_str_radix(headers.get(name)?.to_str().ok()?, 16).ok()
}

/// A message on its way to the socket.
#[derive(Debug, PartialEq)]
pub(super) struct Outbound {
    /// The message.
    pub(super) message: Message,
    /// The raw tick at which raft handed it over, for the trace.
    pub(super) since: u64,
}

/// Opens the step in which a message is encoded. It ends when the bytes are handed to the
/// connection, and says how long the message has waited before.
pub(super) fn encoding(outbound: &Outbound) -> Span {
    let message = &outbound.message;
    let mut span = stage!(
        RaftSend,
        id(message),
        peer = message.to,
        type = message.get_msg_type() as u64,
        term = message.term,
        index = message.index,
        last = last(message),
        commit = message.commit,
        reject = message.reject,
        waited = trace::waited_ns(outbound.since)
    );
    span.flag(flags(message));
    span
}

/// Records that a message was received, where it is decoded.
pub(super) fn received(message: &Message, link: u64) {
    mark!(
        RaftReceive, id(message), link = link, flags = flags(message);
        peer = message.from,
        type = message.get_msg_type() as u64,
        term = message.term,
        index = message.index,
        last = last(message),
        commit = message.commit,
        reject = message.reject,
    );
}

/// The index of the last entry that the message brings, or 0.
fn last(message: &Message) -> u64 {
    message.entries.last().map_or(0, |entry| entry.index)
}

/// The entries that a message brings to be appended: above the first index, up to the last one.
/// Both are 0 for a message without any.
pub(super) fn entries(message: &Message) -> [u64; 2] {
    match (message.get_msg_type(), last(message)) {
        (MessageType::MsgAppend, last) if last != 0 => [message.index, last],
        _ => [0; 2],
    }
}

/// Whether an entry of a kept request is to be appended with this message.
pub(super) fn brings_kept(message: &Message) -> bool {
    let mut ids = message.entries.iter().map(|entry| pb::entry_id(&entry.data));
    message.get_msg_type() == MessageType::MsgAppend && ids.any(trace::kept)
}

/// The id that the message belongs to, or 0: a ReadIndex round, or the first kept proposal of those
/// that are forwarded together.
pub(super) fn id(message: &Message) -> u64 {
    if message.get_msg_type() == MessageType::MsgPropose {
        let mut ids = message.entries.iter().map(|entry| pb::entry_id(&entry.data));
        return ids.find(|id| trace::kept(*id)).unwrap_or(0);
    }
    round(message)
}

/// The ReadIndex round that the message belongs to, or 0. Raft carries the eight bytes of its id in
/// the entry of a read, and in the context of the heartbeats that confirm it.
pub(in crate::raft) fn round(message: &Message) -> u64 {
    let round = match message.get_msg_type() {
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            message.entries.first().map_or(&[][..], |entry| &entry.data)
        }
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse => &message.context,
        _ => return 0,
    };
    round.try_into().map_or(0, u64::from_be_bytes)
}

fn flags(message: &Message) -> u8 {
    let heartbeat = matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse
    );
    if heartbeat && message.context.is_empty() { FLAG_NOISE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_the_number_of_the_stream_and_the_count_of_the_frame() {
        let mut frames = Frames::new(Some(0xabcdef));
        assert_eq!(frames.next(), 0xabcd_ef00_0000_0001);
        assert_eq!(frames.next(), 0xabcd_ef00_0000_0002);
        let mut silent = Frames::new(None);
        assert_eq!((silent.next(), silent.next()), (0, 0));
    }

    #[test]
    fn a_number_that_does_not_fit_counts_as_none() {
        let check = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(STREAM_HEADER, HeaderValue::from_static(text));
            stream_number(&headers)
        };
        assert_eq!(check("abc"), Some(0xabc));
        assert_eq!(check("ffffff"), Some(0xff_ffff));
        for text in ["0", "1000000", "", "x", "fffffffffffffffff"] {
            assert_eq!(check(text), None, "{text}");
        }
        let number = random_number();
        assert!((1..1 << NUMBER_BITS).contains(&number), "{number}");
    }

    #[test]
    fn a_read_round_is_found_where_raft_carries_it() {
        let round = 0x0102_0304_0506_0708_u64;
        let mut heartbeat = Message::default();
        heartbeat.set_msg_type(MessageType::MsgHeartbeat);
        assert_eq!((id(&heartbeat), flags(&heartbeat)), (0, FLAG_NOISE));
        heartbeat.context = round.to_be_bytes().to_vec().into();
        assert_eq!((id(&heartbeat), flags(&heartbeat)), (round, 0));
        let mut read = Message::default();
        read.set_msg_type(MessageType::MsgReadIndex);
        assert_eq!(id(&read), 0);
        read.mut_entries().push(raft::eraftpb::Entry {
            data: round.to_be_bytes().to_vec().into(),
            ..Default::default()
        });
        assert_eq!((id(&read), flags(&read)), (round, 0));
    }
}
