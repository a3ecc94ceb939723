//! Tests of the engine as a whole: on disks and images that fail on purpose, and on disks of many TiB.

mod fakes;
mod fault_injection;
mod fault_injection_anywhere;
mod huge_disks;
