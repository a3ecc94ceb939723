//! What a store says: tags, lists of parts, and errors, which may come late.

use super::{Listed, Object};
use crate::fetch::http::Response;
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use reqwest::StatusCode;
use std::fmt::Write as _;
use std::io::Read as _;

/// The longest answer that is read.
const LONGEST: u64 = 16 << 20;

/// Clocks that are farther apart may be why a store refuses a signature: it takes none that is a quarter of an hour off.
const APART: SignedDuration = SignedDuration::from_mins(5);

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

/// An answer that is no success, as an error. A clock that is wrong is named: signatures are good for a time. `clock` is
/// whose clock is in the signature, and what it says.
pub(super) fn refused(
    mut response: Response,
    clock: impl FnOnce() -> (String, Timestamp),
) -> anyhow::Error {
    let refusal = response.refusal();
    let date = response.header("date").map(str::to_owned);
    let forbidden = response.status() == StatusCode::FORBIDDEN;
    let words = response.words().unwrap_or_default();
    let about_time = [
        "RequestTimeTooSkewed",
        "expired",
        "AccessDenied Request has",
    ];
    let (whose, ours) = clock();
    let theirs = date.as_deref().and_then(http_time);
    // The answer to HEAD has no words.
    let apart = theirs.is_some_and(|theirs| theirs.duration_since(ours).abs() > APART);
    if about_time.iter().any(|part| words.contains(part)) || forbidden && apart {
        let words = if words.is_empty() {
            "no reason"
        } else {
            &words
        };
        let theirs = date.unwrap_or_else(|| "another time".into());
        return anyhow!(
            "{refusal}: {words}; {whose} says {ours:.0}, the store's {theirs}: set the clock"
        );
    }
    if words.is_empty() {
        anyhow!(refusal)
    } else {
        anyhow!("{refusal}: {words}")
    }
}

pub(super) fn text(response: &mut Response) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = response
        .by_ref()
        .take(LONGEST + 1)
        .read_to_string(&mut text)
        .context("reading the store's answer")?;
    // Half a list would be taken for all of it.
    if read as u64 > LONGEST {
        bail!("{}: the answer has no end", response.asked());
    }
    Ok(text)
}

/// Some requests are answered with 200 before the work is done: what went wrong then stands in the body.
pub(super) fn no_late_error(mut response: Response) -> anyhow::Result<()> {
    let text = text(&mut response)?;
    check_late_error(&text).map_err(|why| anyhow!("{}: {why}", response.asked()))
}

fn check_late_error(text: &str) -> Result<(), String> {
    let Some(error) = first(text, "Error") else {
        return Ok(());
    };
    let code = value(error, "Code").unwrap_or_else(|| "no code".into());
    let message = value(error, "Message").unwrap_or_default();
    Err(format!("the store gave up: {code} {message}"))
}

/// The id of an upload that begins.
pub(super) fn begun(mut response: Response) -> anyhow::Result<String> {
    let text = text(&mut response)?;
    value(&text, "UploadId")
        .filter(|id| !id.is_empty())
        .with_context(|| format!("{}: no upload began", response.asked()))
}

/// The parts that are told, and from where to ask for more.
pub(super) fn parts(mut response: Response) -> anyhow::Result<(Vec<Part>, Option<u16>)> {
    let text = text(&mut response)?;
    let parts = elements(&text, "Part").filter_map(part).collect();
    Ok((parts, more_parts(&text)))
}

pub(super) fn more_parts(text: &str) -> Option<u16> {
    let more = value(text, "IsTruncated").is_some_and(|more| more == "true");
    let next = value(text, "NextPartNumberMarker").and_then(|next| next.parse().ok());
    next.filter(|_| more)
}

pub(super) fn time(text: &str, name: &str) -> Option<Timestamp> {
    value(text, name).and_then(|time| time.parse().ok())
}

fn part(text: &str) -> Option<Part> {
    Some(Part {
        number: value(text, "PartNumber")?.parse().ok()?,
        tag: bare(&value(text, "ETag")?).to_owned(),
        size: value(text, "Size")?.parse().ok()?,
    })
}

/// The tag of a part that was copied.
pub(super) fn copied(mut response: Response, number: u16) -> anyhow::Result<Part> {
    let text = text(&mut response)?;
    if let Err(why) = check_late_error(&text) {
        bail!("{}: {why}", response.asked());
    }
    let tag = value(&text, "ETag");
    let tag = tag.with_context(|| format!("{}: no part was copied", response.asked()))?;
    Ok(Part {
        number,
        tag: bare(&tag).to_owned(),
        size: 0,
    })
}

/// What is in a folder, and from where to ask for more. Names are below `folder`, which ends in a slash or is empty.
pub(super) fn listed(
    mut response: Response,
    folder: &str,
) -> anyhow::Result<(Vec<Listed>, Option<String>)> {
    let text = text(&mut response)?;
    let below = |key: &str| {
        let name = key.strip_prefix(folder)?;
        (!name.is_empty()).then(|| name.to_owned())
    };
    let folders = elements(&text, "CommonPrefixes").filter_map(|common| {
        let key = value(common, "Prefix")?;
        Some(Listed {
            name: below(key.strip_suffix('/')?)?,
            object: None,
        })
    });
    let objects = elements(&text, "Contents").filter_map(|content| {
        let tag = value(content, "ETag").map(|tag| format!("\"{}\"", bare(&tag)));
        Some(Listed {
            // A key that ends in a slash stands for a folder.
            name: below(&value(content, "Key")?).filter(|name| !name.ends_with('/'))?,
            object: Some(Object {
                size: value(content, "Size")?.parse().ok()?,
                tag,
                modified: time(content, "LastModified"),
            }),
        })
    });
    let listed = folders.chain(objects).collect();
    let more = value(&text, "IsTruncated").is_some_and(|more| more == "true");
    let next = value(&text, "NextContinuationToken").filter(|_| more);
    Ok((listed, next))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7).
pub(super) fn http_time(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|time| time.timestamp())
}

/// What is between the tags of each element `name`. Stores differ in their root elements and namespaces, so these are not
/// looked at; no element that is read here has one of its own name in it.
pub(super) fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, attributes, close) = (
        format!("<{name}>"),
        format!("<{name} "),
        format!("</{name}>"),
    );
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = [&open, &attributes]
            .into_iter()
            .filter_map(|tag| rest.find(tag))
            .min()?;
        let (_, inside) = rest[at..].split_once('>')?;
        let (content, behind) = inside.split_once(&close)?;
        rest = behind;
        Some(content)
    })
}

fn first<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    elements(text, name).next()
}

/// The text of the first element `name`, with the five entities of XML read.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    let raw = first(text, name)?.trim();
    let mut plain = raw.to_owned();
    // `&amp;` last: what it makes is no entity.
    for (entity, character) in [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&apos;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        plain = plain.replace(entity, character);
    }
    Some(plain)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_that_comes_late_is_one() {
        let text = "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>a &amp; b</Message></Error>";
        assert_eq!(
            check_late_error(text).unwrap_err(),
            "the store gave up: InternalError a & b"
        );
        assert_eq!(check_late_error("<CompleteMultipartUploadResult/>"), Ok(()));
    }

    #[test]
    fn a_servers_time_is_read() {
        let time = http_time("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.to_string(), "1994-11-06T08:49:37Z");
        assert_eq!(http_time("yesterday"), None);
    }

    #[test]
    fn parts_are_read_whatever_the_root_is_called() {
        let text = "<ListPartsResult xmlns=\"x\"><Part><PartNumber>2</PartNumber><ETag>&quot;ab&quot;</ETag><Size>7</Size>\
                    </Part><Part><PartNumber>x</PartNumber></Part></ListPartsResult>";
        let parts: Vec<Part> = elements(text, "Part").filter_map(part).collect();
        let tag = "ab".to_owned();
        assert_eq!(
            parts,
            [Part {
                number: 2,
                tag,
                size: 7
            }]
        );
    }

    #[test]
    fn the_tag_of_parts_is_the_md5_of_their_md5s() {
        let part = |text: &str, number| Part {
            number,
            tag: md5_tag(text.as_bytes()),
            size: 1,
        };
        // printf a | md5sum, printf b | md5sum, both as bytes through md5sum.
        let tag = tag_of_parts(&[part("a", 1), part("b", 2)]);
        assert_eq!(tag.as_deref(), Some("96e024ba2074fe77e8e965ba43a704be-2"));
        let odd = Part {
            tag: "no-md5".into(),
            ..part("a", 1)
        };
        assert_eq!(tag_of_parts(&[odd]), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_not(text in "(</?(Error|Code|Part|ETag|Upload|Key)( x)?>|[a&;<>\"é]){0,40}") {
            let _ = check_late_error(&text);
            let _: Vec<_> = elements(&text, "Part").filter_map(part).collect();
            let _ = unhex(&text);
        }
    }
}
