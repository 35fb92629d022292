//! Plain-text HTTP answers, in the forms of Go's net/http.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// An answer with this text.
pub(super) fn plain(code: StatusCode, body: impl Into<String>) -> Response {
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

/// An error, in the form of Go's `http.Error`.
pub(super) fn error(code: StatusCode, text: &str) -> Response {
    nosniff(plain(code, format!("{text}\n")))
}

/// etcd's answer to any verb but GET.
pub fn method_not_allowed() -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// Prevents browsers from guessing another content type.
pub(super) fn nosniff(mut response: Response) -> Response {
    let value = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, value);
    response
}
