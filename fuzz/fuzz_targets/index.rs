//! Any index, with the checksums around it right: understood or refused, and what it says of its chunks is
//! believed by nobody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_fuzz::Bytes;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image;

/// `docs/image-format.md`: an empty member with `data` in the field `id`.
fn member(id: [u8; 2], data: &[u8], out: &mut Vec<u8>) {
    let size = u32::try_from(24 + data.len() + 10).expect("fields have at most 64 KiB");
    let field = u16::try_from(data.len()).expect("fields have at most 64 KiB");
    out.extend([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
    out.extend((field + 12).to_le_bytes());
    out.extend(b"PS\x04\x00");
    out.extend(size.to_le_bytes());
    out.extend(id);
    out.extend(field.to_le_bytes());
    out.extend(data);
    out.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// The first two bytes are the length of the index, what follows it the data members.
fn whole(input: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = input.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (index, data) = rest.split_at_checked(length)?;
    let mut image = data.to_vec();
    let offset = image.len();
    // As long as they are written now; the first as long as they once were.
    let (first, rest) = index.split_at(index.len().min(65523));
    for piece in [first].into_iter().chain(rest.chunks(16_000)) {
        member(*b"PI", piece, &mut image);
    }
    let mut footer = b"PITSTOPF".to_vec();
    footer.extend((offset as u64).to_le_bytes());
    footer.extend(((image.len() - offset) as u64).to_le_bytes());
    footer.extend((index.len() as u64).to_le_bytes());
    footer.extend(blake3::hash(index).as_bytes());
    let sum = crc32fast::hash(&footer);
    footer.extend(sum.to_le_bytes());
    member(*b"PF", &footer, &mut image);
    Some(image)
}

fuzz_target!(|input: &[u8]| {
    let Some(image) = whole(input) else { return };
    let image = Bytes(image);
    let _ = image::OpenedImage::open(Box::new(&image));
    let _ = image::inspect(&image, 10);
    let _ = image::verify(&image, 1, &Silent);
});
