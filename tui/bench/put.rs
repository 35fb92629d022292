//! `glass bench put`: puts with keys in order or at random.

use bytes::{Bytes, BytesMut};
use glass_etcd::pb::etcdserverpb::PutRequest;

use super::{Common, Error, check_key_space, lean, load, scramble, stats::Report, write_key};

/// The flags of `glass bench put`, after etcd's `benchmark put`.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// Number of puts, all clients together.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) total: u64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 8)]
    pub(crate) key_size: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 8)]
    pub(crate) val_size: usize,
    /// Number of different keys.
    #[arg(long, default_value_t = 1)]
    pub(crate) key_space_size: u64,
    /// Take the keys in order instead of at random.
    #[arg(long)]
    pub(crate) sequential_keys: bool,
    /// Puts per second at most; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
}

/// Sends the puts and measures each from its request to its answer.
pub(crate) async fn run(common: &Common, args: &Args) -> Result<Report, Error> {
    check_key_space(args.key_size, args.key_space_size)?;
    let plan = load::Plan {
        path: "/etcdserverpb.KV/Put",
        title: "put".to_owned(),
        total: args.total,
        rate: args.rate,
    };
    let frames = Frames::new(args);
    load::drive(common, &plan, move |number| frames.frame(number)).await
}

/// One encoded put; requests differ only in the digits of the key.
struct Frames {
    template: Bytes,
    key_at: usize,
    key_size: usize,
    space: u64,
    sequential: bool,
}

impl Frames {
    fn new(args: &Args) -> Self {
        let letter = |at: usize| b'a' + (scramble(at as u64) % 26) as u8;
        let message = PutRequest {
            key: vec![b'0'; args.key_size].into(),
            value: (0..args.val_size).map(letter).collect(),
            ..Default::default()
        };
        // The key is the first field, after a tag of one byte and a length.
        let key_at = lean::PREFIX + 1 + prost::length_delimiter_len(args.key_size);
        Self {
            template: lean::frame(&message).freeze(),
            key_at,
            key_size: args.key_size,
            space: args.key_space_size,
            sequential: args.sequential_keys,
        }
    }

    fn frame(&self, number: u64) -> Bytes {
        let random = if self.sequential { number } else { scramble(number) };
        let mut frame = BytesMut::from(&self.template[..]);
        write_key(&mut frame[self.key_at..][..self.key_size], random % self.space);
        frame.freeze()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn args(key_size: usize, sequential_keys: bool) -> Args {
        let (total, rate) = (1, 0);
        Args { total, key_size, val_size: 300, key_space_size: 50, sequential_keys, rate }
    }

    fn decode(frame: &Bytes) -> PutRequest {
        PutRequest::decode(&frame[lean::PREFIX..]).unwrap()
    }

    #[test]
    fn sequential_keys_come_in_order_and_wrap() {
        // At 200 bytes the length before the key takes two bytes.
        for key_size in [8, 200] {
            let frames = Frames::new(&args(key_size, true));
            let put = decode(&frames.frame(51));
            assert_eq!(put.key.len(), key_size);
            assert!(put.key.ends_with(b"0001") && put.key.starts_with(b"0000"));
            assert_eq!(put.value.len(), 300);
        }
    }

    #[test]
    fn random_keys_stay_in_the_space_and_use_all_of_it() {
        let frames = Frames::new(&args(8, false));
        let keys: std::collections::BTreeSet<Bytes> =
            (0..2000).map(|number| decode(&frames.frame(number)).key).collect();
        assert_eq!(keys.len(), 50);
        assert_eq!(keys.last().unwrap(), &Bytes::from_static(b"00000049"));
    }
}
