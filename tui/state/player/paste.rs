//! Pasted text: it goes into the field that is typed, as one line, and nowhere else.
//!
//! On other screens its letters would stop members and answer questions, so it is ignored there,
//! and the player says so. As in a shell, a line end in a paste sends nothing: only Enter does. A
//! field takes a paste as a whole or not at all.

use super::{super::line::Edit, Screen, State};

/// What is said of a step's number that has too many digits.
pub(super) const LONG_NUMBER: &str = "a step's number has six digits at most";

impl State {
    /// Whether text is typed on this screen.
    pub(crate) fn is_typing(&self) -> bool {
        let place = self.place();
        self.is_helping
            || matches!(place, Screen::Console | Screen::Find | Screen::Seek | Screen::Prompt)
    }

    /// Changes the line that is typed on this screen.
    pub(super) fn edit(&mut self, edit: Edit) {
        let lack = match self.place() {
            _ if self.is_helping => self.help.edit(edit),
            Screen::Seek => self.seek.edit(edit),
            Screen::Console => return self.console.edit(edit),
            Screen::Find => return self.find.edit(edit),
            _ => None,
        };
        self.notice = lack;
    }

    /// Takes text that was pasted.
    pub(crate) fn paste(&mut self, text: &str) {
        self.version += 1;
        self.forget_notices();
        let (line, changed) = one_line(text);
        let is_number = line.bytes().all(|byte| byte.is_ascii_digit());
        let place = self.place();
        let refusal = if self.is_helping {
            (!self.help.paste(&line)).then_some(TOO_LONG)
        } else {
            match (place, &mut self.steps) {
                (Screen::Console, _) => (!self.console.paste(&line)).then_some(TOO_LONG),
                (Screen::Find, _) => (!self.find.paste(&line)).then_some(TOO_LONG),
                (Screen::Seek, _) => (!self.seek.paste(&line)).then_some(TOO_LONG),
                (Screen::Prompt, Some(steps)) if is_number => {
                    (!steps.type_digits(&line)).then_some(LONG_NUMBER)
                }
                (Screen::Prompt, _) => Some("what was pasted is no number, so it is ignored"),
                _ => Some("what was pasted is ignored: no text is typed on this screen"),
            }
        };
        self.notice = match refusal {
            Some(why) => Some(why.to_owned()),
            None if changed == 0 => None,
            None => Some(format!("pasted; line ends and the like became spaces: {changed}")),
        };
    }
}

const TOO_LONG: &str = "what was pasted is too long here, so all of it is ignored";

/// The text without the line ends at its end, and with a space for every other character that is
/// none; and how many those are.
fn one_line(text: &str) -> (String, usize) {
    let text = text.replace("\r\n", "\n");
    let text = text.trim_end_matches(['\r', '\n']);
    let changed = text.chars().filter(|character| character.is_control()).count();
    let line = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    (line, changed)
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent};

    use super::*;
    use crate::{
        play::{Input, handle},
        state::{Action, BYTES_MAX, console::Key, pane::View},
    };

    #[test]
    fn a_paste_on_a_screen_without_text_does_nothing_and_says_so() {
        let mut state = State::of_endpoints(&["a".to_owned()], BYTES_MAX);
        state.paste("stop s y q");
        assert_eq!(Screen::Cluster, state.place());
        assert!(state.notice.as_ref().is_some_and(|said| said.contains("is ignored")));
        state.update(Action::Show(View::Log));
        state.update(Action::Find);
        state.paste("foo");
        let typed = |state: &State| state.seek.typed().map(|line| line.text());
        assert_eq!((Some("foo".to_owned()), None), (typed(&state), state.notice.clone()));
        state.update(Action::Help);
        state.paste("cut");
        assert_eq!(("cut", None), (&*state.help.typed.text(), state.notice.as_deref()));
        state.paste(&"x".repeat(1000));
        assert_eq!(("cut", Some(TOO_LONG)), (&*state.help.typed.text(), state.notice.as_deref()));
    }

    /// What a terminal sends that does not mark pastes.
    fn at_once(text: &str) -> Input {
        let code = |character| match character {
            '\n' => KeyCode::Enter,
            character => KeyCode::Char(character),
        };
        Input::AtOnce(text.chars().map(|character| KeyEvent::from(code(character))).collect())
    }

    /// Goal: the second line of a paste stops no member and answers no question, also in a terminal
    /// that sends it as keys.
    #[test]
    fn lines_that_come_at_once_are_one_line_of_the_field_and_send_nothing() {
        let mut state = State::of_endpoints(&["a".to_owned()], BYTES_MAX);
        state.console.connect(1);
        assert!(handle(&mut state, at_once("iput a 1\nq\nd\n")));
        let typed = state.console.typed.as_ref().map(|line| line.text());
        assert_eq!((Screen::Console, Some("put a 1 q d")), (state.place(), typed.as_deref()));
        assert!(state.errands().is_empty());
        assert!(state.notice.as_ref().is_some_and(|said| said.ends_with("became spaces: 2")));
        state.update(Action::Console(Key::Close));
        assert!(handle(&mut state, at_once("?cut\nq")));
        assert_eq!((true, "cut q"), (state.is_helping, &*state.help.typed.text()));
        state.update(Action::Back);
        assert!(handle(&mut state, at_once("L\nC")), "no text is typed: these are keys");
        assert_eq!(Screen::Cluster, state.place());
    }

    #[test]
    fn a_paste_into_the_line_is_one_line_and_sends_nothing() {
        let mut state = State::of_endpoints(&["a".to_owned()], BYTES_MAX);
        state.console.connect(1);
        state.update(Action::Console(Key::Open));
        state.paste("put a 1\r\nput b 2\n");
        let typed = state.console.typed.as_ref().map(|line| line.text());
        assert_eq!(Some("put a 1 put b 2"), typed.as_deref());
        assert!(state.errands().is_empty());
        assert!(state.notice.as_ref().is_some_and(|said| said.ends_with("became spaces: 1")));
        state.paste(&"x".repeat(1 << 17));
        assert_eq!(typed, state.console.typed.as_ref().map(|line| line.text()));
        assert_eq!(Some(TOO_LONG), state.notice.as_deref());
    }
}
