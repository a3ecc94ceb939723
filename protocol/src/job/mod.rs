//! The job: what the command line and the host file ask of this machine, checked.

mod action;
mod after;
pub mod beside;
pub mod check;
pub mod cmdline;
mod default_host_urls;
mod delete_target;
pub mod host_file_search;
pub mod hostfile;
pub mod options;
mod partition_scope;
mod preview;
mod report;
mod runnable;
mod settings;
mod signature;
pub mod terms;
mod transfer;
mod words;

pub use action::{Action, ActionName, BackupOptions, Method, RestoreOptions, UnknownAction};
pub use after::After;
pub use check::rate as parse_rate;
pub use cmdline::{CommandLine, CommandLineError, with_defaults};
pub use default_host_urls::{DefaultUrl, default_host_urls, host_file_needed};
pub use delete_target::DeleteTarget;
pub use options::{JobOption, OPTIONS};
pub use preview::{check_host_file, check_parameters, preview};
pub use report::ReportTo;
pub use runnable::{DiskSelector, Job, Policy, Salvaged, check_folder};
pub use settings::{GROUP, check_setting, is_of_action, is_secret, setting_keys};
pub use signature::{BadSignature, JobKey, JobKeys, NotAKey};
pub use terms::{Clock, MeantFor, Terms, check_signable};
pub use transfer::{Distribute, RETRY_FOR, Transfer};
pub use words::{Choice, Word};
