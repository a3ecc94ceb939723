//! An answer, and its body as a blocking reader.

use super::{Asked, HttpClient, HttpError, HttpFailure, MIRROR_OF};
use bytes::Bytes;
use pitstop_protocol::host_name::printable;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, TRANSFER_ENCODING};
use std::io::{self, Read};

/// Bytes of an explanation that are looked at, and characters of it that are shown.
const WORDS_READ: u64 = 4096;
const WORDS_SHOWN: usize = 200;

/// The head of an answer; reading it gives the body. The end of the body is an error where bytes
/// that the head promised are missing, and where the server is silent for too long.
pub struct Response {
    http: HttpClient,
    inner: reqwest::Response,
    asked: Asked,
    /// Received, not yet read.
    chunk: Bytes,
}

impl Response {
    pub(super) fn new(http: HttpClient, inner: reqwest::Response, asked: Asked) -> Self {
        Self {
            http,
            inner,
            asked,
            chunk: Bytes::new(),
        }
    }

    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    fn text(&self, name: reqwest::header::HeaderName) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// A header's value, by its name in lower case.
    pub fn header(&self, name: &'static str) -> Option<&str> {
        self.text(reqwest::header::HeaderName::from_static(name))
    }

    /// What was asked, for messages: `GET http://…`.
    pub fn asked(&self) -> String {
        format!("{} {}", self.asked.method, self.asked.url)
    }

    /// This answer as a failure that passes: a proxy says that the server is away.
    pub fn broken(&self) -> HttpError {
        let named = format!("{} {}: ", self.asked.method, self.asked.url);
        let refusal = self.refusal();
        let what = refusal.strip_prefix(&named).unwrap_or(&refusal);
        self.asked.error(HttpFailure::Broken, what)
    }

    /// `Content-Length`, in bytes. In the answer to HEAD it is the length a GET would have.
    pub fn length(&self) -> Option<u64> {
        self.text(CONTENT_LENGTH)?.trim().parse().ok()
    }

    /// Whether the end of the body can be told from a broken connection (RFC 9112 6.3).
    pub fn has_proven_end(&self) -> bool {
        self.length().is_some() || self.text(TRANSFER_ENCODING).is_some()
    }

    /// The entity tag as it came, weak or strong.
    pub fn etag(&self) -> Option<&str> {
        self.text(ETAG)
    }

    /// First and last byte and the whole size, of a 206 (RFC 9110 14.4).
    pub fn content_range(&self) -> Option<(u64, u64, u64)> {
        let range = self.text(CONTENT_RANGE)?.trim().strip_prefix("bytes")?;
        let (bounds, whole) = range.trim().split_once('/')?;
        let (first, last) = bounds.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        Some((number(first)?, number(last)?, number(whole)?))
    }

    /// The refusal that this answer is, as a sentence.
    pub fn refusal(&self) -> String {
        let refusal = super::refusal(&self.asked.method, &self.asked.url, self.status());
        match self.header(MIRROR_OF) {
            Some(origin) => format!("{refusal}: it is a mirror, send it to {origin}"),
            None => refusal,
        }
    }

    /// The beginning of the body as one line of text, without markup; `None` where there is none. Servers explain
    /// there what they refuse.
    pub fn words(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        // What came before it broke off is better than nothing.
        let _ = self.take(WORDS_READ).read_to_end(&mut bytes);
        words(&String::from_utf8_lossy(&bytes))
    }

    /// Waits for the next piece; `None` at the proven end.
    fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let limit = self.http.settings().stall;
        let inner = &mut self.inner;
        let next = self
            .http
            .0
            .handle
            .block_on(async { tokio::time::timeout(limit, inner.chunk()).await });
        match next {
            Err(_elapsed) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                self.asked.stalled(limit),
            )),
            Ok(Err(cause)) => Err(io::Error::other(self.asked.failed(cause))),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }
}

impl Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.chunk.is_empty() {
            match self.next_chunk()? {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk,
            }
        }
        let count = buf.len().min(self.chunk.len());
        let piece = self.chunk.split_to(count);
        buf[..count].copy_from_slice(&piece);
        Ok(count)
    }
}

/// Text without tags, each run of blanks one blank.
fn words(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        plain.push_str(before);
        plain.push(' ');
        rest = after.split_once('>').map_or("", |(_tag, after)| after);
    }
    plain.push_str(rest);
    let words: Vec<&str> = plain.split_whitespace().collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(WORDS_SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    (!line.is_empty()).then(|| printable(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_becomes_a_sentence() {
        let page = "<html>\r\n<body><h1>400 Bad Request</h1>\n<hr>\u{1b}nginx</body>\n";
        assert_eq!(words(page).as_deref(), Some("400 Bad Request \\u{1b}nginx"));
        assert_eq!(words("<br>\n"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_one_short_line(body in "\\PC{0,300}|[<> a\n]{0,900}") {
            if let Some(line) = words(&body) {
                prop_assert!(!line.contains('\n') && line.chars().count() <= 12 * WORDS_SHOWN);
            }
        }
    }
}
