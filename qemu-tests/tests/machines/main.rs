//! Machines that boot, from firmware or directly, and what they do: one program, so that two machines are always busy.
//!
//! Needs `make image`, root (namespaces, loop devices) and the programs that `qemu_tests::tools` names. What each
//! machine said is in `target/qemu-tests/consoles/`.

mod bad_disk;
mod bad_job;
mod bad_network;
mod bad_share;
mod bmc;
mod bond;
mod buses;
mod dhcp;
mod encrypted;
mod firmware;
mod generated;
mod golden;
mod grow;
mod hardware;
mod identity;
mod layout;
mod links;
mod local;
mod lossy;
mod manners;
mod media;
mod narrowed;
mod network;
mod nfs;
mod other_servers;
mod package;
mod partitions;
mod power;
mod queue;
mod reports;
mod sectors;
mod signed;
mod tokens;
mod uefi;
mod ways_in;
mod wipe;
