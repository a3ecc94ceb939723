//! One chunk to one gzip member and back. All state and buffers live as long as their thread.
//!
//! ISA-L compresses fastest, libdeflate smallest; libdeflate inflates fastest and has the fastest CRC.

use super::effort::Method;
use super::member_header::{HEADER, TRAILER, parse_header, put_header};
use isal::isal_sys::igzip_lib as isal_sys;
use libdeflate_sys as deflate_sys;
use libdeflater::{CompressionLvl, Compressor};
use std::ptr::{NonNull, null_mut};

/// The most that a stored block holds (RFC 1951 3.2.4).
const STORED: usize = 65535;
/// How much of a chunk is tried before all of it is: four pieces of this many bytes.
const SAMPLE: usize = 4096;
const SAMPLES: usize = 4;
/// A sample that does not shrink below this many hundredths is not worth compressing.
const WORTH: usize = 97;

/// The largest member that a chunk of `raw` bytes can make.
pub const fn member_bound(raw: usize) -> usize {
    let blocks = if raw == 0 { 1 } else { raw.div_ceil(STORED) };
    HEADER + raw + blocks * 5 + TRAILER
}

/// Compresses chunks. What a method needs is made when it is first used, and kept.
pub struct Deflater {
    /// Levels 1 and 2. Level 3 takes twice the time, and libdeflate saves more in it.
    isal: [Option<Isal>; 2],
    libdeflate: Vec<(i32, Compressor)>,
    sample: Vec<u8>,
    scratch: Vec<u8>,
}

impl Default for Deflater {
    fn default() -> Self {
        Self {
            isal: Default::default(),
            libdeflate: Vec::new(),
            sample: vec![0; SAMPLE * SAMPLES],
            scratch: vec![0; member_bound(SAMPLE * SAMPLES)],
        }
    }
}

impl Deflater {
    /// Writes `raw` as one member to the front of `out`, which has [`member_bound`] bytes or more,
    /// and returns its length. What does not compress is stored.
    pub fn member(&mut self, method: Method, raw: &[u8], out: &mut [u8]) -> usize {
        let room = member_bound(raw.len()) - TRAILER;
        let body = if self.looks_random(method, raw) {
            None
        } else {
            self.deflate(method, raw, &mut out[HEADER..room])
        };
        let body = body.unwrap_or_else(|| store(raw, &mut out[HEADER..room]));
        let end = HEADER + body;
        out[end..end + 4].copy_from_slice(&libdeflater::crc32(raw).to_le_bytes());
        // RFC 1952 2.3.1: ISIZE is modulo 2^32; chunks are far smaller.
        let isize = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        out[end + 4..end + TRAILER].copy_from_slice(&isize.to_le_bytes());
        put_header(out, end + TRAILER);
        end + TRAILER
    }

    fn looks_random(&mut self, method: Method, raw: &[u8]) -> bool {
        if raw.len() < 4 * SAMPLE * SAMPLES {
            return false;
        }
        let mut sample = std::mem::take(&mut self.sample);
        let mut scratch = std::mem::take(&mut self.scratch);
        let stride = raw.len() / SAMPLES;
        for (at, piece) in sample.chunks_exact_mut(SAMPLE).enumerate() {
            let from = at * stride + stride / 2;
            piece.copy_from_slice(&raw[from..from + SAMPLE]);
        }
        let shrunk = self.deflate(method, &sample, &mut scratch);
        let random = shrunk.is_none_or(|size| size * 100 > sample.len() * WORTH);
        (self.sample, self.scratch) = (sample, scratch);
        random
    }

    /// The compressed length; `None` when it does not fit `out`.
    fn deflate(&mut self, method: Method, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        match method {
            Method::Isal(level) => {
                let isal = &mut self.isal[usize::from(level > 1)];
                isal.get_or_insert_with(|| Isal::new(level))
                    .deflate(raw, out)
            }
            Method::Libdeflate(level) => {
                let made = self.libdeflate.iter().position(|(made, _)| *made == level);
                let at = made.unwrap_or_else(|| {
                    let level = (level, CompressionLvl::new(level).unwrap_or_default());
                    self.libdeflate.push((level.0, Compressor::new(level.1)));
                    self.libdeflate.len() - 1
                });
                self.libdeflate[at].1.deflate_compress(raw, out).ok()
            }
        }
    }
}

/// `raw` as stored blocks; `out` is large enough by [`member_bound`].
fn store(raw: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    let mut rest = raw;
    loop {
        let (block, after) = rest.split_at(rest.len().min(STORED));
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out[at] = u8::from(after.is_empty());
        out[at + 1..at + 3].copy_from_slice(&length.to_le_bytes());
        out[at + 3..at + 5].copy_from_slice(&(!length).to_le_bytes());
        out[at + 5..at + 5 + block.len()].copy_from_slice(block);
        at += 5 + block.len();
        if after.is_empty() {
            return at;
        }
        rest = after;
    }
}

/// ISA-L's stateless deflate at one level, with its state and its level buffer kept.
struct Isal {
    stream: Box<isal_sys::isal_zstream>,
    level_buffer: Vec<u8>,
}

impl Isal {
    fn new(level: u8) -> Self {
        let buffer = match level {
            1 => isal_sys::ISAL_DEF_LVL1_DEFAULT,
            _ => isal_sys::ISAL_DEF_LVL2_DEFAULT,
        };
        let mut stream = Box::<isal_sys::isal_zstream>::new_uninit();
        // SAFETY: the init function writes every field that a later call reads, through a pointer to
        // memory of the right size; all fields are integers, arrays of them or pointers.
        let mut stream = unsafe {
            stream.as_mut_ptr().write_bytes(0, 1);
            isal_sys::isal_deflate_stateless_init(stream.as_mut_ptr());
            stream.assume_init()
        };
        stream.level = level.into();
        Self {
            stream,
            level_buffer: vec![0; buffer as usize],
        }
    }

    fn deflate(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let stream = &mut *self.stream;
        stream.next_in = raw.as_ptr().cast_mut();
        stream.avail_in = u32::try_from(raw.len()).ok()?;
        stream.total_in = 0;
        stream.next_out = out.as_mut_ptr();
        stream.avail_out = u32::try_from(out.len()).ok()?;
        stream.total_out = 0;
        stream.level_buf = self.level_buffer.as_mut_ptr();
        stream.level_buf_size = u32::try_from(self.level_buffer.len()).ok()?;
        stream.end_of_stream = 1;
        stream.flush = 0;
        stream.gzip_flag = 0;
        // SAFETY: input, output and level buffer are live slices for the whole call and their lengths
        // are given; ISA-L only reads from `next_in`.
        let code = unsafe { isal_sys::isal_deflate_stateless(stream) };
        let written = usize::try_from(stream.total_out).ok()?;
        stream.next_in = null_mut();
        stream.next_out = null_mut();
        (code == 0).then_some(written)
    }
}

/// Why a member is not the chunk it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    #[error("its header is not that of a member with its size in it")]
    Header,
    #[error("its header says {said} bytes, the index {indexed}")]
    Size { said: u32, indexed: u32 },
    #[error("its compressed data is damaged or does not inflate to {raw} bytes")]
    Data { raw: usize },
    #[error("{extra} bytes follow its compressed data")]
    Trailing { extra: usize },
    #[error("its length field says {said} bytes, it has {raw}")]
    Length { said: u32, raw: usize },
    #[error("its CRC-32 is wrong: {said:08x} told, {found:08x} found")]
    Crc { said: u32, found: u32 },
    #[error("its BLAKE3 hash is not the one in the index")]
    Hash,
}

/// Inflates members.
pub struct Inflater(NonNull<deflate_sys::libdeflate_decompressor>);

// SAFETY: a decompressor is plain memory without thread affinity; `&mut` guards each use.
unsafe impl Send for Inflater {}

impl Inflater {
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> anyhow::Result<Self> {
        // SAFETY: takes no arguments; null means out of memory.
        let made = unsafe { deflate_sys::libdeflate_alloc_decompressor() };
        NonNull::new(made)
            .map(Self)
            .ok_or_else(|| anyhow::anyhow!("out of memory for an inflater"))
    }

    /// Fills `raw` with what `member` holds, which must be exactly that many bytes; checks the header,
    /// both lengths and the CRC.
    pub fn member(&mut self, member: &[u8], raw: &mut [u8]) -> Result<(), MemberError> {
        let indexed = u32::try_from(member.len()).map_err(|_| MemberError::Header)?;
        let said = parse_header(member).ok_or(MemberError::Header)?;
        if said != indexed {
            return Err(MemberError::Size { said, indexed });
        }
        let Some(body) = member.len().checked_sub(HEADER + TRAILER) else {
            return Err(MemberError::Header);
        };
        let (body, trailer) = member[HEADER..].split_at(body);
        let used = self
            .inflate(body, raw)
            .ok_or(MemberError::Data { raw: raw.len() })?;
        if used != body.len() {
            let extra = body.len() - used;
            return Err(MemberError::Trailing { extra });
        }
        let word = |at: usize| {
            u32::from_le_bytes([
                trailer[at],
                trailer[at + 1],
                trailer[at + 2],
                trailer[at + 3],
            ])
        };
        let said = word(4);
        if usize::try_from(said) != Ok(raw.len()) {
            let raw = raw.len();
            return Err(MemberError::Length { said, raw });
        }
        let (said, found) = (word(0), libdeflater::crc32(raw));
        if said != found {
            return Err(MemberError::Crc { said, found });
        }
        Ok(())
    }

    /// Bytes of `body` used, when it inflates to exactly `raw`.
    fn inflate(&mut self, body: &[u8], raw: &mut [u8]) -> Option<usize> {
        let (mut used, mut made) = (0usize, 0usize);
        // SAFETY: the decompressor is live and only used here; both slices are live and their lengths
        // are given; the counts go to live integers.
        let code = unsafe {
            deflate_sys::libdeflate_deflate_decompress_ex(
                self.0.as_ptr(),
                body.as_ptr().cast(),
                body.len(),
                raw.as_mut_ptr().cast(),
                raw.len(),
                &raw mut used,
                &raw mut made,
            )
        };
        let whole = code == deflate_sys::libdeflate_result_LIBDEFLATE_SUCCESS && made == raw.len();
        whole.then_some(used)
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the allocator and is freed once.
        unsafe { deflate_sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

/// Whether every byte is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // The compiler turns the fixed-size inner loop into vector code; the outer one stops early.
    let (head, blocks, tail) = split_words(bytes);
    head.iter().chain(tail).all(|byte| *byte == 0)
        && blocks
            .iter()
            .all(|block| block.iter().fold(0, |all, word| all | word) == 0)
}

fn split_words(bytes: &[u8]) -> (&[u8], &[[u64; 32]], &[u8]) {
    // SAFETY: any bytes make valid integers.
    unsafe { bytes.align_to::<[u64; 32]>() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    const METHODS: [Method; 3] = [Method::Isal(1), Method::Isal(2), Method::Libdeflate(6)];

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252u64;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect()
    }

    fn round_trip(method: Method, raw: &[u8]) -> Vec<u8> {
        let mut out = vec![0xAA; member_bound(raw.len())];
        let size = Deflater::default().member(method, raw, &mut out);
        out.truncate(size);
        let mut back = vec![0x55; raw.len()];
        Inflater::new().unwrap().member(&out, &mut back).unwrap();
        assert!(back == raw, "the inflater differs");
        let mut other = Vec::new();
        GzDecoder::new(&out[..]).read_to_end(&mut other).unwrap();
        assert!(other == raw, "another decoder differs");
        out
    }

    #[test]
    fn noise_is_stored_and_zeros_shrink() {
        for method in METHODS {
            let random = noise(1 << 20);
            let stored = round_trip(method, &random);
            assert_eq!(stored.len(), member_bound(random.len()));
            assert!(round_trip(method, &vec![0; 1 << 20]).len() < 12_000);
            round_trip(method, &[]);
            round_trip(method, b"x");
        }
    }

    #[test]
    fn zeros_are_told_from_one_bit_anywhere() {
        let mut bytes = vec![0; 5000];
        assert!(is_zero(&bytes) && is_zero(&bytes[3..]) && is_zero(&[]));
        for at in [0, 1, 255, 2500, 4999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }

    #[test]
    fn each_damage_has_its_name() {
        let raw = noise(3000);
        let good = round_trip(Method::Isal(1), &raw);
        let mut back = vec![0; raw.len()];
        let mut inflater = Inflater::new().unwrap();
        let mut check = |member: &[u8]| inflater.member(member, &mut back).unwrap_err();
        let flip = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        };
        assert_eq!(check(&flip(0)), MemberError::Header);
        assert!(matches!(check(&flip(16)), MemberError::Size { .. }));
        assert!(matches!(
            check(&good[..good.len() - 1]),
            MemberError::Size { .. }
        ));
        assert!(matches!(
            check(&flip(good.len() - 8)),
            MemberError::Crc { .. }
        ));
        assert!(matches!(
            check(&flip(good.len() - 4)),
            MemberError::Length { .. }
        ));
        assert!(matches!(check(&flip(100)), MemberError::Crc { .. }));
        assert!(matches!(check(&flip(22)), MemberError::Data { raw: 3000 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_come_back(raw in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..60) {
            let raw = raw.repeat(repeat);
            for method in METHODS {
                round_trip(method, &raw);
            }
        }

        #[test]
        fn a_changed_member_never_passes(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let raw: Vec<u8> = b"pitstop".repeat(500);
            let mut member = round_trip(Method::Isal(1), &raw);
            let at = at.index(member.len());
            member[at] ^= 1 << bit;
            let mut back = vec![0; raw.len()];
            let passed = Inflater::new().unwrap().member(&member, &mut back).is_ok();
            prop_assert!(!passed || back == raw);
        }
    }
}
