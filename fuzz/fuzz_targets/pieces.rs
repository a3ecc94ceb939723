//! Pieces of a segment, and names of images: read or refused, within what a segment may make.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_protocol::image_version::{Version, dated, split};
use pitstop_protocol::pieces::{Composer, MOST_MADE, Piece, Pieces};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = Pieces::parse(bytes) {
        assert!(read.made <= MOST_MADE);
        let mut composer = Composer::default();
        for piece in &read.pieces {
            match piece {
                Piece::Bytes(bytes) => composer.bytes(bytes),
                Piece::Repeated { bytes, count } => composer.repeated(bytes, *count),
                Piece::Members { offset, members } => {
                    let mut at = *offset;
                    for member in members {
                        composer.member(at, *member);
                        at += u64::from(member.size);
                    }
                }
            }
        }
        let (body, made) = composer.take();
        assert_eq!(made, read.made);
        assert_eq!(Pieces::parse(&body).map(|again| again.made), Ok(made));
    }
    let name = String::from_utf8_lossy(bytes);
    if let (last, Version::Dated(made)) = split(&name) {
        assert_eq!(dated(last, made), name);
    }
});
