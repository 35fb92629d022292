//! The built book: links that lead nowhere, directives that were not carried out, and resources of
//! other sites.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path},
};

use mdbook_driver::MDBook;
use tempfile::TempDir;

use super::{
    contents, expect_nothing, files_below,
    form::heavy,
    html::{links, tags},
    is_elsewhere,
};

/// The built book: every file by its path, with its content if that is text.
struct Site {
    files: BTreeMap<String, String>,
    ids: BTreeMap<String, BTreeSet<String>>,
    /// Pages that are not written yet, but that links may lead to.
    to_come: BTreeSet<String>,
}

impl Site {
    fn new(files: BTreeMap<String, String>, to_come: BTreeSet<String>) -> Site {
        let pages = files.iter().filter(|(path, _)| path.ends_with(".html"));
        let ids = pages.map(|(path, html)| (path.clone(), ids(html))).collect();
        Site { files, ids, to_come }
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
pub(crate) fn built() -> TempDir {
    let out = tempfile::tempdir().unwrap();
    let mut book = MDBook::load("book").expect("book.toml and SUMMARY.md can be read");
    book.config.build.build_dir = out.path().to_owned();
    book.build().expect("the book builds");
    out
}

fn build() -> Site {
    let out = built();
    let mut files = BTreeMap::new();
    for path in files_below(out.path()) {
        let name = path.strip_prefix(out.path()).unwrap().display().to_string();
        files.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
    }
    Site::new(files, contents::to_come())
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

fn broken(site: &Site, page: &str, link: &str) -> Option<&'static str> {
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or("");
    let target = match path.is_empty() {
        true => Some(page.to_owned()),
        false => normal(&Path::new(page).with_file_name("").join(path)),
    };
    if target.as_ref().is_some_and(|target| site.to_come.contains(target)) {
        return None;
    }
    let Some(target) = target.filter(|target| site.files.contains_key(target)) else {
        return Some("there is no such page");
    };
    let has_id = |id: &str| site.ids.get(&target).is_none_or(|ids| ids.contains(id));
    (!fragment.is_empty() && !has_id(fragment)).then_some("the page has no such place")
}

/// The path without `.` and `..`; `None` if it leaves the root.
pub(crate) fn normal(path: &Path) -> Option<String> {
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

#[test]
fn the_book_builds_and_nothing_in_it_leads_nowhere() {
    let site = build();
    let pages: Vec<&str> = site.pages().map(|(page, _)| page.as_str()).collect();
    for page in ["index.html", "five-minutes.html", "stages.html"] {
        assert!(pages.contains(&page), "no {page}: {pages:?}");
    }
    let weights = site.pages().map(|(page, html)| (page.clone(), html.len())).collect();
    expect_nothing("heavy pages", &heavy(&weights));
    expect_nothing("left unfilled", &left_unfilled(&site));
    expect_nothing("links", &broken_links(&site));
    expect_nothing("loaded from elsewhere", &loads_from_elsewhere(&site));
}

fn site(files: &[(&str, &str)]) -> Site {
    let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    Site::new(files.iter().map(own).collect(), ["later.html".to_owned()].into())
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = r##"<h1 id="top"></h1><a href="#top"><a href="#gone"><a href="b.html#x"><a href="later.html#y">
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
