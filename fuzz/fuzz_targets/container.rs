//! Any bytes, as they are and within gzip: what may be a raw disk may be one within gzip too, and what bytes follow a
//! gzip changes nothing of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::Bytes;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{self, Kind, OpenedImage};

/// One gzip member of stored blocks (RFC 1951 3.2.4).
fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for block in raw.chunks(65535) {
        let length = u16::try_from(block.len()).expect("blocks have at most 65535 bytes");
        packed.push(0);
        packed.extend(length.to_le_bytes());
        packed.extend((!length).to_le_bytes());
        packed.extend(block);
    }
    packed.extend([3, 0]);
    packed.extend(crc32fast::hash(raw).to_le_bytes());
    let length = u32::try_from(raw.len()).expect("inputs are far smaller");
    packed.extend(length.to_le_bytes());
    packed
}

fuzz_target!(|input: &[u8]| {
    // The first byte is the length of what follows the gzip.
    let Some((behind, raw)) = input.split_first() else {
        return;
    };
    let plain = OpenedImage::open(Box::new(Bytes(raw.to_vec())));
    let mut packed = gzip(raw);
    let alone = OpenedImage::open(Box::new(Bytes(packed.clone())));
    if plain.is_ok_and(|image| image.kind() == Kind::Raw) {
        alone.map(drop).expect("a raw disk is one within gzip too");
        // Zeros and letters begin no member.
        packed.extend(raw.iter().take(usize::from(*behind)).map(|byte| byte & b'A'));
        let verified = image::verify(&Bytes(packed), 1, &Silent).expect("as gunzip has it");
        assert_eq!(verified.bytes(), raw.len() as u64);
    }
});
