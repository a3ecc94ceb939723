//! Any gzip, one member or many, by ISA-L. Its end is proven: the last trailer, then nothing that begins like a member.
//!
//! What else follows is left out and told, as gunzip does: builders of firmware put their metadata there. Behind
//! members of Pitstop's own it is an error.

mod input;

use crate::image::member_header::SIZE_FIELD;
use crate::units;
use flate2::Crc;
use input::Input;
use isal::isal_sys::igzip_lib as isal_sys;
use std::fmt;
use std::io::{self, Read};
use std::ptr::null_mut;

/// The flags of RFC 1952 2.3.1.
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;
/// How a member begins: the magic, and deflate.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Bytes that follow a gzip and are no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrailingBytes {
    /// Where they begin in the file.
    pub at: u64,
    pub bytes: u64,
}

impl fmt::Display for TrailingBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes) from byte {} on are behind the gzip data and no part of it: left out, as gunzip does",
            units::bytes(self.bytes),
            self.bytes,
            self.at
        )
    }
}

/// Inflates a gzip stream.
pub struct Gunzip<R> {
    input: Input<R>,
    state: Box<isal_sys::inflate_state>,
    within: bool,
    members: u64,
    /// Whether a member had the field of Pitstop's own.
    ours: bool,
    trailing: Option<TrailingBytes>,
    /// Of the header that is being read.
    header: Crc,
}

// SAFETY: the pointers in the state are set for each call and null between calls; the rest is plain data.
unsafe impl<R: Send> Send for Gunzip<R> {}

/// Whether these bytes begin a member, as far as they tell.
fn is_member(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x8b, 8, flags, ..] if flags & RESERVED == 0)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the gzip data is cut short")
}

impl<R: Read> Gunzip<R> {
    pub fn new(inner: R) -> Self {
        let mut state = Box::<isal_sys::inflate_state>::new_uninit();
        // SAFETY: all fields are integers, arrays, unions of integers or pointers, for which zero bytes
        // are values; the init function then sets what matters.
        let state = unsafe {
            state.as_mut_ptr().write_bytes(0, 1);
            isal_sys::isal_inflate_init(state.as_mut_ptr());
            state.assume_init()
        };
        Self {
            input: Input::new(inner),
            state,
            within: false,
            members: 0,
            ours: false,
            trailing: None,
            header: Crc::new(),
        }
    }

    fn skip_text(&mut self) -> io::Result<()> {
        while self.byte()? != 0 {}
        Ok(())
    }

    /// The next byte of a header.
    fn byte(&mut self) -> io::Result<u8> {
        let byte = self.input.next_byte()?.ok_or_else(cut_short)?;
        self.header.update(&[byte]);
        Ok(byte)
    }

    /// Reads all that is left, which begins like no member. Zeros alone fill the last block of a tape, as gzip has it
    /// too.
    fn pass_over_the_rest(&mut self) -> io::Result<()> {
        if self.ours {
            return Err(damaged("something follows the end of the image"));
        }
        let at = self.input.position();
        let mut zeros = true;
        loop {
            let rest = self.input.held();
            zeros &= rest.iter().all(|byte| *byte == 0);
            // A damaged header would take all members behind it along.
            if rest.windows(4).any(is_member) {
                return Err(damaged("what is between two members is damaged"));
            }
            // A header may lie across two reads.
            self.input.consume(rest.len().saturating_sub(3));
            if !self.input.refill()? {
                break;
            }
        }
        self.input.consume(self.input.held().len());
        let bytes = self.input.position() - at;
        self.trailing = (!zeros).then_some(TrailingBytes { at, bytes });
        Ok(())
    }

    /// What was passed over at the end of the stream.
    pub fn trailing(&self) -> Option<TrailingBytes> {
        self.trailing
    }

    /// Reads the next member's header (RFC 1952 2.3); false when the stream ends where one may begin.
    fn begin(&mut self) -> io::Result<bool> {
        let members = self.members;
        let start = self.input.peek(MAGIC.len())?;
        let alike = start
            .iter()
            .zip(MAGIC)
            .filter(|(is, magic)| *is == magic)
            .count();
        match (start, members) {
            ([0x1f, 0x8b, ..], _) => {}
            ([], 1..) => return Ok(false),
            // Most of a header: one that is cut short or damaged is no end.
            ([0x1f], _) => return Err(cut_short()),
            (_, 1..) if alike + 1 >= MAGIC.len() => {
                return Err(damaged("a gzip header is damaged"));
            }
            (_, 1..) => return self.pass_over_the_rest().map(|()| false),
            (_, 0) => return Err(damaged("this is not gzip data")),
        }
        self.header.reset();
        self.byte()?;
        self.byte()?;
        let (method, flags) = (self.byte()?, self.byte()?);
        if method != 8 || flags & RESERVED != 0 {
            return Err(damaged("a gzip header is damaged"));
        }
        for _ in 4..10 {
            self.byte()?;
        }
        if flags & FEXTRA != 0 {
            let length = u16::from_le_bytes([self.byte()?, self.byte()?]);
            let mut field = [0; SIZE_FIELD.len()];
            for at in 0..usize::from(length) {
                let byte = self.byte()?;
                if let Some(place) = field.get_mut(at) {
                    *place = byte;
                }
            }
            self.ours |= field == SIZE_FIELD;
        }
        if flags & FNAME != 0 {
            self.skip_text()?;
        }
        if flags & FCOMMENT != 0 {
            self.skip_text()?;
        }
        // The lower half of the header's CRC-32.
        let sum = self.header.sum().to_le_bytes();
        if flags & FHCRC != 0 && [self.byte()?, self.byte()?] != sum[..2] {
            return Err(damaged("a gzip header has a wrong CRC-16"));
        }
        // SAFETY: the state was initialised when this was made.
        unsafe { isal_sys::isal_inflate_reset(&raw mut *self.state) };
        // ISA-L then checks CRC-32 and ISIZE by itself.
        self.state.crc_flag = isal_sys::ISAL_GZIP_NO_HDR_VER;
        self.within = true;
        Ok(true)
    }

    /// One step: bytes used and bytes made.
    fn step(&mut self, buf: &mut [u8]) -> io::Result<(usize, usize)> {
        let input = self.input.held();
        let state = &mut *self.state;
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        let room = buf.len().min(most);
        state.next_in = input.as_ptr().cast_mut();
        state.avail_in = u32::try_from(input.len()).unwrap_or(u32::MAX);
        state.next_out = buf.as_mut_ptr();
        state.avail_out = u32::try_from(room).unwrap_or(u32::MAX);
        // SAFETY: input and output are live slices for the whole call, their lengths are given, and
        // ISA-L only reads from `next_in`.
        let code = unsafe { isal_sys::isal_inflate(state) };
        state.next_in = null_mut();
        state.next_out = null_mut();
        match code {
            0 => {
                let left = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
                let used = input.len().checked_sub(left(state.avail_in));
                let made = room.checked_sub(left(state.avail_out));
                used.zip(made)
                    .ok_or_else(|| damaged("the gzip data is damaged"))
            }
            isal_sys::ISAL_INCORRECT_CHECKSUM => {
                Err(damaged("the gzip data has a wrong CRC-32 or length"))
            }
            _ => Err(damaged("the gzip data is damaged")),
        }
    }
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            let (used, made) = self.step(buf)?;
            self.input.consume(used);
            if self.state.block_state == isal_sys::isal_block_state_ISAL_BLOCK_FINISH {
                self.within = false;
                self.members += 1;
            } else if used == 0 && made == 0 {
                if self.input.is_full() {
                    return Err(damaged("the gzip data is damaged"));
                }
                if !self.input.refill()? {
                    return Err(cut_short());
                }
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(raw: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap()
    }

    /// Gives a few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let now = self.1.min(buf.len()).min(self.0.len());
            buf[..now].copy_from_slice(&self.0[..now]);
            self.0 = &self.0[now..];
            Ok(now)
        }
    }

    fn gunzip(bytes: &[u8], drip: usize) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        Gunzip::new(Drip(bytes, drip)).read_to_end(&mut raw)?;
        Ok(raw)
    }

    #[test]
    fn many_members_are_one_stream() {
        let sevens = vec![7; 300_000];
        let bytes = [gzip(b"one "), gzip(b""), gzip(&sevens), gzip(b"end")].concat();
        let raw = [&b"one "[..], &sevens, b"end"].concat();
        for drip in [1, 7, 1 << 20] {
            assert!(gunzip(&bytes, drip).unwrap() == raw, "{drip}");
        }
    }

    /// Also what follows the data.
    fn told(bytes: &[u8], drip: usize) -> io::Result<(Vec<u8>, Option<TrailingBytes>)> {
        let mut raw = Vec::new();
        let mut gunzip = Gunzip::new(Drip(bytes, drip));
        gunzip.read_to_end(&mut raw)?;
        Ok((raw, gunzip.trailing()))
    }

    #[test]
    fn what_follows_the_data_is_told_and_left_out() {
        let good = gzip(&b"pitstop ".repeat(1000));
        let size = good.len() as u64;
        for tail in [
            &b"x"[..],
            b"\0\0{ \"metadata\": 1 }",
            b"FWx0",
            &vec![7; 700_000],
        ] {
            for drip in [1000, 1 << 20] {
                let (raw, behind) = told(&[&good[..], tail].concat(), drip).unwrap();
                assert_eq!(raw, b"pitstop ".repeat(1000));
                let bytes = tail.len() as u64;
                assert_eq!(behind, Some(TrailingBytes { at: size, bytes }));
            }
        }
        assert_eq!(told(&good, 7).unwrap().1, None);
    }

    #[test]
    fn a_damaged_header_is_no_end_of_the_data() {
        let (one, two) = (gzip(b"one"), gzip(b"two"));
        for bit in 0..24 {
            let mut image = [&one[..], &two].concat();
            image[one.len() + bit / 8] ^= 1 << (bit % 8);
            let error = gunzip(&image, 4096).unwrap_err().to_string();
            assert_eq!(error, "a gzip header is damaged", "bit {bit}");
        }
        let hole = [&one[..], &[0; 5000], &two].concat();
        for drip in [1, 4096] {
            assert_eq!(
                gunzip(&hole, drip).unwrap_err().to_string(),
                "what is between two members is damaged"
            );
        }
    }

    #[test]
    fn nothing_may_follow_members_of_our_own() {
        let mut ours = vec![0x1f, 0x8b, 8, FEXTRA, 0, 0, 0, 0, 0, 255, 8, 0];
        ours.extend_from_slice(&SIZE_FIELD);
        ours.extend_from_slice(&40u32.to_le_bytes());
        ours.extend_from_slice(&gzip(b"pitstop")[10..]);
        assert_eq!(gunzip(&ours, 4096).unwrap(), b"pitstop");
        for tail in [&b"x"[..], &[0; 512]] {
            let error = gunzip(&[&ours[..], tail].concat(), 4096).unwrap_err();
            assert_eq!(error.to_string(), "something follows the end of the image");
        }
    }

    #[test]
    fn zeros_may_fill_up_a_tape() {
        let mut padded = [gzip(b"one "), gzip(b"two")].concat();
        padded.resize(1 << 20, 0);
        for drip in [1, 10_240, 1 << 20] {
            assert_eq!(gunzip(&padded, drip).unwrap(), b"one two");
        }
        for at in [100, (1 << 20) - 1] {
            let mut more = padded.clone();
            more[at] = 0x1f;
            let (raw, behind) = told(&more, 4096).unwrap();
            assert_eq!(raw, b"one two");
            let at = (gzip(b"one ").len() + gzip(b"two").len()) as u64;
            let bytes = (1 << 20) - at;
            assert_eq!(behind, Some(TrailingBytes { at, bytes }));
        }
        assert_eq!(
            gunzip(&[0; 512], 4096).unwrap_err().to_string(),
            "this is not gzip data"
        );
    }

    #[test]
    fn a_stream_ends_only_where_it_is_proven() {
        let good = gzip(&b"pitstop ".repeat(1000));
        for cut in [1, 5, 12, good.len() / 2, good.len() - 1] {
            let err = gunzip(&good[..cut], 4096).unwrap_err();
            assert_eq!(err.to_string(), "the gzip data is cut short", "{cut}");
        }
        let one = [&good[..], b"\x1f"].concat();
        assert_eq!(
            gunzip(&one, 4096).unwrap_err().to_string(),
            "the gzip data is cut short"
        );
        let mut wrong = good.clone();
        let crc = wrong.len() - 8;
        wrong[crc] ^= 1;
        assert_eq!(
            gunzip(&wrong, 4096).unwrap_err().to_string(),
            "the gzip data has a wrong CRC-32 or length"
        );
        assert_eq!(
            gunzip(b"", 1).unwrap_err().to_string(),
            "this is not gzip data"
        );
    }

    #[test]
    fn a_header_with_a_sum_of_its_own_is_proven_by_it() {
        // As RFC 1952 2.3.1 has it: name, comment, and the CRC-16 of all before.
        let mut header = vec![0x1f, 0x8b, 8, FHCRC | FNAME | FCOMMENT, 0, 0, 0, 0, 0, 3];
        header.extend_from_slice(b"sda.raw\0the lab's\0");
        let mut crc = Crc::new();
        crc.update(&header);
        header.extend_from_slice(&crc.sum().to_le_bytes()[..2]);
        let body = &gzip(b"pitstop")[10..];
        let good = [&header[..], body].concat();
        assert_eq!(
            gunzip(&[&good[..], &good].concat(), 3).unwrap(),
            b"pitstoppitstop"
        );
        let mut wrong = good.clone();
        wrong[12] ^= 1;
        assert_eq!(
            gunzip(&wrong, 3).unwrap_err().to_string(),
            "a gzip header has a wrong CRC-16"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_come_back_by_any_reads(
            raw in prop::collection::vec(any::<u8>(), 0..3000),
            repeat in 1usize..100,
            drip in 1usize..5000,
        ) {
            let raw = raw.repeat(repeat);
            prop_assert!(gunzip(&gzip(&raw), drip).unwrap() == raw);
        }

        #[test]
        fn changed_bytes_never_pass_for_others(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let raw = b"pitstop ".repeat(300);
            let mut bytes = gzip(&raw);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(back) = gunzip(&bytes, 100) {
                prop_assert!(back == raw);
            }
        }

        #[test]
        fn any_input_ends(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let input = [&[0x1f, 0x8b, 8, 0][..], &bytes].concat();
            let _ = gunzip(&input, 77);
        }
    }
}
