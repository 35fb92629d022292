//! The columns of the lanes' part of the step view.
//!
//! ```text
//!  below 112      client │ lane │ lane │ lane
//!  from 112  time client │ lane │ lane │ lane │ bar  took
//!  with room time client │ lane │ lane │ lane │ kind  bar  took
//! ```

use ratatui::layout::Rect;

/// Narrowest readable lane, in columns.
const LANE_MIN: u16 = 21;
/// A lane of this width leaves room for the word of the kind.
const LANE_GOOD: u16 = 24;
/// Width of the client's column.
pub(super) const CLIENT: u16 = 10;
/// Width of the column of times, with the mark of the look cursor.
const TIME: u16 = 11;
/// Width of the bar.
pub(super) const BAR: u16 = 8;
/// Width of a duration, with the blank before it.
const TOOK: u16 = 8;
/// Width of the word of a kind, with the blank after it.
pub(super) const KIND: u16 = 8;
/// From this width on there are times and bars.
pub(super) const TIMED: u16 = 104;

/// Layout of the columns.
pub(super) struct Columns {
    /// Width of a lane, without its border.
    lane: u16,
    /// The first lane that is shown.
    pub(super) first: usize,
    /// How many are shown.
    pub(super) shown: usize,
    /// Width of the column of times; 0 if there is none.
    pub(super) time: u16,
    /// Width of the column of durations, without its border; 0 if there is none.
    pub(super) took: u16,
}

impl Columns {
    /// As many lanes as fit; if not all fit, those around the wanted one.
    pub(super) fn of(width: u16, lanes: usize, wanted: usize) -> Columns {
        let (time, least) = if width < TIMED { (0, 0) } else { (TIME, BAR + TOOK) };
        let border = u16::from(0 < least);
        let room = width.saturating_sub(CLIENT + 1 + time + least + border);
        let fit = usize::from(room / (LANE_MIN + 1)).max(1);
        let shown = lanes.min(fit).max(1);
        let count = u16::try_from(shown).unwrap_or(1);
        let has_kind = 0 < least && (LANE_GOOD + 1) * count + KIND <= room;
        let kind = if has_kind { KIND } else { 0 };
        let first = wanted.saturating_sub(shown / 2).min(lanes.saturating_sub(shown));
        let lane = ((room - kind) / count).saturating_sub(1);
        Columns { lane, first, shown, time, took: least + kind }
    }

    /// The least width at which all lanes fit, with times and bars.
    pub(super) fn least(lanes: usize) -> u16 {
        let lanes = u16::try_from(lanes.clamp(1, 100)).unwrap_or(1);
        (TIME + CLIENT + 1 + lanes * (LANE_MIN + 1) + 1 + BAR + TOOK).max(TIMED)
    }

    /// Whether the kind of a step has a column.
    pub(super) fn has_kind(&self) -> bool {
        BAR + TOOK < self.took
    }

    /// Region of the times.
    pub(super) fn time(&self, area: Rect) -> Option<Rect> {
        (0 < self.time).then(|| Rect { width: self.time.min(area.width), ..area })
    }

    /// Region of the client.
    pub(super) fn client(&self, area: Rect) -> Rect {
        let x = (area.x + self.time).min(area.right());
        Rect { x, width: CLIENT.min(area.right() - x), ..area }
    }

    /// Region of the durations, with their border.
    pub(super) fn took(&self, area: Rect) -> Option<Rect> {
        let width = (self.took + 1).min(area.width);
        (0 < self.took).then(|| Rect { x: area.right() - width, width, ..area })
    }

    /// Region of a lane, without its border; `None` if it is not shown.
    pub(super) fn lane(&self, area: Rect, lane: usize) -> Option<Rect> {
        let at = lane.checked_sub(self.first).filter(|at| *at < self.shown)?;
        let at = u16::try_from(at).ok()?;
        let x = area.x + self.time + CLIENT + 1 + at * (self.lane + 1) + 1;
        Some(Rect {
            x: x.min(area.right()),
            width: self.lane.min(area.right().saturating_sub(x)),
            ..area
        })
    }

    /// Region from the first lane that is shown to the right end of the last.
    pub(super) fn lanes(&self, area: Rect) -> Rect {
        let Some(first) = self.lane(area, self.first) else { return area };
        let last = self.lane(area, self.first + self.shown - 1).unwrap_or(first);
        Rect { width: last.right() - first.x, ..first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: columns never overlap, at any width, with any number of lanes.
    #[test]
    fn columns_lie_side_by_side_at_every_width() {
        for width in 40..=300 {
            for lanes in 1..=9 {
                let columns = Columns::of(width, lanes, lanes / 2);
                let area = Rect { x: 3, y: 0, width, height: 1 };
                let mut end = columns.client(area).right();
                for lane in columns.first..columns.first + columns.shown {
                    let cell = columns.lane(area, lane).unwrap();
                    assert!(end < cell.x && cell.right() <= area.right(), "{width} {lanes}");
                    end = cell.right();
                }
                let took = columns.took(area).map_or(area.right(), |took| took.x);
                assert!(end <= took, "{width}, {lanes} lanes: {end} {took}");
                let is_whole = columns.shown == lanes && 0 < columns.time;
                assert_eq!(Columns::least(lanes) <= width, is_whole, "{width}, {lanes} lanes");
            }
        }
    }
}
