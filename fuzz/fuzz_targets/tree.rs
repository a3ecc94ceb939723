//! Any index of a tree and any tar: understood or refused, and no path leads out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::Bytes;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::Level;
use pitstop_trees::path::TreePath;
use pitstop_trees::{CaptureOptions, Excludes, From, Meta, Packing, import, index};

fn tar(bytes: &[u8]) {
    let options = CaptureOptions {
        packing: Packing {
            level: Level::Fast,
            threads: 1,
        },
        excludes: Excludes::new(&[]).expect("no pattern is wrong"),
        keep_identity: false,
        allow_changed: false,
        skipped: Vec::new(),
        meta: Meta::default(),
    };
    let bytes = Bytes(bytes.to_vec());
    let _ = import(&From::Archive(&bytes), &options, &mut std::io::sink(), &Silent);
}

// The first byte says what the rest is: of an index, how long its members are, and it.
fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, rest)) => {
            let Some((size, blob)) = rest.split_first_chunk() else { return };
            let size = u64::from(u32::from_le_bytes(*size));
            if let Ok(index) = index::decode(blob, size) {
                for entry in index.entries() {
                    assert!(TreePath::parse(entry.path.as_bytes()).is_ok());
                }
                assert_eq!(index::decode(&index::encode(&index), size), Ok(index));
            }
        }
        Some((_, bytes)) => tar(bytes),
        None => {}
    }
});
