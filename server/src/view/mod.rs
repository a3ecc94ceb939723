//! What there is to see: the site as values of the API, for its handlers and for pages.

mod fleet;
mod images;
mod jobs;
mod looks;
mod machine;
mod machines;
mod runs;
mod watch;

pub use fleet::{fleet, fleet_machine, identity, with_settings, wrong};
pub use images::{image, image_paths, images, images_below, is_image};
pub use jobs::{Wanted, chosen_of, history, job, job_log, jobs, not_chosen, queue, schedule};
pub use looks::Looks;
pub use machine::machine;
pub use machines::machines;
pub use runs::{run, runs};
pub use watch::Watch;

use crate::refusal::Refusal;
use axum::http::StatusCode;

/// What the folders of jobs or the fleet file do not give.
pub fn failed(error: &anyhow::Error) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"))
}
