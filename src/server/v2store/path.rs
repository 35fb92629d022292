//! The path of a node, in a form in which a directory and everything below it stand together.
//!
//! ```text
//!   /1/a/b     NUL 1 NUL a NUL b     the root is empty
//! ```
//!
//! A component begins with NUL, which is smaller than every other byte. So in the order of their
//! paths the nodes below a directory follow it directly, the first of each level in the order of
//! their names, and a walk over a tree of any depth is one walk over a sorted map. NUL and the byte
//! 1 may be part of a name; they are written as two bytes, whose order is theirs.

use std::fmt;

/// Begins a component.
const BEGIN: u8 = 0;
/// Begins a byte of a name that is 0 or 1: the byte follows, plus 1.
const ESCAPE: u8 = 1;

/// The path of a node. See the module's text.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path(Vec<u8>);

impl Path {
    /// The path that a text means: `//`, `.` and `..` are resolved, and no path leads out of the
    /// root (etcd: `path.Clean(path.Join("/", text))`).
    pub(crate) fn clean(text: &[u8]) -> Self {
        let mut path = Self::default();
        for name in text.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => path = path.parent().unwrap_or_default(),
                name => path.push(name),
            }
        }
        path
    }

    /// The path in a row of the backend; it is taken as it is.
    pub(super) fn of_row(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    /// The form in which paths are ordered and stored.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as clients write it. The root is `/`.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.0.len().max(1));
        let mut bytes = self.0.iter();
        while let Some(byte) = bytes.next() {
            match *byte {
                BEGIN => text.push(b'/'),
                ESCAPE => text.extend(bytes.next().map(|escaped| escaped - 1)),
                byte => text.push(byte),
            }
        }
        if text.is_empty() {
            text.push(b'/');
        }
        text
    }

    /// The directory that contains it; the root has none.
    pub(super) fn parent(&self) -> Option<Self> {
        let begin = self.0.iter().rposition(|byte| *byte == BEGIN)?;
        Some(Self(self.0[..begin].to_vec()))
    }

    /// The node of this name in it.
    pub(super) fn child(&self, name: &[u8]) -> Self {
        let mut child = self.clone();
        child.push(name);
        child
    }

    fn push(&mut self, name: &[u8]) {
        self.0.push(BEGIN);
        for byte in name {
            match *byte {
                BEGIN | ESCAPE => self.0.extend([ESCAPE, byte + 1]),
                byte => self.0.push(byte),
            }
        }
    }

    /// How many components it has.
    pub(crate) fn depth(&self) -> usize {
        self.0.iter().filter(|byte| **byte == BEGIN).count()
    }

    /// It, and each directory above it, from the root on.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == BEGIN);
        let ends = ends.map(|(at, _)| at).chain([self.0.len()]);
        ends.map(|end| Self(self.0[..end].to_vec()))
    }

    /// Whether it is above the other.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0[..]).is_some_and(|rest| rest.first() == Some(&BEGIN))
    }

    /// Whether its text is the beginning of the other's, perhaps in the middle of a name.
    pub(super) fn begins(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether listings of its directory leave it out.
    pub(super) fn is_hidden(&self) -> bool {
        let begin = self.0.iter().rposition(|byte| *byte == BEGIN);
        begin.is_some_and(|begin| self.0.get(begin + 1) == Some(&b'_'))
    }

    /// Whether a component of `below` after this path begins with `_`.
    pub(super) fn hides(&self, below: &Self) -> bool {
        let rest = below.0.strip_prefix(&self.0[..]).unwrap_or_default();
        rest.windows(2).any(|pair| pair == [BEGIN, b'_'])
    }

    /// The first path that can come after it and everything below it.
    pub(super) fn after(&self) -> Self {
        let mut after = self.clone();
        after.0.push(BEGIN + 1);
        after
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        String::from_utf8(Path::clean(text.as_bytes()).text()).unwrap()
    }

    #[test]
    fn a_path_is_resolved_as_go_resolves_it() {
        for (text, expected) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/1//a/", "/1/a"),
            ("/1/./a/../b", "/1/b"),
            ("/1/../../x", "/x"),
            ("/..", "/"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }

    #[test]
    fn every_name_comes_back_and_what_is_below_a_directory_follows_it() {
        let texts: [&[u8]; 8] =
            [b"/", b"/a", b"/a/b", b"/a/b/c", b"/a/z", b"/a\0", b"/a\x01", b"/a-b"];
        let paths = texts.map(Path::clean);
        for (text, path) in texts.iter().zip(&paths) {
            assert_eq!(path.text(), *text);
        }
        assert!(paths.is_sorted(), "{paths:?}");
        assert!(paths[1].is_above(&paths[3]) && !paths[1].is_above(&paths[5]));
        assert!(paths[4] < paths[1].after() && paths[1].after() <= paths[5]);
        assert!(paths[1].begins(&paths[7]) && !paths[1].is_above(&paths[7]));
    }

    #[test]
    fn a_name_with_an_underscore_is_hidden_below_every_directory_above_it() {
        let [dir, hidden, below] =
            ["/1", "/1/a/_x", "/1/a/_x/y"].map(|it| Path::clean(it.as_bytes()));
        assert!(hidden.is_hidden() && !below.is_hidden());
        assert!(dir.hides(&hidden) && dir.hides(&below) && !hidden.hides(&below));
        assert_eq!(below.prefixes().count(), 5);
        assert_eq!((below.depth(), hidden.parent()), (4, Some(Path::clean(b"/1/a"))));
    }
}
