//! The job: what the command line and the host file ask of this machine, checked.

mod check;
mod cmdline;
mod hostfile;
mod load;
mod locate;
mod part;
mod places;
mod preview;
mod runnable;
mod settings;
mod target;
mod transfer;

pub use check::rate as parse_rate;
pub use cmdline::{
    Bond, BondCard, BootParameters, CommandLine, CommandLineError, IpSetting, NtpServer,
    StaticAddress, Vlan, with_defaults,
};
pub use load::{JobError, Salvaged, load, load_with};
pub use preview::preview;
pub use runnable::{
    Action, Delta, DiskSelector, Job, Level, Method, Policy, ReadErrors, UnknownAction,
    check_folder,
};
pub use settings::{check_setting, is_secret, setting_keys};
pub use target::DeleteTarget;
pub use transfer::Transfer;
