//! Stages by number and by name, and their fields by name.

use super::Stage;

impl Stage {
    /// The stage with this number, as records carry it.
    pub fn from_number(number: u8) -> Option<Stage> {
        Stage::ALL.get(usize::from(number)).copied()
    }

    /// The stage with this name, as recordings carry it.
    pub fn from_name(name: &str) -> Option<Stage> {
        Stage::ALL.iter().copied().find(|stage| stage.name() == name)
    }

    /// The index of the field `ident` among the eight; `_` in `ident` also matches a dot. Used by
    /// `stage!` at compile time, so that a wrong name does not build.
    pub const fn slot(self, ident: &str) -> usize {
        let fields = self.fields();
        let mut at = 0;
        while at < fields.len() {
            if same_name(fields[at].name.as_bytes(), ident.as_bytes()) {
                return at;
            }
            at += 1;
        }
        panic!("the stage has no field of this name")
    }
}

/// Whether two names are the same, where `_` in the second also stands for a dot. A function for
/// constants, in which `==` does not work.
pub(in crate::trace) const fn same_name(name: &[u8], ident: &[u8]) -> bool {
    if name.len() != ident.len() {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if name[at] != ident[at] && !(name[at] == b'.' && ident[at] == b'_') {
            return false;
        }
        at += 1;
    }
    true
}
