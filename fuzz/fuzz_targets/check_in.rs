//! What strangers say at the door of a job, what a server answers to a machine, and the files of jobs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_jobs::{Entry, Job, trace};
use pitstop_protocol::check_in::{Answer, CheckIn};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = CheckIn::parse(bytes) {
        let id = message.run.as_str();
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    }
    let _ = Answer::parse(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Ok(job) = Job::parse(&text, "x.toml") {
        assert_eq!(Job::parse(&job.to_toml(), "x.toml"), Ok(job));
    }
    let _ = Entry::parse(&text);
    let _ = trace(&text, "backup", jiff::Timestamp::UNIX_EPOCH);
});
