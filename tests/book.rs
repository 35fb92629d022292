//! Builds the book and checks the result, so that no page can contain outdated statements.
//!
//! mdBook is lenient. An include whose anchor does not exist renders as nothing, one whose file
//! does not exist stays in the page as written, and both end with success. So these tests build the
//! book and read its pages as a browser would. They also compare what the text says about the code
//! with the code: names of stages, their counterparts in etcd, paths, the player's screen. The
//! documents at the root are checked in the same way.
//!
//! Each check returns its findings as lines; the tests at the end run it on the repository, and on
//! samples, so that a check without findings is known to work. `outputs` runs the commands of the
//! page on the plain form and compares their output. Left out: links to other sites are not
//! followed, and other outputs are left to the tests of their commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use glass_etcd::{
    export::otlp::LINK,
    trace::{Family, Stage},
};
use mdbook_driver::MDBook;

#[path = "book/outputs.rs"]
mod outputs;

const PAGES: &str = "book/src";
const SUMMARY: &str = "book/src/SUMMARY.md";
const CHAPTER: &str = "book/src/five-minutes.md";
const VOCABULARY: &str = "book/src/stages.md";
/// The screen shown in README.md.
const PLAYER: &str = "tui/view/snapshots/glass__view__tests__put_who_knows.snap";
/// Documents outside the book that refer to the code.
const AT_THE_ROOT: [&str; 3] = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"];
/// Endings of file names. Other names with a dot, in the style of code, are stages.
const FILE_ENDINGS: [&str; 10] =
    ["rs", "md", "toml", "lock", "snap", "txt", "wal", "json", "ndjson", "log"];
/// Folders with which paths to the repository's files begin.
const FOLDERS: [&str; 6] = ["src/", "tui/", "tests/", "examples/", "book/", ".ci/"];

// ---- reading HTML ----

/// A tag as a browser sees it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// Parses `a href=x`, given without the brackets.
    fn parse(text: &str) -> Tag {
        let (name, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let mut attributes = Vec::new();
        while let Some((attribute, after)) = rest.split_once('=') {
            let attribute = attribute.split_whitespace().next_back().unwrap_or("").to_owned();
            let quote = after.chars().next().filter(|c| ['"', '\''].contains(c));
            let (value, after) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
            };
            attributes.push((attribute, value.to_owned()));
            rest = after;
        }
        Tag { name: name.trim_end_matches('/').to_lowercase(), attributes }
    }
}

/// The opening tags of a page, except those in comments and scripts.
fn tags(html: &str) -> Vec<Tag> {
    let (mut rest, mut found) = (html, Vec::new());
    while let Some((_, after)) = rest.split_once('<') {
        rest = match after.strip_prefix("!--") {
            Some(comment) => comment.split_once("-->").map_or("", |(_, after)| after),
            None => after,
        };
        if !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let end = end_of_tag(rest);
        let tag = Tag::parse(&rest[..end]);
        rest = &rest[end..];
        if tag.name == "script" {
            rest = rest.split_once("</script").map_or("", |(_, after)| after);
        }
        found.push(tag);
    }
    found
}

/// Where the tag ends: at the first `>` outside of quotes.
fn end_of_tag(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => (),
        }
    }
    text.len()
}

// ---- the built book ----

/// The built book: every file by its path, with its content if that is text.
struct Site {
    files: BTreeMap<String, String>,
    ids: BTreeMap<String, BTreeSet<String>>,
}

impl Site {
    fn new(files: BTreeMap<String, String>) -> Site {
        let pages = files.iter().filter(|(path, _)| path.ends_with(".html"));
        let ids = pages.map(|(path, html)| (path.clone(), ids(html))).collect();
        Site { files, ids }
    }

    fn pages(&self) -> impl Iterator<Item = (&String, &String)> {
        self.files.iter().filter(|(path, _)| path.ends_with(".html"))
    }
}

fn ids(html: &str) -> BTreeSet<String> {
    let attributes = tags(html).into_iter().flat_map(|tag| tag.attributes);
    attributes.filter(|(name, _)| name == "id").map(|(_, value)| value).collect()
}

/// Builds the book as `mdbook build` does, but into a directory of its own.
fn build() -> Site {
    let out = tempfile::tempdir().unwrap();
    let mut book = MDBook::load("book").expect("book.toml and SUMMARY.md can be read");
    book.config.build.build_dir = out.path().to_owned();
    book.build().expect("the book builds");
    let mut files = BTreeMap::new();
    for path in files_below(out.path()) {
        let name = path.strip_prefix(out.path()).unwrap().display().to_string();
        files.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
    }
    Site::new(files)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Includes and other directives that mdBook has left in the pages.
fn left_unfilled(site: &Site) -> Vec<String> {
    let is_left = |html: &str| html.contains("{{#");
    site.pages()
        .filter(|(_, html)| is_left(html))
        .map(|(page, _)| format!("{page}: {{{{# is left"))
        .collect()
}

/// Links between pages that lead nowhere.
fn broken_links(site: &Site) -> Vec<String> {
    let mut wrong = Vec::new();
    for (page, html) in site.pages() {
        for (tag, link) in links(html) {
            if is_elsewhere(&link) || link.starts_with("data:") || tag == "base" {
                continue;
            }
            if let Some(why) = broken(site, page, &link) {
                wrong.push(format!("{page}: {link}: {why}"));
            }
        }
    }
    wrong
}

/// Everything that a tag links to or loads, with the tag's name.
fn links(html: &str) -> Vec<(String, String)> {
    const LOADS: [&str; 5] = ["href", "src", "srcset", "poster", "data"];
    let mut found = Vec::new();
    for tag in tags(html) {
        let attributes = tag.attributes.into_iter();
        let loads = attributes.filter(|(name, _)| LOADS.contains(&name.as_str()));
        found.extend(loads.map(|(_, link)| (tag.name.clone(), link)));
    }
    found
}

fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("//") || link.starts_with("mailto:")
}

fn broken(site: &Site, page: &str, link: &str) -> Option<&'static str> {
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or("");
    let target = match path.is_empty() {
        true => Some(page.to_owned()),
        false => normal(&Path::new(page).with_file_name("").join(path)),
    };
    let Some(target) = target.filter(|target| site.files.contains_key(target)) else {
        return Some("there is no such page");
    };
    let has_id = |id: &str| site.ids.get(&target).is_none_or(|ids| ids.contains(id));
    (!fragment.is_empty() && !has_id(fragment)).then_some("the page has no such place")
}

/// The path without `.` and `..`; `None` if it leaves the root.
fn normal(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => (),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Resources that a page would load from another site. A link for the reader to follow is none.
fn loads_from_elsewhere(site: &Site) -> Vec<String> {
    let mut wrong = Vec::new();
    for (page, html) in site.pages() {
        let loaded = links(html).into_iter().filter(|(tag, link)| tag != "a" && is_elsewhere(link));
        wrong.extend(loaded.map(|(tag, link)| format!("{page}: <{tag}> loads {link}")));
    }
    for (path, css) in site.files.iter().filter(|(path, _)| path.ends_with(".css")) {
        let without_spaces: String = css.split_whitespace().collect();
        let found = ["url(http", "url(\"http", "url('http", "url(//", "@import"];
        let found = found.iter().filter(|load| without_spaces.contains(**load));
        wrong.extend(found.map(|load| format!("{path}: {load}")));
    }
    wrong
}

// ---- the book's sources ----

/// A text, by its path from the root.
struct Text {
    path: String,
    text: String,
}

impl Text {
    fn read(path: impl AsRef<Path>) -> Text {
        let path = path.as_ref();
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Text { path: path.display().to_string(), text }
    }

    fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

/// The book's pages, and the files included from its folder.
fn sources() -> Vec<Text> {
    let files = files_below(Path::new(PAGES)).into_iter();
    let is_text = |path: &PathBuf| path.extension().is_some_and(|end| end == "md" || end == "txt");
    files.filter(is_text).map(Text::read).collect()
}

/// The book's sources and the documents at the root.
fn documents() -> Vec<Text> {
    sources().into_iter().chain(AT_THE_ROOT.map(Text::read)).collect()
}

/// Includes whose file, lines or anchor do not exist.
fn broken_includes(page: &Text) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, text) in page.text.lines().enumerate() {
        for directive in text.split("{{#").skip(1) {
            let directive = directive.split("}}").next().unwrap_or("");
            let (name, argument) = directive.split_once(' ').unwrap_or((directive, ""));
            let why = match name {
                "include" | "rustdoc_include" => broken_include(&page.path, argument.trim()),
                "title" => None,
                _ => Some("nothing here knows what this does".to_owned()),
            };
            wrong.extend(why.map(|why| page.at(line, format!("{directive}: {why}"))));
        }
    }
    wrong
}

fn broken_include(page: &str, argument: &str) -> Option<String> {
    let (file, part) = argument.split_once(':').unwrap_or((argument, ""));
    let path = Path::new(page).parent()?.join(file);
    let Ok(text) = fs::read_to_string(&path) else { return Some("no such file".to_owned()) };
    let first = part.split(':').next().unwrap_or("");
    if !part.is_empty() && first.chars().all(|c| c.is_ascii_digit()) {
        return Some("line numbers move; use an anchor".to_owned());
    }
    (!part.is_empty() && !has_anchor(&text, part)).then(|| format!("no anchor {part}, or empty"))
}

/// Whether there is any text between the anchor's two ends.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let is = |line: &str, mark: &str| {
        let name = line.split_once(mark).map(|(_, rest)| rest.trim_start());
        name.and_then(|rest| rest.strip_prefix(anchor)).is_some_and(|rest| {
            !rest.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c))
        })
    };
    let mut lines = text.lines().skip_while(|line| !is(line, "ANCHOR:")).skip(1).peekable();
    let has_end = lines.clone().any(|line| is(line, "ANCHOR_END:"));
    let mut inside = lines.by_ref().take_while(|line| !is(line, "ANCHOR_END:"));
    has_end && inside.any(|line| !line.trim().is_empty() && !line.contains("ANCHOR"))
}

/// Text in the style of code.
#[derive(Debug, PartialEq, Eq)]
struct Code {
    line: usize,
    text: String,
    is_inline: bool,
}

/// Everything between backticks, and every line between fences. A file that is not Markdown counts
/// as fenced.
fn code(document: &Text) -> Vec<Code> {
    let is_markdown = document.path.ends_with(".md");
    let (mut in_fence, mut found) = (!is_markdown, Vec::new());
    for (line, text) in document.text.lines().enumerate() {
        if is_markdown && text.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if in_fence {
            found.push(Code { line, text: text.to_owned(), is_inline: false });
        } else {
            let inside = text.split('`').skip(1).step_by(2);
            found.extend(inside.map(|text| Code { line, text: text.to_owned(), is_inline: true }));
        }
    }
    found
}

/// Whether it looks like `raft.commit`.
fn is_dotted(word: &str) -> bool {
    let mut parts = word.split('.');
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    word.contains('.') && parts.all(is_name)
}

/// Names in the style of code that look like stages but are none.
fn unknown_stages(document: &Text) -> Vec<String> {
    let fields: BTreeSet<&str> =
        Stage::ALL.iter().flat_map(|stage| stage.fields()).map(|field| field.name).collect();
    let prefixes: BTreeSet<&str> = Stage::ALL
        .iter()
        .filter_map(|stage| stage.name().split_once('.'))
        .map(|(a, _)| a)
        .collect();
    // A field is an attribute of an exported span, with the same name after a prefix.
    let is_attribute = |word: &str| {
        word == LINK || word.strip_prefix("etcd.").is_some_and(|field| fields.contains(field))
    };
    let is_known = |word: &str| {
        Stage::from_name(word).is_some() || fields.contains(word) || is_attribute(word)
    };
    let mut wrong = Vec::new();
    for code in code(document) {
        let is_part = |c: char| c.is_alphanumeric() || "_./-".contains(c);
        for word in code.text.split(|c| !is_part(c)).map(|word| word.trim_end_matches('.')) {
            let (prefix, _) = word.split_once('.').unwrap_or((word, ""));
            let is_file = word.rsplit('.').next().is_some_and(|end| FILE_ENDINGS.contains(&end));
            // Output of commands contains other dots; there only the stages' own prefixes count.
            let is_meant = prefixes.contains(prefix) || (code.is_inline && code.text == word);
            if is_dotted(word) && !is_file && is_meant && !is_known(word) {
                wrong.push(document.at(code.line, format!("there is no stage {word}")));
            }
        }
    }
    wrong
}

/// Paths in the style of code, and links, that lead to no file of the repository.
fn unknown_files(document: &Text) -> Vec<String> {
    let exists = |path: &str| Path::new(path.trim_end_matches('/')).exists();
    let mut wrong = Vec::new();
    for code in code(document).iter().filter(|code| code.is_inline) {
        let is_path = FOLDERS.iter().any(|folder| code.text.starts_with(folder))
            && !code.text.contains(|c: char| c.is_whitespace() || "<*{".contains(c));
        if is_path && !exists(&code.text) {
            wrong.push(document.at(code.line, format!("there is no file {}", code.text)));
        }
    }
    if !AT_THE_ROOT.contains(&document.path.as_str()) {
        return wrong;
    }
    // Links between the book's pages are checked in the built book.
    for (line, text) in document.text.lines().enumerate() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            if !is_elsewhere(link) && !path.is_empty() && !exists(path) {
                wrong.push(document.at(line, format!("the link {link} leads nowhere")));
            }
        }
    }
    wrong
}

// ---- what the pages say of the stages ----

/// The row of a stage in a chapter's Go map.
fn go_row(stage: Stage) -> String {
    format!("| `{}` | `src/{}` | {} |", stage.name(), stage.rust_path(), stage.go_counterpart())
}

/// Stages that a chapter names but its Go map lacks, or lists wrongly.
fn missing_in_go_map(chapter: &Text) -> Vec<String> {
    let named: BTreeSet<Stage> = (code(chapter).iter().filter(|code| code.is_inline))
        .filter_map(|code| Stage::from_name(&code.text))
        .filter(|stage| stage.name().contains('.') || chapter.text.contains(&go_start(*stage)))
        .collect();
    let rows: BTreeSet<&str> = chapter.text.lines().collect();
    let missing = named.into_iter().map(go_row).filter(|row| !rows.contains(row.as_str()));
    missing.map(|row| format!("{}: the Go map lacks\n{row}", chapter.path)).collect()
}

/// How the row begins; `key` and `admit` are also ordinary words.
fn go_start(stage: Stage) -> String {
    format!("\n| `{}` |", stage.name())
}

/// The table of all stages of a family.
fn vocabulary(family: Family) -> String {
    let mut table =
        "| stage | what happens, and its fields | here, and in etcd |\n|---|---|---|\n".to_owned();
    for stage in Stage::ALL.iter().filter(|stage| stage.family() == family) {
        let fields: Vec<&str> = stage.fields().iter().map(|field| field.name).collect();
        let meaning = stage.meaning().trim();
        let (name, rust, go) = (stage.name(), stage.rust_path(), stage.go_counterpart());
        let fields = fields.join(", ");
        table.push_str(&format!("| `{name}` | {meaning}<br>*{fields}* | `src/{rust}`<br>{go} |\n"));
    }
    table
}

/// Sections that stages refer to but the table of contents lacks.
fn missing_sections(summary: &str) -> Vec<String> {
    let sections: BTreeSet<&str> = Stage::ALL.iter().map(|stage| stage.book_section()).collect();
    let has = |section: &&&str| summary.contains(&format!("[{section} "));
    let missing = sections.iter().filter(|section| !has(section));
    missing.map(|section| format!("{SUMMARY}: no chapter {section}")).collect()
}

/// The lines of a screen in a snapshot of the player's tests.
fn screen(snapshot: &str) -> Vec<&str> {
    snapshot
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .map(str::trim_end)
        .collect()
}

// ---- on the repository ----

fn expect_nothing(title: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{title}:\n{}", wrong.join("\n"));
}

#[test]
fn the_book_builds_and_nothing_in_it_leads_nowhere() {
    let site = build();
    let pages: Vec<&str> = site.pages().map(|(page, _)| page.as_str()).collect();
    for page in ["index.html", "five-minutes.html", "stages.html"] {
        assert!(pages.contains(&page), "no {page}: {pages:?}");
    }
    expect_nothing("left unfilled", &left_unfilled(&site));
    expect_nothing("links", &broken_links(&site));
    expect_nothing("loaded from elsewhere", &loads_from_elsewhere(&site));
}

#[test]
fn every_include_has_its_file_and_anchor() {
    let wrong: Vec<_> = sources().iter().flat_map(broken_includes).collect();
    expect_nothing("includes", &wrong);
}

#[test]
fn every_stage_that_the_texts_name_exists() {
    let wrong: Vec<_> = documents().iter().flat_map(unknown_stages).collect();
    expect_nothing("stages", &wrong);
}

#[test]
fn every_file_that_the_texts_name_exists() {
    let wrong: Vec<_> = documents().iter().flat_map(unknown_files).collect();
    expect_nothing("files", &wrong);
}

#[test]
fn the_chapter_says_where_each_of_its_stages_is_in_etcd() {
    let chapter = Text::read(CHAPTER);
    expect_nothing("Go map", &missing_in_go_map(&chapter));
    assert!(chapter.text.contains(&go_row(Stage::RaftCommit)), "no Go map at all");
}

#[test]
fn every_stage_points_to_a_chapter() {
    expect_nothing("sections", &missing_sections(&Text::read(SUMMARY).text));
}

#[test]
fn the_vocabulary_is_the_one_of_the_code() {
    let page = Text::read(VOCABULARY);
    for family in [Family::Request, Family::Loop] {
        let table = vocabulary(family);
        assert!(page.text.contains(&table), "{VOCABULARY}: {family:?} has to be\n\n{table}");
    }
}

#[test]
fn the_picture_in_the_readme_is_a_screen_that_the_player_draws() {
    let (readme, snapshot) = (Text::read("README.md").text, Text::read(PLAYER).text);
    let screen = screen(&snapshot).join("\n");
    assert!(20 < screen.lines().count(), "{PLAYER} is no screen");
    assert!(readme.contains(&screen), "README.md: the player has to be\n\n{screen}");
}

// ---- on samples ----

fn site(files: &[(&str, &str)]) -> Site {
    let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    Site::new(files.iter().map(own).collect())
}

fn text(path: &str, text: &str) -> Text {
    Text { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn tags_are_read_as_a_browser_reads_them() {
    let html = r#"<!-- <a href="no"> --><script>"<a href=no>"</script><A class=x href="a>b"><br/>"#;
    let names: Vec<_> = tags(html).into_iter().map(|tag| tag.name).collect();
    assert_eq!(names, ["script", "a", "br"]);
    assert_eq!(links(html), [("a".to_owned(), "a>b".to_owned())]);
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = r##"<h1 id="top"></h1><a href="#top"><a href="#gone"><a href="b.html#x">
        <img src="../out.png"><a href="d/c.html"><a href="https://example.org/gone">"##;
    let site =
        site(&[("a.html", page), ("b.html", "<p id=x></p>"), ("d/c.html", "{{#include x}}")]);
    assert_eq!(
        broken_links(&site),
        ["a.html: #gone: the page has no such place", "a.html: ../out.png: there is no such page",]
    );
    assert_eq!(left_unfilled(&site), ["d/c.html: {{# is left"]);
}

#[test]
fn a_resource_from_another_site_is_found() {
    let page = r#"<a href="https://a"></a><script src="//cdn/x.js"></script><img src="http://b">"#;
    let site = site(&[("a.html", page), ("a.css", "x { src: url( 'https://fonts/x') }")]);
    assert_eq!(
        loads_from_elsewhere(&site),
        ["a.html: <script> loads //cdn/x.js", "a.html: <img> loads http://b", "a.css: url('http",]
    );
}

#[test]
fn a_broken_include_is_found() {
    let include = |argument: &str| {
        broken_includes(&text("book/src/x.md", &format!("a {{{{#include {argument}}}}}"))).len()
    };
    assert_eq!(include("../../Cargo.toml"), 0);
    assert_eq!(include("../../Cargo.toml:no-such-anchor"), 1);
    assert_eq!(include("../../Cargo.toml:1:2"), 1);
    assert_eq!(include("no-such-file.txt"), 1);
    assert!(has_anchor("// ANCHOR: a\nx\n// ANCHOR_END: a", "a"));
    assert!(!has_anchor("// ANCHOR: ab\nx\n// ANCHOR_END: ab", "a"), "another anchor");
    assert!(!has_anchor("// ANCHOR: a\n// ANCHOR_END: a", "a"), "nothing in it");
    assert!(!has_anchor("// ANCHOR: a\nx", "a"), "no end");
}

#[test]
fn a_stage_that_does_not_exist_is_found() {
    let found = |path: &str, body: &str| unknown_stages(&text(path, body)).len();
    assert_eq!(found("a.md", "`raft.commit` and `commit.old` in `node.rs`, raft.gone in words"), 0);
    assert_eq!(found("a.md", "`raft.gone`"), 1);
    assert_eq!(found("a.md", "`never.was`"), 1);
    assert_eq!(found("a.md", "```text\nn1 wal.gone 1.5 ms at example.org\nwal.fsync\n```"), 1);
    assert_eq!(found("a.txt", "n1  apply.gone"), 1);
}

#[test]
fn a_file_that_does_not_exist_is_found() {
    let found = |body: &str| unknown_files(&text("README.md", body)).len();
    assert_eq!(
        found("`src/trace/stage.rs`, `src/<name>`, [x](Cargo.toml#a), [y](https://a.b/c)"),
        0
    );
    assert_eq!(found("`src/gone.rs`"), 1);
    assert_eq!(found("[x](GONE.md)"), 1);
}

#[test]
fn a_stage_without_its_counterpart_is_found() {
    let chapter = |rows: &str| {
        missing_in_go_map(&text("c.md", &format!("`wal.fsync` of a `key`\n\n{rows}\n"))).len()
    };
    assert_eq!(chapter(&go_row(Stage::WalFsync)), 0);
    assert_eq!(chapter(""), 1);
    assert_eq!(chapter(&go_row(Stage::WalFsync).replace("wal WAL", "wal WAR")), 1);
    assert_eq!(missing_sections("- [9.9 Nothing](x.md)").len(), 1);
    assert_eq!(screen("---\nsource: x\n---\n\"a │ \"\n\"b\"\n"), ["a │", "b"]);
}
