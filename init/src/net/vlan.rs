//! `vlan=`: the network is a tagged one, so an interface for it is put on the card.

use super::netlink::Netlink;
use super::nics::Nic;
use anyhow::Context;
use pitstop_protocol::boot_parameters::Vlan;

/// Makes the interface of `vlan` on `card`, or takes the one that is there, and switches it on.
pub fn on(netlink: &mut Netlink, card: &Nic, vlan: &Vlan) -> anyhow::Result<Nic> {
    let name = vlan.name_on(&card.name);
    let act = || format!("making {name}, VLAN {} on {}", vlan.id, card.name);
    if nix::net::if_::if_nametoindex(name.as_str()).is_err() {
        netlink
            .add_vlan(&name, card.index, vlan.id)
            .with_context(|| {
                let hint = if no_driver() {
                    ": is the module 8021q in the initramfs?"
                } else {
                    ""
                };
                format!("{}{hint}", act())
            })?;
    }
    let index = nix::net::if_::if_nametoindex(name.as_str()).with_context(act)?;
    netlink.up(index).with_context(act)?;
    Ok(Nic {
        name,
        index,
        below: Some(card.index),
        ..card.clone()
    })
}

/// The driver makes this folder when it is loaded.
fn no_driver() -> bool {
    !std::path::Path::new("/proc/net/vlan").exists()
}
