//! Where images are on a command line: paths and URLs, and how their progress is shown.

mod beside;
mod capture;
pub mod encrypted;
pub mod signed;

use crate::job_options::{JobOptions, Which};
use anyhow::{Context, anyhow, bail};
use beside::Beside;
use nix::libc;
use percent_encoding::percent_decode_str;
use pitstop_imaging::disk::is_device_path;
use pitstop_imaging::event::{Event, Level, Reporter};
use pitstop_imaging::image::{FileSource, ImageMeta, ImageSource};
use pitstop_imaging::render::{Output, Renderer, Style};
use pitstop_protocol::job::{JobOption, Mirror, check_folder, parse_rate};
use pitstop_protocol::redacted;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::fetch::{HttpClient, Listener, Roots, Settings};
use pitstop_transport::share::{
    DirectoryShare, HttpImage, HttpShare, Keys, Mirrored, RelayAt, S3Share, Share, Signer,
    Throttle, Throttled, relay_at,
};
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Stderr, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use url::Url;

const WIDTH: usize = 80;

/// Places that people name and that are not reached from a command line.
const OTHER_SCHEMES: [&str; 9] = [
    "nfs", "ftp", "ftps", "sftp", "tftp", "file", "smb", "ssh", "rsync",
];

/// The option that both directions have.
pub struct RateLimited;

impl Which for RateLimited {
    fn has(option: &JobOption) -> bool {
        option.key == "rate-limit"
    }
}

pub type RateLimit = JobOptions<RateLimited>;

impl RateLimit {
    pub fn rate(&self) -> anyhow::Result<Option<NonZeroU64>> {
        let text = self.text("rate-limit");
        text.map(parse_rate).transpose().map_err(|why| anyhow!(why))
    }
}

/// A source, slowed down where that is asked for.
pub fn slowed(source: Box<dyn ImageSource>, limit: Option<NonZeroU64>) -> Box<dyn ImageSource> {
    match limit {
        Some(rate) => Box::new(Throttled::new(source, Throttle::new(rate))),
        None => source,
    }
}

/// [`source`], whose chunks come from mirrors where they have them.
///
/// # Errors
/// Also for mirrors of a path: nothing is nearer.
pub fn near_source(
    image: &str,
    mirrors: &[Mirror],
    reporter: Listener,
) -> anyhow::Result<Box<dyn ImageSource>> {
    let own = source(image)?;
    if mirrors.is_empty() {
        return Ok(own);
    }
    let in_store = image.starts_with("s3://");
    if !in_store && is_local(image) {
        bail!("{image} is a path: a mirror is for an image on a server, named by its URL");
    }
    let paths = paths_on_mirrors(image)?;
    let settings = Settings {
        reporter,
        ..client()?.settings().clone()
    };
    Ok(Mirrored::of(own, &paths, mirrors, &settings)?)
}

/// Where a copy of the share has the image at a URL, and a folder of single images. The server's name is no folder, and in front of it
/// may be a password: both stay here.
fn paths_on_mirrors(image: &str) -> anyhow::Result<Vec<String>> {
    let below = match url(image)? {
        Some(url) => url.path().to_owned(),
        // Behind s3://BUCKET/.
        None => image.splitn(4, '/').nth(3).unwrap_or_default().to_owned(),
    };
    let below = below.split('?').next().unwrap_or_default();
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let parts = below.split('/').filter(|part| !part.is_empty());
    let parts: Vec<String> = parts.map(decoded).collect();
    Ok(match &parts[..] {
        [] => Vec::new(),
        [name] => vec![name.clone()],
        [.., folder, name] => vec![format!("{folder}/{name}"), name.clone()],
    })
}

/// The image at a path, an `http(s)://` or an `s3://` URL, for reading.
pub fn source(image: &str) -> anyhow::Result<Box<dyn ImageSource>> {
    if let Some((share, name)) = in_store(image)? {
        return share.image(&name);
    }
    Ok(match url(image)? {
        Some(url) => Box::new(HttpImage::open(&client()?, &url)?),
        None => Box::new(FileSource::open(Path::new(image))?),
    })
}

/// Where the server of an image says who else has it; `None` of a path, and of a server that does not.
pub fn relay_of(image: &str) -> anyhow::Result<Option<RelayAt>> {
    match url(image)? {
        Some(url) => relay_at(&client()?, &url),
        None => Ok(None),
    }
}

/// Where a new image goes.
pub enum Destination {
    /// Under its name only when it is whole.
    File { share: Box<dyn Share>, name: String },
    /// A pipe, or `/dev/null` to measure with: nothing to rename there.
    Stream(File),
}

impl Destination {
    /// # Errors
    /// When the folder cannot be reached, or has a file of that name and `force` is not given.
    pub fn new(image: &str, force: bool) -> anyhow::Result<Self> {
        if image == "-" {
            bail!("- is no name of an image: to write it to a pipe, say /dev/stdout");
        }
        if let Some((share, name)) = in_store(image)? {
            return Self::File {
                share: Box::new(share),
                name,
            }
            .kept(image, force);
        }
        let mut shown = image.to_owned();
        let (share, name): (Box<dyn Share>, String) = match url(image)? {
            Some(url) => {
                shown = redacted(&url);
                if url.query().is_some() {
                    bail!(
                        "{shown} has a ? part: a presigned URL cannot take an image, because the image is first \
                         written under another name"
                    );
                }
                let (base, name) = split(&url)?;
                (Box::new(HttpShare::new(&base, &client()?)), name)
            }
            None => match local(image)? {
                Local::Stream(file) => return Ok(Self::Stream(file)),
                Local::File(share, name) => (Box::new(share), name),
            },
        };
        Self::File { share, name }.kept(&shown, force)
    }

    /// Itself, unless a file is there that must not be replaced.
    fn kept(self, shown: &str, force: bool) -> anyhow::Result<Self> {
        if !force
            && let Self::File { share, name } = &self
            && share.stat(name)?.is_some()
        {
            bail!("{shown} is there already: remove it, or say --force to replace it");
        }
        Ok(self)
    }

    /// Slows the writing down where that is asked for; a pipe goes as fast as its reader.
    #[must_use]
    pub fn slowed(self, limit: Option<NonZeroU64>) -> Self {
        match (self, limit) {
            (Self::File { share, name }, Some(rate)) => Self::File {
                share: Box::new(Throttled::new(share, Throttle::new(rate))),
                name,
            },
            (other, _) => other,
        }
    }

    /// Has `fill` write the image; puts it under its name, and what it returns beside it as `.toml`.
    pub fn write(
        &self,
        fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<Option<ImageMeta>>,
    ) -> anyhow::Result<()> {
        self.write_described(|out| fill(out)?.map(|meta| meta.to_toml()).transpose())
    }

    /// The same, where `fill` returns the text of the `.toml` as it is to be.
    pub fn write_described(
        &self,
        fill: impl FnOnce(&mut (dyn Write + Send)) -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<()> {
        let (share, name) = match self {
            Self::Stream(stream) => {
                let mut stream = stream.try_clone().context("opening the output")?;
                return fill(&mut stream).map(|_| ());
            }
            Self::File { share, name } => (share, name),
        };
        let mut pending = share.create(name)?;
        let meta = fill(&mut pending)?;
        let beside = meta.map(|meta| Beside::write(&**share, name, &meta));
        let beside = beside.transpose()?;
        pending.finish()?;
        beside.map_or(Ok(()), Beside::take_name)
    }
}

/// The bucket and the key that an `s3://` URL names; `None` for any other image.
fn in_store(image: &str) -> anyhow::Result<Option<(S3Share, String)>> {
    if !image.starts_with("s3://") {
        return Ok(None);
    }
    let ShareUrl::S3(mut url) = image.parse()? else {
        bail!("{image} is not in a store");
    };
    let key = std::mem::take(&mut url.prefix);
    if key.is_empty() {
        bail!("{url} is a bucket: name the image in it, as s3://bucket/10.0.2.15/sda.raw.gz");
    }
    let keys = Keys::from_environment()?.with_context(|| {
        format!(
            "there are no keys for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into \
             ~/.aws/credentials"
        )
    })?;
    let signer = Signer::new(&url, &keys)?;
    Ok(Some((S3Share::new(&url, &client()?, signer), key)))
}

enum Local {
    Stream(File),
    File(DirectoryShare, String),
}

/// Whether what is at a path is written to as it is, as a pipe or `/dev/stdout`: no file takes its place.
pub fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_char_device() || kind.is_fifo()
    })
}

/// What a path leads to: a link stays one, and what is written takes the place of that. A pipe or a socket behind
/// `/dev/stdout` has no name of its own: the path is its name.
///
/// # Errors
/// A link that leads nowhere.
pub fn led_to(path: &Path) -> anyhow::Result<PathBuf> {
    if let Ok(real) = fs::canonicalize(path) {
        return Ok(real);
    }
    if path.is_symlink() && !path.exists() {
        bail!(
            "{} is a link, and what it leads to is not there: make that, or remove the link",
            path.display()
        );
    }
    Ok(path.to_owned())
}

fn local(image: &str) -> anyhow::Result<Local> {
    if image.ends_with('/') {
        bail!("{image} is the name of a folder: name the image in it");
    }
    let path = led_to(Path::new(image))?;
    let path = path.as_path();
    let shown = path.display();
    if let Ok(found) = fs::metadata(path) {
        let kind = found.file_type();
        if is_stream(path) {
            let file = OpenOptions::new().write(true).open(path);
            return Ok(Local::Stream(
                file.with_context(|| format!("opening {shown}"))?,
            ));
        }
        // What an ssh server gives its commands may be a socket, which cannot be opened by a name.
        if kind.is_socket() && path == Path::new("/dev/stdout") {
            let stdout = std::io::stdout().as_fd().try_clone_to_owned();
            return Ok(Local::Stream(stdout.context("opening the output")?.into()));
        }
        if !kind.is_file() {
            bail!("{shown} is not a plain file: an image is not written there");
        }
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if !path.exists() && is_device_path(&real) {
        bail!("there is no {shown}: a file there would be in memory, and gone at the next boot");
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{shown} does not end in a file name"))?;
    Ok(Local::File(DirectoryShare::open(folder)?, name.to_owned()))
}

/// Whether an image's name is a path.
pub fn is_local(image: &str) -> bool {
    // A scheme is the same in capitals (RFC 3986 3.1).
    let scheme = image.split_once("://").map(|(scheme, _)| scheme);
    !scheme.is_some_and(|it| {
        ["http", "https"]
            .iter()
            .any(|http| it.eq_ignore_ascii_case(http))
    })
}

/// The URL of an image; `None` of a path.
///
/// # Errors
/// When it is none.
pub fn url(image: &str) -> anyhow::Result<Option<Url>> {
    if is_local(image) {
        // Nobody has a folder that is called so.
        let scheme = image.split_once("://").map(|(scheme, _)| scheme);
        if let Some(other) =
            scheme.filter(|it| OTHER_SCHEMES.iter().any(|no| it.eq_ignore_ascii_case(no)))
        {
            // It may carry a password: it is not shown.
            bail!(
                "{other}://… is not reached from here: name a path, or a URL that begins with http://, https:// or s3://; what is \
                 on NFS or SMB is a path once it is mounted"
            );
        }
        return Ok(None);
    }
    // It may carry a password: it is not shown.
    let url = Url::parse(&literal(image)).context("reading the image's URL")?;
    Ok(Some(url))
}

/// What people named, for messages and for others to see: without the password and the signature of a URL.
pub fn shown(image: &str) -> String {
    match url(image) {
        Ok(Some(url)) => redacted(&url),
        _ => image.into(),
    }
}

/// A URL of which every character is meant: what follows a `#` would not be sent, and two images would be one file. A
/// `%` is itself where no two hex digits follow. Only a `?` keeps its meaning: signed URLs have it.
fn literal(image: &str) -> String {
    let bytes = image.as_bytes();
    let mut literal = String::with_capacity(image.len());
    for (at, character) in image.char_indices() {
        let is_escape = || {
            let digits = bytes.get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        match character {
            '#' => literal.push_str("%23"),
            '%' if !is_escape() => literal.push_str("%25"),
            other => literal.push(other),
        }
    }
    literal
}

/// A URL's path and what it starts from. The folders are part of the path, so that they are made where there are none.
fn split(url: &Url) -> anyhow::Result<(Url, String)> {
    let parts: Vec<&str> = url.path_segments().into_iter().flatten().collect();
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let mut names: Vec<String> = Vec::new();
    for part in parts.iter().rev() {
        let name = decoded(part);
        // What is no name on a share stays where it is: the share begins behind it.
        if check_folder(&name).is_err() || name.contains('/') {
            break;
        }
        names.insert(0, name);
    }
    if names.is_empty() {
        bail!("{} does not end in a file name", redacted(url));
    }
    let kept = &parts[..parts.len() - names.len()];
    let mut base = url.clone();
    base.set_path(
        &kept
            .iter()
            .flat_map(|part| ["/", part])
            .chain(["/"])
            .collect::<String>(),
    );
    Ok((base, names.join("/")))
}

pub fn client() -> anyhow::Result<HttpClient> {
    HttpClient::new(Settings {
        roots: Roots::System,
        reporter: Listener(Some(Arc::new(reporter()))),
        ..Settings::default()
    })
}

/// Tells of a transfer on standard error: one line drawn anew on a terminal, a line now and then elsewhere. All of them are
/// one: what a client says of its server does not end up in the line that a transfer draws.
pub fn reporter() -> impl Reporter {
    Told
}

struct Told;

static TOLD: LazyLock<Output<Stderr>> = LazyLock::new(|| {
    let stderr = std::io::stderr();
    let style = if stderr.is_terminal() {
        Style::Redrawn { columns: columns() }
    } else {
        Style::Lines
    };
    Output::new(stderr, Renderer::new(style, "pitstop: ", Level::Info))
});

impl Reporter for Told {
    fn event(&self, event: &Event) {
        TOLD.event(event);
    }
}

/// How wide the terminal on standard output is; 80 when it does not tell.
pub fn columns() -> usize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel writes one winsize to a live winsize; any descriptor may be asked.
    let told = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    match usize::from(size.ws_col) {
        columns if told == 0 && columns > 0 => columns,
        _ => WIDTH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_another_kind_is_no_path() {
        for image in ["nfs://srv/share/x.gz", "FILE:///srv/x.gz"] {
            let why = format!("{:#}", url(image).unwrap_err());
            assert!(why.contains("is not reached from here"), "{why}");
        }
        assert!(url("a://b/x.gz").unwrap().is_none());
    }

    #[test]
    fn a_url_is_split_into_folder_and_name() {
        let url = Url::parse("http://server:8080/share/10.0.2.15/a%20b.raw.gz").unwrap();
        let (base, name) = split(&url).unwrap();
        assert_eq!(base.as_str(), "http://server:8080/");
        assert_eq!(name, "share/10.0.2.15/a b.raw.gz");
        let (base, name) =
            split(&Url::parse("http://u:p@server//a%2Fb/c/d/e.gz").unwrap()).unwrap();
        assert_eq!(
            (base.as_str(), name.as_str()),
            ("http://u:p@server//a%2Fb/", "c/d/e.gz")
        );
        let (base, name) = split(&Url::parse("http://server/sda.raw.gz").unwrap()).unwrap();
        assert_eq!(
            (base.as_str(), name.as_str()),
            ("http://server/", "sda.raw.gz")
        );
        let err = split(&Url::parse("http://server/").unwrap()).unwrap_err();
        assert!(err.to_string().ends_with("does not end in a file name"));
    }

    #[test]
    fn a_mirror_is_asked_for_folder_and_name_and_hears_no_password() {
        for (image, asked) in [
            ("http://s/share/a%20b/x.gz?y=/z", &["a b/x.gz", "x.gz"][..]),
            ("http://u:s3cret@s/golden/x.gz", &["golden/x.gz", "x.gz"]),
            ("http://u:s3cret@s/x.gz", &["x.gz"]),
            ("s3://bucket/x.gz?region=r", &["x.gz"]),
            ("s3://bucket/a/golden/x.gz", &["golden/x.gz", "x.gz"]),
        ] {
            assert_eq!(paths_on_mirrors(image).unwrap(), asked, "{image}");
        }
    }

    #[test]
    fn every_character_of_a_url_is_part_of_the_image_s_name() {
        for (image, sent, name) in [
            ("http://s/f/a#1.raw.gz", "/f/a%231.raw.gz", "f/a#1.raw.gz"),
            (
                "http://s/f/100%.raw.gz",
                "/f/100%25.raw.gz",
                "f/100%.raw.gz",
            ),
            ("http://s/f/a%20b c.gz", "/f/a%20b%20c.gz", "f/a b c.gz"),
            ("http://s/f/what%3F.gz", "/f/what%3F.gz", "f/what?.gz"),
        ] {
            let url = url(image).unwrap().unwrap();
            assert_eq!(
                (url.path(), url.fragment(), url.query()),
                (sent, None, None)
            );
            assert_eq!(split(&url).unwrap().1, name);
        }
        let signed = url("http://s/a#b.gz?X=1#2").unwrap().unwrap();
        assert_eq!(
            (signed.path(), signed.query()),
            ("/a%23b.gz", Some("X=1%232"))
        );
    }

    #[test]
    fn a_mistyped_device_is_no_file_to_make() {
        for path in ["/dev/pitstop-typo", "/dev/mapper/pitstop-typo"] {
            let error = Destination::new(path, true).err().unwrap().to_string();
            assert!(error.starts_with(&format!("there is no {path}")), "{error}");
            assert!(!Path::new(path).exists());
        }
        assert!(Destination::new("/dev/shm/pitstop-new", false).is_ok());
    }

    #[test]
    fn a_signed_url_takes_no_image_and_is_not_shown() {
        let signed = "http://127.0.0.1:9/b/sda.raw.gz?X-Amz-Signature=s3cret";
        let err = Destination::new(signed, true).err().unwrap().to_string();
        assert!(err.contains("sda.raw.gz?… has a ? part"), "{err}");
        assert!(!err.contains("s3cret"), "{err}");
    }

    #[test]
    fn an_image_that_is_there_is_kept_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sda.raw.gz");
        fs::write(&path, b"old").unwrap();
        let name = path.to_str().unwrap();
        let err = Destination::new(name, false).err().unwrap();
        assert!(err.to_string().ends_with("say --force to replace it"));
        let forced = Destination::new(name, true).unwrap();
        let failed = forced.write(|out| {
            out.write_all(b"half")?;
            bail!("the disk is gone")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is gone");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
