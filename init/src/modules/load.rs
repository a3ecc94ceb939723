//! One module into the kernel, unpacked here where its file is compressed: not every kernel can.

use anyhow::Context;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};
use pitstop_imaging::modules::Step;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// No module is larger; a damaged file must not eat a small machine's memory.
const LARGEST: u64 = 128 << 20;

/// The kernel's build gives xz a dictionary of 1 MiB or 2 MiB; this is in bytes.
const XZ_MEMORY: u64 = 64 << 20;

/// zstd as the kernel's build uses it stays well below this window, 64 MiB.
const ZSTD_WINDOW_LOG: u32 = 26;

/// Loads one module, whose dependencies are there. One that is loaded already is no error.
pub fn load(folder: &Path, step: &Step) -> anyhow::Result<()> {
    let path = folder.join(&step.file);
    let act = || format!("loading the module {}", path.display());
    let options = CString::new(step.options.as_str()).with_context(act)?;
    let file = File::open(&path).with_context(act)?;
    let loaded = match unpacked(&path, &file).with_context(act)? {
        None => finit_module(&file, &options, ModuleInitFlags::empty()),
        Some(image) => init_module(&image, &options),
    };
    match loaded {
        // It was there already, or it looked for its hardware and there is none: nothing is wrong.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error).with_context(act),
    }
}

/// The module's bytes where the file is compressed; `None` where the kernel can take the file as it is.
fn unpacked(path: &Path, file: &File) -> anyhow::Result<Option<Vec<u8>>> {
    let extension = path.extension().map(|e| e.to_string_lossy().into_owned());
    let packed = BufReader::new(file);
    let reader: Box<dyn Read + '_> = match extension.as_deref() {
        Some("xz") => {
            let decoder =
                Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).context("setting up xz")?;
            Box::new(XzDecoder::new_stream(packed, decoder))
        }
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Some("zst") => {
            let mut decoder = zstd::Decoder::with_buffer(packed).context("setting up zstd")?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .context("setting up zstd")?;
            Box::new(decoder)
        }
        _ => return Ok(None),
    };
    let mut image = Vec::new();
    reader
        .take(LARGEST + 1)
        .read_to_end(&mut image)
        .context("unpacking")?;
    anyhow::ensure!(
        image.len() as u64 <= LARGEST,
        "unpacks to more than {} MiB: no module is that large",
        LARGEST >> 20
    );
    Ok(Some(image))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn unpack(extension: &str, bytes: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("x.ko{extension}"));
        std::fs::write(&path, bytes).unwrap();
        unpacked(&path, &File::open(&path).unwrap())
    }

    fn packed_by(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn each_packing_gives_the_module_back() {
        let module: Vec<u8> = (0..60_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        // As scripts/Makefile.modinst of the kernel calls them; its input fits a pipe's buffers.
        let xz = packed_by("xz", &["--check=crc32", "--lzma2=dict=1MiB", "-c"], &module);
        let gz = packed_by("gzip", &["-n", "-c"], &module);
        assert_eq!(unpack(".xz", &xz).unwrap().unwrap(), module);
        assert_eq!(unpack(".gz", &gz).unwrap().unwrap(), module);
        let zst = zstd::encode_all(&module[..], 3).unwrap();
        assert_eq!(unpack(".zst", &zst).unwrap().unwrap(), module);
        assert_eq!(unpack("", &module).unwrap(), None);
        let cut = unpack(".xz", &xz[..xz.len() / 2]).unwrap_err();
        assert_eq!(cut.to_string(), "unpacking");
    }

    proptest! {
        #[test]
        fn noise_is_an_error(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            for extension in [".xz", ".gz", ".zst"] {
                let outcome = unpack(extension, &noise);
                prop_assert!(outcome.is_err() || noise.is_empty(), "{extension}");
            }
        }
    }
}
