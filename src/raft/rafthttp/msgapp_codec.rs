//! The msgapp stream, version 2: MsgApp of a leader, without redundant fields.
//!
//! ```text
//!   0x00                                                            link heartbeat
//!   0x01 │ u64 count │ (u64 size │ raftpb.Entry) × count │ u64 commit   entries that follow on
//!   0x02 │ u64 size │ raftpb.Message                                any other MsgApp
//! ```
//!
//! Both ends keep `(term, index)`, the last entry that went over the stream. A MsgApp that starts
//! right behind it, in the leader's own term, is sent as its entries and the commit index: the
//! reader knows the rest. In the steady state of a cluster every MsgApp is of this kind.
//! **Invariant:** both ends move `(term, index)` by the same rules, or the reader rebuilds a wrong
//! message; therefore it checks that each entry has the index that follows. (etcd: msgAppV2Encoder,
//! msgAppV2Decoder)

use bytes::{Buf, BufMut, BytesMut};
use raft::eraftpb::{Entry, Message, MessageType};

use super::wire::{self, Broken, ENTRIES_MAX, FRAME_LEN_MAX, Frame};

const LINK_HEARTBEAT: u8 = 0;
const LINKED_ENTRIES: u8 = 1;
const WHOLE_MESSAGE: u8 = 2;

/// The most entries for which room is reserved at once; the list grows as more arrive.
const ENTRIES_RESERVED: u64 = 1024;

/// The writing end of a stream.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    term: u64,
    index: u64,
}

impl Encoder {
    /// Appends a MsgApp; false when it is too large to be sent.
    pub(super) fn encode(&mut self, message: &Message, out: &mut BytesMut) -> bool {
        let follows_on = message.index == self.index
            && message.log_term == self.term
            && message.log_term == message.term;
        if follows_on { self.linked(message, out) } else { self.whole(message, out) }
    }

    /// Appends a link heartbeat.
    pub(super) fn encode_link_heartbeat(out: &mut BytesMut) {
        out.put_u8(LINK_HEARTBEAT);
    }

    fn linked(&mut self, message: &Message, out: &mut BytesMut) -> bool {
        let start = out.len();
        out.put_u8(LINKED_ENTRIES);
        out.put_u64(message.entries.len() as u64);
        for entry in &message.entries {
            if !wire::put_sized(entry, out) {
                out.truncate(start);
                return false;
            }
        }
        out.put_u64(message.commit);
        self.index += message.entries.len() as u64;
        true
    }

    fn whole(&mut self, message: &Message, out: &mut BytesMut) -> bool {
        let start = out.len();
        out.put_u8(WHOLE_MESSAGE);
        if !wire::put_sized(message, out) {
            out.truncate(start);
            return false;
        }
        (self.term, self.index) = position_after(message);
        true
    }
}

/// The reading end of a stream.
#[derive(Debug)]
pub(super) struct Decoder {
    from: u64,
    to: u64,
    term: u64,
    index: u64,
    half_read: Option<HalfRead>,
}

/// A frame of linked entries of which some have arrived. They are taken off the buffer as they
/// come, so that a long frame in many pieces is not scanned from its start each time.
#[derive(Debug)]
struct HalfRead {
    left: u64,
    bytes: usize,
    entries: Vec<Entry>,
}

impl Decoder {
    /// A decoder for messages of member `from`, read by member `to`: linked entries name neither.
    pub(super) fn new(from: u64, to: u64) -> Decoder {
        Decoder { from, to, term: 0, index: 0, half_read: None }
    }

    /// Takes the next frame off the front of `input`, or nothing while it is incomplete.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        if self.half_read.is_some() {
            return self.linked(input);
        }
        match input.first() {
            None => Ok(None),
            Some(&LINK_HEARTBEAT) => {
                input.advance(1);
                Ok(Some(Frame::LinkHeartbeat))
            }
            Some(&LINKED_ENTRIES) => {
                if input.len() < 9 {
                    return Ok(None);
                }
                input.advance(1);
                let left = input.get_u64();
                if ENTRIES_MAX < left {
                    return Err(Broken::TooMany(left));
                }
                let room = left.min(ENTRIES_RESERVED) as usize;
                let entries = Vec::with_capacity(room);
                self.half_read = Some(HalfRead { left, bytes: 0, entries });
                self.linked(input)
            }
            Some(&WHOLE_MESSAGE) => self.whole(input),
            Some(&kind) => Err(Broken::Kind(kind)),
        }
    }

    fn linked(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        let Some(half_read) = &mut self.half_read else { return Ok(None) };
        while 0 < half_read.left {
            let Some(bytes) = wire::take_sized(input, 0)? else { return Ok(None) };
            half_read.bytes += bytes.len();
            if FRAME_LEN_MAX < half_read.bytes {
                return Err(Broken::TooLong(half_read.bytes as u64));
            }
            let entry = wire::entry(&bytes)?;
            let before = self.index + half_read.entries.len() as u64;
            wire::follow(before, &entry)?;
            half_read.entries.push(entry);
            half_read.left -= 1;
        }
        if input.len() < 8 {
            return Ok(None);
        }
        let commit = input.get_u64();
        let entries = self.half_read.take().map(|half| half.entries).unwrap_or_default();
        Ok(Some(Frame::Message(Box::new(self.rebuild(entries, commit)))))
    }

    /// Rebuilds the message, with the fields that the sender left out.
    fn rebuild(&mut self, entries: Vec<Entry>, commit: u64) -> Message {
        let mut message = Message {
            from: self.from,
            to: self.to,
            term: self.term,
            log_term: self.term,
            index: self.index,
            commit,
            entries: entries.into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        self.index += message.entries.len() as u64;
        message
    }

    fn whole(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
        let Some(bytes) = wire::take_sized(input, 1)? else { return Ok(None) };
        let message = wire::message(&bytes)?;
        (self.term, self.index) = position_after(&message);
        Ok(Some(Frame::Message(Box::new(message))))
    }
}

/// A stream's `(term, index)` after a message that was sent whole.
fn position_after(message: &Message) -> (u64, u64) {
    let index = message.entries.last().map_or(message.index, |entry| entry.index);
    (message.term, index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn entry(term: u64, index: u64, data: &'static [u8]) -> Entry {
        Entry { term, index, data: data.into(), ..Entry::default() }
    }

    /// `previous` is (log term, index), as in the paper's prevLogTerm and prevLogIndex.
    fn append(term: u64, previous: (u64, u64), entries: Vec<Entry>) -> Message {
        let mut message = Message {
            from: 1,
            to: 2,
            term,
            log_term: previous.0,
            index: previous.1,
            commit: 7,
            entries: entries.into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgAppend);
        message
    }

    fn encoded(encoder: &mut Encoder, message: &Message) -> Vec<u8> {
        let mut out = BytesMut::new();
        assert!(encoder.encode(message, &mut out));
        out.to_vec()
    }

    #[test]
    fn the_first_message_goes_whole_and_the_next_as_its_entries() {
        let mut encoder = Encoder::default();
        let first = append(5, (1, 2), vec![entry(5, 3, b"")]);
        let whole = encoded(&mut encoder, &first);
        let expected = [
            &[2, 0, 0, 0, 0, 0, 0, 0, 20][..],
            &[8, 3, 16, 2, 24, 1, 32, 5, 40, 1, 48, 2, 58, 4, 16, 5, 24, 3, 64, 7],
        ];
        assert_eq!(whole, expected.concat());

        let second = append(5, (5, 3), vec![entry(5, 4, b"x"), entry(5, 5, b"")]);
        let expected = [
            &[1, 0, 0, 0, 0, 0, 0, 0, 2][..],
            &[0, 0, 0, 0, 0, 0, 0, 7, 16, 5, 24, 4, 34, 1, b'x'],
            &[0, 0, 0, 0, 0, 0, 0, 4, 16, 5, 24, 5],
            &[0, 0, 0, 0, 0, 0, 0, 7],
        ];
        assert_eq!(encoded(&mut encoder, &second), expected.concat());
    }

    #[test]
    fn an_empty_append_that_follows_on_is_a_count_of_zero() {
        let mut encoder = Encoder { term: 5, index: 5 };
        let message = append(5, (5, 5), vec![]);
        let expected = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(encoded(&mut encoder, &message), expected);
    }

    /// A leader of a new term must say its term once, and one that goes back must say its index.
    #[test]
    fn a_new_term_or_another_place_goes_whole() {
        let check = |message: Message| {
            let mut encoder = Encoder { term: 5, index: 5 };
            assert_eq!(encoded(&mut encoder, &message)[0], WHOLE_MESSAGE, "{message:?}");
            (encoder.term, encoder.index)
        };
        assert_eq!(check(append(6, (5, 5), vec![entry(6, 6, b"")])), (6, 6));
        assert_eq!(check(append(5, (5, 4), vec![])), (5, 4));
        assert_eq!(check(append(5, (4, 5), vec![])), (5, 5));
    }

    #[test]
    fn messages_arrive_as_sent_in_pieces_of_any_length() {
        let messages = [
            append(5, (1, 2), vec![entry(5, 3, b"")]),
            append(5, (5, 3), vec![entry(5, 4, b"some bytes"), entry(5, 5, b"more")]),
            append(5, (5, 5), vec![]),
            append(5, (5, 3), vec![entry(5, 4, b"again")]),
            append(5, (5, 4), vec![entry(5, 5, b"on")]),
            append(6, (5, 5), vec![entry(6, 6, b"")]),
            append(6, (6, 6), vec![entry(6, 7, b"linked")]),
        ];
        let (mut encoder, mut stream) = (Encoder::default(), BytesMut::new());
        for message in &messages {
            assert!(encoder.encode(message, &mut stream));
            Encoder::encode_link_heartbeat(&mut stream);
        }
        for piece in [1, 2, 3, 7, 64, stream.len()] {
            let (mut decoder, mut input) = (Decoder::new(1, 2), BytesMut::new());
            let mut heard = Vec::new();
            for bytes in stream.chunks(piece) {
                input.extend_from_slice(bytes);
                while let Some(frame) = decoder.decode(&mut input).unwrap() {
                    match frame {
                        Frame::Message(message) => heard.push(*message),
                        Frame::LinkHeartbeat => (),
                    }
                }
            }
            assert_eq!(heard, messages, "in pieces of {piece}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |bytes: &[u8]| {
            let mut decoder = Decoder::new(1, 2);
            decoder.decode(&mut BytesMut::from(bytes)).unwrap_err().to_string()
        };
        assert!(check(&[3]).contains("unknown frame kind 0x03"));
        assert!(check(&[[2].as_slice(), &[0xff; 8]].concat()).contains("longer than the limit"));
        let huge_count = [[1].as_slice(), &[0xff; 8], &[0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert!(check(&huge_count).contains("18446744073709551615 entries"));
        let empty_entry = [[1].as_slice(), &1_u64.to_be_bytes(), &[0; 8]].concat();
        assert!(check(&empty_entry).contains("entry 0 where 1 is next"));
        let gap = append(5, (1, 2), vec![entry(5, 4, b"")]);
        let bytes = encoded(&mut Encoder::default(), &gap);
        assert!(check(&bytes).contains("entry 4 where 3 is next"));
    }

    #[test]
    fn the_end_of_the_numbers_is_no_place_for_an_entry() {
        let mut stream = BytesMut::new();
        Encoder::default().encode(&append(5, (1, u64::MAX), vec![]), &mut stream);
        stream.put_u8(LINKED_ENTRIES);
        stream.put_u64(1);
        wire::put_sized(&entry(5, u64::MAX, b""), &mut stream);
        let mut decoder = Decoder::new(1, 2);
        assert!(decoder.decode(&mut stream).unwrap().is_some());
        assert!(matches!(decoder.decode(&mut stream), Err(Broken::Gap { .. })));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Random::new(0x5eed);
        for _ in 0..20_000 {
            let (mut decoder, mut input) = (Decoder::new(1, 2), BytesMut::new());
            for _ in 0..4 {
                input.put_u8(random.below(3) as u8);
                input.put_u64(random.below(4));
                input.put_u64(random.below(16));
                (0..random.below(32)).for_each(|_| input.put_u8(random.byte()));
            }
            while let Ok(Some(_)) = decoder.decode(&mut input) {}
        }
    }
}
