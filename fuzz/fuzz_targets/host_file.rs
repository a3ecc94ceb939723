//! Host files, as a server that is not ours could serve them: a job, or a refusal in a sentence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_protocol::job::preview;

fuzz_target!(|bytes: &[u8]| {
    let url = "https://srv/hosts/0A00020F.toml".parse().expect("it is a URL");
    for address in [None, Some([10, 0, 2, 15].into())] {
        if let Err(why) = preview(bytes, &url, address) {
            assert!(!why.is_empty());
        }
    }
});
