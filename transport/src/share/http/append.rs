//! Adding lines to a file that other machines add to as well: read, add, write back if nobody else did meanwhile.

use super::send;
use crate::fetch::HttpClient;
use crate::fetch::http::{Backoff, jittered};
use anyhow::{Context as _, bail};
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::io::Read as _;
use std::thread;
use std::time::Duration;
use url::Url;

/// A log that is larger cannot be held in a small machine's memory.
const LIMIT: u64 = 64 << 20;

/// How often another machine may come first.
const TRIES: u32 = 12;

/// How often a tag that stays weak is waited for: some servers have no others.
const PATIENT_TRIES: u32 = 4;

/// Apache's tags are weak for the first second of a file's life: they could name two states.
const TAG_SETTLES: Duration = Duration::from_millis(1100);

/// The file as it was read.
struct Held {
    bytes: Vec<u8>,
    /// `None` when there is no file.
    tag: Option<Tag>,
}

enum Tag {
    Strong(String),
    Weak,
    Absent,
}

pub(super) fn append(http: &HttpClient, url: &Url, text: &str) -> anyhow::Result<()> {
    let mut wait = Duration::from_millis(50);
    let mut backoff = Backoff::new(http);
    let (mut tries, mut lost) = (0, false);
    while tries < TRIES {
        tries += 1;
        let mut held = read(http, url)?;
        if lost && contains(&held.bytes, text.as_bytes()) {
            return Ok(());
        }
        if matches!(held.tag, Some(Tag::Weak)) && tries < PATIENT_TRIES {
            thread::sleep(TAG_SETTLES);
            held = read(http, url)?;
            if matches!(held.tag, Some(Tag::Weak)) {
                // Somebody else wrote meanwhile.
                continue;
            }
        }
        if held.bytes.last().is_some_and(|last| *last != b'\n') {
            held.bytes.push(b'\n');
        }
        held.bytes.extend_from_slice(text.as_bytes());
        let put = http.request(Method::PUT, url);
        let put = match &held.tag {
            None => put.header("if-none-match", "*"),
            Some(Tag::Strong(tag)) => put.header("if-match", tag),
            // Nothing to hold the server to: another machine's line can be lost.
            Some(Tag::Weak | Tag::Absent) => put,
        };
        let response = match put.body(held.bytes).send() {
            Ok(response) => response,
            // The answer may be lost, the lines not: reading tells.
            Err(error) if error.failure.is_passing() && backoff.again(&error) => {
                lost = true;
                tries -= 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match response.status() {
            status if status.is_success() => return Ok(()),
            // Somebody else's lines came first; 409 is what some servers say of two writers at once.
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT if tries < TRIES => {
                thread::sleep(jittered(wait));
                wait = (wait * 2).min(Duration::from_secs(1));
            }
            _ => bail!(response.refusal()),
        }
    }
    bail!("{}: other machines kept writing to it", redacted(url))
}

/// Whether the lines are among the last of the log: each has its time, so no other machine wrote the same.
fn contains(log: &[u8], lines: &[u8]) -> bool {
    !lines.is_empty() && log.windows(lines.len()).rev().any(|part| part == lines)
}

fn read(http: &HttpClient, url: &Url) -> anyhow::Result<Held> {
    let response = send(|| {
        http.request(Method::GET, url)
            .header("cache-control", "no-cache")
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Ok(Held {
                bytes: Vec::new(),
                tag: None,
            });
        }
        _ => bail!(response.refusal()),
    }
    let shown = redacted(url);
    if !response.has_proven_end() {
        bail!("GET {shown}: the server does not tell the file's size");
    }
    let tag = match response.etag() {
        None => Tag::Absent,
        Some(tag) if tag.starts_with("W/") => Tag::Weak,
        Some(tag) => Tag::Strong(tag.to_owned()),
    };
    let mut bytes = Vec::new();
    response
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {shown}"))?;
    if bytes.len() as u64 > LIMIT {
        let limit = pitstop_imaging::units::bytes(LIMIT);
        bail!("{shown} is larger than {limit}: move the old log away");
    }
    Ok(Held {
        bytes,
        tag: Some(tag),
    })
}
