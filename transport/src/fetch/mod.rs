//! Getting files from the network: the HTTP(S) client and TFTP.

#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod http;
mod post;
pub mod tftp;
mod tls;

pub use reqwest::Method;

pub use http::{HttpClient, HttpError, HttpFailure, Listener, MIRROR_OF, Settings};
pub use post::{Posted, post, post_patiently};
pub use tls::{Roots, check_certificates};

use flate2::read::MultiGzDecoder;
use pitstop_imaging::event::Reporter;
use pitstop_protocol::redacted;
use reqwest::StatusCode;
use std::io::{self, Read};
use std::thread;
use url::Url;

/// How often a server that is down or broken is asked again for a small file.
const TRIES: u32 = 5;

/// Why a file could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server says that there is no such file.
    #[error("there is no such file")]
    NotFound,
    /// Anything else; the sentence names the URL.
    #[error("{0}")]
    Failed(String),
}

/// What became of one try.
enum Failure {
    NotFound,
    /// Asking again may help.
    Passing(String),
    Lasting(String),
}

/// Fetches a small file of at most `limit` bytes over `http`, `https`, `tftp` or from `file`. A server that
/// is down or broken is asked again with back-off; each of these is reported.
///
/// # Errors
/// [`FetchError::NotFound`] only when the server says so.
pub fn file(
    url: &Url,
    limit: usize,
    http: &HttpClient,
    reporter: &dyn Reporter,
) -> Result<Vec<u8>, FetchError> {
    let mut wait = http.settings().first_wait;
    for tries in 1.. {
        let outcome = match url.scheme() {
            "http" | "https" => over_http(url, limit, http),
            "tftp" => over_tftp(url, limit),
            "file" => from_file(url, limit),
            other => Err(Failure::Lasting(format!(
                "{}: cannot fetch over {other}: there are http, https, tftp and file",
                redacted(url)
            ))),
        };
        match outcome {
            Ok(bytes) => return Ok(bytes),
            Err(Failure::NotFound) => return Err(FetchError::NotFound),
            Err(Failure::Lasting(why)) => return Err(FetchError::Failed(why)),
            Err(Failure::Passing(why)) if tries >= TRIES => {
                return Err(FetchError::Failed(format!("{why} ({tries} tries)")));
            }
            Err(Failure::Passing(why)) => {
                reporter.warn(format!("{why}: trying again"));
                thread::sleep(http::jittered(wait));
                wait = wait.saturating_mul(2);
            }
        }
    }
    Err(FetchError::Failed(format!("{}: not tried", redacted(url))))
}

fn over_http(url: &Url, limit: usize, http: &HttpClient) -> Result<Vec<u8>, Failure> {
    let shown = redacted(url);
    let response = http
        .request(Method::GET, url)
        .header("cache-control", "no-cache")
        .send()
        .map_err(|error| match error.failure {
            HttpFailure::Trust | HttpFailure::Elsewhere => Failure::Lasting(error.to_string()),
            _ => Failure::Passing(error.to_string()),
        })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::NotFound),
        status if status.is_server_error() || http::asks_for_patience(status) => {
            return Err(Failure::Passing(http::refusal(
                &Method::GET,
                &shown,
                status,
            )));
        }
        status => {
            return Err(Failure::Lasting(http::refusal(
                &Method::GET,
                &shown,
                status,
            )));
        }
    }
    if response
        .length()
        .is_some_and(|length| length > limit as u64)
    {
        return Err(Failure::Lasting(too_large(&shown, limit)));
    }
    // Nobody asked for it, and some servers do it all the same.
    let encoding = response
        .header("content-encoding")
        .map(str::to_ascii_lowercase);
    match encoding.as_deref().map(str::trim) {
        None | Some("" | "identity") => read_limited(response, limit, &shown),
        Some("gzip" | "x-gzip") => read_limited(MultiGzDecoder::new(response), limit, &shown),
        Some(other) => Err(Failure::Lasting(format!(
            "{shown}: the server sends it encoded as {other:?}: have it send the file as it is"
        ))),
    }
}

fn over_tftp(url: &Url, limit: usize) -> Result<Vec<u8>, Failure> {
    let shown = redacted(url);
    tftp::get(url, limit, &tftp::Patience::default()).map_err(|error| match error {
        tftp::TftpError::NotFound => Failure::NotFound,
        tftp::TftpError::TooLarge => Failure::Lasting(too_large(&shown, limit)),
        tftp::TftpError::Refused(_) | tftp::TftpError::BadUrl(_) => {
            Failure::Lasting(format!("{shown}: {error}"))
        }
        tftp::TftpError::Network(_) | tftp::TftpError::Silent | tftp::TftpError::Protocol(_) => {
            Failure::Passing(format!("{shown}: {error}"))
        }
    })
}

fn from_file(url: &Url, limit: usize) -> Result<Vec<u8>, Failure> {
    let shown = redacted(url);
    let path = url
        .to_file_path()
        .map_err(|()| Failure::Lasting(format!("{shown} is not file:///path")))?;
    match std::fs::File::open(&path) {
        Ok(file) => read_limited(file, limit, &shown),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::NotFound),
        Err(error) => Err(Failure::Lasting(format!("opening {shown}: {error}"))),
    }
}

fn read_limited(source: impl Read, limit: usize, shown: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Passing(format!("reading {shown}: {error}")))?;
    if bytes.len() > limit {
        return Err(Failure::Lasting(too_large(shown, limit)));
    }
    Ok(bytes)
}

fn too_large(shown: &str, limit: usize) -> String {
    let limit = pitstop_imaging::units::bytes(limit as u64);
    format!("{shown} is larger than {limit}: is the URL right?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;
    use std::io::Write as _;

    /// A server that answers every request with this head and body.
    fn answering(head: &str, body: Vec<u8>) -> Url {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x.toml", listener.local_addr().unwrap());
        let head = format!(
            "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n",
            body.len()
        );
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream
                    .write_all(head.as_bytes())
                    .and_then(|()| stream.write_all(&body));
            }
        });
        Url::parse(&url).unwrap()
    }

    #[test]
    fn a_file_that_the_server_sends_compressed_is_unpacked_within_its_limit() {
        let packed = |bytes: &[u8]| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        };
        let get = |url: &Url| file(url, 1000, &fake::patient(), &Silent);
        for head in ["Content-Encoding: gzip\r\n", "Content-Encoding: X-GZIP\r\n"] {
            let bytes = get(&answering(head, packed(b"version = 1")));
            assert_eq!(bytes.unwrap(), b"version = 1");
        }
        let gzip = "Content-Encoding: gzip\r\n";
        let error = get(&answering(gzip, packed(&vec![b'x'; 100_000]))).unwrap_err();
        assert!(error.to_string().contains("is larger than"), "{error}");
        let error = get(&answering("Content-Encoding: br\r\n", b"x".to_vec())).unwrap_err();
        assert!(error.to_string().contains("encoded as \"br\""), "{error}");
        // Not said to be: it is what the file holds.
        let bytes = packed(b"x");
        assert_eq!(get(&answering("", bytes.clone())).unwrap(), bytes);
    }
}
