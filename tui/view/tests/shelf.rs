//! Texts for the screens of the tests: a source file that records every stage, and a page of the
//! book about it. The screens show what the player makes of such texts, and stay as they are when
//! other files change. That it finds the real ones is tested where it looks for them.

use glass_etcd::trace::Stage;

use crate::{
    state::{book, page::Page, sources},
    view::Shelf,
};

pub(super) const EXAMPLE: Shelf = Shelf { source, book };

/// A file in which the stage is recorded once, in lines of up to 100 columns.
fn source(stage: Stage) -> Page {
    let before: String = (1..=12).map(text_of_function).collect();
    let after: String = (13..=24).map(text_of_function).collect();
    let call = format!(
        "    /// Records the step.\n    fn record(&self, entry: &Entry) {{\n        \
         // Once for each entry, and never under a lock that a reader waits for.\n        \
         let waited_ns = self.arrivals.waited_ns(entry.index).saturating_sub(self.begun_ns);\n        \
         mark!(\n            {stage:?},\n            entry.id,\n            \
         waited = waited_ns\n        );\n    }}\n\n"
    );
    sources::page_of(stage, &format!("{before}{call}{after}"))
}

fn text_of_function(number: usize) -> String {
    format!("    fn step_{number}(&self) -> usize {{\n        {number}\n    }}\n\n")
}

/// A page with a heading, words, a list, a table and a figure.
fn book(stage: Stage, width: usize) -> Page {
    const HEADING: &str = "What the step does";
    let text = format!(
        "# An example\n\nWhat comes before the section.\n\n## {HEADING}\n\n\
         The step `{}` is **recorded** once for each entry.\n\
         It says how long the entry has waited, so that a slow put has its reason beside it.\n\n\
         * first the log,\n* then the disk.\n\n\
         | member | index |\n|---|---|\n| etcd-01 | 9 |\n\n\
         ```console\n    15  +2.8 ms   etcd-01      MsgAppResp 9 ►etcd-03        {:>30}\n```\n\n\
         ## What comes after it\n\nThe next section.\n",
        stage.name(),
        "at the right"
    );
    book::page_of(("example.md", "0.1", &text), (4, HEADING), width)
}
