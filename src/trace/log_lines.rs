//! For tests: captures what the current thread writes to the log.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use tracing::{Dispatch, subscriber::NoSubscriber};

/// With a single subscriber `tracing` asks once, on the first thread that meets a line, whether it
/// is wanted, and caches the answer for all threads. With two it asks each time.
static OTHERS: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Dispatch::new(NoSubscriber::default())));

/// The lines that were logged. A clone shares them.
#[derive(Clone, Default)]
pub(crate) struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// Runs `work`, and keeps what it logs.
    pub(crate) fn while_in<T>(&self, work: impl FnOnce() -> T) -> T {
        LazyLock::force(&OTHERS);
        let told = self.clone();
        let writer = move || told.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, work)
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }

    /// How often the lines contain `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines().iter().map(|line| line.matches(text).count()).sum()
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
