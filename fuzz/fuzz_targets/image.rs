//! Any bytes are an image or refused: no panic, no memory beyond the chunk that is looked at.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::Bytes;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image;

fuzz_target!(|bytes: &[u8]| {
    let image = Bytes(bytes.to_vec());
    let _ = image::OpenedImage::open(Box::new(&image));
    let _ = image::verify(&image, 1, &Silent);
});
