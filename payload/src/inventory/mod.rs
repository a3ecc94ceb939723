//! What the machine is: its disks, NICs and firmware, read from sysfs.

use serde::{Deserialize, Serialize};

/// A disk as the kernel and the device itself name it. Absent facts are empty strings, never guesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskIdentity {
    /// Kernel name without `/dev/`: `sda`, `nvme0n1`. May change from boot to boot.
    pub device: String,
    pub model: String,
    pub serial: String,
    /// World Wide Name, lower case, as sysfs has it: `naa.5000…`, `eui.…`.
    pub wwn: String,
    /// Bytes.
    pub size: u64,
    /// Bytes: the unit the device addresses (512 or 4096).
    pub logical_sector_size: u32,
    /// Bytes.
    pub physical_sector_size: u32,
}
