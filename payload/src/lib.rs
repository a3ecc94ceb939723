//! The machine's work, from its lease to its end.
//!
//! Data flows one way: [`load`] finds the host file and makes a job; sysfs makes an inventory; both make a
//! [`plan::Plan`]; [`execute`] walks it and emits events; [`finish`] decides what the machine does next. Nothing here
//! mounts the root, loads modules or reboots: that is `init`'s.

pub mod check_in;
pub mod execute;
pub mod finish;
pub mod info;
pub mod load;
pub mod lookout;
mod passthrough;
pub mod plan;
pub mod report;
pub mod run;
pub mod stick;
pub mod system;
pub mod wipe;
