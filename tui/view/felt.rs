//! The line about felt time, below the panels: what comes next, and how much of the way is gone.

use ratatui::layout::Rect;

use super::pen::{Pen, Tone};
use crate::state::{
    State,
    steps::{Steps, felt},
};

/// The widest bar, and the narrowest.
const BAR: u16 = 30;
const BAR_LEAST: u16 = 8;

/// Whether the line is shown.
pub(crate) fn is_shown(steps: &Steps) -> bool {
    steps.gap().is_some()
}

/// The columns that a text takes.
fn length(pen: &Pen<'_>, text: &str) -> u16 {
    u16::try_from(crate::state::text::width(&pen.words(text))).unwrap_or(u16::MAX / 2)
}

/// Draws the line: `FELT 1 ms = 1 s  ████▁▁▁▁  to wal.fsync on etcd-02: 815 µs → 815 ms`.
pub(crate) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, steps: &Steps) {
    let Some(gap) = steps.gap() else { return };
    let [next, sofar] = steps.felt_words(&gap, &state.lanes);
    let title = " FELT 1 ms = 1 s ";
    let used = pen.text(area, 0, title, Tone::Strong);
    let room = area.width.saturating_sub(used);
    let mut words = format!(" {next}");
    for more in [sofar, "→ skips".to_owned()] {
        let longer = format!("{words}   {more}");
        if length(pen, &longer) + BAR_LEAST <= room {
            words = longer;
        }
    }
    let width = room.saturating_sub(length(pen, &words)).clamp(BAR_LEAST, BAR);
    let filled = felt::filled(&gap, width);
    let bar = "█".repeat(filled.into()) + &"▁".repeat((width - filled).into());
    let rest = Rect { x: area.x + used, width: area.width.saturating_sub(used), ..area };
    let used = pen.text(rest, 0, &bar, Tone::Good);
    let rest = Rect { x: rest.x + used, width: rest.width.saturating_sub(used), ..rest };
    pen.text(rest, 0, &words, Tone::Plain);
}
