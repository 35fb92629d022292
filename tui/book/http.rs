//! The pages over HTTP/1: GET and HEAD of what is there, and errors for the rest.

use std::{convert::Infallible, io, net, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use super::render::Pages;

/// Connections at the same time; a browser opens six.
const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, and how long a connection may be silent.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long to pause after a failed accept: without descriptors the next one fails too.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the pages until SIGINT or SIGTERM.
pub(super) fn serve(socket: net::TcpListener, pages: Pages) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpListener::from_std(socket)?;
        let (mut interrupt, mut end) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut accepting = pin!(accept(&socket, Arc::new(pages)));
        tokio::select! {
            () = &mut accepting => {}
            _ = interrupt.recv() => {}
            _ = end.recv() => {}
        }
        Ok(())
    })
}

async fn accept(socket: &TcpListener, pages: Arc<Pages>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Nobody closes the semaphore.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let response = respond(&pages, request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            // A browser that goes away is no error.
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
            drop(place);
        });
    }
}

/// The answer to a request for a path. Nothing but the map is looked at, so no path leads out of
/// it. hyper leaves out the body of an answer to HEAD.
fn respond(pages: &Pages, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response =
            response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".into());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    match pages.get(name) {
        Some(page) => response(StatusCode::OK, content_type(name), page.clone()),
        None => {
            let page = pages.get("404.html").cloned().unwrap_or_default();
            response(StatusCode::NOT_FOUND, "text/html; charset=utf-8", page)
        }
    }
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The next start may be of another version.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The type of a file by the end of its name.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        let pages = [("index.html", "start"), ("css/a.css", "a"), ("404.html", "none")];
        pages.map(|(name, text)| (name.to_owned(), Bytes::from(text))).into()
    }

    fn asked(method: &Method, path: &str) -> (u16, String) {
        let response = respond(&pages(), method, path);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind)
    }

    #[test]
    fn what_is_there_is_served_with_its_type() {
        assert_eq!((200, "text/html; charset=utf-8".to_owned()), asked(&Method::GET, "/"));
        assert_eq!((200, "text/css; charset=utf-8".to_owned()), asked(&Method::HEAD, "/css/a.css"));
    }

    #[test]
    fn no_path_leads_out_of_the_book() {
        for path in ["/gone.html", "/../Cargo.toml", "/css/../index.html", "/css", "/%2e%2e/etc"] {
            assert_eq!(404, asked(&Method::GET, path).0, "{path}");
        }
    }

    #[test]
    fn only_reading_is_allowed() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(405, asked(&method, "/").0, "{method}");
        }
    }
}
