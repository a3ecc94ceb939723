//! What the network gave a machine that is none, for tests.

use crate::machine::{BootSource, Lease};
use std::net::{IpAddr, Ipv4Addr};

/// The lease of QEMU's user network.
pub fn lease() -> Lease {
    Lease {
        interface: "eth0".into(),
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
        hostname: Some("testbox7".into()),
        boot: BootSource::default(),
    }
}
