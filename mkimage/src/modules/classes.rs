//! Which modules belong to which class of hardware, by where the kernel keeps them.

use crate::arch::Architecture;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Nic,
    Ata,
    Nvme,
    Scsi,
    Virtio,
    Hypervisor,
    Usb,
    Mmc,
    Nfs,
    Watchdog,
    Filesystems,
    /// What stands between the processor and its devices where no ACPI hides it.
    Board,
}

/// Folders (ending in `/`) or single modules (by path without the suffix) below `kernel/`.
struct Places {
    within: &'static [&'static str],
    /// Left out although they lie within: what only reaches disks over a network, or needs a set-up nobody has here.
    without: &'static [&'static str],
}

impl Class {
    pub const ALL: [Class; 12] = [
        Class::Nic,
        Class::Ata,
        Class::Nvme,
        Class::Scsi,
        Class::Virtio,
        Class::Hypervisor,
        Class::Usb,
        Class::Mmc,
        Class::Nfs,
        Class::Watchdog,
        Class::Filesystems,
        Class::Board,
    ];

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Class::Nic => "wired NICs",
            Class::Ata => "ATA",
            Class::Nvme => "NVMe",
            Class::Scsi => "SCSI and SAS",
            Class::Virtio => "virtio",
            Class::Hypervisor => "Hyper-V, Xen, VMware",
            Class::Usb => "USB",
            Class::Mmc => "MMC, SD, UFS",
            Class::Nfs => "NFS",
            Class::Watchdog => "watchdogs",
            Class::Filesystems => "filesystems",
            Class::Board => "boards",
        }
    }

    /// Whether machines of this architecture need it.
    pub fn is_on(self, architecture: Architecture) -> bool {
        self != Class::Board || architecture.has_device_trees()
    }

    /// Whether the module at `path` (`kernel/drivers/…/x.ko.xz`, relative to the version's folder) is of this class.
    pub fn holds(self, path: &str) -> bool {
        let own = path.strip_prefix("kernel/");
        let Some(path) = own.or_else(|| path.strip_prefix("extra/")) else {
            return false;
        };
        let stem = path.split(".ko").next().unwrap_or(path);
        let matches = |place: &&str| {
            if place.ends_with('/') {
                stem.starts_with(*place)
            } else {
                stem == *place
            }
        };
        let mut places = PLACES.iter().filter(|(class, _)| *class == self);
        places.any(|(_, places)| {
            places.within.iter().any(matches) && !places.without.iter().any(matches)
        })
    }
}

/// In no order: a module may be of several classes.
const PLACES: &[(Class, Places)] = &[
    (
        Class::Nic,
        Places {
            within: &[
                "drivers/net/ethernet/",
                "drivers/net/phy/",
                "drivers/net/mdio/",
                "drivers/net/usb/",
                "drivers/net/bonding/",
                "net/8021q/",
                "net/packet/af_packet",
            ],
            without: &[
                // Modems and phones carry no PXE.
                "drivers/net/usb/cdc_mbim",
                "drivers/net/usb/hso",
                "drivers/net/usb/huawei_cdc_ncm",
                "drivers/net/usb/ipheth",
                "drivers/net/usb/qmi_wwan",
                "drivers/net/usb/sierra_net",
                "drivers/net/usb/cdc-phonet",
                "drivers/net/usb/kalmia",
                "drivers/net/usb/lg-vl600",
                "drivers/net/ethernet/mellanox/mlxsw/",
                "drivers/net/ethernet/chelsio/inline_crypto/",
            ],
        },
    ),
    (
        Class::Ata,
        Places {
            within: &["drivers/ata/", "drivers/scsi/sd_mod"],
            without: &[],
        },
    ),
    (
        Class::Nvme,
        Places {
            within: &[
                "drivers/nvme/host/nvme",
                "drivers/nvme/host/nvme-core",
                "drivers/block/mtip32xx/",
                "drivers/pci/controller/vmd",
            ],
            without: &[],
        },
    ),
    (
        Class::Scsi,
        Places {
            within: &["drivers/scsi/", "drivers/message/fusion/"],
            without: &[
                "drivers/scsi/bnx2fc/",
                "drivers/scsi/bnx2i/",
                "drivers/scsi/be2iscsi/",
                "drivers/scsi/cxgbi/",
                "drivers/scsi/fcoe/",
                "drivers/scsi/iscsi_boot_sysfs",
                "drivers/scsi/iscsi_tcp",
                "drivers/scsi/libiscsi",
                "drivers/scsi/libiscsi_tcp",
                "drivers/scsi/qedf/",
                "drivers/scsi/qedi/",
                "drivers/scsi/qla4xxx/",
                "drivers/scsi/scsi_debug",
                "drivers/scsi/scsi_transport_iscsi",
                "drivers/scsi/pcmcia/",
                "drivers/scsi/device_handler/",
                "drivers/scsi/elx/",
                "drivers/scsi/st",
                "drivers/scsi/ch",
                "drivers/scsi/hv_storvsc",
                "drivers/scsi/virtio_scsi",
                "drivers/scsi/qla2xxx/tcm_qla2xxx",
            ],
        },
    ),
    (
        Class::Virtio,
        Places {
            within: &[
                "drivers/virtio/",
                "drivers/block/virtio_blk",
                "drivers/scsi/virtio_scsi",
                "drivers/scsi/sd_mod",
                "drivers/net/virtio_net",
                "net/packet/af_packet",
                "drivers/char/virtio_console",
                "drivers/char/hw_random/virtio-rng",
            ],
            without: &["drivers/virtio/virtio_balloon", "drivers/virtio/virtio_mem"],
        },
    ),
    (
        Class::Hypervisor,
        Places {
            within: &[
                "drivers/hv/hv_vmbus",
                "drivers/scsi/hv_storvsc",
                "drivers/scsi/sd_mod",
                "drivers/net/hyperv/",
                "drivers/hid/hid-hyperv",
                "drivers/input/serio/hyperv-keyboard",
                "net/packet/af_packet",
                "drivers/block/xen-blkfront",
                "drivers/net/xen-netfront",
                "drivers/scsi/vmw_pvscsi",
                "drivers/net/vmxnet3/",
            ],
            without: &[],
        },
    ),
    (
        Class::Usb,
        Places {
            within: &[
                "drivers/usb/common/",
                "drivers/usb/core/",
                "drivers/usb/host/",
                "drivers/usb/storage/",
                "drivers/scsi/sd_mod",
                "drivers/hid/hid",
                "drivers/hid/hid-generic",
                "drivers/hid/usbhid/usbhid",
                "drivers/input/keyboard/atkbd",
            ],
            without: &[],
        },
    ),
    (
        Class::Mmc,
        Places {
            within: &[
                "drivers/mmc/",
                "drivers/misc/cardreader/",
                "drivers/ufs/",
                "drivers/scsi/sd_mod",
            ],
            without: &["drivers/mmc/host/vub300"],
        },
    ),
    (
        Class::Nfs,
        Places {
            within: &[
                "fs/nfs/",
                "fs/lockd/",
                "net/sunrpc/sunrpc",
                "fs/nfs_common/",
            ],
            without: &["fs/nfs/blocklayout/", "fs/nfs/flexfilelayout/"],
        },
    ),
    (
        Class::Watchdog,
        Places {
            within: &[
                "drivers/watchdog/iTCO_wdt",
                "drivers/watchdog/iTCO_vendor_support",
                "drivers/watchdog/sp5100_tco",
                "drivers/watchdog/i6300esb",
                "drivers/watchdog/wdat_wdt",
                "drivers/watchdog/sbsa_gwdt",
                "drivers/watchdog/bcm2835_wdt",
                "drivers/watchdog/dw_wdt",
                "drivers/watchdog/sp805_wdt",
                "drivers/i2c/busses/i2c-i801",
            ],
            without: &[],
        },
    ),
    (
        Class::Filesystems,
        Places {
            within: &[
                "fs/ext4/",
                "fs/xfs/",
                // A machine that runs a tree writes to a layer over it.
                "fs/overlayfs/",
                "fs/fat/",
                // The share of a stick.
                "fs/exfat/",
                "fs/efivarfs/",
                // The medium that a machine may boot from.
                "fs/isofs/",
                "drivers/scsi/sr_mod",
                "fs/nls/nls_ascii",
                "fs/nls/nls_cp437",
                "fs/nls/nls_iso8859-1",
                "fs/nls/nls_utf8",
                "drivers/block/loop",
            ],
            without: &["fs/fat/fat_test"],
        },
    ),
    (
        Class::Board,
        Places {
            within: &[
                "drivers/clk/",
                "drivers/dma/",
                "drivers/gpio/",
                "drivers/i2c/busses/",
                "drivers/mfd/",
                "drivers/nvmem/",
                "drivers/pci/controller/dwc/",
                "drivers/phy/",
                "drivers/pinctrl/",
                "drivers/pwm/",
                "drivers/regulator/",
                "drivers/reset/",
                "drivers/soc/",
                "drivers/spi/",
                "drivers/usb/typec/",
            ],
            without: &[
                // Adapters that hang on USB.
                "drivers/gpio/gpio-viperboard",
                "drivers/i2c/busses/i2c-diolan-u2c",
                "drivers/i2c/busses/i2c-robotfuzz-osif",
                "drivers/i2c/busses/i2c-tiny-usb",
                "drivers/i2c/busses/i2c-viperboard",
                "drivers/mfd/viperboard",
            ],
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_classed_by_its_place() {
        assert!(Class::Nic.holds("kernel/drivers/net/ethernet/intel/e1000/e1000.ko"));
        assert!(Class::Nic.holds("kernel/drivers/net/usb/r8152.ko.xz"));
        assert!(!Class::Nic.holds("kernel/drivers/net/wireless/ath/ath9k/ath9k.ko"));
        assert!(Class::Virtio.holds("kernel/drivers/block/virtio_blk.ko.zst"));
        assert!(Class::Scsi.holds("kernel/drivers/scsi/sd_mod.ko"));
        assert!(!Class::Scsi.holds("kernel/drivers/scsi/scsi_debug.ko"));
        // Of a package beside the kernel's own.
        assert!(Class::Ata.holds("extra/drivers/ata/ahci.ko"));
        assert!(!Class::Ata.holds("other/drivers/ata/ahci.ko"));
    }

    #[test]
    fn boards_are_described_by_device_trees_alone() {
        let regulator = "kernel/drivers/regulator/fixed.ko";
        assert!(Class::Board.holds(regulator) && !Class::Nic.holds(regulator));
        let missing = |architecture| {
            let all = Class::ALL.into_iter();
            all.filter(|class| !class.is_on(architecture))
                .collect::<Vec<_>>()
        };
        assert_eq!(missing(Architecture::X86_64), [Class::Board]);
        assert_eq!(missing(Architecture::Arm64), []);
    }

    #[test]
    fn every_class_whose_disks_are_scsi_disks_brings_their_driver() {
        for class in [
            Class::Ata,
            Class::Scsi,
            Class::Virtio,
            Class::Hypervisor,
            Class::Usb,
            Class::Mmc,
        ] {
            let name = class.name();
            assert!(class.holds("kernel/drivers/scsi/sd_mod.ko"), "{name}");
        }
    }
}
