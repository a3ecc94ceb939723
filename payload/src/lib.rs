//! Everything Pitstop does that is not booting: the job, the plan, the image stream, the share.
//!
//! Data flows one way: command line and host file make a [`job::Job`]; sysfs makes an
//! [`inventory::Inventory`]; both make a [`plan::Plan`]; [`execute`] walks it and emits
//! [`event::Event`]s; [`finish`] decides what the machine does next. Nothing here mounts the root,
//! loads modules or reboots: that is `init`'s.

pub mod disk;
pub mod efi;
pub mod event;
pub mod execute;
pub mod extents;
pub mod fetch;
pub mod finish;
pub mod host_name;
pub mod image;
pub mod info;
pub mod inventory;
pub mod job;
pub mod layout;
pub mod machine;
pub mod plan;
pub mod references;
pub mod render;
pub mod run;
pub mod share;
pub mod source;
pub mod table;
pub mod tools;
pub mod units;
pub mod used;
pub mod wipe;
