//! Images that servers near the machine hold too. The share tells what is in an image: its index comes from nowhere else. Chunks
//! come from the first mirror that has that very image, and from the share where none has.
//!
//! A mirror is believed in nothing. Whoever reads an image proves each chunk, and says where one came wrong: that mirror is left
//! out, as is one that is away, lacks the image, is slow or breaks off, and the next one goes on from there. Mirrors are shown no
//! credentials.

mod seats;
mod share;

pub use share::WithMirrors;

use super::http::{HttpImage, Resuming, send};
use crate::fetch::{HttpClient, Settings};
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_imaging::image::{ImageSource, Place};
use pitstop_imaging::source::ReadAt;
use pitstop_protocol::digest::{Digest, image_path};
use pitstop_protocol::job::Mirror;
use reqwest::{Method, StatusCode};
use seats::{Pace, SLOWEST, Seats, Who};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a mirror that is away is waited for: there are others, and the share.
const PATIENCE: Duration = Duration::from_secs(2);
/// For a connection to a mirror, which is near.
const CONNECT: Duration = Duration::from_secs(5);
/// Silence that ends a mirror's turn.
const SILENCE: Duration = Duration::from_secs(10);
/// What tells of what kind a file is. That the share says too.
const HEAD: u64 = 64;

/// An image of the share that is read from mirrors where they have it.
pub struct Mirrored(Arc<Inner>);

struct Inner {
    own: Box<dyn ImageSource>,
    /// Where the index begins, which comes from the share.
    index: u64,
    /// What the mirrors' files have to end with.
    footer: [u8; FOOTER],
    /// Where a mirror may have it.
    paths: Vec<String>,
    mirrors: Vec<Mirror>,
    settings: Settings,
    seats: Mutex<Seats<Seat>>,
}

/// A mirror that has the image.
#[derive(Clone)]
struct Seat {
    image: HttpImage,
    pace: Arc<Pace>,
}

/// Why a mirror does not give an image.
enum Lacks {
    /// It is getting it.
    Yet,
    /// A sentence.
    It(String),
}

/// How mirrors are talked to, by whom the share is talked to as `settings` say.
fn for_mirrors(settings: &Settings) -> Settings {
    Settings {
        connect: settings.connect.min(CONNECT),
        stall: settings.stall.min(SILENCE),
        retry_for: settings.retry_for.min(PATIENCE),
        access: None,
        ..settings.clone()
    }
}

impl Mirrored {
    /// `own` as the first of `mirrors` that has it gives it: under its digest, or at one of `paths`, which are where a copy of the
    /// share would have it. An image without an index stays what it is: nothing would tell a wrong one from the right one.
    ///
    /// # Errors
    /// When the end of `own` cannot be read.
    pub fn of(
        own: Box<dyn ImageSource>,
        paths: &[String],
        mirrors: &[Mirror],
        settings: &Settings,
    ) -> io::Result<Box<dyn ImageSource>> {
        let mut footer = [0; FOOTER];
        let Some(at) = own.size().checked_sub(FOOTER as u64) else {
            return Ok(own);
        };
        own.read_exact_at(&mut footer, at)?;
        let Ok(parsed) = parse_footer(&footer, own.size()) else {
            if let Some(reporter) = &settings.reporter.0 {
                let name = own.name();
                reporter.info(if is_named_encrypted(name) {
                    format!("{name} is encrypted, so that mirrors are not asked: nobody could prove their chunks")
                } else {
                    format!(
                        "{name} has no index to prove chunks by, so that mirrors are not asked: make one with pitstop convert"
                    )
                });
            }
            return Ok(own);
        };
        let name = paths.first().and_then(|path| path.rsplit('/').next());
        let by_digest = image_path(Digest(parsed.hash), name.unwrap_or("image"));
        Ok(Box::new(Self(Arc::new(Inner {
            index: parsed.offset,
            footer,
            paths: [&[by_digest], paths].concat(),
            mirrors: mirrors.to_vec(),
            settings: for_mirrors(settings),
            seats: Mutex::new(Seats::new(mirrors.len())),
            own,
        }))))
    }
}

impl Inner {
    fn seats(&self) -> MutexGuard<'_, Seats<Seat>> {
        // Each change is one call: whoever panicked left whole values.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, number: usize) -> String {
        match self.mirrors.get(number) {
            Some(mirror) => format!("mirror {mirror}"),
            None => "the share".into(),
        }
    }

    fn warn(&self, text: String) {
        if let Some(reporter) = &self.settings.reporter.0 {
            reporter.warn(text);
        }
    }

    fn info(&self, text: String) {
        if let Some(reporter) = &self.settings.reporter.0 {
            reporter.info(text);
        }
    }

    /// The mirror that is read now. The first who asks finds one, and who comes when one that was getting the image should have it:
    /// others read from the share meanwhile.
    fn now(&self) -> Option<(usize, Seat)> {
        if self.seats().begin(Instant::now()) {
            self.seat_next();
        }
        self.seats().now()
    }

    /// Leaves out the mirror that is read now, if it is this one, and finds the next. Others read from the share meanwhile.
    fn leave(&self, number: usize, why: &str) {
        if self.seats().leave(number) {
            self.warn(format!("{}: {why}: it is left out", self.place(number)));
            self.seat_next();
        }
    }

    fn seat_next(&self) {
        loop {
            let next = self.seats().next(Instant::now());
            let Some(number) = next else {
                if !self.seats().awaits() {
                    self.warn(format!(
                        "{} comes from the share: no mirror is left",
                        self.own.name()
                    ));
                }
                return;
            };
            match self.ask(number) {
                Ok(image) => {
                    let pace = Arc::default();
                    self.seats().seat(number, Seat { image, pace });
                    let from = self.place(number);
                    self.info(format!("{} comes from {from}", self.own.name()));
                    return;
                }
                Err(Lacks::Yet) => {
                    let due = Instant::now() + self.settings.stall / 2;
                    if self.seats().later(number, due) {
                        let (name, from) = (self.own.name(), self.place(number));
                        self.info(format!("{from} has {name} soon: it is asked again"));
                    }
                }
                Err(Lacks::It(why)) => {
                    self.warn(format!("{}: {why}: it is left out", self.place(number)));
                }
            }
        }
    }

    /// The image as the mirror has it.
    fn ask(&self, number: usize) -> Result<HttpImage, Lacks> {
        let lacks = |why: &str| Lacks::It(why.to_owned());
        let mirror = self.mirrors.get(number);
        let mirror = mirror.ok_or_else(|| lacks("there is none"))?;
        let http = HttpClient::new(self.settings.clone());
        let http = http.map_err(|error| Lacks::It(format!("{error:#}")))?;
        // Each may be what has to be mended: no room under the digest, another image under the name.
        let mut why = Vec::new();
        for path in &self.paths {
            match self.ask_for(&http, mirror, path) {
                Ok(Some(image)) => return Ok(image),
                Ok(None) => return Err(Lacks::Yet),
                Err(error) => why.push(format!("{error:#}")),
            }
            if http.is_away() {
                break;
            }
        }
        Err(Lacks::It(why.join("; ")))
    }

    /// `None` of a mirror that is getting it.
    fn ask_for(
        &self,
        http: &HttpClient,
        mirror: &Mirror,
        path: &str,
    ) -> anyhow::Result<Option<HttpImage>> {
        let url = mirror.at(path);
        let told = send(|| http.request(Method::HEAD, &url))?;
        if told.status() == StatusCode::SERVICE_UNAVAILABLE && told.header("retry-after").is_some()
        {
            return Ok(None);
        }
        let image = HttpImage::told(http, &url, &told)?;
        let size = self.own.size();
        if image.size() != size {
            anyhow::bail!("{}: it is another image", image.name());
        }
        let mut footer = [0; FOOTER];
        let at = size.saturating_sub(FOOTER as u64);
        Resuming::part(image.clone(), at, size).read_exact(&mut footer)?;
        if footer != self.footer {
            anyhow::bail!("{}: it is another image", image.name());
        }
        Ok(Some(image))
    }
}

impl ReadAt for Mirrored {
    fn size(&self) -> u64 {
        self.0.own.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.saturating_add(buffer.len() as u64);
        if at >= self.0.index || end > self.size() || end <= HEAD {
            self.0.own.read_exact_at(buffer, at)?;
            self.0.seats().note(None, at..end);
            return Ok(());
        }
        Part::new(&self.0, at, end).read_exact(buffer)
    }
}

impl ImageSource for Mirrored {
    fn name(&self) -> &str {
        self.0.own.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        if offset >= self.0.index {
            return self.0.own.stream_from(offset);
        }
        Ok(Box::new(Part::new(&self.0, offset, self.size())))
    }

    fn came_wrong(&self, bytes: Range<u64>) -> bool {
        let blamed = self.0.seats().who_gave(&bytes);
        match blamed {
            Who::Share => false,
            // Whoever gave the beginning is out already: the next time all of it comes from one place.
            Who::Several => true,
            Who::Mirror(number) => {
                let why = format!(
                    "its bytes {} to {} are not what the index says",
                    bytes.start,
                    bytes.end.saturating_sub(1)
                );
                self.0.leave(number, &why);
                true
            }
        }
    }

    fn places(&self) -> Vec<Place> {
        self.0.now();
        let bytes = self.0.seats().given();
        let places = bytes.into_iter().map(|(number, bytes)| Place {
            name: self.0.place(number),
            bytes,
        });
        places.collect()
    }
}

/// Bytes of an image in order, from whoever has a seat at each time.
struct Part {
    inner: Arc<Inner>,
    at: u64,
    end: u64,
    open: Option<(Option<usize>, Box<dyn Read + Send>)>,
}

impl Part {
    fn new(inner: &Arc<Inner>, at: u64, end: u64) -> Self {
        Self {
            inner: Arc::clone(inner),
            at,
            end,
            open: None,
        }
    }

    /// From a mirror; `None` where it had to be left out.
    fn read_mirror(&mut self, buffer: &mut [u8], number: usize, seat: &Seat) -> Option<usize> {
        let end = self.end.min(self.inner.index);
        let stream = match &mut self.open {
            Some((Some(of), stream)) if *of == number => stream,
            open => {
                let part = Resuming::part(seat.image.clone(), self.at, end);
                &mut open.insert((Some(number), Box::new(part))).1
            }
        };
        seat.pace.begin();
        let read = stream.read(buffer);
        let slow = seat.pace.end(*read.as_ref().unwrap_or(&0));
        let why = match read {
            Ok(0) => "it ended the image early".to_owned(),
            Ok(count) => {
                if slow {
                    let floor = pitstop_imaging::units::bytes(SLOWEST);
                    let why = format!("it gives less than {floor} a second");
                    self.inner.leave(number, &why);
                }
                return Some(count);
            }
            Err(error) => error.to_string(),
        };
        self.inner.leave(number, &why);
        None
    }

    fn read_share(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let own = &self.inner.own;
        // What is only a part is asked for as one.
        if self.end < own.size() {
            own.read_exact_at(buffer, self.at)?;
            return Ok(buffer.len());
        }
        let stream = match &mut self.open {
            Some((None, stream)) => stream,
            open => &mut open.insert((None, own.stream_from(self.at)?)).1,
        };
        stream.read(buffer)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let in_data = self.at < self.inner.index;
            let end = if in_data { self.inner.index } else { self.end };
            let left = usize::try_from(end.min(self.end) - self.at).unwrap_or(usize::MAX);
            let wanted = buffer.len().min(left);
            if wanted == 0 {
                return Ok(0);
            }
            let buffer = &mut buffer[..wanted];
            let seat = if in_data { self.inner.now() } else { None };
            let (number, count) = match seat {
                Some((number, seat)) => match self.read_mirror(buffer, number, &seat) {
                    Some(count) => (Some(number), count),
                    None => continue,
                },
                None => (None, self.read_share(buffer)?),
            };
            let start = self.at;
            self.at += count as u64;
            self.inner.seats().note(number, start..self.at);
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests;
