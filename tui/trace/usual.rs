//! The usual durations in words: beside a step, and in the sentence with which `show` ends.

use std::io::{self, Write};

use glass_etcd::story::{
    Recording,
    query::{
        method_of,
        path::{Segment, Wait},
        usual::{Finding, Piece, Usual, Usuals, finding, of_piece},
    },
};
use serde_json::{Value, json};

use super::words;

/// `usual 0.410, p99 1.200`: in milliseconds, like the duration before it. The p99 is left out if
/// there are too few samples for one; all of it, if there are too few to compare.
pub(super) fn beside(usual: Option<Usual>) -> Option<String> {
    let usual = usual.filter(Usual::is_known)?;
    let p99 = usual.p99().map(|ns| format!(", p99 {}", bare(ns))).unwrap_or_default();
    Some(format!("usual {}{p99}", bare(usual.p50_ns)))
}

fn millis(ns: u64) -> String {
    words::millis(i128::from(ns))
}

fn bare(ns: u64) -> String {
    millis(ns).trim_end_matches(" ms").to_owned()
}

/// The usual durations of a path's pieces, in its order.
pub(super) fn of_path(
    recording: &Recording,
    usuals: &Usuals,
    path: &[Segment],
) -> Vec<Option<Usual>> {
    path.iter().map(|segment| of_piece(recording, usuals, segment)).collect()
}

/// A usual duration as JSON.
pub(super) fn json_of(usual: Option<Usual>) -> Value {
    usual.map_or(
        Value::Null,
        |usual| json!({ "p50_ns": usual.p50_ns, "p99_ns": usual.p99_ns, "samples": usual.samples }),
    )
}

/// Ends `show`: what was unusual about the request, or that too few others are known. Nothing, if
/// it took no longer than usual.
pub(super) fn ending(
    out: &mut impl Write,
    recording: &Recording,
    usuals: &Usuals,
    rpc: usize,
    path: &[Segment],
) -> io::Result<()> {
    let event = &recording.events[rpc];
    let (method, member) = (method_of(event), words::name(event.member, &recording.members));
    match finding(recording, usuals, rpc, path) {
        None => Ok(()),
        Some(Finding::TooFew(usual)) => {
            let samples = usual.samples;
            let unit = if samples == 1 { "sample" } else { "samples" };
            writeln!(
                out,
                "\nunusual\n  too few to compare: {member} knows {samples} {unit} of {method}"
            )
        }
        Some(Finding::Outside { outside_ns, piece }) => {
            let piece = piece.map(|piece| sentence(recording, piece)).unwrap_or_default();
            let outside = millis(outside_ns);
            writeln!(
                out,
                "\nunusual\n  its rpc was not, but {outside} passed before it and after it{piece}"
            )
        }
        Some(Finding::Unusual { usual, piece }) => {
            let times = times(event.took_ns, usual.p50_ns);
            let piece = piece.map(|piece| sentence(recording, piece)).unwrap_or_default();
            let usual = millis(usual.p50_ns);
            writeln!(
                out,
                "\nunusual\n  {times} times the usual {usual} of {method} on {member}{piece}"
            )
        }
    }
}

/// How many times the usual, with one decimal below ten.
fn times(took_ns: u64, usual_ns: u64) -> String {
    let tenths = u128::from(took_ns) * 10 / u128::from(usual_ns.max(1));
    if tenths < 100 {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        (tenths / 10).to_string()
    }
}

fn sentence(recording: &Recording, piece: Piece) -> String {
    let member = words::name(piece.segment.member, &recording.members);
    let what = match piece.segment.wait {
        Wait::Step(stage) => format!("{member}'s {}", stage.name()),
        Wait::Between(from, to) => format!("from {from} to {to} on {member}"),
        Wait::HandOver(_) => format!("{} on {member}", piece.segment.wait),
        Wait::Network(..) => format!("{} on {member}", piece.segment.wait),
        Wait::SilentLeader => "the leader's silence".to_owned(),
        Wait::NoLeader => "the time without a leader".to_owned(),
        Wait::InVain(what) => {
            format!("the wait for {what}, which had not come when the request ended")
        }
        Wait::Unknown(from, to) => format!("what was not captured, {from} to {to}"),
    };
    let usual = match (piece.usual, piece.segment.wait) {
        (Some(usual), _) => format!(", which is normally {}", millis(usual.p50_ns)),
        (None, Wait::SilentLeader | Wait::NoLeader | Wait::InVain(_) | Wait::Unknown(..)) => {
            String::new()
        }
        (None, Wait::Step(_) | Wait::Between(..) | Wait::HandOver(_) | Wait::Network(..)) => {
            ", whose usual duration is not known".to_owned()
        }
    };
    format!("; {} % is {what}{usual}", piece.percent)
}

#[cfg(test)]
mod tests {
    use glass_etcd::{
        story::{Event, order::Order, query::Story, recording},
        trace::{Kind, METHODS, Stage},
    };

    use super::{
        super::{explain, gather::Gathered, plain},
        *,
    };

    const PUTS_AND_GETS: &str = include_str!("../../tests/recordings/puts_and_gets.ndjson");
    /// A put that took 1.426 ms on etcd-02, and waited for an fsync of 0.205 ms on etcd-01.
    const PUT: u64 = 0xb98e_a1fd_5979_f40b;

    /// The recording, in which members know these medians, each of `samples` samples.
    fn told(medians: &[(&str, Stage, &str, u64)], samples: u64) -> String {
        let mut recording = recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording;
        for ((member, stage, method, p50), clock) in medians.iter().zip(1..) {
            let place = recording.members.iter().position(|known| known.name == *member);
            let place = u8::try_from(place.unwrap()).unwrap();
            let method = METHODS.iter().position(|name| name == method).unwrap_or(0);
            let mut event = Event::mark(place, Stage::Usual, clock);
            event.kind = Kind::Keyframe;
            let values = [*stage as u64, method as u64, *p50, 2 * p50, samples];
            values.iter().enumerate().for_each(|(slot, value)| event.set(slot, *value));
            recording.events.insert(0, event);
        }
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, PUT).unwrap();
        let gathered = Gathered { recording, silent: Vec::new() };
        let mut out = Vec::new();
        plain::story(&mut out, &gathered, &order, &story).unwrap();
        explain::sections(&mut out, &gathered.recording, &order, &story).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_usual_stands_beside_a_duration_and_the_story_ends_with_what_was_not() {
        let medians =
            [("etcd-02", Stage::Rpc, "KV/Put", 47_000), ("etcd-01", Stage::WalFsync, "", 41_000)];
        let text = told(&medians, 100);
        let fsync = "  wal.fsync                0.205 ms  usual 0.041, p99 0.082";
        assert!(text.contains(fsync), "{text}");
        assert!(text.contains("  etcd-01     wal.fsync  usual 0.041, p99 0.082\n"), "{text}");
        let end = "\n\nunusual\n  30 times the usual 0.047 ms of KV/Put on etcd-02; 14 % is \
                   etcd-01's wal.fsync, which is normally 0.041 ms\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn what_is_usual_ends_with_nothing_and_few_samples_are_called_too_few() {
        let usual = told(&[("etcd-02", Stage::Rpc, "KV/Put", 1_400_000)], 50);
        assert!(usual.contains(" 1.426 ms  usual 1.400 "), "no p99 of 50 samples\n{usual}");
        assert!(!usual.contains("unusual"), "{usual}");
        let few = told(&[("etcd-02", Stage::Rpc, "KV/Put", 47_000)], 19);
        assert!(!few.contains("usual 0.047"), "{few}");
        let end = "\n\nunusual\n  too few to compare: etcd-02 knows 19 samples of KV/Put\n";
        assert!(few.ends_with(end), "{few}");
        let none = told(&[], 0);
        assert!(!none.contains("usual"), "{none}");
    }

    #[test]
    fn a_ratio_has_a_decimal_below_ten() {
        assert_eq!(["2.5", "9.9", "30"], [(25, 10), (99, 10), (300, 10)].map(|(a, b)| times(a, b)));
    }
}
