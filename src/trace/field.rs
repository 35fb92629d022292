//! Reading a step's fields by their names, which the compiler checks.
//!
//! A record has eight numbers and no names; the vocabulary in [`stage`](super::stage) names them.
//! These macros look the name up while the program is compiled and leave the slot in the code:
//!
//! | macro                                         | gives                                |
//! |-----------------------------------------------|--------------------------------------|
//! | `field!(event, RaftEntry, index)`             | the number                           |
//! | `field!(event, RaftSend \| RaftReceive, peer)` | the number, of either stage          |
//! | `fields!(event, RaftEntry: term, index)`      | the numbers, in this order           |
//! | `change!(event, RaftCommit, commit)`          | `commit.old` and `commit.new`        |
//! | `slot!(RaftEntry, index)`                     | where it stands, for a table         |
//! | `slots!(RaftCommit, commit)`                  | the same of `.old` and `.new`        |
//!
//! A name that the stage does not have does not compile:
//!
//! ```compile_fail
//! fn revision(event: &glass_etcd::story::Event) -> u64 {
//!     glass_etcd::field!(event, MvccWrite, revision)
//! }
//! ```
//!
//! ```compile_fail
//! fn compaction(event: &glass_etcd::story::Event) -> [u64; 2] {
//!     glass_etcd::change!(event, MvccCompact, revision)
//! }
//! ```
//!
//! Of several stages, each must have the field:
//!
//! ```compile_fail
//! fn last(event: &glass_etcd::story::Event) -> u64 {
//!     glass_etcd::field!(event, RaftEntry | WalFsync, last)
//! }
//! ```
//!
//! The same with the right names compiles; a `.` in a name is written `_`:
//!
//! ```
//! use glass_etcd::{change, field, fields, story::Event};
//!
//! fn numbers(event: &Event) -> [u64; 6] {
//!     let [old, new] = change!(event, MvccWrite, revision);
//!     let [first, last] = fields!(event, WalWrite | WalFsync: first, last);
//!     [old, new, first, last, field!(event, MvccWrite, revision_new), field!(event, RaftSend, type)]
//! }
//! ```
//!
//! Invariant: the caller has looked at the stage before. A debug build panics if the step is of
//! another stage; a release build reads 0, and never another stage's number.
//!
//! Left out: fields of a stage that is known only at run time. `story::Event::field`
//! finds those by text, and `story::Event::named` lists them.

use super::stage::Stage;

/// The place of one field in the records of one stage. `slot!` and `slots!` make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    stage: Stage,
    at: usize,
}

impl Slot {
    /// Looks the field up. In a constant, a name that the stage does not have is a compile error.
    pub const fn new(stage: Stage, name: &str) -> Slot {
        Slot { stage, at: stage.slot(name) }
    }

    /// The stage to which the field belongs.
    pub const fn stage(self) -> Stage {
        self.stage
    }

    /// Its place among the eight numbers of a record.
    pub const fn at(self) -> usize {
        self.at
    }

    /// The name as recordings have it, with dots.
    pub const fn name(self) -> &'static str {
        self.stage.fields()[self.at].name
    }

    /// The place, among the eight numbers of a step, of the slot that belongs to the step's stage.
    pub(crate) fn find(stage: Option<Stage>, slots: &[Slot]) -> Option<usize> {
        let found = slots.iter().find(|slot| Some(slot.stage) == stage);
        debug_assert!(found.is_some(), "a field of {slots:?} was asked of {stage:?}");
        found.map(|slot| slot.at)
    }
}

/// `slot!(WalFsync, first)` is the place of a field, checked while compiling.
#[macro_export]
macro_rules! slot {
    ($stage:ident, $field:ident) => {{
        // A constant item and no `const` block, because `cargo check` evaluates only items.
        const SLOT: $crate::trace::Slot =
            $crate::trace::Slot::new($crate::trace::Stage::$stage, stringify!($field));
        SLOT
    }};
}

/// `slots!(RaftCommit, commit)` is where `commit.old` and `commit.new` stand.
#[macro_export]
macro_rules! slots {
    ($stage:ident, $field:ident) => {{
        use $crate::trace::{Slot, Stage};
        const SLOTS: [Slot; 2] = [
            Slot::new(Stage::$stage, concat!(stringify!($field), ".old")),
            Slot::new(Stage::$stage, concat!(stringify!($field), ".new")),
        ];
        SLOTS
    }};
}

/// `field!(event, RaftEntry, index)` reads a field of an event or a record;
/// `field!(event, RaftSend | RaftReceive, peer)` one that both stages have.
#[macro_export]
macro_rules! field {
    (@of $step:expr, [$($stage:ident)|+], $field:ident) => {{
        const SLOTS: &[$crate::trace::Slot] = &[$($crate::slot!($stage, $field)),+];
        $step.number(SLOTS)
    }};
    ($step:expr, $($stage:ident)|+, $field:ident) => {
        $crate::field!(@of $step, [$($stage)|+], $field)
    };
}

/// `fields!(event, RaftEntry: term, index)` reads several fields, in the order in which they are
/// named.
#[macro_export]
macro_rules! fields {
    (@each $step:expr, $stages:tt, $($field:ident),+) => {{
        let step = &$step;
        [$($crate::field!(@of step, $stages, $field)),+]
    }};
    ($step:expr, $($stage:ident)|+: $($field:ident),+ $(,)?) => {
        $crate::fields!(@each $step, [$($stage)|+], $($field),+)
    };
}

/// `change!(event, RaftCommit, commit)` reads what a step changed, from the old value to the new
/// one.
#[macro_export]
macro_rules! change {
    ($step:expr, $stage:ident, $field:ident) => {{
        let step = &$step;
        $crate::slots!($stage, $field).map(|slot| step.number(&[slot]))
    }};
}

#[cfg(test)]
mod tests {
    use crate::trace::{Stage, record::sample_of as record};

    #[test]
    fn each_name_is_the_number_of_its_slot() {
        let (write, fsync) = (record(Stage::WalWrite), record(Stage::WalFsync));
        assert_eq!(11, field!(write, WalWrite, last));
        assert_eq!(15, field!(record(Stage::WalFsync), WalFsync, term));
        assert_eq!([12, 13], change!(fsync, WalFsync, synced));
        assert_eq!([16, 10], fields!(fsync, WalFsync: vote, first));
    }

    #[test]
    fn a_field_of_several_stages_is_read_where_the_step_s_own_stage_has_it() {
        let index = |stage| field!(record(stage), RaftEntry | BufferFreeze | ReadIndexRound, index);
        assert_eq!(
            [11, 12, 12],
            [Stage::RaftEntry, Stage::BufferFreeze, Stage::ReadIndexRound].map(index)
        );
        let both = fields!(record(Stage::BufferFreeze), RaftEntry | BufferFreeze: bytes, index);
        assert_eq!([11, 12], both);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "was asked of Some(RaftEntry)")]
    fn a_field_of_another_stage_is_an_error_of_the_program() {
        let _ = field!(record(Stage::RaftEntry), MvccWrite, revision_new);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn a_field_of_another_stage_is_no_number_of_this_one() {
        assert_eq!(0, field!(record(Stage::RaftEntry), MvccWrite, revision_new));
    }
}
