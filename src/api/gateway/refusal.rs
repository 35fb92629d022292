//! Errors in the form of etcd's gateway: HTTP's status, and JSON with gRPC's code and text.
//!
//! | where | body |
//! |---|---|
//! | a call with one answer | `{"error":"…","code":3,"message":"…"}` |
//! | a stream | `{"error":{"grpc_code":14,"http_code":503,"message":"…","http_status":"…"}}` |
//!
//! A stream has the error as its last line, or, before its first message, as its answer.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use tonic::{Code, Status};

use super::write;

/// The answer to a call that fails.
pub(super) fn answer(status: &Status) -> Response<Body> {
    let text = quoted(status.message());
    let code = status.code() as i32;
    json(
        http_status(status.code()),
        format!(r#"{{"error":{text},"code":{code},"message":{text}}}"#),
    )
}

/// The answer to a stream that fails before its first message.
pub(super) fn of_stream(status: &Status) -> Response<Body> {
    json(http_status(status.code()), last_line(status))
}

/// What ends a stream that fails.
pub(super) fn last_line(status: &Status) -> String {
    let (http, text) = (http_status(status.code()), quoted(status.message()));
    let mut fields = Vec::new();
    if status.code() != Code::Ok {
        fields.push(format!(r#""grpc_code":{}"#, status.code() as i32));
    }
    fields.push(format!(r#""http_code":{}"#, http.as_u16()));
    if !status.message().is_empty() {
        fields.push(format!(r#""message":{text}"#));
    }
    let reason = http.canonical_reason().unwrap_or_default();
    fields.push(format!(r#""http_status":{}"#, quoted(reason)));
    format!(r#"{{"error":{{{}}}}}"#, fields.join(","))
}

fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::new();
    write::string(text, &mut quoted);
    String::from_utf8(quoted).expect("it was text")
}

/// HTTP's status for a code of gRPC (grpc-gateway: HTTPStatusFromCode).
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_error_has_the_code_and_the_text_of_grpc_and_the_status_of_http() {
        let status = Status::unavailable("no \"leader\"");
        let refused = answer(&status);
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"error":"no \"leader\"","code":14,"message":"no \"leader\""}"#);
        let line = r#"{"error":{"grpc_code":14,"http_code":503,"message":"no \"leader\"","http_status":"Service Unavailable"}}"#;
        assert_eq!(last_line(&status), line);
        assert_eq!(http_status(Code::ResourceExhausted), StatusCode::TOO_MANY_REQUESTS);
    }
}
