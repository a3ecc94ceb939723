//! Commands handed through the kernel to a drive: NVMe admin commands (`linux/nvme_ioctl.h`) and ATA commands in a
//! SCSI envelope (`scsi/sg.h`, SAT-5 12.2). Each is one safe call.

use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// An NVMe admin command. Fields that are not here are zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct NvmeCommand {
    pub opcode: u8,
    pub namespace: u32,
    pub cdw10: u32,
    pub cdw11: u32,
    /// 0 is the kernel's default of a minute.
    pub timeout_ms: u32,
}

/// `struct nvme_passthru_cmd`.
#[repr(C)]
#[derive(Default)]
struct NvmePassthrough {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

/// Where the data of an ATA command goes.
#[derive(Debug)]
pub enum AtaData<'a> {
    None,
    In(&'a mut [u8; 512]),
    Out(&'a mut [u8; 512]),
}

/// `struct sg_io_hdr`.
#[repr(C)]
struct SgHeader {
    interface_id: libc::c_int,
    direction: libc::c_int,
    command_length: u8,
    sense_size: u8,
    iovec_count: u16,
    data_length: u32,
    data: *mut libc::c_void,
    command: *mut u8,
    sense: *mut u8,
    timeout_ms: u32,
    flags: u32,
    pack_id: libc::c_int,
    user: *mut libc::c_void,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_length: u8,
    host_status: u16,
    driver_status: u16,
    residual: libc::c_int,
    duration_ms: u32,
    info: u32,
}

mod raw {
    nix::ioctl_none!(nvme_id, b'N', 0x40);
    nix::ioctl_readwrite!(nvme_admin, b'N', 0x41, super::NvmePassthrough);
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, super::SgHeader);
}

/// The number of the namespace that a block device is.
pub fn nvme_namespace(device: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open; this ioctl takes no argument.
    let id = unsafe { raw::nvme_id(device.as_raw_fd()) }?;
    u32::try_from(id).map_err(|_| io::Error::from(Errno::ERANGE))
}

/// Hands an admin command to the drive. `data` takes what the drive answers.
///
/// # Errors
/// The kernel's, or the drive's status in hex.
pub fn nvme_admin(device: &File, command: NvmeCommand, data: &mut [u8]) -> io::Result<()> {
    let mut passed = NvmePassthrough {
        opcode: command.opcode,
        nsid: command.namespace,
        data_len: u32::try_from(data.len()).map_err(io::Error::other)?,
        cdw10: command.cdw10,
        cdw11: command.cdw11,
        timeout_ms: command.timeout_ms,
        ..NvmePassthrough::default()
    };
    if data.is_empty() {
        passed.addr = 0;
    } else {
        // The kernel finds the buffer by the number alone.
        passed.addr = data.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: the descriptor is open; `passed` lives through the call and has the kernel's layout; it points at
    // `data`, which is borrowed mutably and as long as `data_len` says.
    match unsafe { raw::nvme_admin(device.as_raw_fd(), &raw mut passed) }? {
        0 => Ok(()),
        status => Err(io::Error::other(format!(
            "the drive answered with NVMe status {status:#x}"
        ))),
    }
}

const SG_NONE: libc::c_int = -1;
const SG_TO_DEVICE: libc::c_int = -2;
const SG_FROM_DEVICE: libc::c_int = -3;

/// An ATA command. Fields that are not here are zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtaCommand {
    pub command: u8,
    pub features: u8,
    pub lba_mid: u8,
    pub lba_high: u8,
}

/// What a drive's registers hold after a command (ACS-5 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtaRegisters {
    error: u8,
    status: u8,
    pub lba_mid: u8,
    pub lba_high: u8,
}

/// Hands an ATA command to the drive, which may hang on a SCSI translator.
///
/// # Errors
/// The kernel's, or what the drive answered where that is not success.
pub fn ata(device: &File, command: u8, data: AtaData<'_>, timeout_ms: u32) -> io::Result<()> {
    let command = AtaCommand {
        command,
        ..AtaCommand::default()
    };
    ata_with(device, command, data, timeout_ms).map(drop)
}

/// The same, with more to it. Returns the registers, where they came back.
///
/// # Errors
/// As [`ata`].
pub fn ata_with(
    device: &File,
    command: AtaCommand,
    data: AtaData<'_>,
    timeout_ms: u32,
) -> io::Result<Option<AtaRegisters>> {
    let (protocol, transfer, direction, buffer, length) = match data {
        // SAT-5 12.2.2: protocol 3 is non-data, 4 PIO in, 5 PIO out; T_LENGTH 2 is the count, BYT_BLOK is set.
        AtaData::None => (3, 0x20, SG_NONE, std::ptr::null_mut(), 0),
        AtaData::In(buffer) => (4, 0x2e, SG_FROM_DEVICE, buffer.as_mut_ptr(), 512),
        AtaData::Out(buffer) => (5, 0x26, SG_TO_DEVICE, buffer.as_mut_ptr(), 512),
    };
    let mut cdb = [0u8; 16];
    cdb[0] = 0x85;
    cdb[1] = protocol << 1;
    // CK_COND: the drive's registers come back in the sense data.
    cdb[2] = transfer;
    cdb[6] = u8::from(length > 0);
    cdb[4] = command.features;
    cdb[10] = command.lba_mid;
    cdb[12] = command.lba_high;
    cdb[14] = command.command;
    let mut sense = [0u8; 32];
    let mut header = SgHeader {
        interface_id: libc::c_int::from(b'S'),
        direction,
        command_length: 16,
        sense_size: 32,
        iovec_count: 0,
        data_length: length,
        data: buffer.cast(),
        command: cdb.as_mut_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms,
        flags: 0,
        pack_id: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_length: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
        duration_ms: 0,
        info: 0,
    };
    // SAFETY: the descriptor is open; `header` has the kernel's layout and points at arrays that live through the
    // call and are as long as it says.
    unsafe { raw::sg_io(device.as_raw_fd(), &raw mut header) }?;
    if header.host_status != 0 {
        return Err(io::Error::other(format!(
            "the controller answered with host status {:#x}",
            header.host_status
        )));
    }
    ata_status(header.status, &sense)
}

/// Judges the registers that come back in the sense data (SAT-5 12.2.5).
fn ata_status(scsi_status: u8, sense: &[u8; 32]) -> io::Result<Option<AtaRegisters>> {
    let registers = registers(sense);
    if let Some(AtaRegisters { error, status, .. }) = registers {
        // ACS-5: bit 0 is ERR, bit 5 a device fault.
        if status & 0x21 == 0 {
            return Ok(registers);
        }
        return Err(io::Error::other(format!(
            "the drive answered with status {status:#04x}, error {error:#04x}"
        )));
    }
    match scsi_status {
        0 => Ok(None),
        _ => Err(io::Error::other(format!(
            "the drive does not take ATA commands (SCSI status {scsi_status:#x})"
        ))),
    }
}

fn registers(sense: &[u8; 32]) -> Option<AtaRegisters> {
    match (sense[0] & 0x7f, sense[8], sense[12], sense[13]) {
        // Descriptor format, ATA status return.
        (0x72, 0x09, _, _) => Some(AtaRegisters {
            error: sense[11],
            status: sense[21],
            lba_mid: sense[17],
            lba_high: sense[19],
        }),
        // Fixed format, "ATA pass through information available".
        (0x70, _, 0x00, 0x1d) => Some(AtaRegisters {
            error: sense[3],
            status: sense[4],
            lba_mid: sense[10],
            lba_high: sense[11],
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structures_have_their_sizes() {
        assert_eq!(size_of::<NvmePassthrough>(), 72);
        #[cfg(target_pointer_width = "64")]
        assert_eq!(size_of::<SgHeader>(), 88);
    }

    #[test]
    fn the_drives_registers_decide() {
        let mut sense = [0; 32];
        sense[0] = 0x72;
        sense[8] = 0x09;
        sense[21] = 0x50;
        (sense[17], sense[19]) = (0x4f, 0xc2);
        let registers = ata_status(2, &sense).unwrap().unwrap();
        assert_eq!((registers.lba_mid, registers.lba_high), (0x4f, 0xc2));
        sense[21] = 0x51;
        sense[11] = 0x04;
        let error = ata_status(2, &sense).unwrap_err().to_string();
        assert_eq!(error, "the drive answered with status 0x51, error 0x04");
        sense[0] = 0x70;
        (sense[3], sense[4], sense[13]) = (0, 0x50, 0x1d);
        (sense[8], sense[10], sense[11]) = (0, 0xf4, 0x2c);
        let registers = ata_status(2, &sense).unwrap().unwrap();
        assert_eq!((registers.lba_mid, registers.lba_high), (0xf4, 0x2c));
        let no = ata_status(2, &[0; 32]).unwrap_err().to_string();
        assert!(no.contains("does not take ATA commands"), "{no}");
    }

    #[test]
    fn what_is_no_drive_is_asked_in_vain() {
        let file = tempfile::tempfile().unwrap();
        assert!(nvme_namespace(&file).is_err());
        let error = nvme_admin(&file, NvmeCommand::default(), &mut []).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        let error = ata(&file, 0xec, AtaData::None, 1000).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
