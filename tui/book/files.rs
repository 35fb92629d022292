//! The sources of the book, which are in the binary: the pages of `book/src/SUMMARY.md`, what they
//! include, and what mdBook needs besides.
//!
//! The list is written by `GLASS_DRAW=1 cargo test --bin glass book_in_the_binary`, and compared
//! without `GLASS_DRAW`. The line of a file that is gone has to be removed by hand: it does not
//! compile. A list made by a build script would compile the server again after each
//! change of a page.

/// A file by its path from the root of the repository.
pub(crate) type File = (&'static str, &'static str);

macro_rules! files {
    ($($path:literal,)+) => {
        /// All files, in the order of their paths.
        pub(crate) const FILES: &[File] =
            &[$(($path, include_str!(concat!("../../", $path)))),+];
    };
}

files!(
    "README.md",
    "book/book.toml",
    "book/glass.css",
    "book/src/SUMMARY.md",
    "book/src/buffer-and-backend.md",
    "book/src/commit-apply-respond.md",
    "book/src/compaction.md",
    "book/src/elections.md",
    "book/src/figures/added.txt",
    "book/src/figures/bought.html",
    "book/src/figures/buffer-late.txt",
    "book/src/figures/buffer-put.html",
    "book/src/figures/buffer-put.txt",
    "book/src/figures/buffer-soon.txt",
    "book/src/figures/compacted.html",
    "book/src/figures/compacted.txt",
    "book/src/figures/crash-start.txt",
    "book/src/figures/crash.html",
    "book/src/figures/crash.txt",
    "book/src/figures/defragmented.html",
    "book/src/figures/elected.html",
    "book/src/figures/elected.txt",
    "book/src/figures/election.html",
    "book/src/figures/get.html",
    "book/src/figures/get.txt",
    "book/src/figures/history.html",
    "book/src/figures/history.txt",
    "book/src/figures/joined.html",
    "book/src/figures/joined.txt",
    "book/src/figures/lock.html",
    "book/src/figures/lock.txt",
    "book/src/figures/lost.txt",
    "book/src/figures/no-quorum.html",
    "book/src/figures/no-quorum.txt",
    "book/src/figures/one-get-none.txt",
    "book/src/figures/one-get-past.txt",
    "book/src/figures/one-get.html",
    "book/src/figures/one-get.txt",
    "book/src/figures/one-put.html",
    "book/src/figures/one-put.txt",
    "book/src/figures/outlived.txt",
    "book/src/figures/player.svg",
    "book/src/figures/proposed-again.txt",
    "book/src/figures/put-on-two.html",
    "book/src/figures/put-on-two.txt",
    "book/src/figures/put.html",
    "book/src/figures/put.txt",
    "book/src/figures/read-index.html",
    "book/src/figures/read-index.txt",
    "book/src/figures/read-past.txt",
    "book/src/figures/read-waits.txt",
    "book/src/figures/refused-again.txt",
    "book/src/figures/refused-form.txt",
    "book/src/figures/refused-quota.html",
    "book/src/figures/refused-vote.txt",
    "book/src/figures/remaining.html",
    "book/src/figures/repaired.html",
    "book/src/figures/repaired.txt",
    "book/src/figures/snapshot.html",
    "book/src/figures/snapshot.txt",
    "book/src/figures/stale.html",
    "book/src/figures/stale.txt",
    "book/src/figures/three-members.html",
    "book/src/figures/three-members.txt",
    "book/src/figures/timed-out.html",
    "book/src/figures/timed-out.txt",
    "book/src/figures/tombstone.txt",
    "book/src/figures/two-keys.html",
    "book/src/figures/watch-three.html",
    "book/src/five-minutes.md",
    "book/src/flags.md",
    "book/src/glossary.md",
    "book/src/how-tested.md",
    "book/src/interceptors.md",
    "book/src/introduction.md",
    "book/src/keys.md",
    "book/src/leases.md",
    "book/src/lessons.md",
    "book/src/linearizable.md",
    "book/src/log-repair.md",
    "book/src/membership.md",
    "book/src/metrics.md",
    "book/src/myths.md",
    "book/src/one-get.md",
    "book/src/one-put.md",
    "book/src/operating.md",
    "book/src/plain.md",
    "book/src/questions.md",
    "book/src/read-index.md",
    "book/src/reading-a-trace.md",
    "book/src/real-etcd.md",
    "book/src/recording.md",
    "book/src/revisions.md",
    "book/src/serializable.md",
    "book/src/stages.md",
    "book/src/three-members.md",
    "book/src/trace.md",
    "book/src/transactions.md",
    "book/src/v2.md",
    "book/src/viewers.md",
    "book/src/wal.md",
    "book/src/watch.md",
    "book/stepper.css",
    "book/stepper.js",
    "src/api/interceptor.rs",
    "src/raft/node.rs",
    "src/raft/reads.rs",
    "src/server/check.rs",
    "src/server/kv_server.rs",
    "src/server/mvcc/key_index.rs",
    "src/server/mvcc/revision.rs",
    "src/server/mvcc/write_txn.rs",
    "src/server/read_index.rs",
    "src/storage/backend/read_tx.rs",
    "src/storage/wal/record.rs",
);

/// The folder of the pages.
pub(crate) const PAGES: &str = "book/src";

/// The text of a file.
pub(crate) fn text(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

/// The text of a page, or of another file beside the pages.
pub(crate) fn page(name: &str) -> Option<&'static str> {
    text(&format!("{PAGES}/{name}"))
}

/// The path from the root of what a page calls `name`.
pub(crate) fn beside_pages(name: &str) -> String {
    let mut parts: Vec<&str> = PAGES.split('/').collect();
    for part in name.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    const LIST: &str = "tui/book/files.rs";

    /// The files that mdBook reads for these pages.
    fn needed() -> BTreeSet<String> {
        let config = fs::read_to_string("book/book.toml").unwrap();
        let beside = config.lines().filter(|line| line.starts_with("additional-"));
        let beside = beside.flat_map(|line| line.split('"').skip(1).step_by(2));
        let mut needed: BTreeSet<String> = beside.map(|name| format!("book/{name}")).collect();
        needed.insert("book/book.toml".to_owned());
        needed.insert(beside_pages("SUMMARY.md"));
        for line in fs::read_to_string(beside_pages("SUMMARY.md")).unwrap().lines() {
            if let Some(link) = links(line).next().filter(|_| !line.starts_with("<!--")) {
                let page = beside_pages(link);
                let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{page}: {e}"));
                needed.extend(text.lines().flat_map(loads).map(|name| beside_pages(&name)));
                needed.insert(page);
            }
        }
        needed
    }

    fn links(line: &str) -> impl Iterator<Item = &str> {
        line.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next())
    }

    /// What a line of a page includes, and the pictures that it shows.
    fn loads(line: &str) -> Vec<String> {
        let included = line.split("{{#include ").skip(1);
        let included = included.filter_map(|rest| rest.split([':', '}']).next());
        let pictures = line.split("![").skip(1).filter_map(|rest| links(rest).next());
        included.chain(pictures).map(|name| name.trim().to_owned()).collect()
    }

    /// Goal: the binary has the book of its sources, and a new page is not forgotten.
    #[test]
    fn the_book_in_the_binary_is_complete() {
        let needed: Vec<String> = needed().into_iter().collect();
        let listed: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        if std::env::var_os("GLASS_DRAW").is_some() {
            let source = fs::read_to_string(LIST).unwrap();
            let (before, rest) = source.split_once("\nfiles!(").unwrap();
            let (_, after) = rest.split_once(");\n").unwrap();
            let lines: String = needed.iter().map(|path| format!("    {path:?},\n")).collect();
            fs::write(LIST, format!("{before}\nfiles!(\n{lines});\n{after}")).unwrap();
            return;
        }
        let how = "GLASS_DRAW=1 cargo test --bin glass book_in_the_binary writes the list";
        assert_eq!(needed, listed, "{how}");
    }

    #[test]
    fn what_a_page_loads_is_found() {
        let line = "a ![x](figures/a.svg) {{#include figures/b.txt:part}} [y](c.md)";
        assert_eq!(loads(line), ["figures/b.txt", "figures/a.svg"]);
        assert_eq!("src/storage/wal.rs", beside_pages("../../src/storage/wal.rs"));
        assert_eq!("book/src/figures/a.svg", beside_pages("./figures/a.svg"));
    }
}
