//! The files that Windows makes anew at each boot: `pagefile.sys`, `swapfile.sys`, and `hiberfil.sys` once
//! the machine woke from it. The files stay, their contents need not.

use super::Untrusted;
use super::directory::{self, Entry};
use crate::extents::Extents;
use crate::source::Stream;
use ntfs::attribute_value::NtfsAttributeValue;
use ntfs::structured_values::NtfsFileAttributeFlags;
use ntfs::{Ntfs, NtfsAttributeFlags, NtfsFile, NtfsReadSeek};

const HIBERNATION: &str = "hiberfil.sys";
const PAGES: [&str; 2] = ["pagefile.sys", "swapfile.sys"];
/// `hiberfil.sys` is kept so far: what it begins with tells Windows that there is nothing to wake from.
const HEADER: u64 = 64 << 10;
/// Fragments of one such file that are looked at; the rest of a file in more is kept.
const RUNS_MAX: usize = 1 << 16;

/// Refuses a volume that Windows hibernated on, and answers what of it holds memory that nobody will ask for.
pub(super) fn contents(ntfs: &Ntfs, stream: &mut Stream<'_>) -> Result<Extents, Untrusted> {
    let root = ntfs.root_directory(stream)?;
    let mut contents = Extents::new();
    for Entry { name, file } in directory::entries(&root, stream)? {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is(HIBERNATION) {
            let file = ntfs.file(stream, file)?;
            check_awake(&file, stream)?;
            add(&file, stream, HEADER, &mut contents)?;
        } else if PAGES.into_iter().any(is) {
            let file = ntfs.file(stream, file)?;
            add(&file, stream, 0, &mut contents)?;
        }
    }
    Ok(contents)
}

/// Windows with fast start-up hibernates at every shutdown: `hiberfil.sys` then begins with `hibr`.
fn check_awake(file: &NtfsFile<'_>, stream: &mut Stream<'_>) -> Result<(), Untrusted> {
    let Some(item) = file.data(stream, "") else {
        return Ok(());
    };
    let item = item?;
    let mut value = item.to_attribute()?.value(stream)?;
    let mut magic = [0; 4];
    if value.len() < 4 {
        return Ok(());
    }
    value.read_exact(stream, &mut magic)?;
    if magic == [0; 4] || magic.eq_ignore_ascii_case(b"wake") {
        Ok(())
    } else {
        Err(Untrusted::new("Windows hibernated on it"))
    }
}

/// Adds where the file's data is, from byte `from` of it on. A file that only has the name, and none of the
/// marks of the system's own, adds nothing; nor does one whose data is not plainly in its runs.
fn add(
    file: &NtfsFile<'_>,
    stream: &mut Stream<'_>,
    from: u64,
    contents: &mut Extents,
) -> Result<(), Untrusted> {
    let of_the_system = file
        .info()?
        .file_attributes()
        .contains(NtfsFileAttributeFlags::SYSTEM);
    if file.is_directory() || file.hard_link_count() != 1 || !of_the_system {
        return Ok(());
    }
    let Some(item) = file.data(stream, "") else {
        return Ok(());
    };
    let item = item?;
    let attribute = item.to_attribute()?;
    let transformed =
        NtfsAttributeFlags::COMPRESSED | NtfsAttributeFlags::ENCRYPTED | NtfsAttributeFlags::SPARSE;
    if attribute.is_resident() || attribute.flags().intersects(transformed) {
        return Ok(());
    }
    let NtfsAttributeValue::NonResident(value) = attribute.value(stream)? else {
        return Ok(());
    };
    let end_of_volume = file.ntfs().size();
    let mut skip = from;
    for run in value.data_runs().take(RUNS_MAX) {
        let run = run?;
        let length = run.allocated_size();
        let skipped = skip.min(length);
        skip -= skipped;
        let Some(start) = run.data_position().value() else {
            continue;
        };
        let start = start.get();
        let end = start
            .checked_add(length)
            .filter(|end| *end <= end_of_volume);
        let end = end.ok_or_else(|| Untrusted::new("a file of its is outside the volume"))?;
        contents.insert(start + skipped..end);
    }
    Ok(())
}
