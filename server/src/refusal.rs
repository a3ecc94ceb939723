//! Answers that are not what the client hoped for: a status and a sentence.

use crate::path::BadPath;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::io::{self, ErrorKind};

/// A status with a reason that a person can read.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub reason: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
            header: None,
        }
    }

    /// The same with a header for programs.
    #[must_use]
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} is not here"))
    }

    /// 401 (RFC 9110 15.5.2, RFC 6750 3): a token is wanted.
    pub fn unauthorized(why: &str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            reason: why.to_owned(),
            header: Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        }
    }

    /// 405 with the methods that would do.
    pub fn method(allowed: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            reason: format!("only {allowed} can be used here"),
            header: Some((header::ALLOW, HeaderValue::from_static(allowed))),
        }
    }

    /// 412: the file is not as the client thought.
    pub fn precondition() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "the file is not as the request expects it: somebody else changed it",
        )
    }

    /// 416 (RFC 9110 15.5.17): tells how long the file is.
    pub fn range(length: u64) -> Self {
        Self {
            status: StatusCode::RANGE_NOT_SATISFIABLE,
            reason: format!("the file has {length} bytes"),
            header: HeaderValue::try_from(format!("bytes */{length}"))
                .ok()
                .map(|value| (header::CONTENT_RANGE, value)),
        }
    }

    /// The status that fits an I/O error; `act` says what was tried, on what.
    pub fn io(act: &str, error: &io::Error) -> Self {
        let status = match error.kind() {
            // The second is a file where the path has a folder: there can be nothing below it.
            ErrorKind::NotFound | ErrorKind::NotADirectory => StatusCode::NOT_FOUND,
            // cap-std's answer to a path that leads out, and the filesystem's own.
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StatusCode::FORBIDDEN,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            ErrorKind::DirectoryNotEmpty | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
                StatusCode::CONFLICT
            }
            ErrorKind::InvalidFilename | ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, format!("{act}: {error}"))
    }
}

/// Of an answer that is a refusal: its sentence, for who puts it differently.
#[derive(Debug, Clone)]
pub struct Reason(pub String);

impl From<BadPath> for Refusal {
    fn from(error: BadPath) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl IntoResponse for BadPath {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.reason)).into_response();
        response.extensions_mut().insert(Reason(self.reason));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Runs file work on a thread that may block. A panic in it is an error of this one request.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the server failed: {error}"),
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_507_and_a_way_out_is_403() {
        let full = io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
        let refusal = Refusal::io("writing x", &full);
        assert_eq!(refusal.status, StatusCode::INSUFFICIENT_STORAGE);
        assert!(refusal.reason.starts_with("writing x: No space left"));
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        assert_eq!(Refusal::io("", &denied).status, StatusCode::FORBIDDEN);
        let quota = io::Error::from_raw_os_error(nix::errno::Errno::EDQUOT as i32);
        assert_eq!(
            Refusal::io("", &quota).status,
            StatusCode::INSUFFICIENT_STORAGE
        );
    }
}
