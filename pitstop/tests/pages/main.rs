//! The pages in a real browser: Chromium, driven by chromedriver, and the real server beside it.

mod access;
mod accessible;
mod browser;
#[path = "../common/mod.rs"]
mod common;
mod lab;
mod live;
mod looking;
mod many;
mod queue;
mod reading;
