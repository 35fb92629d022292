//! What the signs on the screens mean, for the list of keys and for the book.
//!
//! Words explain themselves, or the why panel explains them; here is what a reader cannot guess.

use super::Screen;

/// A sign and its meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sign {
    /// How it looks.
    pub(crate) shown: &'static str,
    /// What it means.
    pub(crate) means: &'static str,
    /// The screens on which it occurs.
    pub(crate) places: &'static [Screen],
}

const CLUSTER: &[Screen] = &[Screen::Cluster, Screen::Moment];
const LIST: &[Screen] = &[Screen::List];
const STORY: &[Screen] = &[Screen::Steps, Screen::Why];
const STEPS: &[Screen] = &[Screen::Steps];
const ROWS: &[Screen] = &[Screen::Cluster, Screen::Moment, Screen::List, Screen::Steps];

const fn sign(shown: &'static str, means: &'static str, places: &'static [Screen]) -> Sign {
    Sign { shown, means, places }
}

/// Every sign.
pub(crate) const SIGNS: &[Sign] = &[
    sign("t2 c8 a8 r1", "the member's term, commit index, applied index, and revision", STORY),
    sign("t?", "a number that no record says", STORY),
    sign("inferred", "no record: the client must have asked, and been answered", STORY),
    sign("ask ──►", "the client's request arrives at this member", STORY),
    sign("◄── ok", "the answer goes to the client; err is an error", STORY),
    sign("──►  ◄──", "a message, in the row of its sender, towards its receiver", STORY),
    sign("►2   2►", "sent to the member of lane 2; received from it", STORY),
    sign("90 µs~", "in transit: an estimate, by the clocks of two members", STEPS),
    sign("███▌ took", "a bar is linear; a full one is as long as the request", STEPS),
    sign("arrival?", "sent, and no record says whether it arrived", STORY),
    sign("◆ NOW", "what is above has happened, what is below has not", STORY),
    sign("· step", "work for others, or for many at once", STORY),
    sign("? step", "it must have happened, and no record says when", STORY),
    sign("41 → 42", "the number before and after this step", STORY),
    sign("~x1", "playing in proportion: a millisecond lasts 0.1 s", STORY),
    sign("{2,0}", "a revision: 2 is the write, 0 its first change of a key", STORY),
    sign("✔ ✘ ?", "yes, no, unknown", STORY),
    sign("▁▄█", "a bar for each second, the newest on the right", CLUSTER),
    sign("lin  ser", "a linearizable or a serializable read", LIST),
    sign("A  B", "marked: the first and the second of a comparison", LIST),
    sign("…", "under way; after a word, the rest did not fit", LIST),
    sign("»", "the row, or the member, that the next key is about", ROWS),
];

/// The signs of a screen.
pub(crate) fn of(place: Screen) -> impl Iterator<Item = &'static Sign> {
    SIGNS.iter().filter(move |sign| sign.places.contains(&place))
}

/// The signs as a table of the book.
#[cfg(test)]
pub(crate) fn table() -> String {
    let mut table = "## Signs\n\n| sign | means |\n|---|---|\n".to_owned();
    for sign in SIGNS {
        table.push_str(&format!("| `{}` | {} |\n", sign.shown, sign.means));
    }
    table
}
