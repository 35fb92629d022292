//! Where the texts come from that are read beside a step: this program's sources, and its book. The
//! tests of screens have texts of their own: the screens then stay as they are when a source file
//! or the book changes.

use glass_etcd::trace::Stage;

use crate::state::{book, page::Page, sources};

/// Where the texts come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelf {
    /// The page of a stage's source.
    pub(crate) source: fn(Stage) -> Page,
    /// The page of the book about a stage, in lines of this width.
    pub(crate) book: fn(Stage, usize) -> Page,
}

impl Shelf {
    /// The sources of this program, and its book.
    pub(crate) const OWN: Shelf = Shelf { source: sources::page, book: book::page };
}
