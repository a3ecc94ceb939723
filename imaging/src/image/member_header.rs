//! The header that every gzip member of an image begins with: RFC 1952 2.3, with the member's own size in a field.
//!
//! Everything is little-endian.

/// Bytes before a data member's compressed data: the fixed header of RFC 1952 2.3 with FEXTRA, XLEN
/// and one subfield `PS` with the size of the whole member.
pub const HEADER: usize = 20;
/// CRC-32 and ISIZE.
pub const TRAILER: usize = 8;
/// Magic, deflate, FEXTRA, no time, no flags, unknown system.
const FIXED: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
/// What the EXTRA of every member begins with: a subfield of four bytes.
pub const SIZE_FIELD: [u8; 4] = [b'P', b'S', 4, 0];

/// Writes a member's header to the front of `out`.
pub fn put_header(out: &mut [u8], member: usize) {
    let size = u32::try_from(member).unwrap_or(u32::MAX);
    out[..10].copy_from_slice(&FIXED);
    out[10..12].copy_from_slice(&8u16.to_le_bytes());
    out[12..16].copy_from_slice(&SIZE_FIELD);
    out[16..20].copy_from_slice(&size.to_le_bytes());
}

/// The size of the data member that begins with `bytes`; `None` when they begin no such member.
pub fn parse_header(bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..HEADER)?;
    let ours = header[..10] == FIXED && header[10..12] == [8, 0] && header[12..16] == SIZE_FIELD;
    ours.then(|| u32_at(header, 16)).flatten()
}

/// Whether a file that begins with `bytes` is meant to be an image of Pitstop's, index or not.
pub fn begins_like_indexed(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes[..10] == FIXED && bytes[12..16] == SIZE_FIELD
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
