//! What a TFTP name leads to: a host file, a configuration made for the asker, or a boot file.

use super::error;
use crate::boot;
use crate::file::{self, Found};
use crate::path::RelPath;
use crate::site::Site;
use pitstop_transport::fetch::tftp::packet::{Packet, Request, code};
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::net::IpAddr;

/// Bytes that are read from a file at once.
const READ_SIZE: usize = 64 << 10;

/// A file to be sent.
pub struct Content {
    pub bytes: Box<dyn Read>,
    /// Bytes.
    pub length: u64,
}

/// Opens what `request` is about; the packet that says why not.
pub fn open(site: &Site, request: &Request, peer: IpAddr, url: &str) -> Result<Content, Packet> {
    if request.mode != "octet" {
        return Err(error(code::ILLEGAL, "the only mode here is octet"));
    }
    let path =
        RelPath::from_text(&request.file).map_err(|why| error(code::ACCESS, why.to_string()))?;
    find(site, &path, peer, url)
}

fn find(site: &Site, path: &RelPath, peer: IpAddr, url: &str) -> Result<Content, Packet> {
    if let Some(text) = boot::generated(site, path, url) {
        return Ok(Content {
            length: text.len() as u64,
            bytes: Box::new(Cursor::new(text)),
        });
    }
    if let Some(host) = path.below("hosts") {
        if host.as_str().starts_with('.') {
            return Err(error(code::NOT_FOUND, "no such file"));
        }
        return match file::open(&site.hosts, &host) {
            Ok(Found::File(file, metadata)) => {
                site.claims.read_by(&host, peer);
                Ok(content(file, metadata.len()))
            }
            Ok(Found::Folder(_)) => Err(error(code::NOT_FOUND, "it is a folder")),
            Err(refusal) if refusal.status == axum::http::StatusCode::NOT_FOUND => {
                Err(error(code::NOT_FOUND, "no such file"))
            }
            Err(refusal) => Err(error(code::ACCESS, refusal.reason)),
        };
    }
    let opened = boot::open(site, path)
        .and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
    match opened {
        Ok((file, length)) => Ok(content(file, length)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            Err(error(code::NOT_FOUND, "no such file"))
        }
        Err(cause) => Err(error(code::ACCESS, cause.to_string())),
    }
}

fn content(file: cap_std::fs::File, length: u64) -> Content {
    Content {
        bytes: Box::new(BufReader::with_capacity(READ_SIZE, file)),
        length,
    }
}
