//! Jobs of many machines: one job a machine, its states, whose turn it is, and when it is due. Pure: values in, values
//! out. Files, clocks and networks are the server's.

mod board;
mod evidence;
mod follow;
mod history;
mod job;
mod order;
mod schedule;
mod state;
mod turns;

pub use board::{Board, Gone};
pub use evidence::{Evidence, Trace, trace};
pub use follow::{Followed, asked_about, at_work, follow_again, followed};
pub use history::{Entry, MOST_LINE};
pub use job::{BadJob, HostFiles, Job, MOST_BYTES, Power, VERSION, Verdict, file};
pub use order::{Order, UnknownOrder};
pub use schedule::{BadTime, Cron, Due, LATEST, at, due};
pub use state::{Effect, Happened, State};
pub use turns::{Claim, Limits, Place, Turn};
