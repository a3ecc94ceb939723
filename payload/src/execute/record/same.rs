//! Whether two descriptions are of one machine.

use pitstop_imaging::image::MachineIdentity;
use pitstop_protocol::host_name::Uuid;

/// `None` where it cannot be told.
///
/// The UUID counts most: a network card on a plug is carried from machine to machine, and takes the address with it. But
/// makers have given one UUID to all their boards.
pub(in crate::execute) fn same_machine(
    one: &MachineIdentity,
    other: &MachineIdentity,
) -> Option<bool> {
    let serials = both(!one.serial.is_empty(), !other.serial.is_empty(), || {
        one.serial == other.serial
    });
    let macs = both(!one.macs.is_empty(), !other.macs.is_empty(), || {
        one.macs.iter().any(|mac| other.macs.contains(mac))
    });
    if let (Some(one), Some(other)) = (Uuid::parse(&one.uuid), Uuid::parse(&other.uuid)) {
        return match (one.spellings().contains(&other), macs, serials) {
            (false, ..) => Some(false),
            (true, Some(false), None | Some(false)) => None,
            (true, ..) => Some(true),
        };
    }
    match (macs, serials) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), _) | (_, Some(false)) => Some(false),
        (None, None) => None,
    }
}

/// What a comparison says, where both sides tell.
fn both(one: bool, other: bool, compare: impl FnOnce() -> bool) -> Option<bool> {
    (one && other).then(compare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(uuid: &str, serial: &str, macs: &[&str]) -> MachineIdentity {
        MachineIdentity {
            uuid: uuid.into(),
            serial: serial.into(),
            macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
        }
    }

    #[test]
    fn machines_are_told_apart_by_what_both_tell() {
        let a = "33221100-5544-7766-8899-aabbccddeeff";
        let b = "00112233-4455-6677-8899-aabbccddee00";
        let a_turned = "00112233-4455-6677-8899-aabbccddeeff";
        for (one, other, same) in [
            (machine(a, "", &["m1"]), machine(a, "", &["m1"]), Some(true)),
            (machine(a, "", &[]), machine(a_turned, "", &[]), Some(true)),
            // A network card on a plug.
            (
                machine(a, "", &["m1"]),
                machine(b, "", &["m1"]),
                Some(false),
            ),
            // One UUID for all boards of a maker.
            (machine(a, "", &["m1"]), machine(a, "", &["m2"]), None),
            (
                machine(a, "S", &["m1"]),
                machine(a, "S", &["m2"]),
                Some(true),
            ),
            (
                machine("", "", &["m1"]),
                machine(b, "", &["m2", "m1"]),
                Some(true),
            ),
            (
                machine("", "", &["m1"]),
                machine("", "", &["m2"]),
                Some(false),
            ),
            (machine("", "S", &[]), machine("", "T", &[]), Some(false)),
            (machine(a, "", &[]), machine("", "", &["m1"]), None),
        ] {
            assert_eq!(same_machine(&one, &other), same, "{one} / {other}");
            assert_eq!(same_machine(&other, &one), same, "{other} / {one}");
        }
    }
}
