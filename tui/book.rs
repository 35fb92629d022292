//! `glass book`: the book in a browser, from the binary alone.
//!
//! ```text
//!   files ──► a temporary directory ──► mdBook ──► pages in memory ──► HTTP/1, GET and HEAD
//! ```
//!
//! The sources are in the binary ([`files`]) and rendered at the start, in a second or less. The
//! pages are kept in memory and the directory is removed, so a path of a request names an entry of
//! a map and no file. Rendered pages in the binary would need no mdBook in it, which is a tenth of
//! a clean build; but a build script that renders them needs mdBook too, and would compile the
//! server again after each change of a page.
//!
//! The index of the search is a script of 1.3 MB, which a browser loads with its first search.
//!
//! Left out: watching sources for changes, which `mdbook serve book` does.

pub(crate) mod files;
mod http;
mod render;

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    process::{Command, ExitCode, Stdio},
};

use crate::fail;

/// Where the book is served: mdBook's own default, so that addresses are the same with either.
pub(crate) const LISTEN: &str = "127.0.0.1:3000";

/// The command line of `glass book`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to serve the book at; port 0 is any free port
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why),
    }
}

/// Serves the book until a signal ends it.
fn serve(args: &Args) -> Result<(), String> {
    // Taken first: a port in use is reported at once, and the browser may connect early.
    let (socket, address) = listen(args.listen)?;
    let pages = render::pages().map_err(|why| format!("cannot render the book: {why}"))?;
    let url = format!("http://{address}/");
    let text = format!("the book is at {url}\nCtrl-C ends this server\n");
    // A reader that closes early is no reason to end.
    let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    if !args.no_open {
        open(&url);
    }
    http::serve(socket, pages).map_err(|why| format!("cannot serve the book: {why}"))
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let open = || -> io::Result<_> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    };
    open().map_err(|why| match why.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is in use, perhaps by another glass book; `--listen {}:0` takes a free port",
            host(address)
        ),
        _ => format!("cannot listen at {address}: {why}"),
    })
}

fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// Opens a browser, where there is a screen. If that fails, the address has been printed.
fn open(url: &str) {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let program = match std::env::consts::OS {
        "macos" => "open",
        _ if has("DISPLAY") || has("WAYLAND_DISPLAY") => "xdg-open",
        _ => return,
    };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Ok(mut child) = command.spawn() {
        // Some of these programs live as long as the browser.
        std::thread::spawn(move || child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_a_way_out() {
        let (_socket, address) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let why = listen(address).unwrap_err();
        assert!(why.starts_with(&format!("{address} is in use")), "{why}");
        assert!(why.contains("--listen 127.0.0.1:0"), "{why}");
        assert_eq!("[::1]", host("[::1]:80".parse().unwrap()));
    }
}
