//! The keys of an action, for what shows them outside of the player.

use super::{Effect, all};
use crate::state::Action;

/// The keys of this action as the player shows them, and what it says that they do; `None` if no
/// key has it.
pub(crate) fn words_of(action: Action) -> Option<(&'static str, &'static str)> {
    let is_it = |effect| matches!(effect, Effect::Do(of) if of == action);
    all().find(|row| is_it(row.effect)).map(|row| (row.shown, row.does))
}
