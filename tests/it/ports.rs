//! Ports for members that stop and come back.
//!
//! Port 0 would give ports of the range from which the system also takes the near end of
//! outgoing connections. While a member is down its peers keep dialling its port; on loopback
//! such a dial can be given that very port, connect to itself, and hold it: the member would not
//! come back. So ports come from below that range (Linux starts at 32768, macOS at 49152).
//!
//! And another run of these tests must not take the port of a member that is down: its clients
//! would speak with the wrong cluster, and miss there what they were told here. So each port is
//! locked, by a file, until the process ends.

use std::{
    fs::{self, File},
    net::TcpListener,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

/// First port that is tried.
const FIRST: u16 = 15_000;
/// Number of ports.
const COUNT: u16 = 17_000;

/// The locked files, for as long as the process lives.
static LOCKED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Distance from the place where this process starts to look.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on loopback that was free just now. A process that is not one of these tests may be
/// faster: a cluster that meets a clash at its start takes new ports.
pub(crate) fn free() -> u16 {
    // Processes that start together should not try the same ports.
    let start = (std::process::id().wrapping_mul(2_654_435_761) >> 8) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + ((start + step) % u32::from(COUNT)) as u16;
        if is_ours(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Locks the port for this process, unless another one has it.
fn is_ours(port: u16) -> bool {
    let dir = std::env::temp_dir().join("glass-it-ports");
    fs::create_dir_all(&dir).unwrap();
    let Ok(file) = File::create(dir.join(port.to_string())) else { return false };
    let is_ours = file.try_lock().is_ok();
    if is_ours {
        LOCKED.lock().unwrap().push(file);
    }
    is_ours
}
