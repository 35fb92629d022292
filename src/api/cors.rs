//! CORS: which pages of other origins may read what this member answers over HTTP.
//!
//! A browser asks with `OPTIONS` before it sends what a plain form could not, and shows an answer to
//! a page only if its headers allow that. etcd decides both before it looks at the path: every
//! `OPTIONS` is answered 200 without a body, and every answer has the headers, whether there is such
//! a path or not. With `--cors` and a list, only requests of an origin on that list get them.
//! The ports of `--listen-metrics-urls` know nothing of this, in etcd neither.
//! (etcd: `accessController`)

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::config::Cors;

/// Answers `OPTIONS`, and adds the headers to every answer.
pub(super) async fn control(
    State(cors): State<Arc<Cors>>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = allowed(&cors, request.headers().get(header::ORIGIN));
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    if let Some(origin) = allowed {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "accept, content-type, authorization"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// What the answer says about who may read it.
fn allowed(cors: &Cors, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    match cors {
        Cors::Any => Some(HeaderValue::from_static("*")),
        Cors::Origins(origins) => {
            origin.filter(|origin| origin.to_str().is_ok_and(|o| origins.contains(o))).cloned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_on_the_list_are_allowed_and_each_by_its_name() {
        let [a, b] = ["http://a.example", "https://b.example:8443"].map(HeaderValue::from_static);
        assert_eq!(allowed(&Cors::Any, None), Some(HeaderValue::from_static("*")));
        assert_eq!(allowed(&Cors::Any, Some(&a)), Some(HeaderValue::from_static("*")));
        let list = Cors::Origins([a.to_str().unwrap().to_owned()].into());
        assert_eq!(allowed(&list, Some(&a)), Some(a));
        assert_eq!(allowed(&list, Some(&b)), None);
        assert_eq!(allowed(&list, None), None);
    }
}
