//! Methods whose calls wait by design: a watch waits for events, a lock for its turn. Such calls
//! are never slow.

use super::stage::{METHODS, same_name};

/// Methods that wait by design, and so are never slow.
const WAITING: &[&str] = &[
    "Health/Watch",
    "Watch/Watch",
    "Lease/LeaseKeepAlive",
    "Lock/Lock",
    "Election/Campaign",
    "Election/Observe",
    "Watch/Watch(stream)",
    "Lease/LeaseKeepAlive(stream)",
];

/// By the number of the method, whether its calls wait by design.
const WAITS: [bool; METHODS.len()] = waits_by_number();

/// Whether requests wait by design, by the number of their method; see [`is_waiting`].
pub(super) fn waits(method: u64) -> bool {
    usize::try_from(method).ok().and_then(|at| WAITS.get(at)).is_some_and(|waits| *waits)
}

/// Whether requests of this method wait by design, so that they are never slow.
pub fn is_waiting(method: &str) -> bool {
    WAITING.contains(&method)
}

const fn waits_by_number() -> [bool; METHODS.len()] {
    let mut waits = [false; METHODS.len()];
    let mut waiting = 0;
    while waiting < WAITING.len() {
        let mut method = 0;
        while !same_name(METHODS[method].as_bytes(), WAITING[waiting].as_bytes()) {
            method += 1;
        }
        waits[method] = true;
        waiting += 1;
    }
    waits
}
