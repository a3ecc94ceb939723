//! How a deployed disk boots: judged by the tree and the layout before anything is written, and what is written for it at the very end.

pub mod cmdline;
pub mod extlinux;
pub mod files;
pub mod grub;
pub mod judge;
pub mod make;
pub mod uefi;
