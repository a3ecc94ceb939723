//! Listings of folders: HTML for people, JSON for programs.

use crate::path::RelPath;
use crate::refusal::Refusal;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use cap_std::fs::Dir;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use std::fmt::Write;
use std::time::UNIX_EPOCH;

/// RFC 3986 2.3: what need not be encoded in a path component.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Something in a folder.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    #[serde(rename = "type")]
    kind: Kind,
    /// Bytes; nothing for a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// RFC 3339, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
}

#[derive(Debug, Serialize, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Folder,
    File,
}

impl Entry {
    /// Of a file its bytes and when it was last changed, where that is known; `None` of a folder.
    pub fn new(name: String, file: Option<(u64, Option<Timestamp>)>) -> Self {
        let seconds = |time: Timestamp| Timestamp::from_second(time.as_second()).ok();
        let modified = file.and_then(|(_, modified)| modified).and_then(seconds);
        Self {
            name,
            kind: if file.is_some() {
                Kind::File
            } else {
                Kind::Folder
            },
            size: file.map(|(size, _)| size),
            modified: modified.map(|time| time.to_string()),
        }
    }
}

/// Folders first, by name.
pub fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
}

/// Reads a folder, folders first, by name. Names that begin with a dot and names that are not UTF-8 are left out.
pub fn read(folder: &Dir, shown: &str) -> Result<Vec<Entry>, Refusal> {
    let refuse = |error: &std::io::Error| Refusal::io(&format!("listing {shown}"), error);
    let mut entries = Vec::new();
    for entry in folder.entries().map_err(|e| refuse(&e))? {
        let entry = entry.map_err(|e| refuse(&e))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Nor what no request can name.
        if name.starts_with('.') || RelPath::from_text(&name).is_err() {
            continue;
        }
        // Followed, so that a symlink within the share looks like what it leads to. One that leads
        // out, or a file that has just gone, cannot be opened either: it is not listed.
        let Ok(metadata) = folder.metadata(&name) else {
            continue;
        };
        let file = metadata.is_file();
        if !file && !metadata.is_dir() {
            continue;
        }
        let seconds = metadata
            .modified()
            .ok()
            .and_then(|time| time.into_std().duration_since(UNIX_EPOCH).ok())
            .and_then(|age| i64::try_from(age.as_secs()).ok());
        entries.push(Entry {
            name,
            kind: if file { Kind::File } else { Kind::Folder },
            size: file.then(|| metadata.len()),
            modified: seconds
                .and_then(|s| jiff::Timestamp::from_second(s).ok())
                .map(|time| time.to_string()),
        });
    }
    sort(&mut entries);
    Ok(entries)
}

/// Answers with the entries of the folder at `path` in the form the client asks for.
pub fn answer(entries: &[Entry], path: &str, headers: &HeaderMap) -> Response {
    let json = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    let mut response = if json {
        axum::Json(entries).into_response()
    } else {
        Html(html(entries, path)).into_response()
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().insert(header::VARY, vary);
    response
}

fn html(entries: &[Entry], path: &str) -> String {
    let title = escape(path);
    let mut page = format!(
        "<!DOCTYPE html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>\n<table>\n\
         <tr><td><a href=\"../\">../</a>\n"
    );
    for entry in entries {
        let slash = if entry.kind == Kind::Folder { "/" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "<tr><td><a href=\"./{}{slash}\">{}{slash}</a><td align=right>{}<td>{}",
            component(&entry.name),
            escape(&entry.name),
            entry
                .size
                .map(pitstop_imaging::units::bytes)
                .unwrap_or_default(),
            entry.modified.as_deref().unwrap_or_default(),
        );
    }
    page.push_str("</table>\n");
    page
}

/// A name as one component of a link.
pub fn component(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, COMPONENT)
}

/// Text for HTML, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn a_listing_has_what_can_be_fetched() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("b & <c>.gz"), [0; 2048]).unwrap();
        std::fs::write(temp.path().join(".hidden"), "").unwrap();
        std::fs::write(temp.path().join("a\u{1b}[2J"), "").unwrap();
        std::fs::create_dir(temp.path().join("z")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("out")).unwrap();
        let folder = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        let entries = read(&folder, "share").unwrap();
        let names: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.kind, e.size))
            .collect();
        assert_eq!(
            names,
            [
                ("z", Kind::Folder, None),
                ("b & <c>.gz", Kind::File, Some(2048))
            ]
        );
        let page = html(&entries, "/share/<x>");
        assert!(page.contains("<h1>/share/&lt;x&gt;</h1>"), "{page}");
        assert!(
            page.contains(
                "<a href=\"./b%20%26%20%3Cc%3E.gz\">b &amp; &lt;c&gt;.gz</a><td align=right>2.0 KiB"
            ),
            "{page}"
        );
    }
}
