//! A measure: its name, its number in words, and its bars.

use ratatui::layout::Rect;

use super::super::pen::{Pen, Tone};
use crate::state::{figures::Measure, words};

/// The name of its row.
pub(super) fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::Requests => "requests/s",
        Measure::Fsync => "fsync p99",
        Measure::Behind => "to apply",
        Measure::Memory => "memory",
    }
}

/// Its number in words.
pub(super) fn number(measure: Measure, number: u64) -> String {
    match measure {
        Measure::Requests | Measure::Behind => words::count(number),
        Measure::Fsync if number == 0 => "none".to_owned(),
        Measure::Fsync => words::duration(number),
        Measure::Memory => format!("{}.{} MiB", number >> 20, (number >> 10) % 1_024 * 10 / 1_024),
    }
}

/// Bars from the bottom of the region, the newest at its right edge.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, bars: &[Option<u64>], most: u64) {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let steps = 8 * u64::from(area.height.max(1));
    // 0 is the lowest step, and everything else is higher.
    let level = |value: u64| match value {
        0 => 1,
        value => {
            let part = u128::from(value) * u128::from(steps - 1) / u128::from(most.max(1));
            u64::try_from(part).unwrap_or(0).clamp(1, steps - 1) + 1
        }
    };
    for line in 0..area.height {
        let under = 8 * u64::from(area.height - 1 - line);
        let text: String = bars
            .iter()
            .map(|bar| {
                let level = bar.map_or(0, level).saturating_sub(under).min(8);
                LEVELS[usize::try_from(level).unwrap_or(0)]
            })
            .collect();
        pen.text(area, line, &text, Tone::Plain);
    }
}
