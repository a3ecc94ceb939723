//! `pitstop torrent IMAGE`: a torrent (version 1, BEP 3) of an image with its server as the web seed (BEP 19), so that servers of
//! several sites copy it from each other.

mod bencode;

use super::place::{Destination, is_local, source, url};
use anyhow::{Context, bail};
use bencode::Value;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::image::members::{FOOTER, begins_like_indexed, parse_footer};
use pitstop_imaging::units;
use pitstop_protocol::redacted;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use url::Url;

/// What clients are known to take.
const SMALLEST: u64 = 16 << 10;
const LARGEST: u64 = 64 << 20;
/// Pieces of this size, and larger ones where there would be more than [`MOST`].
const USUAL: u64 = 256 << 10;
const USUAL_MOST: u64 = 16 << 20;
const MOST: u64 = 2000;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop torrent golden/sda.raw.gz --url http://192.168.1.10:8080/share/golden/sda.raw.gz
  pitstop torrent http://192.168.1.10:8080/share/golden/sda.raw.gz -o sda.raw.gz.torrent
  pitstop torrent golden/sda.raw.gz --tracker http://tracker:6969/announce

Any BitTorrent client that takes web seeds gets the image by it, from the server alone or from others that have it already.")]
pub struct Args {
    /// A path or an `http(s)://` URL
    image: String,
    /// The image's URL on a server that has it: the web seed; may be repeated [default: IMAGE, if that is a URL]
    #[arg(long, value_parser = seed)]
    url: Vec<String>,
    /// A tracker that clients find each other by: http, https or udp; may be repeated
    #[arg(long, value_name = "URL", value_parser = tracker)]
    tracker: Vec<String>,
    /// Bytes of a piece: a power of two [default: by the image's size, from 256KiB to 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = piece_size)]
    piece_size: Option<u64>,
    /// The file to write [default: IMAGE.torrent, of a URL in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Replace a torrent that is there
    #[arg(long)]
    force: bool,
}

fn seed(text: &str) -> Result<String, String> {
    web(text, &["http", "https"])
}

/// The image's own URL, where nobody said which one others should use.
fn own_seed(url: &Url) -> Result<String, String> {
    // A presigned one is good for whoever has it.
    if url.query().is_some() {
        return Err("everybody who has the torrent would see what is behind its ?".into());
    }
    seed(url.as_str())
}

fn tracker(text: &str) -> Result<String, String> {
    web(text, &["http", "https", "udp"])
}

/// A torrent goes from hand to hand: there is no place for a password in it.
fn web(text: &str, schemes: &[&str]) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("it is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("everybody who has the torrent would see the name and the password".into());
    }
    if !schemes.contains(&url.scheme()) || !url.has_host() {
        return Err(format!("write a URL of {}", schemes.join(", ")));
    }
    Ok(url.into())
}

fn piece_size(text: &str) -> Result<u64, String> {
    let size = units::parse_bytes(text)?;
    if !size.is_power_of_two() || !(SMALLEST..=LARGEST).contains(&size) {
        return Err(format!(
            "write a power of two from {} to {}",
            units::bytes(SMALLEST),
            units::bytes(LARGEST)
        ));
    }
    Ok(size)
}

/// Bytes of a piece of an image of `size` bytes.
fn usual_piece(size: u64) -> u64 {
    let mut piece = USUAL;
    while piece < USUAL_MOST && size.div_ceil(piece) > MOST {
        piece *= 2;
    }
    piece
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut seeds = args.url.clone();
    let (name, beside) = name(&args.image)?;
    if seeds.is_empty()
        && let Some(own) = url(&args.image)?
    {
        let own = own_seed(&own).map_err(anyhow::Error::msg);
        seeds.push(own.with_context(|| format!("{name}: give its URL with --url"))?);
    }
    if seeds.is_empty() && args.tracker.is_empty() {
        bail!(
            "nobody would find {name}: give the URL that a server has it under, --url URL, or a --tracker URL"
        );
    }
    let output = args.output.clone().unwrap_or(format!("{beside}.torrent"));
    let destination = Destination::new(&output, args.force)?;
    let image = source(&args.image)?;
    check_whole(&*image)?;
    let size = image.size();
    let piece = args.piece_size.unwrap_or_else(|| usual_piece(size));
    let pieces = hashes(&*image, piece)?;
    let count = pieces.len() / 20;
    let info = Value::Dictionary(BTreeMap::from([
        ("length", Value::Number(size)),
        ("name", Value::text(&name)),
        ("piece length", Value::Number(piece)),
        ("pieces", Value::Bytes(pieces)),
    ]));
    let mut hash = String::new();
    for byte in Sha1::digest(info.encode()) {
        write!(hash, "{byte:02x}")?;
    }
    let torrent = torrent(info, &seeds, &args.tracker).encode();
    destination.write(|out| {
        out.write_all(&torrent)
            .with_context(|| format!("writing {output}"))?;
        Ok(None)
    })?;
    let line = format!(
        "{output}: {name}, {} in {count} pieces of {}, info hash {hash}\n",
        units::bytes(size),
        units::bytes(piece)
    );
    io::stdout()
        .write_all(line.as_bytes())
        .context("writing to standard output")
}

/// The name of an image's file, and the path that the torrent's begins with.
fn name(image: &str) -> anyhow::Result<(String, String)> {
    let (path, shown) = match url(image)? {
        None => (image.to_owned(), image.to_owned()),
        Some(url) => {
            let last = url.path_segments().and_then(|mut parts| parts.next_back());
            let last = percent_encoding::percent_decode_str(last.unwrap_or_default());
            (last.decode_utf8_lossy().into_owned(), redacted(&url))
        }
    };
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    if name.is_empty() || name == "." || name == ".." {
        bail!("{shown} does not end in a file name");
    }
    let beside = if is_local(image) { path } else { name.clone() };
    Ok((name, beside))
}

fn torrent(info: Value, seeds: &[String], trackers: &[String]) -> Value {
    let list = |texts: &[String]| Value::List(texts.iter().map(|text| Value::text(text)).collect());
    let mut all = BTreeMap::from([
        (
            "created by",
            Value::text(concat!("pitstop ", env!("CARGO_PKG_VERSION"))),
        ),
        ("info", info),
    ]);
    if let Some(first) = trackers.first() {
        all.insert("announce", Value::text(first));
    }
    if trackers.len() > 1 {
        let tiers = trackers.iter().map(|one| list(std::slice::from_ref(one)));
        all.insert("announce-list", Value::List(tiers.collect()));
    }
    if !seeds.is_empty() {
        all.insert("url-list", list(seeds));
    }
    Value::Dictionary(all)
}

/// An image that is cut short would be copied as it is.
fn check_whole(image: &dyn ImageSource) -> anyhow::Result<()> {
    let size = image.size();
    let name = image.name();
    if size == 0 {
        bail!("{name} is empty");
    }
    let mut start = [0; 20];
    if size < start.len() as u64 {
        return Ok(());
    }
    image.read_exact_at(&mut start, 0)?;
    let mut footer = [0; FOOTER];
    if begins_like_indexed(&start) {
        let at = size.checked_sub(FOOTER as u64);
        let at = at.with_context(|| format!("{name} is cut short"))?;
        image.read_exact_at(&mut footer, at)?;
        parse_footer(&footer, size).with_context(|| format!("{name} is not whole"))?;
    }
    Ok(())
}

/// SHA-1 of each piece, one behind the other.
fn hashes(image: &dyn ImageSource, piece: u64) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("reading {}", image.name());
    let mut stream = image.stream_from(0).with_context(reading)?;
    let mut hashes = Vec::new();
    let mut left = image.size();
    let mut buffer = vec![0; usize::try_from(piece)?];
    while left > 0 {
        let length = usize::try_from(piece.min(left))?;
        let bytes = &mut buffer[..length];
        stream.read_exact(bytes).with_context(reading)?;
        hashes.extend(Sha1::digest(bytes));
        left -= length as u64;
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_with_the_image() {
        let mib = 1 << 20;
        for (size, piece) in [
            (1, 256 << 10),
            (500 * mib, 256 << 10),
            (600 * mib, 512 << 10),
            (8 << 30, 8 * mib),
            (1 << 40, 16 * mib),
        ] {
            assert_eq!(usual_piece(size), piece, "{size}");
        }
        assert_eq!(piece_size("1MiB"), Ok(mib));
        for wrong in ["3MiB", "8KiB", "128MiB", "x"] {
            piece_size(wrong).unwrap_err();
        }
    }

    #[test]
    fn a_torrent_carries_no_password() {
        for text in [
            "http://me:s3cret@server/x",
            "ftp://server/x",
            "x",
            "udp://tracker:1/",
        ] {
            assert!(!seed(text).unwrap_err().contains("s3cret"));
        }
        assert_eq!(tracker("udp://tracker:6969").unwrap(), "udp://tracker:6969");
        let own = |text: &str| own_seed(&Url::parse(text).unwrap());
        assert_eq!(own("http://server/x").unwrap(), "http://server/x");
        for text in ["http://me:s3cret@server/x", "http://server/x?Sig=s3cret"] {
            assert!(!own(text).unwrap_err().contains("s3cret"));
        }
        let nameless = name("http://me:s3cret@server/").unwrap_err();
        assert!(!nameless.to_string().contains("s3cret"), "{nameless}");
    }
}
