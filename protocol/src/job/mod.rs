//! The job: what the command line and the host file ask of this machine, checked.

mod after;
pub mod check;
pub mod cmdline;
pub mod hostfile;
pub mod locate;
mod part;
pub mod places;
mod preview;
mod runnable;
mod settings;
mod target;
mod transfer;

pub use after::After;
pub use check::rate as parse_rate;
pub use cmdline::{
    Bond, BondCard, BootParameters, CommandLine, CommandLineError, IpSetting, NtpServer,
    StaticAddress, Vlan, with_defaults,
};
pub use preview::{check_host_file, check_parameters, preview};
pub use runnable::{
    Action, Delta, DiskSelector, Job, Level, Method, Policy, ReadErrors, Salvaged, UnknownAction,
    check_folder,
};
pub use settings::{GROUP, check_setting, is_of_action, is_secret, setting_keys};
pub use target::DeleteTarget;
pub use transfer::{RETRY_FOR, Transfer};
