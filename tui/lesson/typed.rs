//! The lines that a learner types, until a signal ends the process.
//!
//! A cluster that ran in this process has taken over Ctrl-C. So a thread of its own reads the line,
//! and [`Typed`] waits for that thread and for the signals.

use std::{
    io::{self, BufRead as _, Read},
    thread,
};

use tokio::{runtime::Runtime, sync::oneshot};

use crate::up::Signals;

/// What a read ends with after a signal.
const INTERRUPTED: &str = "interrupted; `glass lesson start` goes on from what was answered";

/// See the module's text. Each read waits for one line.
pub(super) struct Typed {
    runtime: Runtime,
    signals: Signals,
    /// The rest of the line.
    rest: io::Cursor<Vec<u8>>,
}

impl Typed {
    pub(super) fn open() -> io::Result<io::BufReader<Typed>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { Signals::new() })?;
        Ok(io::BufReader::new(Typed { runtime, signals, rest: io::Cursor::default() }))
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let (sender, line) = oneshot::channel();
        let read = move || {
            let mut line = Vec::new();
            let read = io::stdin().lock().read_until(b'\n', &mut line);
            // After a signal nobody waits for the line any more.
            _ = sender.send(read.map(|_| line));
        };
        thread::Builder::new().name("typed".to_owned()).spawn(read)?;
        let signals = &mut self.signals;
        self.runtime.block_on(async {
            tokio::select! {
                line = line => line.map_err(io::Error::other)?,
                () = signals.next() => Err(io::Error::other(INTERRUPTED)),
            }
        })
    }
}

impl Read for Typed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(to)? {
            0 => {
                self.rest = io::Cursor::new(self.line()?);
                self.rest.read(to)
            }
            read => Ok(read),
        }
    }
}
