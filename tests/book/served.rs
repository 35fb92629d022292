//! `glass book`: the book that the binary serves is the one of the sources, whole and alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{
    contents::to_come,
    html::links,
    is_elsewhere,
    site::{built, normal},
};

/// A running `glass book`, with temporary files of its own.
struct Server {
    child: Child,
    address: String,
    temporary: TempDir,
}

impl Server {
    fn start() -> Server {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_glass"))
            .args(["book", "--listen", "127.0.0.1:0", "--no-open"])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("the book is at http://").map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("{line:?}"));
        Server { child, address: address.trim_end_matches('/').to_owned(), temporary }
    }

    /// The head and the body of the answer to a request for a path, sent as it is written here.
    fn ask(&self, method: &str, path: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
    }

    /// The status of the answer, its type, and its body.
    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        let (head, body) = self.ask("GET", path);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: "));
        (status, kind.unwrap_or_default().to_owned(), body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The paths that a page or a style sheet loads or links to, from the root.
fn loads(path: &str, text: &str) -> BTreeSet<String> {
    let of_html = || links(text).into_iter().map(|(_, link)| link).collect::<Vec<_>>();
    let of_css = || {
        let urls = text.split("url(").skip(1).filter_map(|rest| rest.split(')').next());
        urls.map(|url| url.trim_matches(['"', '\'']).to_owned()).collect()
    };
    let found = match path.rsplit('.').next() {
        Some("html") => of_html(),
        Some("css") => of_css(),
        _ => Vec::new(),
    };
    let here = found.iter().filter(|link| !is_elsewhere(link) && !link.starts_with("data:"));
    let here = here.map(|link| link.split(['#', '?']).next().unwrap_or_default());
    let here = here.filter(|link| !link.is_empty() && *link != "/");
    here.filter_map(|link| normal(&std::path::Path::new(path).with_file_name("").join(link)))
        .collect()
}

/// Goal: a reader without a checkout and without a network has the whole book. Method: everything
/// that can be reached from the first page is fetched, and is what mdBook makes of the sources.
#[test]
fn the_binary_serves_the_book_of_its_sources() {
    let server = Server::start();
    let book = built();
    let (mut left, mut seen) = (vec!["index.html".to_owned()], BTreeMap::new());
    left.push("toc.html".to_owned());
    while let Some(path) = left.pop() {
        if seen.contains_key(&path) || to_come().contains(&path) {
            continue;
        }
        let (status, kind, body) = server.get(&format!("/{path}"));
        assert_eq!(200, status, "{path}");
        left.extend(loads(&path, &String::from_utf8_lossy(&body)));
        let expected = fs::read(book.path().join(&path)).unwrap();
        assert!(body == expected, "{path} is another than mdBook makes of the sources");
        seen.insert(path, kind);
    }
    let types = |end: &str| -> BTreeSet<&str> {
        seen.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, kind)| &**kind).collect()
    };
    assert_eq!(BTreeSet::from(["text/html; charset=utf-8"]), types(".html"));
    assert_eq!(BTreeSet::from(["text/css; charset=utf-8"]), types(".css"));
    assert_eq!(BTreeSet::from(["text/javascript; charset=utf-8"]), types(".js"));
    assert_eq!(BTreeSet::from(["font/woff2"]), types(".woff2"));
    assert_eq!(BTreeSet::from(["image/svg+xml"]), types("player.svg"));
    for page in ["five-minutes.html", "watch.html", "stages.html", "questions.html"] {
        assert!(seen.contains_key(page), "{page}: {:?}", seen.keys());
    }
    let files: Vec<_> = fs::read_dir(server.temporary.path()).unwrap().collect();
    assert!(files.is_empty(), "left behind: {files:?}");
}

/// Goal: nothing but the book is served, and a request that is none does no harm.
#[test]
fn nothing_but_the_book_is_served() {
    let server = Server::start();
    for path in ["/gone.html", "/../Cargo.toml", "/../../etc/passwd", "//etc/passwd", "/css/"] {
        let (status, _, body) = server.get(path);
        assert_eq!(404, status, "{path}");
        assert!(String::from_utf8_lossy(&body).contains("Document not found"), "{path}");
    }
    assert_eq!(200, server.get("/").0);
    assert_eq!(200, server.get("/watch.html?q=1").0);
    let (head, body) = server.ask("HEAD", "/watch.html");
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}");
    let (head, _) = server.ask("POST", "/watch.html");
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD"), "{head}");
    TcpStream::connect(&server.address).unwrap().write_all(b"\x16\x03\x01 no HTTP").unwrap();
    assert_eq!(200, server.get("/").0);
}

#[test]
fn a_port_that_is_in_use_is_refused_and_a_signal_ends_the_server() {
    let mut server = Server::start();
    let second = Command::new(env!("CARGO_BIN_EXE_glass"))
        .args(["book", "--no-open", "--listen", &server.address])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    let expected = format!("{} is in use", server.address);
    assert!(said.contains(&expected) && said.contains("--listen 127.0.0.1:0"), "{said}");
    let pid = Pid::from_raw(server.child.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn what_a_page_loads_is_found() {
    let page = r#"<a href="../b.html#x"><img src="c.svg"><a href="https://a.b/"><a href="/">"#;
    assert_eq!(loads("d/a.html", page), ["b.html", "d/c.svg"].map(str::to_owned).into());
    assert_eq!(loads("f/a.css", "url('b.woff2')"), ["f/b.woff2".to_owned()].into());
}
