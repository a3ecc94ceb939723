//! Real firmware, real servers, real disks: what the VM tests and the demo are made of.
//!
//! Everything here drives the programs in `out/` from outside and knows nothing of their insides.

pub mod arch;
pub mod bmc;
pub mod bus;
mod command_line;
pub mod compare;
pub mod console;
pub mod debian;
pub mod disks;
pub mod generated;
pub mod golden;
pub mod https;
pub mod kernel;
pub mod leases;
pub mod lossy;
pub mod matrix;
pub mod media;
pub mod network;
pub mod nfs;
pub mod nginx;
pub mod nic;
pub mod paths;
pub mod proxy;
pub mod qmp;
pub mod scene;
pub mod servers;
pub mod shim;
pub mod site;
pub mod small;
pub mod story;
pub mod tagged;
pub mod tools;
mod turn;
mod usage;
pub mod vm;
pub mod wire;
