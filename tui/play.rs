//! The loop of the player: one source, one state, one screen.
//!
//! ```text
//!  keyboard thread ─┐
//!  listener ────────┼─ Input ─► handle(&mut State) ─► view::draw(&State)
//!  clock ───────────┘
//! ```
//!
//! The loop takes inputs from one closed enum and passes each to one function that does not depend
//! on a terminal; the tests call the same function. A guard restores the terminal, even after a
//! panic. The mouse is not captured, because that would break copying.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crossterm::event::{self, KeyEvent};
use glass_etcd::clock;
use ratatui::DefaultTerminal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    keys,
    source::{Listener, Message},
    state::State,
    view::{self, Look},
};

/// Interval between ticks, short enough for the fastest playing speed.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// How long the keyboard thread polls before it checks whether it should end.
const KEY_WAIT: Duration = Duration::from_millis(50);
/// How many of these intervals the player waits for the thread when it closes.
const KEY_WAITS_AT_END: u32 = 6;
/// Inputs taken between two drawings, so that a flood of records cannot freeze the screen.
const INPUTS_PER_DRAW: usize = 256;

/// Every event that the player handles.
#[derive(Debug)]
pub(crate) enum Input {
    /// A key was pressed, repeated or released.
    Key(KeyEvent),
    /// The window was resized; the screen has to be redrawn.
    Resized,
    /// A message from an endpoint of a live member.
    Source(Message),
    /// A tick; the time since the player started.
    Tick(Duration),
    /// The source has ended.
    Closed,
    /// The process received a signal to terminate.
    Terminated,
}

/// Handles one input. Returns whether the player continues.
pub(crate) fn handle(state: &mut State, input: Input) -> bool {
    match input {
        Input::Key(key) => {
            return keys::find(state, key).is_none_or(|action| state.update(action));
        }
        Input::Resized => state.touch(),
        Input::Source(message) => state.take(message),
        Input::Tick(since) => {
            state.tick(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        }
        Input::Closed => {
            state.is_closed = true;
            state.refresh();
        }
        Input::Terminated => return false,
    }
    true
}

/// Runs the player until the user quits. Without a listener, the state receives no new records.
pub(crate) async fn run(
    mut state: State,
    listener: Option<Listener>,
    look: Look,
) -> io::Result<()> {
    let mut screen = Screen::open()?;
    let mut inputs = Inputs::open(listener)?;
    let mut drawn = None;
    loop {
        if drawn != Some(state.version()) {
            screen.terminal.draw(|frame| view::draw(frame, &state, look))?;
            drawn = Some(state.version());
        }
        if !handle(&mut state, inputs.next().await) {
            return Ok(());
        }
        for _ in 0..INPUTS_PER_DRAW {
            let Some(input) = inputs.ready() else { break };
            if !handle(&mut state, input) {
                return Ok(());
            }
        }
    }
}

/// The terminal while the player uses it. Its drop restores it, as does ratatui's panic hook.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> io::Result<Screen> {
        ratatui::try_init().map(|terminal| Screen { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The sources of inputs.
struct Inputs {
    listener: Option<Listener>,
    keyboard: Keyboard,
    ticks: tokio::time::Interval,
    begun: std::time::Instant,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Inputs {
    fn open(listener: Option<Listener>) -> io::Result<Inputs> {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Inputs {
            listener,
            keyboard: Keyboard::open()?,
            ticks,
            begun: clock::now(),
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next input. Keys take precedence, so that a flood of records cannot delay
    /// them.
    async fn next(&mut self) -> Input {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Input::Terminated,
            _ = self.hang_up.recv() => Input::Terminated,
            key = self.keyboard.receiver.recv() => key.unwrap_or(Input::Terminated),
            _ = self.ticks.tick() => Input::Tick(clock::now().duration_since(self.begun)),
            message = next_of(&mut self.listener) => self.of_listener(message),
        }
    }

    /// An input that is ready now.
    fn ready(&mut self) -> Option<Input> {
        if let Ok(key) = self.keyboard.receiver.try_recv() {
            return Some(key);
        }
        self.listener.as_mut()?.ready().map(Input::Source)
    }

    fn of_listener(&mut self, message: Option<Message>) -> Input {
        match message {
            Some(message) => Input::Source(message),
            None => {
                self.listener = None;
                Input::Closed
            }
        }
    }
}

/// The next message of a listener; never returns without one.
async fn next_of(listener: &mut Option<Listener>) -> Option<Message> {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

/// The thread that reads the terminal, because the read blocks.
struct Keyboard {
    receiver: mpsc::Receiver<Input>,
    is_closing: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keyboard {
    fn open() -> io::Result<Keyboard> {
        // The bound exceeds what a user can type while the screen is drawn once.
        let (sender, receiver) = mpsc::channel(64);
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = Arc::clone(&is_closing);
        let reader = thread::Builder::new().name("keyboard".to_owned());
        let thread = reader.spawn(move || read_keys(&sender, &closing))?;
        Ok(Keyboard { receiver, is_closing, thread: Some(thread) })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        // A full channel would keep the thread from noticing the end.
        self.receiver.close();
        let Some(thread) = self.thread.take() else { return };
        for _ in 0..KEY_WAITS_AT_END {
            if thread.is_finished() {
                // The panic hook has already reported a panic of that thread.
                _ = thread.join();
                return;
            }
            thread::sleep(KEY_WAIT);
        }
        // If the terminal was taken away, crossterm never returns from its poll. The thread then
        // ends with the process, which must not wait for it.
    }
}

/// Ends when the player closes, or when the terminal is gone.
fn read_keys(sender: &mpsc::Sender<Input>, is_closing: &AtomicBool) {
    while !is_closing.load(Ordering::Relaxed) {
        let input = match event::poll(KEY_WAIT) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let input = match input {
            Ok(event::Event::Key(key)) => Input::Key(key),
            Ok(event::Event::Resize(..)) => Input::Resized,
            Ok(_) => continue,
            Err(_) => Input::Terminated,
        };
        let is_last = matches!(input, Input::Terminated);
        if sender.blocking_send(input).is_err() || is_last {
            return;
        }
    }
}
