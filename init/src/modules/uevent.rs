//! What the kernel says of devices: `add@/devices/…`, then `KEY=value` pairs, each ended by a zero byte
//! (`lib/kobject_uevent.c`).

/// The part of a uevent that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// `add`, `change`, `bind`, `remove`, …
    pub action: &'a str,
    /// What `modules.alias` is asked for.
    pub modalias: Option<&'a str>,
}

/// Reads one datagram of the kernel's socket. `None` for what is no kernel uevent: udevd's own begin with
/// `libudev`, and nothing that is not UTF-8 is an alias.
pub fn parse(datagram: &[u8]) -> Option<Uevent<'_>> {
    let text = std::str::from_utf8(datagram).ok()?;
    let mut parts = text.split('\0');
    let (action, path) = parts.next()?.split_once('@')?;
    if !path.starts_with('/') {
        return None;
    }
    let modalias = parts
        .find_map(|pair| pair.strip_prefix("MODALIAS="))
        .filter(|alias| !alias.is_empty());
    Some(Uevent { action, modalias })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_added_device_names_what_it_needs() {
        let datagram = b"add@/devices/pci0000:00/0000:00:03.0/virtio0\0ACTION=add\0\
            DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0\0SUBSYSTEM=virtio\0\
            MODALIAS=virtio:d00000001v00001AF4\0SEQNUM=1\0";
        assert_eq!(
            parse(datagram),
            Some(Uevent {
                action: "add",
                modalias: Some("virtio:d00000001v00001AF4")
            })
        );
        assert_eq!(parse(b"remove@/module/x\0").unwrap().modalias, None);
        assert_eq!(parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(parse(b"add@nowhere\0"), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
