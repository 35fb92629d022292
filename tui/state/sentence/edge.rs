//! Sentences about the wait of a caller outside its rpc, and about members that could not run.

use glass_etcd::{
    field, fields,
    story::Event,
    trace::{Kind, Stage},
};

use crate::state::words::duration;

/// The sentence for such a step; `None` for any other, and for a beginning.
pub(super) fn sentence(event: &Event, own: &str) -> Option<String> {
    if event.kind != Kind::Span {
        return None;
    }
    let took = duration(event.took_ns);
    Some(match event.stage {
        Stage::ConnectionAccept => accept(event, own, &took),
        Stage::SocketQueue => format!(
            "The request lay in the receive buffer of its connection for {took} or longer before \
             {own} read it."
        ),
        Stage::RpcReceive => {
            format!("The request took {took} to arrive, from its first frame to its last.")
        }
        Stage::RpcQueue => format!(
            "{own} had read the whole request, and {took} passed until its handler began: it was \
             decoded, and waited for its turn."
        ),
        Stage::AnswerFlush => format!(
            "{took} after the end of the rpc the socket had taken the last byte of the answer."
        ),
        Stage::ProcessStalled => {
            let [cpu, margin] = fields!(event, ProcessStalled: cpu, margin);
            format!(
                "The process of {own} stood still for {took}: it used {} of CPU time, and waited \
                 for no CPU. It may have stopped up to {} earlier.",
                duration(cpu),
                duration(margin)
            )
        }
        Stage::CpuWait => format!(
            "Within {took}, the grpc thread of {own} was ready to run for {} and had no CPU; its \
             raft thread for {}, its wal thread for {}, its apply thread for {}.",
            duration(field!(event, CpuWait, grpc)),
            duration(field!(event, CpuWait, raft)),
            duration(field!(event, CpuWait, wal)),
            duration(field!(event, CpuWait, apply)),
        ),
        _ => return None,
    })
}

fn accept(event: &Event, own: &str, took: &str) -> String {
    let waited = format!(
        "The client was connected for {took} before {own} took its connection, and then sent its \
         request."
    );
    match field!(event, ConnectionAccept, place) {
        // A tick of the clock, or the task's turn.
        0..1_000_000 => waited,
        place => format!(
            "{waited} For {} of that it waited for a place: the other clients had all of them.",
            duration(place)
        ),
    }
}

#[cfg(test)]
mod tests {
    use glass_etcd::numbers;

    use super::*;

    fn said(stage: Stage, fields: [u64; 8], took_ns: u64) -> String {
        let event = Event { kind: Kind::Span, took_ns, fields, ..Event::mark(0, stage, 2) };
        sentence(&event, "etcd-02").unwrap()
    }

    #[test]
    fn a_wait_outside_the_rpc_says_how_long_it_was_and_where() {
        let cases = [
            (Stage::SocketQueue, "lay in the receive buffer of its connection for 1.6 s or longer"),
            (Stage::RpcReceive, "took 1.6 s to arrive"),
            (Stage::RpcQueue, "1.6 s passed until its handler began"),
            (Stage::AnswerFlush, "1.6 s after the end of the rpc"),
        ];
        for (stage, expected) in cases {
            let sentence = said(stage, [0; 8], 1_600_000_000);
            assert!(sentence.contains(expected), "{sentence}");
        }
    }

    #[test]
    fn a_connection_that_waited_says_whether_the_places_were_taken() {
        let known = |ns| numbers!(ConnectionAccept, place = ns);
        let sentence = said(Stage::ConnectionAccept, known(40_000), 2_300_000_000);
        let expected = "connected for 2.3 s before etcd-02 took its connection, and then sent";
        assert!(sentence.contains(expected) && !sentence.contains("place"), "{sentence}");
        let sentence = said(Stage::ConnectionAccept, known(1_500_000_000), 2_300_000_000);
        assert!(
            sentence.ends_with(
                "For 1.5 s of that it waited for a place: the other clients had all of them."
            ),
            "{sentence}"
        );
    }

    #[test]
    fn a_standstill_and_a_wait_for_a_cpu_are_told_apart() {
        let cpu = numbers!(ProcessStalled, cpu = 900_000, margin = 25_000_000);
        let stalled = said(Stage::ProcessStalled, cpu, 1_600_000_000);
        assert!(stalled.contains("etcd-02 stood still for 1.6 s: it used 900 µs"), "{stalled}");
        let waits = numbers!(CpuWait, grpc = 3_100_000, raft = 7_000);
        let waited = said(Stage::CpuWait, waits, 100_000_000);
        assert!(waited.contains("Within 100 ms, the grpc thread of etcd-02"), "{waited}");
        assert!(waited.contains("ready to run for 3.1 ms and had no CPU"), "{waited}");
    }

    #[test]
    fn what_has_only_begun_says_nothing() {
        assert_eq!(None, sentence(&Event::mark(0, Stage::SocketQueue, 1), "etcd-02"));
    }
}
