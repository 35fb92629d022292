//! The loop of the player: one source, one state, one screen.
//!
//! ```text
//!  keyboard thread ─┐
//!  listener ────────┼─ Input ─► handle(&mut State) ─► view::draw(&State)
//!  clock ───────────┤                   │
//!  glass up ────────┤◄──── Command ─────┤
//!  client ──────────┤◄──── Errand ──────┘
//!  log files ───────┘
//! ```
//!
//! The loop takes inputs from one closed enum and passes each to one function that does not depend
//! on a terminal; the tests call the same function. A guard restores the terminal, even after a
//! panic. The mouse is captured only on `--mouse`, or after `M`, because that breaks copying. The
//! terminal marks pastes (bracketed paste), because pasted text is text and no row of keys.
//!
//! Nobody but the keyboard thread reads the terminal. So nothing here may ask it a question, such
//! as where its cursor is.

use std::{io, time::Duration};

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, KeyEvent,
};
use glass_etcd::clock;
use ratatui::{DefaultTerminal, layout::Rect};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    boot,
    client::Client,
    control::{Control, Controller},
    keys::{self, Found},
    source::{
        Listener, Message,
        log_files::{LogFiles, Said},
    },
    state::{Action, State, console::Answer, room::Left, steps::Direction},
    up::api::{Command, Reply},
    view::{self, Look},
};

mod decode;
mod keyboard;
mod leave;
mod wishes;

use keyboard::Keyboard;
use leave::Leaver;

/// Interval between ticks, short enough for the fastest playing speed.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// Inputs taken between two drawings, so that a flood of records cannot freeze the screen.
const INPUTS_PER_DRAW: usize = 256;

/// How late a tick is when the player itself was too busy to listen.
const LATE: Duration = Duration::from_millis(150);
/// How long it then listens before it draws: a member that was not heard is not silent.
const CATCH_UP: Duration = Duration::from_millis(20);
/// Ticks from one report about the processes to the next: half a second.
const REPORT_TICKS: u64 = 5;

/// Every event that the player handles.
#[derive(Debug)]
pub(crate) enum Input {
    /// A key was pressed, repeated or released.
    Key(KeyEvent),
    /// Keys of a text that came at once, with a line end among them: typed by no person.
    AtOnce(Vec<KeyEvent>),
    /// Text was pasted, or something that cannot be taken: why.
    Pasted(Result<String, &'static str>),
    /// A click, by column and line.
    Click(u16, u16),
    /// What a click means on the screen that was drawn last.
    Aimed(Action),
    /// The wheel was turned by a notch.
    Wheel(Direction),
    /// The window was resized; the screen has to be redrawn.
    Resized,
    /// A message from an endpoint of a live member.
    Source(Message),
    /// A tick; the time since the player started.
    Tick(Duration),
    /// What `glass up` replied to a command.
    Replied(Command, Reply),
    /// What came of a moment that was booted.
    Booted(Vec<String>),
    /// What came of a request of one's own.
    Answered(Answer),
    /// What the members have printed.
    Printed(Vec<Said>),
    /// The source has ended.
    Closed,
    /// The process received a signal to terminate.
    Terminated,
}

/// Handles one input. Returns whether the player continues.
pub(crate) fn handle(state: &mut State, input: Input) -> bool {
    match input {
        Input::Key(key) => match keys::find(state, key) {
            Found::Action(action) => return state.update(action),
            Found::Run(action) => return state.update(Action::Back) && state.update(action),
            Found::Refused(why) => state.refuse(why),
            Found::Nothing => {}
        },
        Input::AtOnce(keys) => return take_at_once(state, &keys),
        Input::Pasted(Ok(text)) => state.paste(&text),
        Input::Pasted(Err(why)) => state.refuse(format!("{why}, so all of it is ignored")),
        Input::Aimed(action) => return state.update(action),
        Input::Wheel(direction) => {
            let key = KeyEvent::from(keys::of_wheel(state, direction));
            return handle(state, Input::Key(key));
        }
        // A click beside everything.
        Input::Click(..) => {}
        Input::Resized => state.touch(),
        Input::Source(message) => state.take(message),
        Input::Tick(since) => {
            state.tick(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        }
        Input::Replied(command, reply) => state.replied(&command, reply),
        Input::Booted(told) => state.booted(told),
        Input::Answered(answer) => state.answered(answer),
        Input::Printed(said) => state.printed(said),
        Input::Closed => {
            state.is_closed = true;
            state.refresh();
        }
        Input::Terminated => return false,
    }
    true
}

/// Handles keys that came at once. From where a text is typed they are pasted text, because what
/// follows a line end would act as keys; on other screens they are keys. Returns whether the player
/// continues.
fn take_at_once(state: &mut State, keys: &[KeyEvent]) -> bool {
    for (at, key) in keys.iter().enumerate() {
        let rest = &keys[at..];
        if state.is_typing() && keyboard::ends_within(rest) {
            let text: String = rest.iter().copied().filter_map(keyboard::character_of).collect();
            state.paste(&text);
            return true;
        }
        if !handle(state, Input::Key(*key)) {
            return false;
        }
    }
    true
}

/// Runs the player until the user quits. Without a listener, the state receives no new records;
/// without control, it cannot stop members.
pub(crate) async fn run(
    mut state: State,
    listener: Option<Listener>,
    control: Option<Control>,
    (logs, look): (Option<LogFiles>, Look),
) -> io::Result<Left> {
    // Dropped after the screen, whose closing may wait for the terminal like any drawing.
    let _leaver = Leaver::open()?;
    let mut screen = Screen::open(look)?;
    let mut targets = view::Targets::default();
    let mut inputs = Inputs::open(listener, control)?;
    inputs.logs = logs;
    let mut drawn = None;
    loop {
        if drawn != Some(state.version()) {
            fail::fail_point!("player::draw");
            screen.terminal.draw(|frame| targets = view::draw(frame, &state, look))?;
            drawn = Some(state.version());
        }
        let input = aimed(inputs.next().await, &targets);
        let is_tick = matches!(input, Input::Tick(_));
        if !handle(&mut state, input) {
            return Ok(state.left());
        }
        inputs.send(&mut state, is_tick);
        wishes::grant(&mut screen, &mut state, look)?;
        if let Some(printed) = inputs.printed(&state, is_tick) {
            handle(&mut state, printed);
        }
        if is_tick && inputs.is_late() {
            tokio::time::sleep(CATCH_UP).await;
        }
        for _ in 0..INPUTS_PER_DRAW {
            let Some(input) = inputs.ready() else { break };
            if !handle(&mut state, aimed(input, &targets)) {
                return Ok(state.left());
            }
        }
        inputs.send(&mut state, false);
        wishes::grant(&mut screen, &mut state, look)?;
    }
}

/// What a click on the screen that was drawn last means; other inputs stay what they are.
fn aimed(input: Input, targets: &view::Targets) -> Input {
    match input {
        Input::Click(column, line) => match targets.at(column, line) {
            Some(action) => Input::Aimed(action),
            None => input,
        },
        input => input,
    }
}

/// The terminal while the player uses it. Its drop restores it, as does ratatui's panic hook.
struct Screen {
    terminal: DefaultTerminal,
    has_mouse: bool,
}

impl Screen {
    fn open(look: Look) -> io::Result<Screen> {
        let terminal = ratatui::try_init()?;
        let screen = Screen { terminal, has_mouse: look.has_mouse };
        // The hook of ratatui restores the rest.
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_modes();
            report(panic);
        }));
        screen.set_modes()?;
        Ok(screen)
    }

    /// The modes that ratatui does not set.
    fn set_modes(&self) -> io::Result<()> {
        crossterm::execute!(io::stdout(), EnableBracketedPaste)?;
        if self.has_mouse {
            crossterm::execute!(io::stdout(), EnableMouseCapture)?;
        }
        Ok(())
    }

    /// Gives the terminal back, as it was.
    fn close(&mut self) {
        restore_modes();
        ratatui::restore();
    }

    /// Takes it again, and draws everything anew.
    fn reopen(&mut self) -> io::Result<()> {
        crossterm::terminal::enable_raw_mode()?;
        crossterm::execute!(io::stdout(), crossterm::terminal::EnterAlternateScreen)?;
        self.set_modes()?;
        self.redraw()
    }

    /// Draws everything anew: another program may have written to the terminal.
    fn redraw(&mut self) -> io::Result<()> {
        // Unlike `clear`, this does not ask the terminal where its cursor is.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Takes the mouse, or frees it. Returns whether it is taken now.
    fn toggle_mouse(&mut self) -> io::Result<bool> {
        self.has_mouse = !self.has_mouse;
        match self.has_mouse {
            true => crossterm::execute!(io::stdout(), EnableMouseCapture)?,
            false => crossterm::execute!(io::stdout(), DisableMouseCapture)?,
        }
        Ok(self.has_mouse)
    }
}

/// A terminal that is gone needs nothing back, and one whose mouse is free leaves it so.
fn restore_modes() {
    let _ = crossterm::execute!(io::stdout(), DisableBracketedPaste, DisableMouseCapture);
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

/// The sources of inputs.
struct Inputs {
    listener: Option<Listener>,
    control: Option<Controller>,
    /// Moments that were booted, and the sender for those that are.
    booted: (mpsc::Sender<Vec<String>>, mpsc::Receiver<Vec<String>>),
    client: Client,
    logs: Option<LogFiles>,
    ticked: u64,
    /// When the last two ticks came, the older first.
    came: [std::time::Instant; 2],
    keyboard: Keyboard,
    ticks: tokio::time::Interval,
    begun: std::time::Instant,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    resize: tokio::signal::unix::Signal,
}

impl Inputs {
    fn open(listener: Option<Listener>, control: Option<Control>) -> io::Result<Inputs> {
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Inputs {
            listener,
            control: control.map(Controller::new),
            booted: mpsc::channel(1),
            client: Client::new(),
            logs: None,
            ticked: 0,
            came: [clock::now(); 2],
            keyboard: Keyboard::open()?,
            ticks,
            begun: clock::now(),
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
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
            _ = self.resize.recv() => Input::Resized,
            _ = self.ticks.tick() => {
                self.came = [self.came[1], clock::now()];
                Input::Tick(self.came[1].duration_since(self.begun))
            }
            (command, reply) = reply_of(&mut self.control) => Input::Replied(command, reply),
            Some(told) = self.booted.1.recv() => Input::Booted(told),
            answer = self.client.next() => Input::Answered(answer),
            message = next_of(&mut self.listener) => self.of_listener(message),
        }
    }

    /// Whether the last tick came late.
    fn is_late(&self) -> bool {
        POLL_EVERY + LATE < self.came[1] - self.came[0]
    }

    /// Sends the requests and the commands of the last keys, and from time to time a request for a
    /// report.
    fn send(&mut self, state: &mut State, is_tick: bool) {
        if let Some((place, moment)) = state.job() {
            let booted = self.booted.0.clone();
            // One at a time; it takes some seconds.
            tokio::task::spawn_blocking(move || {
                // A player that has ended needs no answer.
                let _ = booted.blocking_send(boot::perform(&place, &moment));
            });
        }
        state.errands().into_iter().for_each(|errand| self.client.run(errand));
        if let Some(note) = state.quiz.take_note() {
            // Without the note the question is asked again at the next start.
            _ = std::fs::write(note, "the player has asked its first question\n");
        }
        let Some(control) = &mut self.control else { return };
        state.commands().into_iter().for_each(|command| control.send(command));
        if is_tick {
            if self.ticked.is_multiple_of(REPORT_TICKS)
                && let Some(report) = state.report()
            {
                control.report(report);
            }
            self.ticked += 1;
        }
    }

    /// What the members have printed since the last tick, if somebody looks at it. The files are on
    /// this machine, and what is read at once is bounded.
    fn printed(&mut self, state: &State, is_tick: bool) -> Option<Input> {
        let logs = self.logs.as_mut().filter(|_| is_tick && state.wants_lines())?;
        Some(logs.read()).filter(|said| !said.is_empty()).map(Input::Printed)
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

/// The next reply of `glass up`; never returns if there is none to ask.
async fn reply_of(control: &mut Option<Controller>) -> (Command, Reply) {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}
