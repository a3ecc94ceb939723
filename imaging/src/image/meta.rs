//! What an image is of: the `.toml` beside it, also embedded in its index.

use super::Origin;
use crate::arch::Architecture;
use crate::efi::Loader;
use crate::inventory::DiskIdentity;
use crate::used::{PartitionSummary, TableSummary};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The only format version there is.
const FORMAT: u32 = 1;

/// The contents of `sda.raw.gz.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageMeta {
    /// The version of the image format.
    pub format: u32,
    /// The version of Pitstop that made the image.
    pub pitstop: String,
    /// When the capture began: RFC 3339, UTC.
    pub created: String,
    #[serde(flatten)]
    pub disk: DiskIdentity,
    /// Raw bytes of each chunk but the last, which may be shorter.
    pub chunk_size: u32,
    /// Whether every block was kept.
    pub exact: bool,
    /// Raw bytes that were kept; the rest reads as zeros.
    pub kept: u64,
    /// BLAKE3 over the concatenated 32-byte BLAKE3 hashes of all chunks, in order; lower-case hex.
    pub blake3: String,
    /// Sectors that could not be read and are zeros in the image.
    #[serde(default)]
    pub read_errors: Vec<ByteRange>,
    #[serde(default)]
    pub table: TableSummary,
    #[serde(default)]
    pub partitions: Vec<PartitionSummary>,
    /// What a UEFI firmware starts of the disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaders: Vec<Loader>,
    /// The machine that it was taken on, where that was a machine's own job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A stretch of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    pub offset: u64,
    pub length: u64,
}

impl From<Range<u64>> for ByteRange {
    fn from(range: Range<u64>) -> Self {
        Self {
            offset: range.start,
            length: range.end.saturating_sub(range.start),
        }
    }
}

impl ImageMeta {
    /// What is known before the first chunk is read.
    pub(super) fn new(disk: DiskIdentity, chunk_size: u32, exact: bool) -> Self {
        Self {
            format: FORMAT,
            pitstop: env!("CARGO_PKG_VERSION").to_owned(),
            created: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            disk,
            chunk_size,
            exact,
            kept: 0,
            blake3: String::new(),
            read_errors: Vec::new(),
            table: TableSummary::default(),
            partitions: Vec::new(),
            loaders: Vec::new(),
            origin: None,
        }
    }

    /// Why a machine of the architecture `here` would not start what the image has; `None` where nothing speaks against it.
    pub fn foreign_to(&self, here: Option<Architecture>) -> Option<String> {
        let of = |loader: &Loader| Architecture::of_loader(&loader.path);
        let own: Option<Vec<Architecture>> = self.loaders.iter().map(of).collect();
        let own = own?;
        let foreign = own
            .iter()
            .find(|_| !own.iter().any(|one| Some(*one) == here))?;
        let here = here.map_or(std::env::consts::ARCH.to_owned(), |here| here.to_string());
        Some(format!(
            "the image is of an {foreign} machine, and this one is {here}: it will not start from it"
        ))
    }

    /// The numbers of the partitions that are swap.
    pub fn swaps(&self) -> Vec<u32> {
        let swaps = self
            .partitions
            .iter()
            .filter(|part| part.filesystem == "swap");
        swaps.map(|part| part.number).collect()
    }

    /// Whether partition `number`, swap at the end of the disk, can be moved: only its header moves.
    ///
    /// # Errors
    /// When it holds something, or is no swap that is known well enough.
    pub fn check_movable(&self, number: u32) -> anyhow::Result<()> {
        let swap = self.partitions.iter().find(|part| part.number == number);
        match swap {
            Some(swap) if !swap.reason.is_empty() => bail!(
                "partition {number}, swap at the end of the disk, is in the way: {}",
                swap.reason
            ),
            Some(_) => Ok(()),
            None => bail!(
                "partition {number} at the end of the disk is in the way: the image does not tell what is on it"
            ),
        }
    }

    /// The text of the `.toml`.
    ///
    /// # Errors
    /// When a number does not fit TOML's signed 64 bits.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("writing the image's metadata as TOML")
    }

    /// Reads the text of a `.toml`. Keys of later versions of the same format are passed over.
    ///
    /// # Errors
    /// TOML's own, or a format version that this program does not know.
    pub fn from_toml(text: &str) -> anyhow::Result<Self> {
        let meta: Self = toml::from_str(text).context("reading the image's metadata")?;
        if meta.format != FORMAT {
            bail!(
                "the image has format {}, this pitstop {} knows format {FORMAT}: use a newer pitstop",
                meta.format,
                env!("CARGO_PKG_VERSION")
            );
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> ImageMeta {
        let disk = DiskIdentity {
            device: "sda".into(),
            model: "QEMU HARDDISK".into(),
            serial: "QM00001".into(),
            wwn: String::new(),
            transport: String::new(),
            size: 4 << 30,
            logical_sector_size: 512,
            physical_sector_size: 4096,
        };
        let mut meta = ImageMeta::new(disk, 1 << 20, false);
        meta.read_errors.push((4096..8192).into());
        meta.partitions.push(PartitionSummary {
            number: 1,
            filesystem: "ext4".into(),
            ..PartitionSummary::default()
        });
        meta.loaders.push(Loader {
            partition: 1,
            path: "\\EFI\\debian\\shimx64.efi".into(),
            description: "debian".into(),
        });
        meta
    }

    #[test]
    fn metadata_reads_back_from_toml_with_the_disk_at_the_top_level() {
        let meta = meta();
        let text = meta.to_toml().unwrap();
        assert!(text.contains("\nserial = \"QM00001\"\n"), "{text}");
        assert_eq!(ImageMeta::from_toml(&text).unwrap(), meta);
    }

    #[test]
    fn an_image_of_another_architecture_is_told() {
        let (x86, arm) = (Some(Architecture::X86_64), Some(Architecture::Arm64));
        let mut meta = meta();
        assert_eq!(meta.foreign_to(x86), None);
        let why = meta.foreign_to(arm).unwrap();
        assert_eq!(
            why,
            "the image is of an x86_64 machine, and this one is arm64: it will not start from it"
        );
        // A disk that both start.
        let add = |meta: &mut ImageMeta, path: &str| {
            meta.loaders.push(Loader {
                partition: 1,
                path: path.into(),
                description: String::new(),
            });
        };
        add(&mut meta, Architecture::Arm64.fallback());
        assert_eq!((meta.foreign_to(x86), meta.foreign_to(arm)), (None, None));
        // One that does not tell may be for any.
        meta.loaders.truncate(1);
        add(&mut meta, "\\EFI\\Microsoft\\Boot\\bootmgfw.efi");
        assert_eq!(meta.foreign_to(arm), None);
        meta.loaders.clear();
        assert_eq!(meta.foreign_to(arm), None);
    }

    #[test]
    fn only_swap_that_is_known_and_holds_nothing_moves() {
        let mut meta = meta();
        meta.partitions[0].filesystem = "swap".into();
        assert!(meta.check_movable(1).is_ok());
        let unknown = meta.check_movable(2).unwrap_err().to_string();
        assert!(unknown.contains("does not tell"), "{unknown}");
        meta.partitions[0].reason = "a system sleeps in it".into();
        let sleeps = meta.check_movable(1).unwrap_err().to_string();
        assert!(
            sleeps.ends_with("in the way: a system sleeps in it"),
            "{sleeps}"
        );
    }

    #[test]
    fn a_later_format_is_refused_and_says_so() {
        let mut later = meta();
        later.format = 2;
        let err = ImageMeta::from_toml(&later.to_toml().unwrap()).unwrap_err();
        assert!(err.to_string().contains("format 2"), "{err}");
    }
}
