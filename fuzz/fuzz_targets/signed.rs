//! What lies beside a host file, and the file with its terms: whoever serves them chooses every byte.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_protocol::digest::Digest;
use pitstop_protocol::job::beside::Unsigned;
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::job::{JobKey, JobKeys, check_signable, preview};

/// Made by minisign; nobody has its secret half any more.
const KEY: &[u8] = b"RWSEYQZutvrU15bPSrtMxJnrDl1KXMIyf5qfYw6t4aemtl9vxlPMcVp6";
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RWSEYQZutvrU1+LjOw8ZybEsKy4FTdlchluZX3BFXt+4qv1KzwDGV/zxGznrLHlV9Y7L9v9u89ygnPa66LmdzXFFRdtN54ZdLQk=\n\
    trusted comment: lab7, restore\n\
    HyekEYHlE6Wug2UprSyEmCM3FB54qmi5Ye0oRDqhS9eKjTWJsDbjYewBKlzmXWX5oRmrcQELLVgZAYsjhhC2Bw==\n";
const FILE: &[u8] = b"version = 1\naction = \"restore\"\nshare = \"http://10.0.2.2:8080/share\"\n";

fuzz_target!(|bytes: &[u8]| {
    let _ = JobKey::parse(bytes);
    let keys = JobKey::parse(KEY).ok().and_then(|key| JobKeys::new(vec![key]));
    let Some(keys) = keys else {
        panic!("the key is one");
    };
    // No other signature is of the file, and the signature is of no other file.
    if keys.verify(FILE, bytes).is_ok() {
        let text = String::from_utf8_lossy(bytes);
        assert!(text.contains("trusted comment: lab7, restore"));
    }
    assert_eq!(keys.verify(bytes, SIGNATURE.as_bytes()).is_ok(), bytes == FILE);
    if let Ok(unsigned) = Unsigned::parse(bytes) {
        assert_eq!(Unsigned::parse(unsigned.to_toml().as_bytes()).as_ref(), Ok(&unsigned));
        let mut file = HostFile::default();
        unsigned.add_to(&mut file);
        assert!(file.action.is_none() && file.share.is_none() && file.disks.is_none());
    }
    if let Ok(url) = "http://server/hosts/h.toml".parse()
        && let Ok(job) = preview(bytes, &url, None)
    {
        let _ = check_signable(&job);
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
});
