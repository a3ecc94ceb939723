//! What a parent sends: 16 bytes, and behind some of them the member of a chunk.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 7 | the chunk's number, little-endian; 0 where there is none |
//! | 8 | what follows: 1 a gzip member, 2 nothing, a sign of life, 3 nothing, all that was wanted has been sent, 4 nothing, the rest of what was wanted is not here |
//! | 9 to 11 | zeros |
//! | 12 to 15 | bytes that follow, little-endian |

/// Bytes of a frame's head.
pub const HEAD: usize = 16;

/// What a parent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The member of a chunk follows, so many bytes.
    Member { chunk: u64, length: usize },
    /// It is there, and has nothing for the child now.
    Alive,
    /// The child has all that it wanted.
    End,
    /// The child has all of it that will ever be here.
    Lacks,
}

/// Something that no parent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("a frame of an unknown kind")]
    Kind,
    #[error("a frame for chunk {0}, which the disk does not have")]
    Chunk(u64),
    #[error("a frame of {0} bytes, which no member has")]
    Length(u32),
}

impl Frame {
    pub fn to_bytes(self) -> [u8; HEAD] {
        let (chunk, kind, length) = match self {
            Frame::Member { chunk, length } => {
                (chunk, 1, u32::try_from(length).unwrap_or(u32::MAX))
            }
            Frame::Alive => (0, 2, 0),
            Frame::End => (0, 3, 0),
            Frame::Lacks => (0, 4, 0),
        };
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&chunk.to_le_bytes());
        bytes[8] = kind;
        bytes[12..].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// Reads the head of a frame, of a disk of `count` chunks whose members have at most `largest` bytes.
    pub fn parse(bytes: [u8; HEAD], count: u64, largest: usize) -> Result<Self, BadFrame> {
        let (mut number, mut size) = ([0; 8], [0; 4]);
        number.copy_from_slice(&bytes[..8]);
        size.copy_from_slice(&bytes[12..]);
        let (chunk, length) = (u64::from_le_bytes(number), u32::from_le_bytes(size));
        let kind = bytes[8];
        if bytes[9..12] != [0; 3] {
            return Err(BadFrame::Kind);
        }
        let nothing = chunk == 0 && length == 0;
        match kind {
            1 if chunk >= count => Err(BadFrame::Chunk(chunk)),
            1 => match usize::try_from(length) {
                Ok(length) if length > 0 && length <= largest => {
                    Ok(Frame::Member { chunk, length })
                }
                _ => Err(BadFrame::Length(length)),
            },
            2 if nothing => Ok(Frame::Alive),
            3 if nothing => Ok(Frame::End),
            4 if nothing => Ok(Frame::Lacks),
            _ => Err(BadFrame::Kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_no_parent_says_is_named() {
        let member = |chunk, length| Frame::Member { chunk, length }.to_bytes();
        assert_eq!(Frame::parse(member(9, 5), 9, 100), Err(BadFrame::Chunk(9)));
        for length in [0, 101] {
            assert!(matches!(
                Frame::parse(member(1, length), 9, 100),
                Err(BadFrame::Length(_))
            ));
        }
        let mut spoilt = member(1, 5);
        spoilt[10] = 1;
        assert_eq!(Frame::parse(spoilt, 9, 100), Err(BadFrame::Kind));
    }

    proptest! {
        #[test]
        fn frames_read_back(chunk in 0u64..1000, length in 1usize..5000, kind in 0..4) {
            let frame = match kind {
                0 => Frame::Member { chunk, length },
                1 => Frame::Alive,
                2 => Frame::End,
                _ => Frame::Lacks,
            };
            prop_assert_eq!(Frame::parse(frame.to_bytes(), 1000, 5000), Ok(frame));
        }

        #[test]
        fn any_bytes_are_a_frame_within_bounds_or_refused(bytes: [u8; HEAD], small in prop::collection::vec(0u8..6, 16)) {
            for bytes in [bytes, small.try_into().unwrap()] {
                if let Ok(frame) = Frame::parse(bytes, 100, 1000) {
                    prop_assert_eq!(frame.to_bytes(), bytes);
                    if let Frame::Member { chunk, length } = frame {
                        prop_assert!(chunk < 100 && (1..=1000).contains(&length));
                    }
                }
            }
        }
    }
}
