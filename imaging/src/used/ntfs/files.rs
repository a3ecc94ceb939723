//! What the files of a volume say is theirs: the runs of every attribute in every record of the MFT that is
//! in use. Records of an attribute list are records as any others, so lists need no reading.

use super::super::bitmap::{Bitmap, Claims};
use super::super::bytes::Fields;
use super::Untrusted;
use super::record::{self, Record};
use crate::source::Stream;
use ntfs::attribute_value::NtfsAttributeValue;
use ntfs::{
    KnownNtfsFileRecordNumber as Known, Ntfs, NtfsAttributeItem, NtfsAttributeType, NtfsFile,
    NtfsReadSeek,
};
use std::ops::Range;

/// Bytes of the MFT read at once.
const PIECE: u64 = 2 << 20;
/// These are reserved: in use by the MFT's own bitmap, with nothing in them.
const RESERVED: Range<u64> = 12..24;

/// Proves that `bitmap` has every cluster that a file owns.
pub(super) fn check(
    ntfs: &Ntfs,
    stream: &mut Stream<'_>,
    bitmap: &mut Bitmap,
) -> Result<(), Untrusted> {
    let size = u64::from(ntfs.file_record_size());
    let file = ntfs.file(stream, Known::MFT as u64)?;
    let (data, map) = (
        find(&file, stream, NtfsAttributeType::Data)?,
        find(&file, stream, NtfsAttributeType::Bitmap)?,
    );
    let (data, map) = (data.to_attribute()?, map.to_attribute()?);
    let (mut data, mut map) = (data.value(stream)?, map.value(stream)?);
    if size < record::SECTOR
        || data.len() > ntfs.size()
        || map.len() < (data.len() / size).div_ceil(8)
    {
        return Err(Untrusted::new("its MFT contradicts itself"));
    }
    let mut claims = Claims::new(bitmap, "the file of MFT record");
    // Whole bytes of the map: PIECE is a multiple of eight records of any size up to 256 KiB.
    let (records, per_piece) = (data.len() / size, (PIECE / size / 8).max(1) * 8);
    let mut first = 0;
    while first < records {
        let count = per_piece.min(records - first);
        let mut bytes = read(&mut data, stream, count * size)?;
        let in_use = read(&mut map, stream, count.div_ceil(8))?;
        let length = usize::try_from(size).map_err(|_| Untrusted::new("too large"))?;
        for (number, bytes) in (first..).zip(bytes.chunks_exact_mut(length)) {
            let bit = number - first;
            let byte = Fields(&in_use).u8(usize::try_from(bit / 8).unwrap_or(usize::MAX))?;
            let mapped = byte >> (bit % 8) & 1 == 1;
            claim(bytes, number, mapped, stream, &mut claims)?;
        }
        first += count;
    }
    claims.finish(stream.source())
}

fn claim(
    bytes: &mut [u8],
    number: u64,
    mapped: bool,
    stream: &mut Stream<'_>,
    claims: &mut Claims<'_>,
) -> Result<(), Untrusted> {
    let damaged = |why: &str| Untrusted::new(format!("its MFT record {number} {why}"));
    let Some(record) = Record::parse(bytes).map_err(|_| damaged("is damaged"))? else {
        return if mapped && !RESERVED.contains(&number) {
            Err(damaged("is in use and free"))
        } else {
            Ok(())
        };
    };
    let owner = record.file.unwrap_or(number);
    for run in record.runs().map_err(|_| damaged("is damaged"))? {
        claims.add(stream.source(), run, owner)?;
    }
    Ok(())
}

/// The unnamed attribute of a kind, wherever the attribute list puts it.
fn find<'n, 'f>(
    file: &'f NtfsFile<'n>,
    stream: &mut Stream<'_>,
    kind: NtfsAttributeType,
) -> Result<NtfsAttributeItem<'n, 'f>, Untrusted> {
    let mut attributes = file.attributes();
    while let Some(item) = attributes.next(stream) {
        let item = item?;
        let attribute = item.to_attribute()?;
        if attribute.ty().is_ok_and(|ty| ty == kind) && attribute.name_length() == 0 {
            return Ok(item);
        }
    }
    Err(Untrusted::new("its MFT has no map"))
}

fn read(
    value: &mut NtfsAttributeValue<'_, '_>,
    stream: &mut Stream<'_>,
    length: u64,
) -> Result<Vec<u8>, Untrusted> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Untrusted::new("too large"))?];
    value.read_exact(stream, &mut bytes)?;
    Ok(bytes)
}
