//! Whether the XFS log is clean: as the kernel's `xlog_check_unmount_rec` has it, the last record
//! before the head must be an unmount record that ends at the head.

use crate::source::ReadAt;
use crate::used::Untrusted;
use crate::used::bytes::Fields;

/// The log counts in basic blocks, whatever the sector size.
const BASIC: u64 = 512;
const RECORD_MAGIC: u32 = 0xfeed_babe;
/// A record is at most 256 KiB and its headers; eight of them can be under way at once.
const WINDOW: u64 = 4096;
/// `XLOG_HEADER_CYCLE_SIZE`: log data that one header block describes.
const PER_HEADER: u64 = 32 << 10;
/// `XLOG_UNMOUNT_TRANS` in `oh_flags`, the tenth byte of an operation.
const UNMOUNT: u8 = 0x20;
/// `XFS_MAX_LOG_BYTES`.
const LOG_MAX: u64 = 2 << 30;

struct Log<'a> {
    volume: &'a dyn ReadAt,
    start: u64,
    blocks: u64,
}

/// The record header with the highest sequence number.
struct Record {
    lsn: u64,
    data: u64,
    end: u64,
    operations: u32,
}

/// A doubt unless the log of `size` bytes at byte `start` ends in an unmount.
pub(super) fn check_clean(volume: &dyn ReadAt, start: u64, size: u64) -> Result<(), Untrusted> {
    if !(2 * BASIC..=LOG_MAX).contains(&size) {
        return Err(Untrusted::new("the size of its log is impossible"));
    }
    let mut log = Log {
        volume,
        start,
        blocks: size / BASIC,
    };
    let dirty = || Untrusted::new("its log is dirty: it was not unmounted cleanly");
    let head = log.head()?;
    let record = log.last_record(head)?.ok_or_else(dirty)?;
    let flags = log.block(record.data)?;
    let unmounted =
        record.end == head && record.operations == 1 && Fields(&flags).u8(9)? & UNMOUNT != 0;
    if unmounted { Ok(()) } else { Err(dirty()) }
}

impl Log<'_> {
    fn block(&mut self, block: u64) -> Result<Vec<u8>, Untrusted> {
        Ok(self
            .volume
            .bytes_at(self.start + block % self.blocks * BASIC, 512)?)
    }

    /// How often the log had wrapped when this block was written.
    fn cycle(&mut self, block: u64) -> Result<u32, Untrusted> {
        let bytes = self.block(block)?;
        let first = Fields(&bytes).u32_be(0)?;
        if first == RECORD_MAGIC {
            Fields(&bytes).u32_be(4)
        } else {
            Ok(first)
        }
    }

    /// The first block of the older cycle; 0 when all are of one.
    fn head(&mut self) -> Result<u64, Untrusted> {
        let newest = self.cycle(0)?;
        if newest == 0 {
            return Err(Untrusted::new("its log is empty"));
        }
        if self.cycle(self.blocks - 1)? == newest {
            return Ok(0);
        }
        let (mut newer, mut older) = (0, self.blocks - 1);
        while older - newer > 1 {
            let middle = newer + (older - newer) / 2;
            if self.cycle(middle)? == newest {
                newer = middle;
            } else {
                older = middle;
            }
        }
        Ok(older)
    }

    /// Looks on both sides of the head, since records need not reach the disk in order.
    fn last_record(&mut self, head: u64) -> Result<Option<Record>, Untrusted> {
        let behind = WINDOW.min(self.blocks / 2);
        let mut last: Option<Record> = None;
        for step in 0..2 * behind {
            let block = (head + self.blocks - behind + step) % self.blocks;
            let bytes = self.block(block)?;
            if let Some(record) = self.record(block, &bytes)?
                && last.as_ref().is_none_or(|last| record.lsn >= last.lsn)
            {
                last = Some(record);
            }
        }
        Ok(last)
    }

    /// `struct xlog_rec_header`.
    fn record(&self, block: u64, bytes: &[u8]) -> Result<Option<Record>, Untrusted> {
        let header = Fields(bytes);
        if header.u32_be(0)? != RECORD_MAGIC {
            return Ok(None);
        }
        let lsn = header.u64_be(16)?;
        let version = header.u32_be(8)?;
        let length = u64::from(header.u32_be(12)?);
        let size = u64::from(header.u32_be(320)?);
        if lsn & 0xffff_ffff != block {
            return Err(Untrusted::new("its log has a record out of place"));
        }
        let headers = if version & 2 != 0 && size > PER_HEADER {
            size.div_ceil(PER_HEADER)
        } else {
            1
        };
        Ok(Some(Record {
            lsn,
            data: (block + headers) % self.blocks,
            end: (block + headers + length.div_ceil(BASIC)) % self.blocks,
            operations: header.u32_be(40)?,
        }))
    }
}
