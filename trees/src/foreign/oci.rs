//! OCI layouts (OCI image specification 1.1, "Image Layout"): a folder of blobs, each named by its SHA-256.

use super::archive;
use super::build::Builder;
use super::packed;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::FileSource;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Manifests and configurations are small.
const JSON_MOST: u64 = 4 << 20;
/// Lists of images in lists of images.
const DEPTH_MOST: usize = 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// An index has manifests, a manifest has layers.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// Whether a folder is such a layout.
pub fn is_layout(folder: &Path) -> bool {
    folder.join("oci-layout").is_file()
}

/// Adds all layers of the only image in the layout to `builder`, of several that of this computer's processor.
///
/// # Errors
/// When there is none or more than one, or a blob is not what its name says.
pub fn read(folder: &Path, builder: &mut Builder, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let index = folder.join("index.json");
    let file = File::open(&index).with_context(|| format!("opening {}", index.display()))?;
    let mut document: Document = parse(&json(file, &index)?, &index)?;
    for _ in 0..DEPTH_MOST {
        if document.manifests.is_empty() {
            break;
        }
        let chosen = choose(&document.manifests, folder)?;
        let path = blob(folder, &chosen.digest)?;
        check(&path, chosen)?;
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        document = parse(&json(file, &path)?, &path)?;
    }
    if document.layers.is_empty() {
        bail!("{} has no image with layers", folder.display());
    }
    for (number, layer) in document.layers.iter().enumerate() {
        let path = blob(folder, &layer.digest)?;
        check(&path, layer)?;
        reporter.info(format!("layer {} of {}", number + 1, document.layers.len()));
        let source = FileSource::open(&path)?;
        archive::read(packed::unpack(&source)?, Some(number), builder)
            .with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(())
}

fn json(file: File, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(JSON_MOST)
        .read_to_end(&mut text)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(text)
}

fn parse(text: &[u8], path: &Path) -> anyhow::Result<Document> {
    serde_json::from_slice(text).with_context(|| format!("reading {}", path.display()))
}

fn choose<'a>(manifests: &'a [Descriptor], folder: &Path) -> anyhow::Result<&'a Descriptor> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // Two tags of one image are one image.
    let mut digests = BTreeSet::new();
    let manifests: Vec<&Descriptor> = manifests
        .iter()
        .filter(|it| digests.insert(&it.digest))
        .collect();
    let mine: Vec<&Descriptor> = manifests
        .iter()
        .copied()
        .filter(|it| {
            it.platform
                .as_ref()
                .is_some_and(|it| it.os == "linux" && it.architecture == architecture)
        })
        .collect();
    match (manifests.as_slice(), mine.as_slice()) {
        ([only], _) | (_, [only]) => Ok(only),
        _ => {
            let name = |it: &Descriptor| {
                let name = it.annotations.get("org.opencontainers.image.ref.name");
                name.cloned().unwrap_or_else(|| it.digest.clone())
            };
            let names: Vec<String> = manifests.iter().copied().map(name).collect();
            bail!(
                "{} has {} images ({}): make a layout of one, as `skopeo copy` does",
                folder.display(),
                manifests.len(),
                names.join(", ")
            )
        }
    }
}

/// Where the blob of a digest is: what is no digest could lead anywhere.
fn blob(folder: &Path, digest: &str) -> anyhow::Result<PathBuf> {
    let hex = digest.strip_prefix("sha256:");
    match hex {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(folder.join("blobs/sha256").join(hex))
        }
        _ => bail!("{digest:?} is no SHA-256 digest, which is the only one that is read"),
    }
}

/// Proves a blob before anything of it is believed.
fn check(path: &Path, told: &Descriptor) -> anyhow::Result<()> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let size = fs::metadata(path)
        .with_context(|| format!("looking at {}", path.display()))?
        .len();
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut HashWriter(&mut hasher))
        .with_context(|| format!("reading {}", path.display()))?;
    let digits = hasher.finalize();
    let digits: Vec<String> = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    let found = digits.concat();
    if size != told.size || told.digest != format!("sha256:{found}") {
        bail!(
            "{} is damaged: it has {size} bytes and sha256:{found}",
            path.display()
        );
    }
    Ok(())
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
