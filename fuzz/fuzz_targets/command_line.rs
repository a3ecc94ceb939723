//! Any kernel command line is understood or refused with a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_protocol::boot_parameters::BootParameters;
use pitstop_protocol::job::CommandLine;

fuzz_target!(|text: &str| {
    let _ = BootParameters::parse(text);
    if let Err(error) = CommandLine::parse(text) {
        assert!(!error.to_string().is_empty());
    }
});
