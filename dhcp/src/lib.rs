//! DHCP for machines that boot over the network: what they load, beside a server that gives addresses, or with the
//! addresses themselves. Knows nothing of HTTP, jobs or images.

pub mod answer;
pub mod boot;
mod holder;
mod interfaces;
mod leases;
mod lend;
mod probe;
pub mod proxy;
pub mod question;
mod rivals;
mod serve;
mod socket;

pub use serve::{Dhcp, FleetNow, Heard, Journal, Mode, Settings};
