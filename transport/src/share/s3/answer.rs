//! What a store says: tags, lists of parts, and errors, which may come late.

use crate::fetch::http::Response;
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use bytes::Bytes;
use instant_xml::FromXml;
use md5::{Digest as _, Md5};
use rusty_s3::actions::{CreateMultipartUpload, ListParts};
use std::fmt::Write as _;
use std::io::Read as _;

/// The namespace of what a store answers.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The longest answer that is read.
const LONGEST: u64 = 4 << 20;

/// A part that the store has: its number and tag, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub number: u16,
    pub tag: String,
    pub size: u64,
}

/// `Content-MD5` (RFC 1864): the store refuses bytes that were changed on the way.
pub(super) fn md5_for_header(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(Md5::digest(bytes))
}

/// The tag that a store gives an object or a part that it does not encrypt with a key of its own.
pub(super) fn md5_tag(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// The tag of an object made of parts with these tags; `None` where one is no MD5.
pub(super) fn tag_of_parts(parts: &[Part]) -> Option<String> {
    let mut all = Md5::new();
    for part in parts {
        all.update(unhex(&part.tag)?);
    }
    Some(format!("{}-{}", hex(&all.finalize()), parts.len()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(tag: &str) -> Option<Vec<u8>> {
    if tag.len() != 32 || !tag.is_ascii() {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(&tag[at..at + 2], 16).ok();
    (0..32).step_by(2).map(pair).collect()
}

/// The tag of what was put, without quotes; `None` where the store tells none, or one that is no MD5: it encrypts
/// with a key of its own.
pub(super) fn md5_told(response: &Response) -> Option<String> {
    let encrypted = response
        .header("x-amz-server-side-encryption")
        .is_some_and(|kind| kind != "AES256")
        || response
            .header("x-amz-server-side-encryption-customer-algorithm")
            .is_some();
    let tag = bare(response.etag()?).to_owned();
    (!encrypted && unhex(&tag).is_some()).then_some(tag)
}

/// A tag without its quotes.
pub(super) fn bare(tag: &str) -> &str {
    tag.trim().trim_matches('"')
}

/// An answer that is no success, as an error. A clock that is wrong is named: signatures are good for a time.
pub(super) fn refused(mut response: Response) -> anyhow::Error {
    let refusal = response.refusal();
    let theirs = response.header("date").map(str::to_owned);
    let words = response.words().unwrap_or_default();
    let about_time = ["RequestTimeTooSkewed", "expired", "AccessDenied Request has"];
    if about_time.iter().any(|part| words.contains(part)) {
        let ours = jiff::Timestamp::now();
        let theirs = theirs.unwrap_or_else(|| "another time".into());
        return anyhow!(
            "{refusal}: {words}; this machine's clock says {ours:.0}, the store's {theirs}: set the clock"
        );
    }
    if words.is_empty() {
        anyhow!(refusal)
    } else {
        anyhow!("{refusal}: {words}")
    }
}

fn text(response: &mut Response) -> anyhow::Result<String> {
    let mut text = String::new();
    response
        .take(LONGEST)
        .read_to_string(&mut text)
        .context("reading the store's answer")?;
    Ok(text)
}

/// Some requests are answered with 200 before the work is done: what went wrong then stands in the body.
pub(super) fn no_late_error(mut response: Response) -> anyhow::Result<()> {
    let text = text(&mut response)?;
    check_late_error(&text).map_err(|why| anyhow!("{}: {why}", response.asked()))
}

fn check_late_error(text: &str) -> Result<(), String> {
    if !text.contains("<Error>") && !text.contains("<Error ") {
        return Ok(());
    }
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0)
    };
    Err(format!(
        "the store gave up: {} {}",
        part("Code").unwrap_or("no code"),
        part("Message").unwrap_or_default()
    ))
}

/// The id of an upload that begins.
pub(super) fn begun(mut response: Response) -> anyhow::Result<String> {
    let text = text(&mut response)?;
    let parsed = CreateMultipartUpload::parse_response(&text);
    let parsed = parsed.with_context(|| format!("{}: no upload began", response.asked()))?;
    Ok(parsed.upload_id().to_owned())
}

/// The parts that are told, and from where to ask for more.
pub(super) fn parts(mut response: Response) -> anyhow::Result<(Vec<Part>, Option<u16>)> {
    let text = text(&mut response)?;
    let listed = ListParts::parse_response(&text)
        .with_context(|| format!("{}: no list of parts came", response.asked()))?;
    let parts = listed.parts.into_iter().map(|part| Part {
        number: part.number,
        tag: bare(&part.etag).to_owned(),
        size: part.size,
    });
    Ok((parts.collect(), listed.next_part_number_marker))
}

#[derive(FromXml)]
#[xml(rename = "CopyPartResult", ns(NAMESPACE))]
struct CopyPartResult {
    #[xml(rename = "ETag")]
    tag: String,
}

/// The tag of a part that was copied.
pub(super) fn copied(mut response: Response, number: u16) -> anyhow::Result<Part> {
    let text = text(&mut response)?;
    if let Err(why) = check_late_error(&text) {
        bail!("{}: {why}", response.asked());
    }
    let copied: CopyPartResult = instant_xml::from_str(&text)
        .with_context(|| format!("{}: no part was copied", response.asked()))?;
    Ok(Part {
        number,
        tag: bare(&copied.tag).to_owned(),
        size: 0,
    })
}

#[derive(FromXml)]
#[xml(rename = "ListMultipartUploadsResult", ns(NAMESPACE))]
struct Uploads {
    uploads: Vec<Upload>,
}

#[derive(FromXml)]
#[xml(rename = "Upload", ns(NAMESPACE))]
struct Upload {
    #[xml(rename = "Key")]
    key: String,
    #[xml(rename = "UploadId")]
    id: String,
    #[xml(rename = "Initiated")]
    initiated: String,
}

/// The newest upload of `key` that has not ended.
pub(super) fn newest_upload(mut response: Response, key: &str) -> anyhow::Result<Option<String>> {
    let text = text(&mut response)?;
    let listed: Uploads = instant_xml::from_str(&text)
        .with_context(|| format!("{}: no list of uploads came", response.asked()))?;
    let of_key = listed.uploads.into_iter().filter(|upload| upload.key == key);
    let newest = of_key.max_by(|a, b| a.initiated.cmp(&b.initiated));
    Ok(newest.map(|upload| upload.id))
}

/// The body that ends an upload.
pub(super) fn list_of_parts(parts: &[Part]) -> Bytes {
    let mut text = String::from("<CompleteMultipartUpload>");
    for part in parts {
        let tag: String = part
            .tag
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.+/=".contains(*c))
            .collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "<Part><PartNumber>{}</PartNumber><ETag>&quot;{tag}&quot;</ETag></Part>",
            part.number
        );
    }
    text.push_str("</CompleteMultipartUpload>");
    Bytes::from(text)
}
