//! What a TFTP name leads to: a host file, a configuration made for the asker, or a boot file.

use super::error;
use super::netascii::{NETASCII, Netascii};
use crate::file::Found;
use crate::path::RelPath;
use crate::reached::Asked;
use crate::site::Site;
use crate::{boot, hosts};
use pitstop_transport::fetch::tftp::packet::{Packet, Request, code};
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::net::IpAddr;

/// Bytes that are read from a file at once.
const READ_SIZE: usize = 64 << 10;

/// A file to be sent.
pub struct Content {
    pub bytes: Box<dyn Read>,
    /// Bytes of the file.
    pub length: u64,
}

/// Opens what `request` is about; the packet that says why not.
pub fn open(
    site: &Site,
    request: &Request,
    peer: IpAddr,
    asked: &Asked,
) -> Result<Content, Packet> {
    let as_text = match request.mode.as_str() {
        "octet" => false,
        NETASCII => true,
        _ => {
            return Err(error(
                code::ILLEGAL,
                "the only modes here are octet and netascii",
            ));
        }
    };
    let path = path(request).map_err(|why| error(code::ACCESS, why))?;
    let content = find(site, &path, peer, asked)?;
    Ok(if as_text {
        Content {
            bytes: Box::new(Netascii::new(content.bytes)),
            ..content
        }
    } else {
        content
    })
}

/// The path that a client means: loaders from Windows write backslashes.
fn path(request: &Request) -> Result<RelPath, String> {
    let name = request.name().map_err(|why| why.to_string())?;
    RelPath::from_text(&name.replace('\\', "/")).map_err(|why| why.to_string())
}

fn find(site: &Site, path: &RelPath, peer: IpAddr, asked: &Asked) -> Result<Content, Packet> {
    let reached = site.reached(asked);
    if boot::has_no_job(site, path, peer, &reached) {
        let why = "this machine has no job: its firmware goes on to its own disk";
        return Err(error(code::NOT_FOUND, why));
    }
    if let Some(text) = boot::generated(site, path, peer, &reached) {
        return Ok(Content {
            length: text.len() as u64,
            bytes: Box::new(Cursor::new(text)),
        });
    }
    if let Some(host) = path.below("hosts") {
        if let Some(tls) = &site.tls {
            let url = &tls.url;
            let why = format!("host files are served over https: {url}/hosts/{host}");
            return Err(error(code::ACCESS, why));
        }
        if hosts::is_hidden(&host) {
            return Err(error(code::NOT_FOUND, "no such file"));
        }
        return match hosts::open(site, &host, peer) {
            Ok(Found::File(file, metadata)) => Ok(content(file, metadata.len())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_transport::fetch::tftp::packet::Direction;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn named(file: &[u8]) -> Result<String, String> {
        let request = Request {
            direction: Direction::Read,
            file: file.to_vec(),
            mode: "octet".into(),
            options: Vec::new(),
        };
        path(&request).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn names_of_old_and_of_foreign_loaders_are_understood() {
        assert_eq!(
            named(b"boot\\x64\\wdsnbp.com\xff").as_deref(),
            Ok("boot/x64/wdsnbp.com")
        );
        assert_eq!(named(b"\\boot\\bcd").as_deref(), Ok("boot/bcd"));
        assert!(named(b"..\\share\\x").unwrap_err().contains("\"..\""));
        assert!(named(b"caf\xe9").unwrap_err().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_names_stays_below(file in prop::collection::vec(prop_oneof![
            Just(b'.'), Just(b'/'), Just(b'\\'), Just(0xff), any::<u8>(),
        ], 0..60)) {
            if let Ok(path) = named(&file) {
                let inside = Path::new(&path).components().all(|c| matches!(c, Component::Normal(_)));
                prop_assert!(inside && !path.contains('\\'), "{path}");
            }
        }
    }
}
