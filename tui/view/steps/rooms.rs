//! The parts of the step view, by the size of the window.
//!
//! ```text
//!  80 × 24         160 columns                    200 columns
//!  ┌───────────┐   ┌──────┬───────────┬───────┐   ┌──────┬───────────┬─────────┐
//!  │ lanes     │   │ list │ lanes     │ lens  │   │ list │ lanes     │ lens    │
//!  │           │   │      │           │       │   │      │           │ why     │
//!  ├───────────┤   │      │           │ why   │   │      │           │ source  │
//!  │ lens, why │   │      │           │       │   │      │           │ book    │
//!  └───────────┘   └──────┴───────────┴───────┘   └──────┴───────────┴─────────┘
//! ```
//!
//! The lanes come first: all of them, with times and bars, before anything stands beside them. The
//! panels stay where they are from step to step.

use ratatui::layout::Rect;

use super::columns::Columns;

/// Narrowest panels beside the lanes, and widest: longer lines are hard to read.
const SIDE_MIN: u16 = 33;
const SIDE_MAX: u16 = 100;
/// Narrowest list beside the lanes, and widest.
const LIST_MIN: u16 = 22;
const LIST_MAX: u16 = 38;
/// The lanes get this part of what is left beside those, and at most this much for each lane.
const LANES_PART: u16 = 3;
const LANE_MORE: u16 = 16;
/// From these widths on there are panels beside the lanes, and the source and the book.
const BESIDE: u16 = 160;
const READING: u16 = 200;
/// Lines that a long question leaves to the lanes.
const LANES_MIN: u16 = 7;
/// Lines of the shortest excerpt of the source or the book, with its heading.
const EXCERPT_MIN: u16 = 9;

/// Where everything is drawn below the title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rooms {
    /// The requests, left of the lanes.
    pub(super) list: Option<Rect>,
    /// The heads of the lanes, and their rows.
    pub(super) lanes: Rect,
    /// The lens.
    pub(super) lens: Rect,
    /// Why this step.
    pub(super) why: Rect,
    /// The source of the step.
    pub(super) source: Option<Rect>,
    /// What the book says of the step.
    pub(super) book: Option<Rect>,
}

impl Rooms {
    /// The rooms of this area; `lens` is how many lines the lens has to say.
    pub(super) fn of(area: Rect, lanes: usize, lens: u16) -> Rooms {
        let spare = area.width.saturating_sub(Columns::least(lanes));
        if area.width < BESIDE || spare < SIDE_MIN {
            return Rooms::stacked(area, lens);
        }
        let list = match spare.checked_sub(SIDE_MIN + LIST_MIN) {
            None => 0,
            Some(more) => (LIST_MIN + more / 8).min(LIST_MAX),
        };
        let rest = (spare - list).saturating_sub(SIDE_MIN);
        let lanes = u16::try_from(lanes).unwrap_or(1).clamp(1, 100);
        let side = (spare - list - (rest / LANES_PART).min(lanes * LANE_MORE)).min(SIDE_MAX);
        let left = Rect { width: list, ..area };
        let middle = Rect { x: left.right(), width: area.width - list - side, ..area };
        let right = Rect { x: middle.right(), width: side, ..area };
        let rooms = Rooms { list: (0 < list).then_some(left), ..Rooms::beside(middle, right) };
        if READING <= area.width { rooms.with_reading() } else { rooms }
    }

    /// The room of a question, which takes that of all panels. Below the lanes it also takes the
    /// lines that it needs beyond that: the answers must be seen.
    pub(super) fn with_question(self, lines: impl Fn(u16) -> usize) -> (Rooms, Rect) {
        let panels = [Some(self.lens), Some(self.why), self.source, self.book];
        let panels = panels.into_iter().flatten().fold(self.lens, Rect::union);
        if self.is_beside() {
            return (self, panels);
        }
        let wanted = u16::try_from(lines(panels.width)).unwrap_or(u16::MAX).saturating_add(1);
        let most = (self.lanes.height + panels.height).saturating_sub(LANES_MIN);
        let more = wanted.min(most).saturating_sub(panels.height).min(self.lanes.height);
        let lanes = Rect { height: self.lanes.height - more, ..self.lanes };
        let question = Rect { y: lanes.bottom(), height: panels.height + more, ..panels };
        (Rooms { lanes, ..self }, question)
    }

    /// Whether the panels stand beside the lanes.
    pub(super) fn is_beside(&self) -> bool {
        self.lens.x != self.lanes.x
    }

    /// The panels below the lanes. The why panel takes the lines that the lens does not need.
    fn stacked(area: Rect, lens: u16) -> Rooms {
        let (lens_max, why) = match area.height {
            0..28 => (2, 4),
            28..34 => (3, 5),
            _ => (3, 6),
        };
        let bottom = lens_max + why + 2;
        let lens = lens.clamp(1, lens_max.max(lens.min(4)));
        let lanes = Rect { height: area.height.saturating_sub(bottom), ..area };
        let panels = Rect { y: lanes.bottom(), height: bottom.min(area.height), ..area };
        let lens = Rect { height: (lens + 1).min(panels.height), ..panels };
        let why = Rect { y: lens.bottom(), height: panels.height - lens.height, ..panels };
        Rooms { list: None, lanes, lens, why, source: None, book: None }
    }

    /// The panels right of the lanes.
    fn beside(lanes: Rect, side: Rect) -> Rooms {
        let lens = Rect { height: (side.height / 4).clamp(5, 9).min(side.height), ..side };
        let why = Rect { y: lens.bottom(), height: side.height - lens.height, ..side };
        Rooms { list: None, lanes, lens, why, source: None, book: None }
    }

    /// The source and the book below the why panel, as far as there is room for them.
    fn with_reading(self) -> Rooms {
        let why =
            Rect { height: (self.why.height / 3).clamp(8, 14).min(self.why.height), ..self.why };
        let rest = Rect { y: why.bottom(), height: self.why.height - why.height, ..self.why };
        if rest.height < EXCERPT_MIN {
            return self;
        }
        if rest.height < 2 * EXCERPT_MIN + 2 {
            return Rooms { why, source: Some(rest), ..self };
        }
        let source = Rect { height: rest.height.div_ceil(2), ..rest };
        let book = Rect { y: source.bottom(), height: rest.height - source.height, ..rest };
        Rooms { why, source: Some(source), book: Some(book), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(width: u16, height: u16, lanes: usize) -> Rooms {
        Rooms::of(Rect { x: 0, y: 1, width, height }, lanes, 2)
    }

    #[test]
    fn wider_windows_have_more_rooms() {
        let names = |rooms: Rooms| [rooms.list.is_some(), rooms.why.y < 20, rooms.book.is_some()];
        assert_eq!([false, false, false], names(rooms(120, 34, 3)));
        assert_eq!([true, true, false], names(rooms(160, 48, 3)));
        assert_eq!([true, true, true], names(rooms(200, 58, 3)));
        assert_eq!([false, true, true], names(rooms(200, 58, 5)), "five lanes leave no list");
    }

    #[test]
    fn a_long_question_takes_lines_of_the_lanes_but_not_all() {
        for (lines, height) in [(3, 8), (7, 8), (9, 10), (90, 15)] {
            let (rooms, question) = rooms(80, 22, 3).with_question(|_| lines);
            assert_eq!((height, 22), (question.height, rooms.lanes.height + question.height));
            assert_eq!(rooms.lanes.bottom(), question.y);
        }
        let (_, question) = rooms(200, 58, 3).with_question(|_| 90);
        assert_eq!(58, question.height, "all of the column");
    }

    /// Goal: rooms fill the area and never overlap.
    #[test]
    fn rooms_lie_beside_each_other_at_every_size() {
        for width in (40..300).step_by(3) {
            for height in 9..90 {
                for lanes in [1, 3, 5] {
                    let area = Rect { x: 0, y: 1, width, height };
                    let all = Rooms::of(area, lanes, 2);
                    let rooms = [Some(all.lanes), Some(all.lens), Some(all.why)];
                    let others = [all.list, all.source, all.book];
                    let all: Vec<Rect> = rooms.into_iter().chain(others).flatten().collect();
                    let size: u32 = all.iter().map(|room| room.area()).sum();
                    assert_eq!(area.area(), size, "{area}: {all:?}");
                    for (at, room) in all.iter().enumerate() {
                        let apart = |other: &Rect| room.intersection(*other).is_empty();
                        assert!(all[..at].iter().all(apart), "{area}: {all:?}");
                    }
                }
            }
        }
    }
}
