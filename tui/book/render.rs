//! The pages as mdBook renders them from the sources in the binary.

use std::{
    collections::HashMap,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use mdbook_driver::{MDBook, config::Config};

use super::files::FILES;

/// The files of the rendered book, by their paths.
pub(super) type Pages = HashMap<String, Bytes>;

/// Renders the book. The settings are those of `book.toml` alone, without `MDBOOK_` variables.
pub(super) fn pages() -> Result<Pages, Box<dyn Error>> {
    let dir = tempfile::Builder::new().prefix("glass-book-").tempdir()?;
    for (path, text) in FILES {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
        fs::write(path, text)?;
    }
    let (book, out) = (dir.path().join("book"), dir.path().join("rendered"));
    let mut config = Config::from_disk(book.join("book.toml"))?;
    config.build.build_dir.clone_from(&out);
    MDBook::load_with_config(book, config)?.build()?;
    let mut pages = Pages::new();
    read(&out, &out, &mut pages)?;
    Ok(pages)
}

/// Reads the files below a directory.
fn read(root: &Path, dir: &Path, pages: &mut Pages) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            read(root, &path, pages)?;
        } else if let Ok(name) = path.strip_prefix(root) {
            pages.insert(name.display().to_string(), fs::read(&path)?.into());
        }
    }
    Ok(())
}
