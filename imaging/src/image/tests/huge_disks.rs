//! Disks of many TiB, of which nothing but the data is ever in memory.

use crate::disk::{Input, Output};
use crate::event::{Act, Silent};
use crate::extents::Extents;
use crate::image::again::Out;
use crate::image::capture::capture_from;
use crate::image::chunk_size::chunk_size_of;
use crate::image::encode::zero_member;
use crate::image::index::CHUNK_MOST;
use crate::image::loaded_index::load;
use crate::image::restore::restore_indexed;
use crate::image::workers::Meter;
use crate::image::{CaptureOptions, Delta, ImageMeta, ImageReader, ImageSource, RestoreOptions};
use crate::inventory::DiskIdentity;
use crate::source::ReadAt;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::ops::Range;
use std::sync::Mutex;

const TIB: u64 = 1 << 40;
/// What is written at each place.
const DATA: &[u8; 4096] = &[7; 4096];

/// Has [`DATA`] at some places, and zeros elsewhere.
struct Huge {
    size: u64,
    places: Vec<u64>,
}

impl Input for Huge {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        buffer.fill(0);
        for place in &self.places {
            if let Some(from) = place.checked_sub(at)
                && let Ok(from) = usize::try_from(from)
                && let Some(found) = buffer.get_mut(from..from + DATA.len())
            {
                found.copy_from_slice(DATA);
            }
        }
        Ok(buffer.len())
    }
}

/// An image of which the members of zeros are not kept.
#[derive(Clone, Default)]
struct Thin {
    zeros: Vec<u8>,
    size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Write for Thin {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.starts_with(&self.zeros) {
            self.pieces.insert(self.size, bytes.to_vec());
        }
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Thin {
    fn from(&self, at: u64) -> io::Result<&[u8]> {
        let (start, piece) = self.pieces.range(..=at).next_back().unwrap();
        let within = usize::try_from(at - start).map_err(io::Error::other)?;
        let rest = piece.get(within..).filter(|rest| !rest.is_empty());
        rest.ok_or_else(|| io::Error::other(format!("zeros at {at} are read")))
    }
}

impl ReadAt for Thin {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.from(at)?.read_exact(buffer)
    }
}

impl ImageSource for Thin {
    fn name(&self) -> &'static str {
        "thin"
    }

    fn stream_from(&self, at: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.from(at)?.to_vec())))
    }
}

/// Remembers what is written that is not zeros.
struct Written {
    size: u64,
    data: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl ReadAt for Written {
    fn size(&self) -> u64 {
        self.limit().unwrap_or(0)
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Output for Written {
    fn name(&self) -> &'static str {
        "huge"
    }

    fn limit(&self) -> Option<u64> {
        Some(self.size)
    }

    fn is_blank(&self) -> bool {
        true
    }

    fn set_size(&self, _: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn zeroes_freely(&self) -> bool {
        true
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.data.lock().unwrap().insert(at, bytes.to_vec());
        Ok(())
    }

    fn zero(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

fn round_trip(size: u64, chunk_size: impl Fn(&Extents) -> u32) {
    let places = vec![0, TIB + (5 << 20), size / 2, size - (96 << 20)];
    let mut kept = Extents::new();
    for place in &places {
        kept.insert(*place..place + DATA.len() as u64);
    }
    let chunk_size = chunk_size(&kept);
    let disk = Huge { size, places };
    let identity = DiskIdentity {
        device: "huge".into(),
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size,
        logical_sector_size: 512,
        physical_sector_size: 512,
    };
    let mut meta = ImageMeta::new(identity, chunk_size, false);
    let mut image = Thin {
        zeros: zero_member(usize::try_from(chunk_size).unwrap()).unwrap(),
        ..Thin::default()
    };
    let meter = Meter::new(Act::Verify, "huge", None, &Silent);
    let options = CaptureOptions {
        threads: 2,
        ..CaptureOptions::default()
    };
    capture_from(
        &disk,
        &kept,
        &mut meta,
        &options,
        Out::New(&mut image),
        &meter,
    )
    .unwrap();

    let reader = ImageReader::open(Box::new(image.clone())).unwrap();
    let mut buffer = [1; DATA.len()];
    for place in &disk.places {
        reader.read_exact_at(&mut buffer, *place).unwrap();
        assert_eq!(&buffer, DATA, "{place}");
        reader
            .read_exact_at(&mut buffer, place + (32 << 20))
            .unwrap();
        assert_eq!(buffer, [0; DATA.len()], "behind {place}");
    }

    let output = Written {
        size,
        data: Mutex::default(),
    };
    let loaded = load(&image).unwrap();
    let options = RestoreOptions {
        delta: Delta::Off,
        ..RestoreOptions::default()
    };
    restore_indexed(&image, &loaded, &output, &options, None, &Silent).unwrap();
    let data = output.data.into_inner().unwrap();
    for place in &disk.places {
        let (start, raw) = data.range(..=*place).next_back().unwrap();
        let within = usize::try_from(place - start).unwrap();
        assert_eq!(&raw[within..within + DATA.len()], DATA, "{place}");
    }
}

#[test]
fn a_disk_of_64_tib_with_little_on_it_comes_back() {
    round_trip(64 * TIB, |kept| chunk_size_of(64 * TIB, kept).unwrap());
}

#[test]
fn the_largest_chunks_come_back() {
    round_trip(64 * TIB, |_| CHUNK_MOST);
}
