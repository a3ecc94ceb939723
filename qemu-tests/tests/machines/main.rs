//! Machines that boot, from firmware or directly, and what they do: one program, so that two machines are always busy. Its tests begin in the
//! order of their names: what takes longest is called so that it is not left alone at the end.
//!
//! Needs `make image`, root (namespaces, loop devices) and the programs that `qemu_tests::tools` names. What each
//! machine said is in `target/qemu-tests/consoles/`.

mod arm64;
mod arrays;
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
mod grow;
mod hardware;
mod identity;
mod layout;
mod links;
mod lossy;
mod manners;
mod media;
mod narrowed;
mod network;
mod nfs;
mod other_servers;
mod package;
mod partitions;
mod payload_size;
mod power;
mod queue;
mod reports;
mod room;
mod sectors;
mod secure;
mod signed;
mod store;
mod tokens;
mod trees;
mod ways_in;
mod wipe;
