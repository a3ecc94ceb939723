//! Whether two disks hold the same. What a filesystem uses is learnt from its own tools, never from Pitstop's code.

use crate::golden;
use crate::tools;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;

const STEP: usize = 64 << 10;

/// Fails unless `restored` has the golden disk's bytes wherever the golden disk means something: the partition
/// table with its backup, the whole ESP, every ext4 block that e2fsprogs says is used, the swap signature.
pub fn golden_disk(original: &Path, restored: &Path) -> Result<()> {
    let sizes = (original.metadata()?.len(), restored.metadata()?.len());
    ensure!(
        sizes.0 == sizes.1,
        "the disks differ in size: {} and {} bytes",
        sizes.0,
        sizes.1
    );
    let free = free_ext4_ranges(original, golden::ROOT.start)?;
    let root_end = golden::ROOT.start + golden::ROOT.size;
    let mut used = Vec::new();
    let mut position = 0;
    for hole in free {
        if hole.start > position {
            used.push(position..hole.start);
        }
        position = hole.end;
    }
    used.push(position..root_end);
    used.push(golden::SWAP.start..golden::SWAP.start + 4096);
    used.push(golden::SWAP.start + golden::SWAP.size..golden::SIZE);
    for range in used {
        same_range(original, restored, range)?;
    }
    Ok(())
}

/// Fails unless the disk's first `zcat IMAGE` bytes, and all of them, are what gunzip makes of the image.
pub fn zcat_equals(image: &Path, disk: &Path) -> Result<()> {
    let mut zcat = tools::command("zcat")?
        .arg(image)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting zcat")?;
    let mut inflated = zcat.stdout.take().context("zcat has no output")?;
    let mut file = File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
    let difference = first_difference(&mut inflated, &mut file)?;
    drop(inflated);
    if let Some(offset) = difference {
        zcat.kill()
            .and_then(|()| zcat.wait())
            .context("ending zcat")?;
        bail!(
            "zcat {} and {} differ at byte {offset}",
            image.display(),
            disk.display()
        );
    }
    let status = zcat.wait()?;
    ensure!(status.success(), "zcat {}: {status}", image.display());
    Ok(())
}

/// Fails unless both disks have the same bytes in `range`.
pub fn same_range(left: &Path, right: &Path, range: Range<u64>) -> Result<()> {
    let open = |path: &Path| -> Result<_> {
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        file.seek(SeekFrom::Start(range.start))?;
        Ok(file.take(range.end - range.start))
    };
    if let Some(offset) = first_difference(&mut open(left)?, &mut open(right)?)? {
        bail!(
            "{} and {} differ at byte {}",
            left.display(),
            right.display(),
            range.start + offset
        );
    }
    Ok(())
}

/// Where two streams first differ; a shorter one differs where it ends.
fn first_difference(left: &mut impl Read, right: &mut impl Read) -> Result<Option<u64>> {
    let (mut a, mut b) = (vec![0; STEP], vec![0; STEP]);
    let mut offset = 0;
    loop {
        let (read_a, read_b) = (fill(left, &mut a)?, fill(right, &mut b)?);
        let (part_a, part_b) = (&a[..read_a], &b[..read_b]);
        // At once, where tests are not optimised: byte by byte takes a second for each disk.
        if part_a != part_b {
            let pairs = part_a.iter().zip(part_b);
            let same = pairs.take_while(|(x, y)| x == y).count();
            return Ok(Some(offset + u64::try_from(same)?));
        }
        if read_a == 0 {
            return Ok(None);
        }
        offset += u64::try_from(read_a)?;
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// What `dumpe2fs` calls free in the ext4 filesystem at `offset` of the disk, as ranges of the disk.
pub fn free_ext4_ranges(disk: &Path, offset: u64) -> Result<Vec<Range<u64>>> {
    let at = format!("{}?offset={offset}", disk.display());
    parse_free(&tools::run("dumpe2fs", [at])?, offset)
}

fn parse_free(text: &str, offset: u64) -> Result<Vec<Range<u64>>> {
    let block_size: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("Block size:"))
        .context("dumpe2fs tells no block size")?
        .trim()
        .parse()?;
    let mut ranges = Vec::new();
    let lists = text
        .lines()
        .filter_map(|line| line.strip_prefix("  Free blocks: "));
    for item in lists
        .flat_map(|list| list.split(", "))
        .filter(|item| !item.trim().is_empty())
    {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (u64, u64) = (first.trim().parse()?, last.trim().parse()?);
        ranges.push(offset + first * block_size..offset + (last + 1) * block_size);
    }
    ensure!(
        !ranges.is_empty(),
        "dumpe2fs found no free block: not the filesystem that was meant"
    );
    ranges.sort_by_key(|range| range.start);
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_blocks_become_byte_ranges() {
        let text = "Block size:               1024\nGroup 0: (Blocks 1-8192)\n  Free blocks: 5, 8-9\n  Free inodes: 12-20\nGroup 1:\n  Free blocks: \n";
        assert_eq!(parse_free(text, 100).unwrap(), [5220..6244, 8292..10340]);
    }

    #[test]
    fn a_shorter_stream_differs_where_it_ends() {
        assert_eq!(
            first_difference(&mut &b"abc"[..], &mut &b"abcd"[..]).unwrap(),
            Some(3)
        );
        assert_eq!(
            first_difference(&mut &b"abc"[..], &mut &b"axc"[..]).unwrap(),
            Some(1)
        );
        assert_eq!(
            first_difference(&mut &b"abc"[..], &mut &b"abc"[..]).unwrap(),
            None
        );
    }
}
