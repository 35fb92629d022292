use std::collections::VecDeque;

use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    api::frame::{DATA, RST_STREAM},
    random::Random,
};

const SETTINGS: u8 = 4;

/// `:method: POST`, `:scheme: http`.
const POST: &[u8] = &[0x83, 0x86];

/// The first frames of etcdctl 3.4.23's `endpoint status`, with their length.
const ETCDCTL: &str = "000000040000000000 000000040100000000 \
    000077010400000001 8386459760a924882d9dcb6571afa066a925a87510ac6e48d36a3f \
    41909d29aee30c044eae05c0b86e32c85c6f \
    5f8b1d75d0620d263d4c4d65647a8b9acac8b4c7602bb2caecff40027465864d833505b11f40899acac8b24d494f6a\
    7f860befbe20336f408d25062d495875996ee5b1063d5f03332e34 000005000100000001 0000000000";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn headers(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
}

fn string(text: &str) -> Vec<u8> {
    [&hpack::integer(0, 7, text.len()), text.as_bytes()].concat()
}

/// A literal with this first part, up to its value.
fn literal(first: &[u8], value: &str) -> Vec<u8> {
    [first, &string(value)].concat()
}

/// Preface, SETTINGS and these frames.
fn session(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat()
}

/// The output for a connection that ends after these pieces.
fn follow(pieces: &[&[u8]]) -> Vec<u8> {
    let mut follower = Follower::new();
    for piece in pieces {
        follower.push(piece);
        assert!(follower.held.len() <= BLOCK_MAX);
    }
    follower.end();
    follower.out.to_vec()
}

/// The output, which must be the same for the whole input and for cuts in two and three at every
/// byte.
fn followed(input: &[u8]) -> Vec<u8> {
    let out = follow(&[input]);
    for cut in 0..=input.len() {
        let (left, right) = input.split_at(cut);
        assert_eq!(follow(&[left, right]), out, "cut at {cut}");
        let (middle, right) = right.split_at(right.len().min(1));
        assert_eq!(follow(&[left, middle, right]), out, "cut at {cut} and behind");
    }
    out
}

fn expect_unchanged(input: &[u8]) {
    assert_eq!(followed(input), input);
}

/// A frame as the receiver understands it.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    /// Flags, stream, priority and fields of a header block.
    Fields(u8, u32, Vec<u8>, Vec<fields::Field>),
    /// A frame without fields, unchanged.
    Frame(Vec<u8>),
}

/// Decodes the frames of a session; with a dynamic table, or without one.
fn meant(session: &[u8], is_kept: bool) -> Vec<Meant> {
    let (mut rest, mut table) = (session.strip_prefix(PREFACE).unwrap(), Table::new());
    let (mut meant, mut block, mut begun) = (Vec::new(), Vec::new(), None);
    while !rest.is_empty() {
        let len = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        assert!(len <= PAYLOAD_MAX);
        let (frame, behind) = rest.split_at(HEAD + len);
        rest = behind;
        if ![HEADERS, CONTINUATION].contains(&frame[3]) {
            meant.push(Meant::Frame(frame.to_vec()));
            continue;
        }
        let (flags, part) = fragment(frame).unwrap();
        if frame[3] == HEADERS {
            let start = HEAD + usize::from(flags & PADDED != 0);
            let len = if flags & PRIORITY != 0 { PRIORITY_LEN } else { 0 };
            let stream = u32::from_be_bytes(frame[5..HEAD].try_into().unwrap());
            let kept = flags & (END_STREAM | PRIORITY);
            begun = Some((kept, stream, frame[start..][..len].to_vec()));
        }
        block.extend_from_slice(part);
        if flags & END_HEADERS != 0 {
            let (flags, stream, priority) = begun.take().expect("a block begins with HEADERS");
            let fields = hpack::fields(&std::mem::take(&mut block), &mut table).unwrap();
            meant.push(Meant::Fields(flags, stream, priority, fields));
            if !is_kept {
                table = Table::new();
            }
        }
    }
    meant
}

/// The first session must come out as the meaning of the second, without needing a table.
fn expect(input: &[u8], expected: &[u8]) {
    assert_eq!(meant(&followed(input), false), meant(expected, true));
}

#[test]
fn the_url_that_etcdctl_sends_becomes_host_and_port() {
    let input = [PREFACE, &unhex(ETCDCTL)].concat();
    let host = ["41", "0f", "3132372e302e302e313a3333313635"].concat();
    let mended = ETCDCTL
        .replace("41909d29aee30c044eae05c0b86e32c85c6f", &host)
        .replace("000077010400000001", "000076010400000001");
    assert_eq!(ETCDCTL.len(), mended.len() + 2);
    expect(&input, &[PREFACE, &unhex(&mended)].concat());
}

#[test]
fn every_form_of_the_literal_is_mended() {
    let spelled = |first: u8| [&[first], &string(":authority")[..]].concat();
    let coded_name = unhex("40 88 b8 3b 53 39 ec 32 7d 7f");
    let names = [vec![0x41], vec![0x01], vec![0x11], spelled(0x40), spelled(0), spelled(0x10)];
    let urls = ["http://a.b:1", "https://a.b:1", "http://a.b:1/", "https://a.b:1/"];
    for name in &names {
        for url in urls {
            // Before it: a change of the table's size, a literal, an index.
            let before = [&[0x3f, 0xe1, 0x1f][..], POST, &literal(&[0x44], "/a/B")].concat();
            let block = |value| [before.clone(), literal(name, value), vec![0x90]].concat();
            let frames = |value| session(&[headers(&block(value)), frame(DATA, 1, 1, b"abc")]);
            expect(&frames(url), &frames("a.b:1"));
        }
    }
    let block = |value| [POST, &literal(&coded_name, value)].concat();
    expect(&session(&[headers(&block("http://a"))]), &session(&[headers(&block("a"))]));
}

#[test]
fn the_authorities_of_go_clients_are_repaired() {
    let cases = [
        ("unix://localhost:1234567890", "localhost:1234567890"),
        ("unix:///run/etcd.sock", "-"),
        ("#initially=[http://a:2379]", "-"),
        ("#initially=[a:2379;b:2379]", "-"),
        ("HTTP://a", "a"),
        ("http:/a", "-"),
        ("a/b", "-"),
        ("#", "-"),
        ("", "-"),
        ("a{b}", "-"),
        ("https://a\\b", "-"),
    ];
    for (sent, mended) in cases {
        let frames = |value| session(&[headers(&[POST, &literal(&[0x41], value)].concat())]);
        expect(&frames(sent), &frames(mended));
        let coded = huffman::tests::encode(sent.as_bytes());
        let coded = [POST, &[0x41], &hpack::integer(0x80, 7, coded.len()), &coded].concat();
        expect(&session(&[headers(&coded)]), &frames(mended));
    }
}

#[test]
fn padding_priority_and_continuation_are_minded() {
    let block = |value| [POST, &literal(&[0x41], value)].concat();
    let padded = |value| [&[3], &[0, 0, 0, 0, 7][..], &block(value), &[0; 3]].concat();
    let flags = END_HEADERS | PADDED | PRIORITY;
    let frames = |value| {
        let goes_on = frame(HEADERS, 0, 3, &block(value));
        let rest = frame(CONTINUATION, END_HEADERS, 3, &[0x90]);
        session(&[frame(HEADERS, flags, 1, &padded(value)), goes_on, rest])
    };
    expect(&frames("http://127.0.0.1:2379"), &frames("127.0.0.1:2379"));
}

#[test]
fn a_value_cut_by_the_end_of_the_frame_is_mended_too() {
    let block = |value| [POST, &literal(&[0x41], value)].concat();
    let url = block("http://127.0.0.1:2379");
    for len in 0..=url.len() {
        let frames = [frame(HEADERS, 0, 1, &url[..len]), frame(CONTINUATION, 4, 1, &url[len..])];
        expect(&session(&frames), &session(&[frame(HEADERS, 4, 1, &block("127.0.0.1:2379"))]));
    }
    // No other frame may come between the two.
    let frames = [frame(HEADERS, 0, 1, &url), frame(SETTINGS, 0, 0, &[]), headers(&url)];
    expect_unchanged(&session(&frames));
}

/// h2 ends such a connection, and must see it as it came.
#[test]
fn a_continuation_of_another_stream_is_left_to_h2() {
    let block = [POST, &literal(&[0x41], "http://127.0.0.1:2379")].concat();
    let (begin, rest) = block.split_at(4);
    let frames = |stream| [frame(HEADERS, 0, 1, begin), frame(CONTINUATION, 4, stream, rest)];
    expect_unchanged(&session(&frames(3)));
    // The reserved bit is no part of the stream's number.
    let mended =
        session(&[headers_of_stream(&[POST, &literal(&[0x41], "127.0.0.1:2379")].concat())]);
    expect(&session(&frames(1 << 31 | 1)), &mended);
}

fn headers_of_stream(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, block)
}

#[test]
fn after_an_ordinary_first_authority_nothing_is_looked_at() {
    let block = |value| [POST, &literal(&[0x41], value)].concat();
    let mut follower = Follower::new();
    follower.push(&session(&[headers(&block("127.0.0.1:2379"))]));
    assert!(follower.is_done());
    assert_eq!(follower.held.capacity(), 0);
    let frames = [headers(&block("127.0.0.1:2379")), headers(&block("http://127.0.0.1:2379"))];
    expect_unchanged(&session(&frames));
    expect_unchanged(&session(&[headers(POST), headers(&block("http://127.0.0.1:2379"))]));
}

#[test]
fn after_a_url_all_later_frames_are_looked_at() {
    let frames = |value| {
        let block = [POST, &literal(&[0x41], value)].concat();
        let by_index = headers(&[POST, &[0xbe]].concat());
        session(&[headers(&block), by_index, frame(DATA, 0, 1, &[7; 99]), headers(&block)])
    };
    expect(&frames("http://127.0.0.1:2379"), &frames("127.0.0.1:2379"));
}

#[test]
fn bytes_that_are_not_http2_pass_through_at_once() {
    let block = [POST, &literal(&[0x41], "http://a")].concat();
    let frames = [frame(SETTINGS, 0, 0, &[]), headers(&block)].concat();
    for cut in 0..PREFACE.len() {
        let input = [&PREFACE[..cut], b"!", &frames].concat();
        let mut follower = Follower::new();
        follower.push(&input);
        assert!(follower.is_done());
        assert_eq!(follower.out, input);
        expect_unchanged(&input);
    }
    expect_unchanged(b"GET / HTTP/1.1\r\nhost: http://a\r\n\r\n");
}

#[test]
fn malformed_blocks_pass_through() {
    let url = literal(&[0x41], "http://a");
    let blocks: &[&[u8]] = &[
        &[],
        // The end within an integer, and an integer without end.
        &[0xff],
        &[0xff, 0x80, 0x80, 0x80, 0x80, 0x01],
        &[0x41, 0x7f],
        // Huffman's EOS.
        &[0x41, 0x84, 0xff, 0xff, 0xff, 0xff],
        // A valid start, and then an index without a field, and a table that is too large.
        &[&url[..], &[0xbf]].concat(),
        &[&[0x3f, 0xe2, 0x1f], &url[..]].concat(),
        &literal(&[0x42], "http://a"),
        &literal(&[&[0x40], &string("referer")[..]].concat(), "http://a"),
    ];
    for block in blocks {
        expect_unchanged(&session(&[headers(block)]));
    }
    // More padding than payload, and no room for the priority.
    expect_unchanged(&session(&[frame(HEADERS, PADDED, 1, &[&[200], &url[..]].concat())]));
    expect_unchanged(&session(&[frame(HEADERS, PADDED, 1, &[])]));
    expect_unchanged(&session(&[frame(HEADERS, PRIORITY, 1, &[1, 2])]));
}

#[test]
fn the_longest_frame_is_mended_and_a_longer_one_goes_through() {
    let url = literal(&[0x41], "http://a");
    let frames = |authority: &[u8], len: usize| {
        session(&[headers(&[authority, &vec![0x90; len - authority.len()]].concat())])
    };
    let longest = frames(&url, PAYLOAD_MAX);
    let mended = frames(&literal(&[0x41], "a"), PAYLOAD_MAX - 7);
    assert_eq!(meant(&follow(&[&longest]), false), meant(&mended, true));
    let longer = frames(&url, PAYLOAD_MAX + 1);
    let mut follower = Follower::new();
    follower.push(&longer[..PREFACE.len() + 2 * HEAD]);
    assert!(follower.is_done());
    assert_eq!(follow(&[&longer]), longer);
}

#[test]
fn a_block_that_grows_continues_in_continuation_frames() {
    let value = "v".repeat(4000);
    let field = literal(&[&[0x40], &string("x")[..]].concat(), &value);
    let url = literal(&[0x41], "http://a");
    let indexes = [0xbf; 20];
    let frames = |authority: &[u8]| {
        let block = [POST, &[0x84], &field, authority, &indexes].concat();
        session(&[frame(HEADERS, 5, 1, &block), frame(DATA, 1, 1, b"abc")])
    };
    let mended = follow(&[&frames(&url)]);
    assert_eq!(meant(&mended, false), meant(&frames(&literal(&[0x41], "a")), true));
    let count = |kind| {
        let (mut rest, mut count) = (&mended[PREFACE.len()..], 0);
        while !rest.is_empty() {
            count += usize::from(rest[3] == kind);
            rest = &rest[HEAD + u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize..];
        }
        count
    };
    assert_eq!((count(HEADERS), count(CONTINUATION)), (1, 5));
}

#[test]
fn blocks_beyond_the_bounds_pass_through() {
    let value = "v".repeat(3900);
    let field = literal(&[&[0x40], &string("x")[..]].concat(), &value);
    let url = literal(&[0x41], "http://a");
    let block = |indexes| [POST, &url, &field, &vec![0xbe; indexes]].concat();
    // One block larger than h2 accepts, and many just below that.
    let one = session(&[headers(&block(1200))]);
    assert_eq!(follow(&[&one]), one);
    let many = session(&vec![headers(&block(900)); 4]);
    let mut follower = Follower::new();
    follower.push(&many);
    assert!(follower.is_done());
    assert!(follower.out.len() <= OUT_MAX + many.len());
    // A header block without end.
    let endless = session(&[frame(HEADERS, 0, 1, &url), frame(CONTINUATION, 0, 1, &[0x90; 9000])]);
    let more = frame(CONTINUATION, 0, 1, &[0x90; 9000]);
    let mut follower = Follower::new();
    follower.push(&endless);
    while !follower.is_done() {
        follower.push(&more);
        assert!(follower.held.len() <= BLOCK_MAX);
    }
}

/// Random damage to a valid session, and random cuts: the outcome does not depend on the cuts, and
/// most sessions are neither refused nor unchanged.
#[test]
fn random_bytes_and_random_cuts_do_no_harm() {
    let mut mended = 0;
    for seed in 1..=20_000 {
        let random = &mut Random::new(seed);
        let mut input = [PREFACE, &unhex(ETCDCTL)].concat();
        let again = input[PREFACE.len() + 2 * HEAD..].to_vec();
        input.extend(again);
        let from = if random.below(4) == 0 { 0 } else { PREFACE.len() };
        for _ in 0..random.below(8) {
            let at = from + random.index(input.len() - from);
            input[at] = random.byte();
        }
        if random.below(4) == 0 {
            let noise: Vec<u8> = (0..random.below(300)).map(|_| random.byte()).collect();
            input.truncate(PREFACE.len() + random.index(40));
            input.extend(noise);
        }
        let whole = follow(&[&input]);
        let (mut pieces, mut rest) = (Vec::new(), &input[..]);
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(1 + random.index(rest.len().min(40)));
            pieces.push(piece);
            rest = left;
        }
        assert_eq!(follow(&pieces), whole, "seed {seed}");
        mended += u64::from(whole != input);
        assert!(whole.len() <= 4 * input.len(), "seed {seed}");
    }
    println!("{mended} of 20000 sessions were mended");
    assert!((2_000..18_000).contains(&mended));
}

#[tokio::test]
async fn the_stream_ends_with_the_bytes_held_back_and_reads_into_small_buffers() {
    let block = |value| [POST, &literal(&[0x41], value)].concat();
    let whole = session(&[headers(&block("http://a"))]);
    let expected = follow(&[&whole]);
    assert_ne!(expected, whole);
    for cut in 0..=whole.len() {
        let mut out = Vec::new();
        MendedAuthority::new(&whole[..cut]).read_to_end(&mut out).await.unwrap();
        let all = if cut == whole.len() { &expected[..] } else { &whole[..cut] };
        assert_eq!(out, all);
        let mut stream = MendedAuthority::new(AsyncReadExt::chain(&whole[..cut], &whole[cut..]));
        let (mut out, mut byte) = (Vec::new(), [0]);
        while stream.read(&mut byte).await.unwrap() == 1 {
            out.push(byte[0]);
            assert_eq!(stream.read(&mut []).await.unwrap(), 0);
        }
        assert_eq!(out, expected);
    }
}

/// An encoder like that of clients: it sends fields in the table by their index.
#[derive(Default)]
struct Encoder {
    table: VecDeque<(String, String)>,
    /// Number of authority literals that had been in the table before.
    sent_again: usize,
    authorities: Vec<String>,
}

impl Encoder {
    fn field(&mut self, name: &str, value: &str, block: &mut Vec<u8>) {
        let entry = (name.to_owned(), value.to_owned());
        if let Some(at) = self.table.iter().position(|known| *known == entry) {
            return block.extend(hpack::integer(0x80, 7, 62 + at));
        }
        if name == ":authority" {
            self.sent_again += usize::from(self.authorities.contains(&entry.1));
            self.authorities.push(entry.1.clone());
            block.push(0x41);
        } else {
            block.push(0x40);
            block.extend(string(name));
        }
        match self.table.len() % 2 {
            0 => block.extend(string(value)),
            _ => {
                let coded = huffman::tests::encode(value.as_bytes());
                block.extend([&hpack::integer(0x80, 7, coded.len()), &coded[..]].concat());
            }
        }
        self.table.push_front(entry);
        let size = |(name, value): &(String, String)| name.len() + value.len() + 32;
        while 4096 < self.table.iter().map(size).sum::<usize>() {
            self.table.pop_back();
        }
    }
}

/// Content of a session: for each request its authority and its `x-…` fields.
type Told = Vec<(String, Vec<(String, String)>)>;

/// A session of random requests, and what they must arrive as.
fn random_session(random: &mut Random, requests: u32) -> (Vec<u8>, Told, usize) {
    let mut encoder = Encoder::default();
    let (mut frames, mut told) = (Vec::new(), Vec::new());
    for at in 0..requests {
        let host = format!("host-{}:2379", random.below(6));
        let (value, host) = match random.below(8) {
            0 if at != 0 => (host.clone(), host),
            1 => (String::new(), "-".to_owned()),
            2 => ("{a|b}".to_owned(), "-".to_owned()),
            _ => (format!("http://{host}"), host),
        };
        let mut block = [POST, &[0x84]].concat();
        encoder.field(":authority", &value, &mut block);
        let mut fields = Vec::new();
        for x in 0..random.below(5) {
            let (name, len) = (format!("x-{x}"), [1, 40, 300][random.index(3)] + random.index(3));
            let value = "v".repeat(len);
            encoder.field(&name, &value, &mut block);
            fields.push((name, value));
        }
        frames.push(frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &block));
        told.push((host, fields));
    }
    (session(&frames), told, encoder.sent_again)
}

fn tell<B>(request: &Request<B>) -> (String, Vec<(String, String)>) {
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (request.uri().authority().unwrap().to_string(), fields.collect())
}

/// The requests that h2 accepts from these bytes, which contain `count` of them.
async fn accepted_by_h2(input: Vec<u8>, count: usize, is_wrapped: bool) -> Told {
    // A small pipe splits the bytes anywhere.
    let (client, server) = tokio::io::duplex(61);
    let (mut answers, mut requests) = tokio::io::split(client);
    let client = async move {
        // A connection that was refused accepts no more bytes.
        let write = async { _ = requests.write_all(&input).await };
        tokio::join!(write, answered(&mut answers, count));
        let _ = requests.shutdown().await;
        let _ = tokio::io::copy(&mut answers, &mut tokio::io::sink()).await;
    };
    let serve = async move {
        match is_wrapped {
            true => serve(MendedAuthority::new(server)).await,
            false => serve(server).await,
        }
    };
    tokio::join!(client, serve).1
}

/// Reads until `count` requests are answered or refused, or the connection is.
async fn answered<S: AsyncRead + Unpin>(answers: &mut S, count: usize) {
    let (mut answered, mut head) = (0, [0; HEAD]);
    while answered < count && answers.read_exact(&mut head).await.is_ok() {
        let [high, middle, low, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        answers.read_exact(&mut payload).await.unwrap();
        answered += usize::from([HEADERS, RST_STREAM].contains(&kind));
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Told {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut told = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        told.push(tell(&request));
        respond.send_response(Response::new(()), true).unwrap();
    }
    told
}

#[tokio::test]
async fn h2_refuses_the_url_and_accepts_the_host() {
    let input = [PREFACE, &unhex(ETCDCTL)].concat();
    assert!(accepted_by_h2(input.clone(), 1, false).await.is_empty());
    let told = accepted_by_h2(input, 1, true).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "127.0.0.1:33165");
}

#[tokio::test]
async fn an_index_means_the_same_to_the_client_and_to_h2() {
    let mut sent_again = 0;
    for seed in 1..=20 {
        println!("seed {seed}");
        let (input, told, again) = random_session(&mut Random::new(seed), 150);
        sent_again += again;
        let arrived = accepted_by_h2(input, told.len(), true).await;
        for (at, (expected, actual)) in told.iter().zip(&arrived).enumerate() {
            assert_eq!(expected, actual, "request {at}");
        }
        assert_eq!(told.len(), arrived.len());
    }
    assert!(20 < sent_again, "only {sent_again} URLs were sent again");
}
