//! What the book says of a step: the section of the book that explains it.
//!
//! The book is part of the program ([`files`]). A stage names its page, and the section of it where
//! several stages share a page with different sections; otherwise it is the section that speaks of
//! the step most. Where the page does not speak of the step, or is not written yet, the reader gets
//! the first chapter that does, and otherwise what the table of all stages says.
//!
//! Pages that are not written yet stand in `SUMMARY.md` as comments, so they have a number already.

use glass_etcd::trace::Stage;

use super::{
    markdown,
    page::{Line, Page, Role},
};
use crate::book::{LISTEN, files};

/// The table of all stages.
const TABLE: &str = "stages.md";

/// The command that serves the book where [`address`] says.
const SERVE: &str = "glass book";

/// A section: the line of its heading, and the heading.
type Section = (usize, &'static str);

/// The number of the page that explains the stage, as the table of contents has it.
pub(crate) fn number(stage: Stage) -> &'static str {
    number_of(file_of(stage)).unwrap_or_default()
}

/// The page about a step, in lines of this width.
pub(crate) fn page(stage: Stage, width: usize) -> Page {
    let Some((file, (at, heading))) = found(stage) else { return of_table(stage, width) };
    let text = files::page(file).unwrap_or_default();
    let number = number_of(file).unwrap_or_default();
    page_of((file, number, text), (at, heading), width)
}

/// A page of the book, with its file, number and text, at the section of this line and heading.
pub(crate) fn page_of(
    (file, number, text): (&str, &str, &str),
    (at, heading): (usize, &str),
    width: usize,
) -> Page {
    let before = markdown::lines(&filled(&first_lines(text, at)), width).len();
    let mut lines = markdown::lines(&filled(text), width);
    let is_heading = |line: &&mut Line| line.role == Role::Heading;
    lines.iter_mut().skip(before).take(1).filter(is_heading).for_each(|line| {
        line.role = Role::Marked;
    });
    let own = heading.strip_prefix(number).unwrap_or(heading).trim();
    Page {
        title: format!("BOOK {number}: {own}"),
        address: address(file, heading),
        lines,
        at: before,
    }
}

/// The page that explains the stage, and its section: the one that the stage names, or the first
/// chapter that speaks of it.
fn found(stage: Stage) -> Option<(&'static str, Section)> {
    let (file, anchor) = named(stage);
    let of = |file, anchor| Some((file, section(files::page(file)?, stage, anchor)?));
    let own = if is_written(file) { of(file, anchor) } else { None };
    own.or_else(|| chapters().find_map(|file| of(file, None)))
}

/// The pages with numbers that are written, in the order of the table of contents.
fn chapters() -> impl Iterator<Item = &'static str> {
    let lines = files::page("SUMMARY.md").unwrap_or_default().lines();
    let links = lines.filter_map(|line| line.strip_prefix("- [")?.strip_suffix(')'));
    links.filter_map(|link| Some(link.rsplit_once("](")?.1))
}

/// What the table of all stages says, because no page speaks of the step.
fn of_table(stage: Stage, width: usize) -> Page {
    let row = format!("| `{}` |", stage.name());
    let table = files::page(TABLE).unwrap_or_default();
    let row = table.lines().find(|line| line.starts_with(&row)).unwrap_or_default();
    let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
    let said = cells.join("\n\n").replace("<br>", "\n\n");
    let why = match is_written(file_of(stage)) {
        true => format!("Page {} does not name this step. ", number(stage)),
        false => format!("Page {} is not written yet. ", number(stage)),
    };
    let mut lines = vec![Line::new(Role::Remark, format!("{why}The table of all steps:"))];
    lines.push(Line::new(Role::Plain, ""));
    lines.extend(markdown::lines(&said, width));
    Page { title: format!("BOOK A: {}", stage.name()), address: address(TABLE, ""), lines, at: 0 }
}

/// Where the section is when the book is served.
fn address(file: &str, heading: &str) -> String {
    let html = file.replace(".md", ".html");
    let anchor = match markdown::anchor(heading) {
        none if none.is_empty() => none,
        anchor => format!("#{anchor}"),
    };
    format!("http://{LISTEN}/{html}{anchor}   by {SERVE}")
}

/// The file of the page that a stage names, and the section in it.
fn named(stage: Stage) -> (&'static str, Option<&'static str>) {
    match stage.book_section().split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (stage.book_section(), None),
    }
}

fn file_of(stage: Stage) -> &'static str {
    named(stage).0
}

/// The line of the table of contents with this page.
fn line_of(file: &str) -> Option<&'static str> {
    let link = format!("]({file})");
    files::page("SUMMARY.md")?.lines().find(|line| line.contains(&link))
}

fn is_written(file: &str) -> bool {
    line_of(file).is_some_and(|line| !line.starts_with("<!--"))
}

/// The number before the title of a page.
fn number_of(file: &str) -> Option<&'static str> {
    let (_, title) = line_of(file)?.split_once('[')?;
    title.split_whitespace().next()
}

/// Sections that say nothing of their own about a step.
const ASIDE: [&str; 3] = ["Questions", "Go map", "Further"];

/// The section with this anchor, or the one that speaks of the stage most: in words, or if none
/// does, in what it shows of a trace.
fn section(text: &'static str, stage: Stage, anchor: Option<&str>) -> Option<Section> {
    let name = format!("`{}`", stage.name());
    let mut sections: Vec<(Section, (usize, usize))> = Vec::new();
    let mut is_code = false;
    for (at, line) in text.lines().enumerate() {
        is_code ^= line.starts_with("```");
        if let Some(heading) = markdown::heading(line).filter(|_| !is_code) {
            sections.push(((at, heading), (0, 0)));
        } else if let Some((_, (spoken, shown))) = sections.last_mut() {
            *spoken += line.matches(&name).count();
            let line = included(line).unwrap_or_else(|| line.to_owned());
            *shown += line.split_whitespace().filter(|word| *word == stage.name()).count();
        }
    }
    sections.retain(|((_, heading), _)| !ASIDE.contains(heading));
    if let Some(anchor) = anchor {
        let found = sections.iter().find(|((_, heading), _)| markdown::anchor(heading) == anchor);
        return found.map(|(section, _)| *section);
    }
    let most = sections.iter().map(|(_, count)| *count).max().filter(|most| *most != (0, 0))?;
    sections.into_iter().find(|(_, count)| *count == most).map(|(section, _)| section)
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

/// The part of a file that this line includes. A file that is included as a whole is left out: it
/// is a figure for a browser.
fn included(line: &str) -> Option<String> {
    let names = line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")?;
    let (file, anchor) = names.split_once(':')?;
    let text = files::text(&files::beside_pages(file))?;
    let is = |line: &&str, mark: &str| {
        line.split_once(mark)
            .is_some_and(|(_, name)| name.split_whitespace().next() == Some(anchor))
    };
    let inside = text.lines().skip_while(|line| !is(line, "ANCHOR:")).skip(1);
    let inside = inside.take_while(|line| !is(line, "ANCHOR_END:"));
    let inside = inside.filter(|line| !line.contains("ANCHOR"));
    Some(inside.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not every page names each of its stages, and some are not written: then the table does.
    fn is_of_table(page: &Page) -> bool {
        page.title.starts_with("BOOK A:")
    }

    #[test]
    fn a_step_has_the_section_that_speaks_of_it() {
        let page = page(Stage::WatchQueue, 76);
        assert!(page.title.starts_with("BOOK 4.2: "), "{}", page.title);
        let marked = &page.lines[page.at];
        assert_eq!(
            (Role::Marked, page.title.trim_start_matches("BOOK 4.2: ")),
            (marked.role, &*marked.text)
        );
        let anchor = markdown::anchor(&marked.text);
        assert!(page.address.contains(&format!("/watch.html#{anchor} ")), "{}", page.address);
        let section = page.lines.iter().skip(page.at + 1);
        let section: Vec<&str> =
            section.take_while(|line| line.role != Role::Heading).map(|line| &*line.text).collect();
        assert!(section.join(" ").contains("watch.queue"), "{section:?}");
    }

    #[test]
    fn a_step_has_the_section_that_its_stage_names() {
        let page = page(Stage::SocketQueue, 76);
        assert_eq!("BOOK E: At the socket", page.title);
        assert!(page.address.contains("/trace.html#at-the-socket "), "{}", page.address);
    }

    #[test]
    fn what_a_page_includes_is_in_it() {
        let text =
            filled("a\n{{#include figures/put.txt:disks}}\n{{#include figures/put.html}}\nb\n");
        assert!(text.starts_with("a\n    8  +") && text.contains("wal.fsync"), "{text}");
        assert!(text.ends_with("\nb\n") && !text.contains("ANCHOR"), "{text}");
        let readme = filled("{{#include ../../README.md:not-here-yet}}");
        assert!(10 < readme.len() && !readme.contains("{{#"), "{readme}");
    }

    #[test]
    fn a_step_that_no_page_names_has_its_row_of_the_table() {
        let page = of_table(Stage::RaftPark, 60);
        let begin = format!("Page {} ", number(Stage::RaftPark));
        assert!(page.lines[0].text.starts_with(&begin), "{page:?}");
        let shown: Vec<&str> = page.lines.iter().map(|line| &*line.text).collect();
        assert!(shown.join(" ").contains("keeps the proposal until it can be taken"), "{shown:?}");
    }

    /// Goal: what a step needs to be understood is where it says.
    #[test]
    fn the_page_that_a_stage_names_speaks_of_it() {
        let is_written = |stage: &&Stage| is_written(file_of(**stage));
        let speaks = |stage: &Stage| {
            let (file, anchor) = named(*stage);
            found(*stage).is_some_and(|(found, _)| found == file)
                && files::page(file).is_some_and(|text| section(text, *stage, anchor).is_some())
        };
        let silent = Stage::ALL.iter().filter(is_written).filter(|stage| !speaks(stage));
        let silent: Vec<(&str, &str)> =
            silent.map(|one| (one.name(), one.book_section())).collect();
        assert!(silent.is_empty(), "pages that do not name their stages: {silent:?}");
    }

    /// Goal: no step names a page or a section that the book does not have, and no page is wider
    /// than asked for, but for code.
    #[test]
    fn every_stage_has_a_page() {
        for stage in Stage::ALL {
            let (file, anchor) = named(*stage);
            assert!(!number(*stage).is_empty(), "{}: {file}", stage.name());
            let page = page(*stage, 60);
            let is_missing = anchor.is_some() && is_written(file) && is_of_table(&page);
            assert!(!is_missing, "{}: no section {anchor:?} in {file}", stage.name());
            let wide = |line: &&Line| line.role != Role::Code && 60 < line.text.chars().count();
            let is_word = |line: &&Line| !line.text.trim().contains(' ');
            let wide: Vec<&Line> = page.lines.iter().filter(wide).filter(|l| !is_word(l)).collect();
            assert!(wide.is_empty(), "{}: {wide:?}", stage.name());
            assert!(page.lines.iter().all(|line| !line.text.contains("{{#")));
            assert!(1 < page.lines.len(), "{}", stage.name());
        }
    }
}
