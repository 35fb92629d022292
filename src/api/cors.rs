//! CORS: which web pages of other origins may read this member's answers over HTTP.
//!
//! A browser sends `OPTIONS` before an unusual request, and gives a page the answer only if the
//! answer's headers allow it. etcd decides both before it looks at the path: every `OPTIONS` gets
//! status 200 and no body, and every answer has the headers, even a 404. If `--cors` is a list,
//! only requests from an origin on the list get the headers. The ports of `--listen-metrics-urls`
//! have no CORS, as in etcd. (etcd: `accessController`)

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

/// The value of `Access-Control-Allow-Origin`, if the answer gets one.
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
