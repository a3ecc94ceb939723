//! Modules as they are stored: each compressed by itself. A machine's memory holds the whole image unpacked and loads
//! a few of its modules, so this saves it four fifths of what they weigh, and the time to unpack the rest.

use super::Chosen;
use anyhow::{Context, Result, anyhow};
use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
use std::io::Write;
use std::thread;

/// As the kernel's own build compresses modules (scripts/Makefile.modinst): `--check=crc32 --lzma2=dict=1MiB`.
const PRESET: u32 = 6;
const DICTIONARY: u32 = 1 << 20;

/// Where a module found at `path` goes: one that comes plain gets `.xz` when it is to be compressed.
pub fn path(path: &str, compress: bool) -> String {
    let is_plain = path.rsplit('.').next() == Some("ko");
    let suffix = if compress && is_plain { ".xz" } else { "" };
    format!("{path}{suffix}")
}

/// Reads the modules, compresses those that are to be, on all cores: path and content, in no order.
pub fn read_all(modules: &[Chosen]) -> Result<Vec<(String, Vec<u8>)>> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let share = |first: usize| modules.iter().skip(first).step_by(workers).map(read);
        let running: Vec<_> = (0..workers)
            .map(|first| scope.spawn(move || share(first).collect::<Result<Vec<_>>>()))
            .collect();
        let mut all = Vec::with_capacity(modules.len());
        for worker in running {
            let done = worker
                .join()
                .map_err(|_| anyhow!("compressing modules: a thread panicked"))?;
            all.extend(done?);
        }
        Ok(all)
    })
}

fn read(module: &Chosen) -> Result<(String, Vec<u8>)> {
    let source = module.source.display();
    let mut data = std::fs::read(&module.source).with_context(|| format!("reading {source}"))?;
    if module.compress {
        data = xz(&data).with_context(|| format!("compressing {source}"))?;
    }
    Ok((module.path.clone(), data))
}

fn xz(data: &[u8]) -> Result<Vec<u8>> {
    let mut options = LzmaOptions::new_preset(PRESET)?;
    options.dict_size(DICTIONARY);
    let mut filters = Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    #[test]
    fn only_what_comes_plain_is_renamed() {
        assert_eq!(path("kernel/a.ko", true), "kernel/a.ko.xz");
        assert_eq!(path("kernel/a.ko", false), "kernel/a.ko");
        assert_eq!(path("kernel/a.ko.zst", true), "kernel/a.ko.zst");
    }

    #[test]
    fn every_module_arrives_with_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let modules: Vec<Chosen> = (0..20u8)
            .map(|n| {
                let source = folder.path().join(n.to_string());
                std::fs::write(&source, vec![n; 5000]).unwrap();
                let compress = n % 2 == 0;
                let path = path(&format!("kernel/{n}.ko"), compress);
                Chosen {
                    path,
                    source,
                    compress,
                }
            })
            .collect();
        let mut read = read_all(&modules).unwrap();
        read.sort_by_key(|(path, _)| {
            path["kernel/".len()..path.find('.').unwrap()]
                .parse::<u8>()
                .unwrap()
        });
        assert_eq!(read.len(), 20);
        for (n, (path, data)) in (0..20u8).zip(&read) {
            assert_eq!(path.ends_with(".ko.xz"), n % 2 == 0, "{path}");
            assert_eq!(
                Codec::decompress(data, 10_000).unwrap(),
                vec![n; 5000],
                "{path}"
            );
        }
    }

    #[test]
    fn a_module_that_is_gone_is_named() {
        let gone = Chosen {
            path: "kernel/gone.ko".into(),
            source: "/nowhere/gone.ko".into(),
            compress: false,
        };
        let error = read_all(&[gone]).unwrap_err();
        assert_eq!(error.to_string(), "reading /nowhere/gone.ko");
    }
}
