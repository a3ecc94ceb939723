//! Swap partitions: used, unless they hold a system that hibernated.

use crate::system::Volume;
use nix::errno::Errno;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::units;
use pitstop_imaging::used::Swap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// The partitions to swap to, and those that hold somebody's memory.
pub fn choose(here: &[Volume]) -> (Vec<Volume>, Vec<Volume>) {
    let of = |swap: Swap| {
        let partitions = here.iter().filter(|volume| volume.is_partition);
        partitions
            .filter(|volume| volume.swap == Some(swap))
            .cloned()
            .collect()
    };
    (of(Swap::Free), of(Swap::Hibernated))
}

/// Swaps to each of them. One that cannot be used is told: the machine runs without it. Returns those that are used.
pub fn on(partitions: &[Volume], reporter: &dyn Reporter) -> Vec<Volume> {
    let mut used = Vec::new();
    for volume in partitions {
        match swap_on(volume) {
            Ok(()) => {
                reporter.info(format!(
                    "{} is swapped to, {}",
                    volume.name,
                    units::bytes(volume.size)
                ));
                used.push(volume.clone());
            }
            Err(error) => reporter.warn(format!("{} is not swapped to: {error}", volume.name)),
        }
    }
    used
}

/// swapon(2)
fn swap_on(volume: &Volume) -> Result<(), Errno> {
    let node = CString::new(volume.node.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the path is a C string that outlives the call, and nothing else is handed over.
    let outcome = unsafe { nix::libc::swapon(node.as_ptr(), 0) };
    Errno::result(outcome).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;

    #[test]
    fn what_cannot_be_swapped_to_is_none_that_is_used() {
        let volume = Volume {
            node: "/nowhere/sda1".into(),
            ..Volume::default()
        };
        assert_eq!(on(&[volume], &Silent), []);
    }

    #[test]
    fn only_free_swap_partitions_are_swapped_to() {
        let volume = |name: &str, is_partition: bool, swap: Option<Swap>| Volume {
            name: name.into(),
            is_partition,
            swap,
            ..Volume::default()
        };
        let here = [
            volume("sda1", true, Some(Swap::Free)),
            volume("sda2", true, Some(Swap::Hibernated)),
            volume("sda3", true, None),
            volume("sdb", false, Some(Swap::Free)),
        ];
        let (free, hibernated) = choose(&here);
        assert_eq!(free, here[..1]);
        assert_eq!(hibernated, here[1..2]);
    }
}
