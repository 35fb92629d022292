//! Screens one after the other, as one picture that moves: for the README.
//!
//! A code host shows an SVG file as an image: no script runs in it, and nothing is loaded. Styles
//! do run, so every piece of a screen is drawn once, and a style says during which screens it is
//! visible. A piece that several screens have in common is in the file once.
//!
//! ```text
//!  screens   0     1     2     3
//!  piece a   ████████████            in the group of all pieces of the screens 0 and 1
//!  piece b   ██████            █████
//! ```
//!
//! Readers who have asked their system for less motion see one screen that stands still, and so
//! does a program that cannot animate.

use std::{collections::BTreeMap, fmt::Write as _};

use ratatui::buffer::Buffer;

use super::{HEIGHT, MARGIN, STYLE, escaped, head, pieces};

/// Style of the line below the screen.
const KEYS_STYLE: &str = ".c{font-weight:700;font-size:15px}\
@media(prefers-reduced-motion:reduce){g{animation:none!important}}";
/// Lines below the screen, with the keys that were pressed.
const BELOW: usize = 2;

/// One of the screens.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// What the screen shows.
    pub(crate) screen: Buffer,
    /// The line below it.
    pub(crate) below: String,
    /// How long it stays.
    pub(crate) ms: u32,
}

/// The picture of these screens, all of one size. `still` is the screen for those who see no
/// motion.
pub(crate) fn moving(frames: &[Frame], still: usize) -> String {
    let groups = groups(frames);
    let mut style = format!("{STYLE}{KEYS_STYLE}");
    let mut body = String::new();
    for (number, (shown, pieces)) in groups.iter().enumerate() {
        let class =
            if shown.len() == frames.len() { "all".to_owned() } else { format!("f{number}") };
        if shown.len() < frames.len() {
            write_visibility(&mut style, &class, (shown, still), frames);
        }
        let _ = writeln!(body, "<g class=\"{class}\">\n{}\n</g>", pieces.join("\n"));
    }
    let size = frames.first().map_or((0, 0), |frame| {
        let area = frame.screen.area;
        (usize::from(area.width), usize::from(area.height) + BELOW)
    });
    format!("{}{body}</svg>\n", head(size, &style))
}

/// The pieces of all screens, by the screens that have them.
fn groups(frames: &[Frame]) -> Vec<(Vec<usize>, Vec<String>)> {
    let mut shown: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut in_order: Vec<String> = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        for piece in pieces(&frame.screen).into_iter().chain([below(frame)]) {
            let of = shown.entry(piece.clone()).or_insert_with(|| {
                in_order.push(piece);
                Vec::new()
            });
            of.push(at);
        }
    }
    let mut groups: Vec<(Vec<usize>, Vec<String>)> = Vec::new();
    for piece in in_order {
        let of = shown.remove(&piece).unwrap_or_default();
        match groups.iter_mut().find(|(shown, _)| *shown == of) {
            Some((_, pieces)) => pieces.push(piece),
            None => groups.push((of, vec![piece])),
        }
    }
    groups
}

/// The line below a screen.
fn below(frame: &Frame) -> String {
    let y = MARGIN + (usize::from(frame.screen.area.height) + 1) * HEIGHT + HEIGHT / 2;
    format!("<text class=\"c\" x=\"{}\" y=\"{y}\">{}</text>", 2 * MARGIN, escaped(&frame.below))
}

/// Writes when the pieces of a group are visible: a change holds until the next one.
fn write_visibility(
    style: &mut String,
    class: &str,
    (shown, still): (&[usize], usize),
    frames: &[Frame],
) {
    let total: u32 = frames.iter().map(|frame| frame.ms).sum();
    let word = |at: usize| if shown.contains(&at) { "visible" } else { "hidden" };
    let _ = write!(style, "\n@keyframes {class}{{");
    let mut from = 0;
    for (at, frame) in frames.iter().enumerate() {
        if at == 0 || word(at) != word(at - 1) {
            let percent = f64::from(from) * 100.0 / f64::from(total);
            let _ = write!(style, "{percent:.3}%{{visibility:{}}}", word(at));
        }
        from += frame.ms;
    }
    let last = word(frames.len() - 1);
    let _ = write!(style, "to{{visibility:{last}}}}}.{class}{{visibility:{}", word(still));
    let _ = write!(style, ";animation:{class} {total}ms step-end infinite}}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{layout::Rect, style::Style};

    fn frame(lines: [&str; 2], ms: u32) -> Frame {
        let mut screen = Buffer::empty(Rect::new(0, 0, 10, 2));
        for (line, y) in lines.iter().zip(0..) {
            screen.set_string(0, y, line, Style::new());
        }
        Frame { screen, below: format!("{ms}"), ms }
    }

    /// Goal: what screens share is written once, each is visible for its time, and nothing is
    /// loaded or run.
    #[test]
    fn what_screens_share_is_in_the_file_once() {
        let frames = [frame(["head", "one"], 100), frame(["head", "two"], 300)];
        let picture = moving(&frames, 1);
        assert_eq!(picture.matches(">head</text>").count(), 1, "{picture}");
        assert!(picture.contains("<g class=\"all\">\n<text x=\"10\""), "{picture}");
        let one = "@keyframes f1{0.000%{visibility:visible}25.000%{visibility:hidden}\
                   to{visibility:hidden}}.f1{visibility:hidden;animation:f1 400ms step-end infinite}";
        assert!(picture.contains(one), "{picture}");
        assert!(picture.contains(".f2{visibility:visible;animation"), "the still one: {picture}");
        for word in ["<script", "<image", "url(", "href", "@import"] {
            assert!(!picture.contains(word), "{word}: {picture}");
        }
    }
}
