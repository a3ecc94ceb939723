//! An image of a tree, opened: its index, and its members by their numbers.

use crate::index::{Index, Member, decode};
use crate::meta::Meta;
use anyhow::{Context, bail};
use pitstop_imaging::image::members::{FOOTER, Inflater, parse_footer, unseal};
use pitstop_imaging::image::{ImageSource, Place, encrypted};
use std::io::Read;
use std::ops::Range;

/// The most that a thread takes of an image at once, bytes, unless the last member of them is larger.
const RUN: u64 = 1 << 20;
/// Of a small image less is taken at once, so that all threads have something to do to its end.
const RUNS: u64 = 64;

/// An image whose index is read and whole.
pub struct TreeImage<'a> {
    source: Box<dyn ImageSource + 'a>,
    pub index: Index,
    pub meta: Meta,
    /// BLAKE3 of the index, as the footer has it.
    digest: [u8; 32],
    /// The index as it is stored, out of its members.
    blob: Vec<u8>,
}

impl<'a> TreeImage<'a> {
    /// Reads the index from the end of `source`.
    ///
    /// # Errors
    /// When it is not whole, or of another kind: the file is cut short, has something after its end, or is damaged.
    pub fn open(source: &'a dyn ImageSource) -> anyhow::Result<Self> {
        Self::of(Box::new(source))
    }

    /// Keeps the source.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(source: Box<dyn ImageSource + 'a>) -> anyhow::Result<Self> {
        let name = source.name();
        let size = source.size();
        let mut footer = [0; FOOTER];
        let Some(at) = size.checked_sub(FOOTER as u64) else {
            bail!("{name} has {size} bytes: it is no image of a tree, or cut short");
        };
        source
            .read_exact_at(&mut footer, at)
            .with_context(|| format!("reading the end of {name}"))?;
        let footer = parse_footer(&footer, size);
        if footer.is_err() {
            check_plain(&*source)?;
        }
        let footer = footer.with_context(|| {
            format!("{name} is no whole image of a tree (a plain tar becomes one by `pitstop tree import`)")
        })?;
        let mut members = vec![0; usize::try_from(footer.length).context("the index's size")?];
        source
            .read_exact_at(&mut members, footer.offset)
            .with_context(|| format!("reading the index of {name}"))?;
        let blob = unseal(&members, &footer).with_context(|| format!("{name} is not whole"))?;
        if blob.starts_with(b"PITSTOP1") {
            bail!("{name} holds a disk, not a system as files: see `pitstop inspect`");
        }
        let index = decode(&blob, footer.offset).with_context(|| format!("{name} is not whole"))?;
        let meta = Meta::from_toml(index.toml()).with_context(|| name.to_owned())?;
        Ok(Self {
            source,
            index,
            meta,
            digest: footer.hash,
            blob,
        })
    }

    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Where it is read from.
    pub(crate) fn source(&self) -> &dyn ImageSource {
        &*self.source
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// BLAKE3 of the index, which holds that of everything else.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The index as it is stored: what [`decode_alone`](crate::index::decode_alone) reads.
    pub fn index_bytes(&self) -> &[u8] {
        &self.blob
    }

    /// What is stored beside the image: the metadata with the BLAKE3 of the index.
    pub fn meta_beside(&self) -> Meta {
        let mut meta = self.meta.clone();
        meta.index = digest_text(&self.digest);
        meta
    }

    /// Whether `beside` is of this image: it names its index, and where the image is meant by a name and a version, these.
    ///
    /// # Errors
    /// What of it is another image's.
    pub fn check_is_of(&self, beside: &Meta, named: Option<(&str, &str)>) -> anyhow::Result<()> {
        let digest = digest_text(&self.digest);
        if beside.index != digest {
            bail!(
                "it is of another image: it names the index {:?}, and that of {} is {digest}",
                beside.index,
                self.name()
            );
        }
        let Some((name, version)) = named else {
            return Ok(());
        };
        if (beside.name.as_str(), beside.version.as_str()) != (name, version) {
            bail!(
                "it is of the tree {:?}, version {:?}, and {name}@{version} is wanted: an image under another name than the \
                 one that is in its .toml is not taken",
                beside.name,
                beside.version
            );
        }
        Ok(())
    }

    /// Bytes `raw` of the tar, proven.
    ///
    /// # Errors
    /// When they cannot be read, or are not what the index says.
    pub fn read(&self, raw: Range<u64>, inflater: &mut Inflater) -> anyhow::Result<Vec<u8>> {
        let mut found = Vec::new();
        for number in self.index.members_in(&raw) {
            let size = usize::try_from(self.index.members()[number].size)?;
            let mut packed = vec![0; size];
            let at = self.index.offset(number);
            self.source
                .read_exact_at(&mut packed, at)
                .with_context(|| format!("reading {} at {at}", self.name()))?;
            let mut member = Vec::new();
            self.prove(number, &packed, inflater, &mut member)?;
            let range = self.index.raw_range(number);
            let from = usize::try_from(raw.start.max(range.start) - range.start)?;
            let to = usize::try_from(raw.end.min(range.end) - range.start)?;
            found.extend_from_slice(&member[from..to]);
        }
        Ok(found)
    }

    /// Reads members that follow each other, packed, in one go.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read_packed(&self, members: Range<usize>, packed: &mut Vec<u8>) -> anyhow::Result<()> {
        let at = self.index.offset(members.start);
        let size: u64 = self.index.members()[members]
            .iter()
            .map(|member| u64::from(member.size))
            .sum();
        packed.resize(usize::try_from(size)?, 0);
        self.source
            .read_exact_at(packed, at)
            .with_context(|| format!("reading {} at {at}", self.name()))
    }

    /// Inflates a member into `raw`, and proves that it is the one of the index. One that came wrong from one of several
    /// places is read from the next.
    ///
    /// # Errors
    /// When it is not, wherever it is read.
    pub fn prove(
        &self,
        number: usize,
        packed: &[u8],
        inflater: &mut Inflater,
        raw: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let member = &self.index.members()[number];
        let at = self.index.offset(number);
        let mut proven = prove(member, packed, inflater, raw);
        let mut again = Vec::new();
        while proven.is_err() && self.source.came_wrong(at..at + u64::from(member.size)) {
            again.resize(packed.len(), 0);
            self.source
                .read_exact_at(&mut again, at)
                .with_context(|| format!("reading {} at {at}", self.name()))?;
            proven = prove(member, &again, inflater, raw);
        }
        proven.with_context(|| format!("{}: member {number} at {at} is damaged", self.name()))
    }

    /// The places that it comes from, where there are several.
    pub fn places(&self) -> Vec<Place> {
        self.source.places()
    }

    /// Hands out all members front to back.
    pub fn feed(&'a self) -> Feed<'a> {
        Feed {
            image: self,
            run: (self.index.data_size() / RUNS).clamp(1, RUN),
            next: 0,
            stream: None,
        }
    }

    /// The memory that a thread takes for what [`Feed::next`] gives it at once, and for a member of that, inflated.
    pub fn memory(&self) -> u64 {
        let members = self.index.members().iter();
        let largest = members.map(|member| u64::from(member.size) + u64::from(member.raw));
        RUN + largest.max().unwrap_or_default()
    }

    /// A member of those from `first` on that were read together.
    ///
    /// # Errors
    /// When it is not among them.
    pub fn member_of<'b>(
        &self,
        packed: &'b [u8],
        first: usize,
        number: usize,
    ) -> anyhow::Result<&'b [u8]> {
        let start = usize::try_from(self.index.offset(number) - self.index.offset(first))?;
        let size = usize::try_from(self.index.members()[number].size)?;
        let member = packed.get(start..start + size);
        member.with_context(|| format!("member {number} was not read"))
    }
}

/// What is encrypted has its index where nobody can read it.
fn check_plain(source: &dyn ImageSource) -> anyhow::Result<()> {
    let name = source.name();
    let start = source
        .bytes_at(0, encrypted::LENGTH)
        .with_context(|| format!("reading the beginning of {name}"))?;
    if encrypted::is_encrypted(&start) {
        bail!(
            "{name} is encrypted by age: --identity-file FILE names the key that it is read with"
        );
    }
    Ok(())
}

/// Inflates a member into `raw`, if it is the one of the index.
pub(crate) fn prove(
    member: &Member,
    packed: &[u8],
    inflater: &mut Inflater,
    raw: &mut Vec<u8>,
) -> anyhow::Result<()> {
    raw.resize(usize::try_from(member.raw)?, 0);
    inflater.member(packed, raw)?;
    if *blake3::hash(raw).as_bytes() != member.hash {
        bail!("it has another BLAKE3 than the index says");
    }
    Ok(())
}

/// As it is written: `blake3:` and 64 hex digits.
pub fn digest_text(digest: &[u8; 32]) -> String {
    format!("blake3:{}", blake3::Hash::from_bytes(*digest).to_hex())
}

/// Members in their order, read in one go, some at a time: those that follow each other have the files of the same folders, and
/// two threads in one folder wait for each other.
pub struct Feed<'a> {
    image: &'a TreeImage<'a>,
    /// So many bytes are a run.
    run: u64,
    next: usize,
    stream: Option<Box<dyn Read + Send>>,
}

impl Feed<'_> {
    /// The next members, one after the other in `packed`. None at the end.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn next(&mut self, packed: &mut Vec<u8>) -> anyhow::Result<Range<usize>> {
        let index = &self.image.index;
        let (start, count) = (self.next, index.members().len());
        let offset = index.offset(start);
        let mut end = start;
        while end < count && index.offset(end) - offset < self.run {
            end += 1;
        }
        if start == end {
            return Ok(start..end);
        }
        packed.resize(usize::try_from(index.offset(end) - offset)?, 0);
        let reading = || format!("reading {} at {offset}", self.image.name());
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(
                self.image
                    .source
                    .stream_from(offset)
                    .with_context(reading)?,
            ),
        };
        stream.read_exact(packed).with_context(reading)?;
        self.next = end;
        Ok(start..end)
    }
}
