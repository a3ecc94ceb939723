//! Any bytes of the disk in an image, without reading the rest of it.

use super::chunk_lookup::{fetch, find, marks};
use super::index::Mark;
use super::loaded_index::LoadedIndex;
use super::opened_image::{Contents, OpenedImage};
use super::workers::lock;
use super::{ImageMeta, ImageSource};
use crate::source::ReadAt;
use anyhow::bail;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

/// Raw bytes of chunks that are remembered, at least one chunk.
const CACHE: usize = 32 << 20;

/// Reads anywhere in the disk of an image that has an index. Each chunk is proven by its hash before a byte
/// of it is given out; the latest ones are remembered, 32 MiB of them. Many threads may read at once.
pub struct ImageReader {
    image: Box<dyn ImageSource>,
    loaded: LoadedIndex,
    marks: Vec<Mark>,
    /// The chunk that was used last is in front.
    cache: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

impl ImageReader {
    /// Reads the index of `image`.
    ///
    /// # Errors
    /// When it cannot be read, is not whole, or has no index: then any byte would take all before it.
    pub fn open(image: Box<dyn ImageSource>) -> anyhow::Result<Self> {
        let (image, contents) = OpenedImage::open(image)?.into_parts();
        let loaded = match contents {
            Contents::Indexed(loaded) => *loaded,
            Contents::Foreign(_) => bail!(
                "{} has no index, so single parts of it cannot be read: make an image that has one by `pitstop convert`",
                image.name()
            ),
        };
        let marks = marks(&loaded.index);
        Ok(Self {
            image,
            loaded,
            marks,
            cache: Mutex::default(),
        })
    }

    /// For messages.
    pub fn name(&self) -> &str {
        self.image.name()
    }

    /// What the image is of.
    pub fn meta(&self) -> &ImageMeta {
        &self.loaded.meta
    }

    /// Bytes of the disk.
    pub fn disk_size(&self) -> u64 {
        self.loaded.index.raw_size()
    }

    /// Fills `buffer` with the bytes of the disk from `at` on.
    ///
    /// # Errors
    /// Past the end of the disk; when the image cannot be read; when a chunk is not what its hash says: the
    /// error names it and its place.
    pub fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> anyhow::Result<()> {
        let size = self.disk_size();
        if at
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > size)
        {
            bail!(
                "reading {} bytes at {at} of the disk in {}: it ends at {size}",
                buffer.len(),
                self.name()
            );
        }
        let chunk_size = u64::from(self.loaded.index.chunk_size());
        let mut at = at;
        let mut rest = buffer;
        while !rest.is_empty() {
            let number = at / chunk_size;
            let within = usize::try_from(at % chunk_size)?;
            let now = rest.len().min(self.loaded.index.length(number) - within);
            let (part, after) = rest.split_at_mut(now);
            match self.chunk(number)? {
                Some(raw) => part.copy_from_slice(&raw[within..within + now]),
                None => part.fill(0),
            }
            at += now as u64;
            rest = after;
        }
        Ok(())
    }

    /// The raw bytes of a chunk; `None` for zeros.
    fn chunk(&self, number: u64) -> anyhow::Result<Option<Arc<Vec<u8>>>> {
        if let Some(raw) = self.remembered(number) {
            return Ok(Some(raw));
        }
        let Some(chunk) = find(&self.loaded.index, &self.marks, number) else {
            return Ok(None);
        };
        let raw = Arc::new(fetch(&*self.image, &self.loaded.index, &chunk)?);
        self.remember(number, &raw);
        Ok(Some(raw))
    }

    fn remembered(&self, number: u64) -> Option<Arc<Vec<u8>>> {
        let mut cache = lock(&self.cache);
        let found = cache.iter().position(|(held, _)| *held == number)?;
        let entry = cache.remove(found)?;
        let raw = Arc::clone(&entry.1);
        cache.push_front(entry);
        Some(raw)
    }

    fn remember(&self, number: u64, raw: &Arc<Vec<u8>>) {
        let mut cache = lock(&self.cache);
        // Another thread may have read the same chunk meanwhile.
        cache.retain(|(held, _)| *held != number);
        cache.push_front((number, Arc::clone(raw)));
        cache.truncate((CACHE / self.loaded.index.chunk_bytes()).max(1));
    }
}

impl ReadAt for ImageReader {
    fn size(&self) -> u64 {
        self.disk_size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
            .map_err(|error| io::Error::other(format!("{error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::image::{FileSource, Level, to_indexed};
    use proptest::prelude::*;
    use std::fs;
    use std::path::PathBuf;

    /// An image of these bytes, made from a raw one.
    fn image(raw: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("raw"), folder.path().join("image"));
        fs::write(&from, raw).unwrap();
        let mut bytes = Vec::new();
        let from = FileSource::open(&from).unwrap();
        to_indexed(&from, Level::Fast, 1, &mut bytes, &Silent).unwrap();
        fs::write(&to, bytes).unwrap();
        (folder, to)
    }

    fn reader(path: &std::path::Path) -> ImageReader {
        ImageReader::open(Box::new(FileSource::open(path).unwrap())).unwrap()
    }

    /// Chunks of 1 MiB: where `data` says so with a pattern in them, else zeros.
    fn disk(data: &[bool], odd: usize) -> Vec<u8> {
        let mut raw = vec![0; data.len() << 20];
        for (number, chunk) in raw.chunks_mut(1 << 20).enumerate() {
            if data[number] {
                for (at, byte) in chunk.iter_mut().enumerate() {
                    *byte = u8::try_from((at / 512 + number * 31) % 251).unwrap() + 1;
                }
            }
        }
        raw.truncate(raw.len() - odd * 512);
        raw
    }

    #[test]
    fn a_damaged_chunk_is_named_and_the_others_are_read() {
        let raw = disk(&[true, false, true, true], 0);
        let (_folder, path) = image(&raw);
        let mut bytes = fs::read(&path).unwrap();
        let whole = reader(&path);
        let chunk = find(&whole.loaded.index, &whole.marks, 2).unwrap();
        bytes[usize::try_from(chunk.offset).unwrap() + 30] ^= 1;
        fs::write(&path, bytes).unwrap();
        let damaged = reader(&path);
        let mut buffer = vec![0; 1 << 20];
        for good in [0u64, 1, 3] {
            damaged.read_exact_at(&mut buffer, good << 20).unwrap();
            let from = usize::try_from(good << 20).unwrap();
            assert!(buffer == raw[from..from + (1 << 20)], "{good}");
        }
        let err = damaged
            .read_exact_at(&mut buffer, (2 << 20) - 10)
            .unwrap_err();
        let text = format!("{err:#}");
        assert!(
            text.starts_with("chunk 2 (disk offset 2097152) at "),
            "{text}"
        );
    }

    #[test]
    fn reading_behind_the_disk_is_an_error() {
        let (_folder, path) = image(&disk(&[true], 3));
        let reader = reader(&path);
        let err = reader
            .read_exact_at(&mut [0; 513], (1 << 20) - 2048)
            .unwrap_err();
        assert!(err.to_string().ends_with("it ends at 1047040"), "{err}");
        let err = reader.read_exact_at(&mut [0; 1], u64::MAX).unwrap_err();
        assert!(err.to_string().ends_with("it ends at 1047040"), "{err}");
    }

    #[test]
    fn an_image_without_an_index_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raw");
        fs::write(&path, [7; 1024]).unwrap();
        let source = FileSource::open(&path).unwrap();
        let err = ImageReader::open(Box::new(source)).err().unwrap();
        assert!(err.to_string().ends_with("by `pitstop convert`"), "{err}");
    }

    #[test]
    fn no_more_chunks_are_remembered_than_fit() {
        let raw = disk(&[true; 40], 0);
        let (_folder, path) = image(&raw);
        let reader = reader(&path);
        for number in (0..40u64).chain([3, 39]) {
            reader.read_exact_at(&mut [0; 10], number << 20).unwrap();
        }
        let held: Vec<u64> = lock(&reader.cache)
            .iter()
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(held.len(), CACHE >> 20);
        assert_eq!(held[..3], [39, 3, 38]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn any_part_of_any_disk_is_as_it_was(
            data in prop::collection::vec(any::<bool>(), 1..6),
            odd in 0usize..2000,
            reads in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3 << 20), 1..8),
        ) {
            let raw = disk(&data, odd);
            let (_folder, path) = image(&raw);
            let reader = reader(&path);
            prop_assert_eq!(reader.disk_size(), raw.len() as u64);
            for (at, length) in reads {
                let at = at.index(raw.len());
                let length = length.min(raw.len() - at);
                let mut buffer = vec![0xee; length];
                reader.read_exact_at(&mut buffer, at as u64).unwrap();
                prop_assert!(buffer == raw[at..at + length]);
            }
        }
    }
}
