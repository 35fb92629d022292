//! Output lines: a bounded queue, and one thread that writes.
//!
//! A terminal stopped with Ctrl-S, a pipe without a reader, a full disk: none of them may block the
//! thread that prints. So a line that finds the queue full is dropped and counted, for `/metrics`
//! too, and the count is written when there is room again.
//!
//! Bounds: [`QUEUE_LINES`] lines; the sender limits the length of a line.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use glass_etcd::metrics::recorded;

/// How many lines may be queued.
const QUEUE_LINES: usize = 1024;
/// How long the end waits for queued lines.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Formats the line that reports the number of dropped lines.
pub(crate) type DroppedLine = fn(u64) -> String;

enum Message {
    Line(String),
    End(SyncSender<()>),
}

/// Puts lines into the queue; cheap to clone.
#[derive(Clone)]
pub(crate) struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the writing thread. Every line goes to each of `outputs`.
    pub(crate) fn start(
        outputs: Vec<Box<dyn Write + Send>>,
        say_dropped: DroppedLine,
    ) -> io::Result<(Lines, Flush)> {
        let (queue, inbox) = sync_channel(QUEUE_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { outputs, dropped: dropped.clone(), say_dropped };
        thread::Builder::new().name("lines".to_owned()).spawn(move || writer.run(&inbox))?;
        Ok((Lines { queue: queue.clone(), dropped }, Flush { queue }))
    }

    /// Queues one line, given without its newline. Never blocks.
    pub(crate) fn put(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            recorded::LOG_LINES_DROPPED.increment();
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// On drop, writes the queued lines, for at most a second.
pub(crate) struct Flush {
    queue: SyncSender<Message>,
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        let mut message = Message::End(done);
        for _ in 0..100 {
            match self.queue.try_send(message) {
                Ok(()) => break,
                // The queue is full because the writer is slow or stuck; give it a moment to make
                // room.
                Err(std::sync::mpsc::TrySendError::Full(back)) => message = back,
                Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return,
            }
            thread::sleep(FLUSH_TIME / 100);
        }
        let _ = wait.recv_timeout(FLUSH_TIME);
    }
}

struct Writer {
    outputs: Vec<Box<dyn Write + Send>>,
    dropped: Arc<AtomicU64>,
    say_dropped: DroppedLine,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Message>) {
        while let Ok(first) = inbox.recv() {
            // All queued lines are written together: one flush for many lines.
            let mut end = self.take(first);
            while let (None, Ok(next)) = (&end, inbox.try_recv()) {
                end = self.take(next);
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.write(&(self.say_dropped)(dropped));
            }
            for output in &mut self.outputs {
                let _ = output.flush();
            }
            if let Some(done) = end {
                let _ = done.send(());
                return;
            }
        }
    }

    fn take(&mut self, message: Message) -> Option<SyncSender<()>> {
        match message {
            Message::Line(line) => self.write(&line),
            Message::End(done) => return Some(done),
        }
        None
    }

    /// A failing output has no place left to report the failure, so errors are ignored.
    fn write(&mut self, line: &str) {
        for output in &mut self.outputs {
            let _ = output.write_all(line.as_bytes()).and_then(|()| output.write_all(b"\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A writer that a test can block.
    #[derive(Clone, Default)]
    struct Gate {
        shut_and_text: Arc<Mutex<(bool, Vec<u8>)>>,
        opened: Arc<Condvar>,
    }

    impl Gate {
        fn shut(&self, shut: bool) {
            self.shut_and_text.lock().unwrap().0 = shut;
            self.opened.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.shut_and_text.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let guard = self.shut_and_text.lock().unwrap();
            let mut guard = self.opened.wait_while(guard, |(shut, _)| *shut).unwrap();
            guard.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(gate: &Gate) -> (Lines, Flush) {
        Lines::start(vec![Box::new(gate.clone())], |n| format!("{n} dropped")).unwrap()
    }

    #[test]
    fn queued_lines_are_written_before_the_end() {
        let gate = Gate::default();
        let (lines, flush) = lines(&gate);
        lines.put("a".to_owned());
        lines.put("b".to_owned());
        drop(flush);
        assert_eq!(gate.text(), "a\nb\n");
    }

    #[test]
    fn an_output_that_is_stuck_costs_lines_but_no_time() {
        let gate = Gate::default();
        gate.shut(true);
        let (lines, flush) = lines(&gate);
        // This returns although no reader drains the output; otherwise the test would hang.
        for n in 0..3 * QUEUE_LINES {
            lines.put(n.to_string());
        }
        gate.shut(false);
        drop(flush);
        let text = gate.text();
        let said: u64 = text
            .lines()
            .filter_map(|line| line.strip_suffix(" dropped"))
            .map(|count| count.parse::<u64>().unwrap())
            .sum();
        let written = text.lines().filter(|line| !line.ends_with("dropped")).count();
        assert_eq!(written + usize::try_from(said).unwrap(), 3 * QUEUE_LINES);
        assert!(said > 0);
    }
}
