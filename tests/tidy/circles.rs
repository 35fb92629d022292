//! Circles of units that import each other.
//!
//! A file and those in the folder of its name are one unit, and its parts may name each other. In
//! each folder, the units may not form a circle, through whichever of their files: the units of a
//! circle can only be understood all at once. The import table keeps circles out between the rooms
//! that it has; inside a room nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, expect_nothing, rust, without_comment};

type Path = Vec<String>;

/// For each unit of a folder, the units that it imports, each with the two files of one import.
type Units = BTreeMap<String, BTreeMap<String, (usize, usize)>>;

/// The units of each circle, with an import that connects each to the next.
fn circles(files: &[File]) -> Vec<String> {
    let house = House::new(files);
    let mut found = Vec::new();
    for (folder, units) in house.folders() {
        let reach: BTreeMap<&String, BTreeSet<&String>> =
            units.keys().map(|unit| (unit, reachable(&units, unit))).collect();
        let mut seen = BTreeSet::new();
        for unit in units.keys() {
            let returns = |other: &&String| reach.get(other).is_some_and(|to| to.contains(unit));
            let circle: Vec<&String> = reach[unit].iter().copied().filter(returns).collect();
            if !circle.is_empty() && seen.insert(circle.clone()) {
                let ties = circle.iter().flat_map(|from| house.ties(&units[*from], &circle));
                let ties: Vec<String> = ties.collect();
                found.push(format!("a circle in {}:\n{}", folder.join("/"), ties.join("\n")));
            }
        }
    }
    found
}

fn reachable<'u>(units: &'u Units, from: &'u String) -> BTreeSet<&'u String> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(unit) = open.pop() {
        let next = units.get(unit).into_iter().flat_map(BTreeMap::keys);
        open.extend(next.filter(|to| reached.insert(*to)));
    }
    reached
}

/// The files that are not tests, by module.
struct House<'a> {
    files: Vec<&'a File>,
    modules: BTreeMap<Path, usize>,
}

impl<'a> House<'a> {
    fn new(files: &'a [File]) -> House<'a> {
        let files: Vec<&File> = files.iter().filter(|file| !file.is_test()).collect();
        let modules = files.iter().enumerate();
        let modules = modules.filter_map(|(at, file)| Some((module(&file.path)?, at))).collect();
        House { files, modules }
    }

    fn name(&self, at: usize) -> &str {
        &self.files[at].path
    }

    /// The units of each folder. An import counts in the deepest folder that contains both files,
    /// between the two units to which they belong.
    fn folders(&self) -> BTreeMap<Path, Units> {
        let mut folders = BTreeMap::<Path, Units>::new();
        for (own, at) in &self.modules {
            for (other, to) in self.imports(*at, own) {
                let common = own.iter().zip(&other).take_while(|(a, b)| a == b).count();
                let (Some(from), Some(unit)) = (own.get(common), other.get(common)) else {
                    continue;
                };
                let units = folders.entry(own[..common].to_vec()).or_default();
                units.entry(from.clone()).or_default().entry(unit.clone()).or_insert((*at, to));
            }
        }
        folders
    }

    /// One line for each unit of the circle that a unit imports.
    fn ties(&self, imports: &BTreeMap<String, (usize, usize)>, circle: &[&String]) -> Vec<String> {
        let imports = imports.iter().filter(|(unit, _)| circle.contains(unit));
        imports.map(|(_, (at, to))| format!("  {} -> {}", self.name(*at), self.name(*to))).collect()
    }

    /// The files whose items a file names, by module.
    fn imports(&self, at: usize, own: &[String]) -> Vec<(Path, usize)> {
        let code: Vec<&str> = self.files[at].code().into_iter().map(without_comment).collect();
        let named = paths(&code.join("\n")).into_iter().filter_map(|path| absolute(&path, own));
        let homes = named.filter_map(|path| self.home(&path, 8));
        homes.filter_map(|home| Some((module(&self.files[home].path)?, home))).collect()
    }

    /// The file that declares the item of a path, even if another one re-exports it.
    fn home(&self, path: &[String], steps: usize) -> Option<usize> {
        let lengths = (1..=path.len()).rev();
        let (length, at) =
            lengths.filter_map(|n| Some((n, *self.modules.get(&path[..n])?))).next()?;
        let Some(item) = path.get(length).filter(|_| steps > 0) else { return Some(at) };
        let code: Vec<&str> = self.files[at].code().into_iter().map(without_comment).collect();
        let handed_on = handed_on(&code.join("\n"));
        let own = &path[..length];
        let target = handed_on.into_iter().find(|target| target.last() == Some(item));
        match target.and_then(|target| absolute(&relative(target), own)) {
            Some(target) if target != path => self.home(&target, steps - 1),
            _ => Some(at),
        }
    }
}

/// `[a, b]` for `src/a/b.rs`; the binary's files are below `tui`.
fn module(path: &str) -> Option<Path> {
    let inside = path.strip_prefix("src/").or_else(|| path.starts_with("tui/").then_some(path))?;
    let names = inside.strip_suffix(".rs")?.split('/');
    Some(names.filter(|name| !["lib", "main"].contains(name)).map(str::to_owned).collect())
}

/// A path in `pub use` without a leading keyword names a child.
fn relative(path: Path) -> Path {
    match path.first().map(String::as_str) {
        Some("crate" | "super" | "self" | "glass_etcd") => path,
        _ => [vec!["self".to_owned()], path].concat(),
    }
}

/// The path from the root of the crate, for one that a module names; `None` for other crates.
fn absolute(path: &[String], own: &[String]) -> Option<Path> {
    let mut base = match path.first()?.as_str() {
        "glass_etcd" => Vec::new(),
        "crate" if own.first().is_some_and(|first| first == "tui") => vec!["tui".to_owned()],
        "crate" => Vec::new(),
        "self" | "super" => own.to_vec(),
        _ => return None,
    };
    let mut rest = path.iter().skip(usize::from(path[0] != "super")).peekable();
    while rest.next_if(|name| *name == "super").is_some() {
        base.pop();
    }
    base.extend(rest.cloned());
    Some(base)
}

/// The paths of all `use`s, and paths in the code that begin at a module.
fn paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::", "glass_etcd::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && !"_:$".contains(c)) {
                expand(&code[at..], &[], &mut found);
            }
        }
    }
    found
}

/// The paths that a file re-exports with `pub use`.
fn handed_on(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    for opening in ["pub use ", "pub(crate) use ", "pub(super) use "] {
        for (at, _) in code.match_indices(opening) {
            expand(&code[at + opening.len()..], &[], &mut found);
        }
    }
    found
}

/// Splits a path that may end in a group, and returns the text after it.
fn expand<'t>(text: &'t str, prefix: &[String], found: &mut Vec<Path>) -> &'t str {
    let mut path = prefix.to_vec();
    let mut rest = text.trim_start();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            while !group.trim_start().starts_with('}') {
                let before = group;
                group = expand(group, &path, found).trim_start();
                group = group.strip_prefix(',').unwrap_or(group);
                if group == before {
                    return "}";
                }
            }
            return group.trim_start().strip_prefix('}').unwrap_or("");
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if 0 < end && &rest[..end] != "self" || path.is_empty() {
            path.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(further) if !further.starts_with('<') => rest = further,
            _ => break,
        }
    }
    found.push(path);
    // `as` introduces another name for it.
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => rest.strip_prefix('*').unwrap_or(rest),
    }
}

#[test]
fn no_units_import_each_other_in_a_circle() {
    expect_nothing("circles", &circles(&rust()));
}

fn files(texts: &[(&str, &str)]) -> Vec<File> {
    let file =
        |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
    texts.iter().map(file).collect()
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let circle = files(&[
        ("src/a.rs", "mod b;\nmod c;\npub use self::b::{B, Other as Renamed};"),
        ("src/a/b.rs", "use super::c::C;\npub struct B(C);"),
        ("src/a/c.rs", "fn f(b: crate::a::B) {}\npub struct C;"),
    ]);
    let expected = "a circle in a:\n  src/a/b.rs -> src/a/c.rs\n  src/a/c.rs -> src/a/b.rs";
    assert_eq!(vec![expected.to_owned()], circles(&circle));
}

#[test]
fn a_circle_through_a_file_and_its_folder_is_found() {
    let circle = files(&[
        ("src/a/b.rs", "mod d;\nuse super::c::C;"),
        ("src/a/b/d.rs", "pub struct D;"),
        ("src/a/c.rs", "mod e;\npub struct C;"),
        ("src/a/c/e.rs", "use crate::a::b::d::D;"),
    ]);
    let expected = "a circle in a:\n  src/a/b.rs -> src/a/c.rs\n  src/a/c/e.rs -> src/a/b/d.rs";
    assert_eq!(vec![expected.to_owned()], circles(&circle));
}

#[test]
fn a_file_and_its_folder_are_no_circle_nor_is_a_test() {
    let none = files(&[
        ("src/a.rs", "mod b;\nuse b::B;\npub struct A(B);\nfn f() { self::b::g() }"),
        ("src/a/b.rs", "use super::A;\nuse crate::{d::{self, D}, a as e};"),
        ("src/a/tests.rs", "use crate::d::D;"),
        ("src/d.rs", "// crate::a::b::B\n#[cfg(test)]\nmod tests {\n    use crate::a::b::B;\n}"),
    ]);
    assert_eq!(Vec::<String>::new(), circles(&none));
}
