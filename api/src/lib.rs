//! What the API says and takes, typed: one definition for the server, its pages and the command. Values alone: whoever fills
//! them or shows them is elsewhere.
//!
//! Keys are kebab-case. Sizes are bytes, times RFC 3339 in UTC. What is not known is left out. Readers pass over keys that
//! they do not know: a later server may have more.

mod disk;
mod error;
mod event;
mod fleet;
mod image;
mod image_files;
pub mod inventory;
mod job;
mod machine;
mod order;
mod people;
mod power;
mod queue;
mod run;
mod schema;
mod server;

pub use disk::{Disk, Partition, Source};
pub use error::ErrorBody;
pub use event::{Change, Event, ImageChange, Kind as EventKind};
pub use fleet::{FleetGroup, FleetMachine, FleetNetwork, FleetView, Setting, Wrong};
pub use image::{Image, ImageDetail, Images, Use, Verified, VerifyState};
pub use image_files::{ImageEntry, ImageEntryKind, ImageFolder, ImageVolume, ImageVolumes};
pub use job::{Ended, History, HostFile, HostFiles, Job, JobDetail, Jobs};
pub use machine::{Fact, LastResult, Machine, MachineDetail, MachineState, Machines};
pub use order::{Answer, DryRun, Moved, Order, Planned, Retry};
pub use people::{NewToken, Role, Token, TokenOrder, Tokens, User, UserChange, UserOrder, Users};
pub use pitstop_jobs::{
    Order as JobOrder, Power as JobPower, State as JobState, Verdict as JobVerdict,
};
pub use pitstop_protocol::event::Verdict;
pub use pitstop_protocol::id::Id;
pub use power::{PowerAct, PowerAsk, PowerResult, PowerResults};
pub use queue::{Entry, GroupSlots, Queue, Schedule};
pub use run::{PlannedDisk, Progress, Run, RunDetail, RunState, Runs};
pub use server::{Server, Who};

/// The path below which all of it is.
pub const BASE: &str = "/api/v1";
