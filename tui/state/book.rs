//! What the book says of a step: the section of its chapter that speaks of it most.
//!
//! The chapters are part of the program. A stage names its chapter by the number in the table of
//! contents; where that chapter does not speak of the step, the page says so and gives what the
//! table of all stages says.

use glass_etcd::trace::Stage;

use super::{
    markdown,
    page::{Line, Page, Role},
};

const SUMMARY: &str = include_str!("../../book/src/SUMMARY.md");

/// The chapters that stages name, and the table of all stages.
const PAGES: &[(&str, &str)] = &[
    ("five-minutes.md", include_str!("../../book/src/five-minutes.md")),
    ("trace.md", include_str!("../../book/src/trace.md")),
    ("viewers.md", include_str!("../../book/src/viewers.md")),
    (TABLE, include_str!("../../book/src/stages.md")),
];

/// The table of all stages.
const TABLE: &str = "stages.md";

/// Texts that the chapters include.
const INCLUDED: &[(&str, &str)] = &[
    ("figures/put.txt", include_str!("../../book/src/figures/put.txt")),
    ("figures/get.txt", include_str!("../../book/src/figures/get.txt")),
    ("figures/put-on-two.txt", include_str!("../../book/src/figures/put-on-two.txt")),
];

/// Where mdBook serves the book by default, and the command that does so.
const SERVED: &str = "http://localhost:3000";
const SERVE: &str = "mdbook serve book";

/// The page about a step, in lines of this width.
pub(crate) fn page(stage: Stage, width: usize) -> Page {
    let number = stage.book_section();
    let chapter = chapter(number);
    let section = chapter.and_then(|(file, text)| Some((file, section(text, stage)?)));
    let Some((file, (at, heading))) = section else {
        return of_table(stage, width);
    };
    let text = text_of(file).unwrap_or_default();
    let before = markdown::lines(&filled(&first_lines(text, at)), width).len();
    let mut lines = markdown::lines(&filled(text), width);
    let is_heading = |line: &&mut Line| line.role == Role::Heading;
    lines.iter_mut().skip(before).take(1).filter(is_heading).for_each(|line| {
        line.role = Role::Marked;
    });
    Page {
        title: format!("BOOK {number}: {heading}"),
        address: address(file, heading),
        lines,
        at: before,
    }
}

/// What the table of all stages says, because no chapter speaks of the step.
fn of_table(stage: Stage, width: usize) -> Page {
    let row = format!("| `{}` |", stage.name());
    let table = text_of(TABLE).unwrap_or_default();
    let row = table.lines().find(|line| line.starts_with(&row)).unwrap_or_default();
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
    let said = cells.join("\n\n").replace("<br>", "\n\n");
    let mut lines = vec![Line::new(
        Role::Remark,
        "No chapter speaks of this step yet. The table of all steps:",
    )];
    lines.push(Line::new(Role::Plain, ""));
    lines.extend(markdown::lines(&said, width));
    Page { title: format!("BOOK A: {}", stage.name()), address: address(TABLE, ""), lines, at: 0 }
}

fn address(file: &str, heading: &str) -> String {
    let html = file.replace(".md", ".html");
    let anchor = match markdown::anchor(heading) {
        none if none.is_empty() => none,
        anchor => format!("#{anchor}"),
    };
    format!("{SERVED}/{html}{anchor}   by {SERVE}")
}

/// The file and the text of the chapter with this number.
fn chapter(number: &str) -> Option<(&'static str, &'static str)> {
    let begin = format!("[{number} ");
    let line = SUMMARY.lines().find(|line| line.contains(&begin))?;
    let (_, link) = line.split_once("](")?;
    let file = link.trim_end().trim_end_matches(')');
    PAGES.iter().find(|(name, _)| *name == file).copied()
}

fn text_of(file: &str) -> Option<&'static str> {
    PAGES.iter().chain(INCLUDED).find(|(name, _)| *name == file).map(|(_, text)| *text)
}

/// The section that speaks of the step most often, outside of tables: its line and its heading.
fn section(text: &'static str, stage: Stage) -> Option<(usize, &'static str)> {
    let name = format!("`{}`", stage.name());
    let mut sections: Vec<(usize, &str, usize)> = Vec::new();
    let mut is_code = false;
    for (at, line) in text.lines().enumerate() {
        is_code ^= line.starts_with("```");
        match markdown::heading(line).filter(|_| !is_code) {
            Some(heading) => sections.push((at, heading, 0)),
            None if line.starts_with('|') => {}
            None => {
                let spoken = line.matches(&name).count();
                sections.last_mut().into_iter().for_each(|(.., count)| *count += spoken);
            }
        }
    }
    let most = sections.iter().map(|(.., count)| *count).max().filter(|most| *most != 0)?;
    let first = sections.into_iter().find(|(.., count)| *count == most);
    first.map(|(at, heading, _)| (at, heading))
}

fn first_lines(text: &str, count: usize) -> String {
    text.lines().take(count).map(|line| format!("{line}\n")).collect()
}

/// The text with the parts of figures that it includes.
fn filled(text: &str) -> String {
    let fill = |line: &str| match included(line) {
        Some(part) => part,
        None if line.contains("{{#") => String::new(),
        None => format!("{line}\n"),
    };
    text.lines().map(fill).collect()
}

/// The part of a file that this line includes.
fn included(line: &str) -> Option<String> {
    let names = line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")?;
    let (file, anchor) = names.split_once(':')?;
    let text = text_of(file)?;
    let (_, part) = text.split_once(&format!("ANCHOR: {anchor}\n"))?;
    let (part, _) = part.split_once("ANCHOR_END")?;
    Some(part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_the_section_that_speaks_of_it() {
        let page = page(Stage::WalFsync, 76);
        assert_eq!("BOOK 0.1: The disks", page.title);
        assert!(page.address.contains("/five-minutes.html#the-disks "), "{}", page.address);
        assert_eq!(
            (Role::Marked, "The disks"),
            (page.lines[page.at].role, &*page.lines[page.at].text)
        );
        let shown: Vec<&str> = page.lines.iter().skip(page.at).map(|line| &*line.text).collect();
        let shown = shown[..14].join("\n");
        assert!(shown.contains("    8  +") && shown.contains("wal.fsync"), "the figure: {shown}");
    }

    #[test]
    fn a_step_without_a_section_has_its_row_of_the_table() {
        let page = page(Stage::RaftPark, 60);
        assert!(page.lines[0].text.starts_with("No chapter"), "{page:?}");
        let shown: Vec<&str> = page.lines.iter().map(|line| &*line.text).collect();
        assert!(shown.join(" ").contains("keeps the proposal until there is one"), "{shown:?}");
    }

    /// Goal: no step names a chapter that the program does not have, and no page is wider than
    /// asked for, but for code.
    #[test]
    fn every_stage_has_a_page() {
        for stage in Stage::ALL {
            assert!(chapter(stage.book_section()).is_some(), "{}", stage.name());
            let page = page(*stage, 60);
            let wide = |line: &&Line| line.role != Role::Code && 60 < line.text.chars().count();
            let is_word = |line: &&Line| !line.text.trim().contains(' ');
            let wide: Vec<&Line> = page.lines.iter().filter(wide).filter(|l| !is_word(l)).collect();
            assert!(wide.is_empty(), "{}: {wide:?}", stage.name());
            assert!(page.lines.iter().all(|line| !line.text.contains("{{#")));
            assert!(1 < page.lines.len(), "{}", stage.name());
        }
    }
}
