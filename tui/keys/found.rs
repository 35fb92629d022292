//! What a key means now: its row in the table, or why it does nothing.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    Binding, Effect, HELP,
    Press::{self, Char, Code, Ctrl, Digit, Text},
    all, valid,
};
use crate::state::{
    Action, Screen, State,
    steps::Direction::{self, Back, Forward},
    text,
};

/// What a key means at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It does this.
    Action(Action),
    /// It closes the list of keys, and does this, as the one key that is left in it would.
    Run(Action),
    /// It does nothing, for this reason.
    Refused(String),
    /// It was released, and means nothing.
    Nothing,
}

/// What this key means now. Presses and repeats count, releases do not.
pub(crate) fn find(state: &State, key: KeyEvent) -> Found {
    if key.kind == KeyEventKind::Release {
        return Found::Nothing;
    }
    let Some(row) = row_of(state, key) else { return Found::Refused(unbound(state, key)) };
    if let Err(why) = (row.when)(state) {
        return Found::Refused(why.to_owned());
    }
    match (row.effect, key.code) {
        (Effect::Do(Action::Run), _) => run(state),
        (Effect::Do(action), _) => Found::Action(action),
        (Effect::WithCharacter(make), KeyCode::Char(typed)) => Found::Action(make(typed)),
        (Effect::WithDigit(make), KeyCode::Char(typed)) => {
            let digit = typed.to_digit(10).and_then(|digit| u8::try_from(digit).ok());
            digit.map_or(Found::Nothing, |digit| Found::Action(make(digit)))
        }
        _ => Found::Nothing,
    }
}

/// The keys that are valid now and match the search in their list.
pub(crate) fn listed(state: &State) -> Vec<&'static Binding> {
    let matches =
        |row: &&Binding| [row.shown, row.does, row.brief].iter().any(|text| state.help.has(text));
    valid(state).filter(matches).collect()
}

/// What the one key does that is left in their list.
fn run(state: &State) -> Found {
    match listed(state)[..] {
        [Binding { effect: Effect::Do(action), .. }] => Found::Run(*action),
        [_] => {
            Found::Refused("this one needs a character: close the list, and press it".to_owned())
        }
        [] => Found::Refused("no key is left".to_owned()),
        [..] => Found::Refused("several keys are left: type more of what it does".to_owned()),
    }
}

/// The row of the table that this key has on the screen that is shown.
pub(crate) fn row_of(state: &State, key: KeyEvent) -> Option<&'static Binding> {
    let matches = |row: &&Binding| row.presses.iter().any(|press| is_pressed(*press, key));
    let place = state.place();
    match state.is_helping {
        true => HELP.iter().find(matches),
        false => {
            // Of two rows for one key, that which has an effect now; at most one has.
            let mut rows = all().filter(|row| row.places.contains(&place)).filter(matches);
            let valid = |row: &&Binding| (row.when)(state).is_ok();
            rows.clone().find(valid).or_else(|| rows.next())
        }
    }
}

/// The key that means the same as the wheel of a mouse: a step in a story, a row elsewhere.
pub(crate) fn of_wheel(state: &State, direction: Direction) -> KeyCode {
    let is_story = matches!(state.place(), Screen::Steps | Screen::Why | Screen::Moment);
    match (direction, is_story && !state.is_helping) {
        (Forward, true) => KeyCode::Right,
        (Back, true) => KeyCode::Left,
        (Forward, false) => KeyCode::Down,
        (Back, false) => KeyCode::Up,
    }
}

/// What is said of a key that the table does not have here.
fn unbound(state: &State, key: KeyEvent) -> String {
    let name = match key.code {
        KeyCode::Char(' ') => "space".to_owned(),
        code => text::clean(&code.to_string()),
    };
    let ctrl = if key.modifiers.contains(KeyModifiers::CONTROL) { "Ctrl-" } else { "" };
    let has_help = !state.is_helping && valid(state).any(|row| row.presses.contains(&Char('?')));
    let advice = if has_help { "; ? lists the keys that do" } else { "" };
    let alt = if key.modifiers.contains(KeyModifiers::ALT) { "Alt-" } else { "" };
    format!("{alt}{ctrl}{name} does nothing here{advice}")
}

fn is_pressed(press: Press, key: KeyEvent) -> bool {
    let has_ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    // No key of the table is pressed with Alt, and Alt-q is not q.
    if key.modifiers.contains(KeyModifiers::ALT) {
        return false;
    }
    match (press, key.code) {
        (Char(wanted), KeyCode::Char(typed)) => wanted == typed && !has_ctrl,
        (Ctrl(wanted), KeyCode::Char(typed)) => wanted == typed && has_ctrl,
        (Digit, KeyCode::Char(typed)) => typed.is_ascii_digit() && !has_ctrl,
        (Text, KeyCode::Char(_)) => !has_ctrl,
        (Code(wanted), code) => wanted == code,
        _ => false,
    }
}
