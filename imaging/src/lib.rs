//! The imaging engine: what is on a disk, which of it is used, and how it becomes an image and a disk again.
//!
//! [`table`] reads and writes partition tables, [`used`] says which bytes the filesystems use, [`image`] captures,
//! restores and verifies, [`layout`] makes partitions and filesystems from a file. It knows nothing of jobs, shares
//! and networks: it is given files, devices and an [`image::ImageSource`], and tells [`event::Event`]s.

pub mod arch;
pub mod browse;
pub mod disk;
pub mod efi;
pub mod event;
pub mod extents;
pub mod image;
pub mod initramfs;
pub mod interrupt;
pub mod inventory;
pub mod kernel_log;
pub mod layout;
pub mod modules;
pub mod patience;
pub mod random;
pub mod references;
pub mod render;
pub mod source;
pub mod table;
pub mod tools;
pub mod units;
pub mod unmount;
pub mod used;
pub mod wishes;
