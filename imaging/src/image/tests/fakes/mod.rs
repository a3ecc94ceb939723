//! Disks and images in memory that fail on purpose.

pub mod bad_disk;
pub mod disk;
pub mod image;

pub fn at(place: u64) -> usize {
    usize::try_from(place).unwrap()
}
