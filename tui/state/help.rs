//! The list of keys while it is open: what was typed to search it, and how far it is scrolled.

use super::{State, legend, legend::Sign, steps::Direction};
use crate::keys::{self, Binding};

/// Longest search, in bytes.
const TYPED_MAX: usize = 40;
/// More lines than the list has at any width.
const LINES_MAX: usize = 100;

/// The search in the list of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Help {
    pub(crate) typed: String,
    /// Lines that are scrolled away.
    pub(crate) scrolled: usize,
}

impl Help {
    pub(crate) fn append(&mut self, character: char) {
        if self.typed.len() < TYPED_MAX {
            self.typed.push(character);
        }
        self.scrolled = 0;
    }

    pub(crate) fn erase(&mut self) {
        self.typed.pop();
        self.scrolled = 0;
    }

    pub(crate) fn scroll(&mut self, direction: Direction) {
        self.scrolled = match direction {
            Direction::Forward => (self.scrolled + 1).min(LINES_MAX),
            Direction::Back => self.scrolled.saturating_sub(1),
        };
    }

    fn has(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.typed.trim().to_lowercase())
    }
}

/// The keys that are valid now and match the search.
pub(crate) fn keys(state: &State) -> Vec<&'static Binding> {
    let matches =
        |row: &&Binding| [row.shown, row.does, row.brief].iter().any(|text| state.help.has(text));
    keys::valid(state).filter(matches).collect()
}

/// The signs of the screen that match the search.
pub(crate) fn signs(state: &State) -> Vec<&'static Sign> {
    let matches = |sign: &&Sign| state.help.has(sign.shown) || state.help.has(sign.means);
    legend::of(state.place()).filter(matches).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::scenes, *};
    use crate::state::tests::press;

    /// Goal: typing leaves only the lines with that word, among keys and signs, and Esc closes.
    #[test]
    fn the_list_of_keys_is_searched_by_typing() {
        let mut state = State::of_recording(scenes::put().recording);
        press(&mut state, "enter ?");
        let all = (keys(&state).len(), signs(&state).len());
        press(&mut state, "L A N E");
        let found: Vec<&str> = keys(&state).iter().map(|row| row.shown).collect();
        assert_eq!(found, ["1-9 0"]);
        assert!(signs(&state).iter().any(|sign| sign.shown == "►2   2►"));
        press(&mut state, "q");
        assert!(keys(&state).is_empty(), "q is a letter here");
        press(&mut state, "esc");
        assert!(!state.is_helping);
        press(&mut state, "?");
        assert_eq!((keys(&state).len(), signs(&state).len()), all, "each opening begins anew");
    }
}
