//! The message stream: every message but MsgApp, each after its length.
//!
//! ```text
//!   u64 big-endian length │ raftpb.Message │ u64 length │ raftpb.Message │ …
//! ```
//!
//! Its link heartbeat is a MsgHeartbeat from member 0 to member 0. (etcd: messageEncoder,
//! messageDecoder)

use bytes::BytesMut;
use raft::eraftpb::{Message, MessageType};

use super::wire::{self, Broken, Frame};

/// Appends a message; false when it is too large to be sent.
pub(super) fn encode(message: &Message, out: &mut BytesMut) -> bool {
    wire::put_sized(message, out)
}

/// Appends a link heartbeat.
pub(super) fn encode_link_heartbeat(out: &mut BytesMut) {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgHeartbeat);
    wire::put_sized(&message, out);
}

/// Takes the next frame off the front of `input`, or nothing while it is incomplete.
pub(super) fn decode(input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
    let Some(bytes) = wire::take_sized(input, 0)? else { return Ok(None) };
    let message = wire::message(&bytes)?;
    let nobodys = message.from == 0 && message.to == 0;
    if nobodys && message.get_msg_type() == MessageType::MsgHeartbeat {
        return Ok(Some(Frame::LinkHeartbeat));
    }
    Ok(Some(Frame::Message(Box::new(message))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A MsgHeartbeat (8) to 2 from 1, term 3, commit 300.
    const HEARTBEAT: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 11, 8, 8, 16, 2, 24, 1, 32, 3, 64, 172, 2];

    fn heartbeat() -> Message {
        let mut message = Message { to: 2, from: 1, term: 3, commit: 300, ..Message::default() };
        message.set_msg_type(MessageType::MsgHeartbeat);
        message
    }

    #[test]
    fn a_message_is_its_length_and_its_protobuf() {
        let mut out = BytesMut::new();
        assert!(encode(&heartbeat(), &mut out));
        assert_eq!(&out[..], HEARTBEAT);
        assert_eq!(decode(&mut out).unwrap(), Some(Frame::Message(Box::new(heartbeat()))));
        assert_eq!(decode(&mut out).unwrap(), None);
    }

    #[test]
    fn a_link_heartbeat_is_a_heartbeat_without_sender_and_receiver() {
        let mut out = BytesMut::new();
        encode_link_heartbeat(&mut out);
        assert_eq!(&out[..], [0, 0, 0, 0, 0, 0, 0, 2, 8, 8]);
        assert_eq!(decode(&mut out).unwrap(), Some(Frame::LinkHeartbeat));
    }

    /// etcd's encoder writes the zero fields and an empty snapshot too.
    #[test]
    fn etcds_way_of_writing_zeros_reads_the_same() {
        let body = [
            8, 8, 16, 2, 24, 1, 32, 3, 40, 0, 48, 0, 64, 172, 2, 74, 8, 18, 6, 10, 0, 16, 0, 24, 0,
            80, 0, 88, 0,
        ];
        let mut input = BytesMut::from(&[0, 0, 0, 0, 0, 0, 0, body.len() as u8][..]);
        input.extend_from_slice(&body);
        assert_eq!(decode(&mut input).unwrap(), Some(Frame::Message(Box::new(heartbeat()))));
    }

    #[test]
    fn a_message_that_arrives_byte_by_byte_is_read_once_complete() {
        let mut input = BytesMut::new();
        for (at, byte) in HEARTBEAT.iter().enumerate() {
            assert_eq!(decode(&mut input).unwrap(), None, "after {at} bytes");
            input.extend_from_slice(&[*byte]);
        }
        assert!(matches!(decode(&mut input).unwrap(), Some(Frame::Message(_))));
        assert!(input.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        let sized = |body: &[u8]| {
            let mut input = BytesMut::from(&(body.len() as u64).to_be_bytes()[..]);
            input.extend_from_slice(body);
            decode(&mut input).unwrap_err().to_string()
        };
        let long = ((wire::FRAME_LEN_MAX + 1) as u64).to_be_bytes();
        let error = decode(&mut BytesMut::from(&long[..])).unwrap_err();
        assert!(matches!(error, Broken::TooLong(_)), "{error}");
        assert!(sized(&[0xff; 16]).contains("malformed"), "an endless varint");
        assert!(sized(&[58, 200, 1]).contains("malformed"), "an entry longer than the message");
        assert!(sized(&[10, 0]).contains("broken message"), "a type that is a string");
        assert!(sized(&vec![0x1b; 1 << 20]).contains("malformed"), "a megabyte of group starts");
        assert!(sized(&[58, 0].repeat(2 << 20)).contains("entries or more"), "empty entries");
        assert!(sized(&[58, 2, 0x1b, 0x1b]).contains("malformed"), "groups inside an entry");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = Random::new(0x5eed);
        for _ in 0..20_000 {
            let body: Vec<u8> = (0..random.below(40)).map(|_| random.byte()).collect();
            let mut input = BytesMut::from(&(body.len() as u64).to_be_bytes()[..]);
            input.extend_from_slice(&body);
            let _ = decode(&mut input);
        }
    }
}
