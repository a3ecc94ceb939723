//! `/api/v1/images/IMAGE/files…`: folders in an image, and single files out of it. A file goes out as it is read: neither it
//! nor the image is ever whole in memory.

use crate::http::access::Who;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use crate::view;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use futures_util::stream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pitstop_api::{ErrorBody, ImageEntry, ImageEntryKind, ImageFolder, ImageVolume, ImageVolumes};
use pitstop_imaging::browse::{self, BrowseError, Entry, Found, Kind, MOST_ENTRIES, Taker, Volume};
use pitstop_imaging::image::ImageReader;
use pitstop_people::Role;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Images that are looked into at once: each takes memory for its index and some chunks, and machines at work come first.
static AT_ONCE: Semaphore = Semaphore::const_new(4);
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pieces of a file that wait for the network.
const WAITING: usize = 4;

const FILES: &str = "/files";

/// The image that a path is about and what is asked of its files; `None` of a path that asks for none.
pub fn split(path: &str) -> Option<(&str, &str)> {
    path.match_indices(FILES).find_map(|(at, _)| {
        let (image, rest) = (&path[..at], &path[at + FILES.len()..]);
        let is_it = view::is_image(image) && (rest.is_empty() || rest.starts_with('/'));
        is_it.then(|| (image, rest.trim_matches('/')))
    })
}

/// What is in an image: without a volume the partitions, else a folder's names, or a file to keep. Folders are for viewers; a
/// file may be one of passwords, and is for operators.
#[utoipa::path(get, path = "/api/v1/images/{path}/files/{volume}/{file}", tag = "images",
    params(
        ("path" = String, Path, description = "Below the share: `192.168.1.50/sda.raw.gz`"),
        ("volume" = u32, Path, description = "The partition's number; 0 is a disk without a table. Left out, with what follows: all partitions (`ImageVolumes`)"),
        ("file" = String, Path, description = "A folder or a file; left out: the root folder"),
    ),
    responses(
        (status = 200, description = "A folder, as JSON; a file, as it is", body = ImageFolder),
        (status = "4XX", body = ErrorBody),
    ))]
pub async fn answer(
    site: Arc<Site>,
    who: &Who,
    image: &str,
    asked: &str,
) -> Result<Response, Refusal> {
    Ok(match look_into(site, who, image, asked).await? {
        InImage::Volumes(volumes) => Json(volumes).into_response(),
        InImage::Folder(folder) => Json(folder).into_response(),
        InImage::File(response) => response,
    })
}

/// What was asked of an image's files.
pub enum InImage {
    Volumes(ImageVolumes),
    Folder(ImageFolder),
    /// To keep.
    File(Response),
}

/// The same, for whoever shows it in another way.
pub async fn look_into(
    site: Arc<Site>,
    who: &Who,
    image: &str,
    asked: &str,
) -> Result<InImage, Refusal> {
    let image = RelPath::from_text(image)?;
    let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, AT_ONCE.acquire()).await else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "others are looking into images: try again in a moment",
        ));
    };
    let reader = {
        let image = image.clone();
        blocking(move || open(&site, &image)).await?
    };
    if asked.is_empty() {
        return blocking(move || Ok(InImage::Volumes(volumes(&image, &reader)))).await;
    }
    let (number, path) = asked.split_once('/').unwrap_or((asked, ""));
    let number: u32 = number
        .parse()
        .map_err(|_| Refusal::not_found(format!("volume {number} of {image}")))?;
    let (begun, begins) = oneshot::channel();
    let (pieces, taken) = mpsc::channel(WAITING);
    let may_read = who.role >= Role::Operator;
    let name = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut outlet = Outlet {
            begun: Some(begun),
            pieces,
            may_read,
        };
        let found = look(&image, &reader, number, &name, &mut outlet);
        outlet.end(found);
    });
    match begins.await {
        Ok(Begun::Folder(folder)) => Ok(InImage::Folder(folder)),
        Ok(Begun::File(length)) => Ok(InImage::File(download(path, length, taken))),
        Ok(Begun::Refused(refusal)) => Err(refusal),
        Err(_gone) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the server failed at this image",
        )),
    }
}

fn open(site: &Site, path: &RelPath) -> Result<Arc<ImageReader>, Refusal> {
    // It is there, and below the share.
    view::image(site, path)?;
    let unusable = |error: anyhow::Error| Refusal::new(StatusCode::CONFLICT, format!("{error:#}"));
    let image = site.image(path.as_str()).map_err(unusable)?;
    ImageReader::open(image).map(Arc::new).map_err(unusable)
}

fn volumes(image: &RelPath, reader: &ImageReader) -> ImageVolumes {
    let volumes = browse::volumes(reader);
    ImageVolumes {
        path: image.as_str().to_owned(),
        volumes: volumes
            .into_iter()
            .map(|volume| ImageVolume {
                readable: volume.is_readable(),
                number: volume.number,
                filesystem: volume.filesystem,
                label: volume.label,
                size: volume.size,
            })
            .collect(),
    }
}

fn look(
    image: &RelPath,
    reader: &Arc<ImageReader>,
    number: u32,
    path: &str,
    outlet: &mut Outlet,
) -> Result<Option<ImageFolder>, Refusal> {
    let mut all = browse::volumes(reader).into_iter();
    let volume: Option<Volume> = all.find(|volume| volume.number == number);
    let volume =
        volume.ok_or_else(|| Refusal::not_found(format!("partition {number} of {image}")))?;
    match browse::look(reader, &volume, path, outlet) {
        Ok(Found::File) => Ok(None),
        Ok(Found::Folder(entries)) => Ok(Some(ImageFolder {
            path: image.as_str().to_owned(),
            volume: number,
            folder: path.to_owned(),
            more: entries.len() >= MOST_ENTRIES,
            entries: entries.into_iter().map(entry).collect(),
        })),
        Err(error) => Err(refused(&error)),
    }
}

fn entry(entry: Entry) -> ImageEntry {
    ImageEntry {
        name: entry.name,
        kind: match entry.kind {
            Kind::Folder => ImageEntryKind::Folder,
            Kind::File => ImageEntryKind::File,
            Kind::Link => ImageEntryKind::Link,
            Kind::Other => ImageEntryKind::Other,
        },
        size: entry.size,
        target: entry.target,
    }
}

fn refused(error: &BrowseError) -> Refusal {
    let status = match error {
        BrowseError::NotFound(_) => StatusCode::NOT_FOUND,
        BrowseError::NotAFile(_) | BrowseError::Unsupported(_) => StatusCode::CONFLICT,
        BrowseError::Output(why) if why.kind() == ErrorKind::PermissionDenied => {
            StatusCode::FORBIDDEN
        }
        BrowseError::Broken(_) | BrowseError::Output(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, error.to_string())
}

/// How an answer begins.
enum Begun {
    Folder(ImageFolder),
    /// Of so many bytes, which follow.
    File(u64),
    Refused(Refusal),
}

/// Where a file goes: to the network, piece by piece.
struct Outlet {
    begun: Option<oneshot::Sender<Begun>>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    may_read: bool,
}

impl Outlet {
    fn begin_with(&mut self, begun: Begun) {
        if let Some(sender) = self.begun.take() {
            // Whoever asked may have gone.
            let _ = sender.send(begun);
        }
    }

    /// An error in the middle of a file breaks the answer off: its length was told.
    fn end(&mut self, found: Result<Option<ImageFolder>, Refusal>) {
        match found {
            Ok(Some(folder)) => self.begin_with(Begun::Folder(folder)),
            Ok(None) => {}
            Err(refusal) if self.begun.is_some() => self.begin_with(Begun::Refused(refusal)),
            Err(refusal) => {
                let _ = self
                    .pieces
                    .blocking_send(Err(io::Error::other(refusal.reason)));
            }
        }
    }
}

impl Taker for Outlet {
    fn begin(&mut self, size: u64) -> io::Result<()> {
        if !self.may_read {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "files of images are for operators",
            ));
        }
        self.begin_with(Begun::File(size));
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let piece = Bytes::copy_from_slice(bytes);
        self.pieces
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn download(path: &str, size: u64, taken: mpsc::Receiver<io::Result<Bytes>>) -> Response {
    let name = path.rsplit('/').next().unwrap_or(path);
    // RFC 6266 and RFC 8187: no name of a file ends the header, or is shown as a page.
    let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let disposition = HeaderValue::try_from(format!("attachment; filename*=UTF-8''{name}"));
    let body = stream::unfold(taken, |mut taken| async {
        Some((taken.recv().await?, taken))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, size.into());
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    let exactly = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, exactly);
    let attachment = HeaderValue::from_static("attachment");
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition.unwrap_or(attachment),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_an_images_files_is_told_from_the_image() {
        for (path, expected) in [
            ("10.0.2.15/sda.raw.gz", None),
            ("10.0.2.15/sda.raw.gz/verify", None),
            (
                "10.0.2.15/sda.raw.gz/files",
                Some(("10.0.2.15/sda.raw.gz", "")),
            ),
            (
                "10.0.2.15/sda.raw.gz/files/2/etc/files/x",
                Some(("10.0.2.15/sda.raw.gz", "2/etc/files/x")),
            ),
            ("files/sda.raw.gz/files/0/", Some(("files/sda.raw.gz", "0"))),
            ("files/sda.raw.gz", None),
            ("10.0.2.15/sda.raw.gz/filesystem", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
