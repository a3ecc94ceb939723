//! Any name is a host file's or none; what machines ask for is written as it was read, and what is misspelled has a
//! right spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_protocol::host_name::{HostName, Meaning, printable};

fuzz_target!(|name: &str| {
    if let Some(found) = HostName::from_stem(name) {
        assert_eq!(found.stem(), name);
        assert!(found.stems().iter().any(|stem| stem == name));
    }
    if let Meaning::Misspelled(meant) = Meaning::of_file(name) {
        assert_ne!(meant.file(), name);
        assert_eq!(Meaning::of_file(&meant.file()), Meaning::Taken(meant));
    }
    assert!(!printable(name).contains(char::is_control));
});
