//! For tests: recordings with numbers that no cluster produces, but a file may contain.

use super::{Event, Recording, recording};
use crate::trace::Stage;

const GOLDEN: [&str; 2] = [
    include_str!("../../tests/recordings/version-1.ndjson"),
    include_str!("../../tests/recordings/puts_and_gets.ndjson"),
];
const MOST: u64 = u64::MAX;
const SPOILS: [fn(&mut Event); 6] = [
    |event| event.took_ns = MOST,
    |event| event.at_ns = MOST,
    |event| (event.at_ns, event.took_ns) = (MOST, MOST),
    |event| (event.clock, event.clock_end) = (MOST, MOST),
    |event| event.fields = [MOST; 8],
    |event| {
        (event.fields, event.clock_end) = ([MOST; 8], MOST);
        (event.at_ns, event.took_ns, event.link) = (MOST, MOST, MOST);
    },
];

/// The recordings kept for tests.
pub(crate) fn golden() -> [Recording; 2] {
    GOLDEN.map(|text| recording::read(text.as_bytes()).unwrap().recording)
}

/// The recording with each event changed, after a round trip through a file.
pub(crate) fn changed(recording: &Recording, change: impl Fn(&mut Event)) -> Recording {
    let mut recording = recording.clone();
    recording.events.iter_mut().for_each(change);
    let mut file = Vec::new();
    recording::write(&mut file, &recording).unwrap();
    recording::read(file.as_slice()).unwrap().recording
}

/// Each golden recording with the greatest numbers in each field, for all stages and for some.
pub(crate) fn with_the_greatest_numbers() -> impl Iterator<Item = (String, Recording)> {
    let stages = [None, Some(Stage::Rpc), Some(Stage::WalFsync), Some(Stage::BufferGet)];
    golden().into_iter().flat_map(move |recording| {
        let spoils = SPOILS.into_iter().enumerate();
        let cases = spoils.flat_map(move |spoil| stages.map(|stage| (spoil, stage)));
        cases.map(move |((at, spoil), stage)| {
            let spoiled = changed(&recording, |event| {
                if stage.is_none_or(|stage| event.stage == stage) {
                    spoil(event);
                }
            });
            (format!("{at} of {stage:?}"), spoiled)
        })
    })
}
