//! Formats whose magic is short, or none: other fields must be right, too.

use super::END;

/// The footer that is right for just this file: a disk that was written from such a file may end in one too, but is
/// 512 bytes smaller then, or larger.
pub fn is_vhd_footer(footer: &[u8], size: u64) -> bool {
    let disk = footer.get(48..).and_then(|it| it.first_chunk::<8>());
    disk.map(|disk| u64::from_be_bytes(*disk)) == size.checked_sub(END as u64)
        && is_whole_vhd_footer(footer)
}

/// The footer of a VHD that grows (type 3), or has a parent (4): no raw disk is of its size.
pub fn is_dynamic_vhd_footer(footer: &[u8]) -> bool {
    matches!(footer.get(60..64), Some([0, 0, 0, 3 | 4])) && is_whole_vhd_footer(footer)
}

fn is_whole_vhd_footer(footer: &[u8]) -> bool {
    if !footer.starts_with(b"conectix") {
        return false;
    }
    let word = |at: usize| footer.get(at..).and_then(|it| it.first_chunk::<4>());
    let others = footer
        .iter()
        .enumerate()
        .filter(|(at, _)| !(64..68).contains(at));
    let sum: u32 = others.map(|(_, byte)| u32::from(*byte)).sum();
    word(64).is_some_and(|told| u32::from_be_bytes(*told) == !sum)
}

/// Whether the first sector ends as the BIOS wants it of a disk it boots.
pub fn is_boot_sector(start: &[u8]) -> bool {
    start.get(510..512) == Some(&[0x55, 0xaa])
}

/// The text in front may be anybody's, the signature is not.
pub fn is_vdi(start: &[u8]) -> bool {
    start.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe])
}

/// The checksum of the first header (POSIX.1-2017 pax, ustar): the sum of its bytes, its own field as spaces. Tars
/// from before POSIX have nothing else.
pub fn is_tar(start: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let Some(header) = start.get(..512).filter(|header| header[0] != 0) else {
        return false;
    };
    let told = header[SUM].iter().skip_while(|byte| **byte == b' ');
    let digits: Vec<u8> = told
        .copied()
        .take_while(|byte| (b'0'..=b'7').contains(byte))
        .collect();
    let told = digits
        .iter()
        .fold(0, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let bytes = || {
        let others = header.iter().enumerate();
        others.map(|(at, byte)| if SUM.contains(&at) { b' ' } else { *byte })
    };
    let unsigned: u32 = bytes().map(u32::from).sum();
    // Some old ones summed signed bytes.
    let signed: i32 = bytes().map(|byte| i32::from(byte.cast_signed())).sum();
    !digits.is_empty() && (told == unsigned || i32::try_from(told) == Ok(signed))
}

/// Of its three headers the one in binary has a magic of two bytes: the name must be one as well.
pub fn is_cpio(start: &[u8]) -> bool {
    let digits = |from: usize, to: usize, radix: u32| {
        let field = start.get(from..to).unwrap_or_default();
        !field.is_empty() && field.iter().all(|byte| char::from(*byte).is_digit(radix))
    };
    if start.starts_with(b"070701") || start.starts_with(b"070702") {
        return digits(6, 110, 16);
    }
    if start.starts_with(b"070707") {
        return digits(6, 76, 8);
    }
    let word = |at: usize| start.get(at..).and_then(|it| it.first_chunk::<2>());
    let length = match word(0) {
        Some([0xc7, 0x71]) => word(20).map(|length| u16::from_le_bytes(*length)),
        Some([0x71, 0xc7]) => word(20).map(|length| u16::from_be_bytes(*length)),
        _ => None,
    };
    let name = length.and_then(|length| start.get(26..26 + usize::from(length)));
    name.and_then(<[u8]>::split_last)
        .is_some_and(|(end, name)| {
            *end == 0 && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
        })
}

/// RFC 1952 2.3: deflate, and no flag that is reserved.
pub fn is_gzip(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0)
}

/// A frame of zstd, or lz4, that only says something about the next (RFC 8878 3.1.2).
pub fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The level, then the magic of a block, or of an end without blocks.
pub fn is_bzip2(start: &[u8]) -> bool {
    let magics: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];
    matches!(start, [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
        if magics.iter().any(|magic| rest.starts_with(magic)))
}

/// As the kernel's images have it: blocks of at most 8 MiB, with their size.
pub fn is_legacy_lz4(start: &[u8]) -> bool {
    matches!(start, [0x02, 0x21, 0x4c, 0x18, size @ ..]
        if size.first_chunk().is_some_and(|size| (1..=8 << 20).contains(&u32::from_le_bytes(*size))))
}

/// It has no magic: the usual properties, a dictionary of a size that encoders choose, a plausible length, and the
/// first byte of the range coder, which is 0.
pub fn is_lzma(start: &[u8]) -> bool {
    let [0x5d, rest @ ..] = start else {
        return false;
    };
    let (Some(dictionary), Some(length)) = (
        rest.first_chunk::<4>(),
        rest.get(4..).and_then(|it| it.first_chunk::<8>()),
    ) else {
        return false;
    };
    let dictionary = u32::from_le_bytes(*dictionary);
    let length = u64::from_le_bytes(*length);
    let usual = dictionary >= 4096
        && (dictionary.is_power_of_two()
            || (dictionary / 3).is_power_of_two() && dictionary % 3 == 0);
    usual && (length == u64::MAX || (4096..1 << 48).contains(&length)) && rest.get(12) == Some(&0)
}

/// The most bits of a code are 9 to 16.
pub fn is_compress(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)))
}

/// RFC 1950 2.2: deflate with a window of 32 KiB, the check of the header, no dictionary; and a beginning that unpacks.
pub fn is_zlib(start: &[u8]) -> bool {
    const ENOUGH: usize = 1024;
    let [0x78, flags, ..] = start else {
        return false;
    };
    if (0x7800 + u16::from(*flags)) % 31 != 0 || flags & 0x20 != 0 {
        return false;
    }
    let mut unpacked = [0; ENOUGH];
    let mut codec = flate2::Decompress::new(true);
    let done = codec.decompress(start, &mut unpacked, flate2::FlushDecompress::None);
    done.is_ok() && codec.total_out() == ENOUGH as u64
}

/// What a server says instead of giving the image.
pub fn is_web_page(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let begins = |tag: &str| {
        let text = start.get(..tag.len());
        text.is_some_and(|text| text.eq_ignore_ascii_case(tag.as_bytes()))
    };
    begins("<!doctype html") || begins("<html")
}

/// Whether these bytes can only be a text.
pub fn is_text(bytes: &[u8]) -> bool {
    let printable =
        |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c) || *byte >= 0x20 && *byte != 0x7f;
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // A character that the end of the piece cuts in two.
        Err(error) => error.error_len().is_none(),
    };
    !bytes.is_empty() && whole && bytes.iter().all(printable)
}
