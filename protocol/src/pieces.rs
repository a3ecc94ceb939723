//! What a segment of an upload may say in place of bytes: that parts of a file which the server has already come next.
//!
//! The body of such a segment is pieces, one behind another, each with its kind in the first byte. Everything is
//! little-endian. `docs/pitstop.md` says the same for people.
//!
//! | kind | then |
//! |---|---|
//! | 1, bytes | how many, as 4 bytes; the bytes |
//! | 2, bytes that repeat | how often, as 4 bytes; how many, as 4 bytes; the bytes |
//! | 3, members of the base | where the first begins, as 8 bytes; how many, as 4 bytes; of each its size, as 4 bytes, and the BLAKE3 of what it inflates to |

/// In the answer to OPTIONS: the most bytes that the pieces of one segment may make. In a PUT: that its body is pieces.
pub const PIECES: &str = "pitstop-pieces";

/// In the answer to OPTIONS: all pieces may come in one PUT, in blocks of this size at most, each behind its length in four bytes.
pub const PIECES_WHOLE: &str = "pitstop-pieces-whole";

/// The most bytes of a block.
pub const MOST_BLOCK: u32 = 4 << 20;

/// In a PUT: the path on the server of the file that members are taken from.
pub const BASE: &str = "pitstop-base";

/// In a PUT: the strong `ETag` of that file. In a refusal: why nothing is taken from it.
pub const BASE_MATCH: &str = "pitstop-base-match";

/// In a refusal, under [`BASE_MATCH`]: the base is not there any more, or not as the client knows it.
pub const BASE_CHANGED: &str = "changed";

/// The same: a member of the base is not what the client says.
pub const BASE_DAMAGED: &str = "damaged";

/// The same: the store behind the server does not copy from the base.
pub const BASE_NOT_COPIED: &str = "not-copied";

/// The most bytes that the pieces of one segment may make: room for the largest member that there is.
pub const MOST_MADE: u64 = 80 << 20;

const BYTES: u8 = 1;
const REPEATED: u8 = 2;
const MEMBERS: u8 = 3;
/// Size and hash.
const MEMBER: usize = 4 + 32;

/// A member of a gzip file, and what it must inflate to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub size: u32,
    /// BLAKE3 of the raw bytes.
    pub hash: [u8; 32],
}

/// What comes next in the file that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    Bytes(&'a [u8]),
    Repeated {
        bytes: &'a [u8],
        count: u32,
    },
    /// Members that lie one behind another in the base.
    Members {
        /// Where the first begins.
        offset: u64,
        members: Vec<Member>,
    },
}

/// Bytes that are no pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPieces {
    #[error("the body ends in the middle of a piece")]
    Short,
    #[error("there is no piece of kind {0}")]
    Kind(u8),
    #[error("a piece makes nothing")]
    Empty,
    #[error("the pieces make more than {MOST_MADE} bytes")]
    TooMuch,
    #[error("a piece lies beyond the end of any file")]
    Place,
}

/// The pieces of a body, and how many bytes they make together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces<'a> {
    pub pieces: Vec<Piece<'a>>,
    pub made: u64,
}

impl<'a> Pieces<'a> {
    /// Reads what anybody may have sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &'a [u8]) -> Result<Self, BadPieces> {
        let mut rest = Rest(body);
        let (mut pieces, mut made) = (Vec::new(), 0_u64);
        while !rest.0.is_empty() {
            let (piece, bytes) = rest.piece()?;
            if bytes == 0 {
                return Err(BadPieces::Empty);
            }
            made = made
                .checked_add(bytes)
                .filter(|made| *made <= MOST_MADE)
                .ok_or(BadPieces::TooMuch)?;
            pieces.push(piece);
        }
        Ok(Self { pieces, made })
    }
}

/// What of a body is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadPieces> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadPieces::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadPieces> {
        self.take(N)?.try_into().map_err(|_| BadPieces::Short)
    }

    fn word(&mut self) -> Result<u32, BadPieces> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], BadPieces> {
        let count = usize::try_from(self.word()?).map_err(|_| BadPieces::Short)?;
        self.take(count)
    }

    /// The next piece, and how many bytes it makes.
    fn piece(&mut self) -> Result<(Piece<'a>, u64), BadPieces> {
        let [kind] = self.array()?;
        match kind {
            BYTES => {
                let bytes = self.bytes()?;
                Ok((Piece::Bytes(bytes), bytes.len() as u64))
            }
            REPEATED => {
                let count = self.word()?;
                let bytes = self.bytes()?;
                let made = (bytes.len() as u64).saturating_mul(count.into());
                Ok((Piece::Repeated { bytes, count }, made))
            }
            MEMBERS => self.members(),
            other => Err(BadPieces::Kind(other)),
        }
    }

    fn members(&mut self) -> Result<(Piece<'a>, u64), BadPieces> {
        let offset = u64::from_le_bytes(self.array()?);
        let count = usize::try_from(self.word()?).map_err(|_| BadPieces::Short)?;
        // Room is made for what is there, whatever the count says.
        let listed = count.checked_mul(MEMBER).ok_or(BadPieces::Short)?;
        let mut listed = Rest(self.take(listed)?);
        let (mut members, mut made) = (Vec::with_capacity(count), 0_u64);
        for _ in 0..count {
            let size = listed.word()?;
            let hash = listed.array()?;
            if size == 0 {
                return Err(BadPieces::Empty);
            }
            made += u64::from(size);
            members.push(Member { size, hash });
        }
        if offset.checked_add(made).is_none() {
            return Err(BadPieces::Place);
        }
        Ok((Piece::Members { offset, members }, made))
    }
}

/// A body in the making. What goes on where the piece before it ended becomes one piece with it.
#[derive(Debug, Default)]
pub struct Composer {
    body: Vec<u8>,
    made: u64,
    open: Option<Open>,
}

/// The last piece, as long as it can grow.
#[derive(Debug)]
struct Open {
    /// Where its count is in the body.
    count: usize,
    kind: Growing,
}

#[derive(Debug, PartialEq, Eq)]
enum Growing {
    Bytes,
    /// Members of the base; the next one would begin here.
    Members(u64),
}

impl Composer {
    /// Bytes of the body so far.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Bytes that it makes.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Adds bytes; at most 4 GiB fit a body.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let grows = matches!(&self.open, Some(open) if open.kind == Growing::Bytes);
        if !grows {
            self.begin(BYTES, &[], Growing::Bytes);
        }
        self.body.extend_from_slice(bytes);
        self.count(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.made += bytes.len() as u64;
    }

    /// Adds `bytes` so many times.
    pub fn repeated(&mut self, bytes: &[u8], count: u32) {
        if bytes.is_empty() || count == 0 {
            return;
        }
        self.open = None;
        self.body.push(REPEATED);
        self.body.extend_from_slice(&count.to_le_bytes());
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(bytes);
        self.made += bytes.len() as u64 * u64::from(count);
    }

    /// Adds the member of the base that begins at `offset`.
    pub fn member(&mut self, offset: u64, member: Member) {
        let end = offset.saturating_add(member.size.into());
        match &mut self.open {
            Some(open) if open.kind == Growing::Members(offset) => {
                open.kind = Growing::Members(end);
            }
            _ => self.begin(MEMBERS, &offset.to_le_bytes(), Growing::Members(end)),
        }
        self.body.extend_from_slice(&member.size.to_le_bytes());
        self.body.extend_from_slice(&member.hash);
        self.count(1);
        self.made += u64::from(member.size);
    }

    /// The body, and how many bytes it makes; what is added from now on is another one's.
    pub fn take(&mut self) -> (Vec<u8>, u64) {
        let all = std::mem::take(self);
        (all.body, all.made)
    }

    fn begin(&mut self, kind: u8, head: &[u8], growing: Growing) {
        self.body.push(kind);
        self.body.extend_from_slice(head);
        self.open = Some(Open {
            count: self.body.len(),
            kind: growing,
        });
        self.body.extend_from_slice(&0_u32.to_le_bytes());
    }

    fn count(&mut self, more: u32) {
        let at = self.open.as_ref().map(|open| open.count..open.count + 4);
        if let Some(word) = at.and_then(|at| self.body.get_mut(at))
            && let Ok(old) = <[u8; 4]>::try_from(&*word)
        {
            let count = u32::from_le_bytes(old).saturating_add(more);
            word.copy_from_slice(&count.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(size: u32) -> Member {
        Member {
            size,
            hash: [size.to_le_bytes()[0]; 32],
        }
    }

    #[test]
    fn what_goes_on_is_one_piece() {
        let mut composer = Composer::default();
        composer.bytes(b"ab");
        composer.bytes(b"cd");
        composer.member(10, member(5));
        composer.member(15, member(6));
        composer.member(100, member(7));
        composer.repeated(b"zero", 1000);
        composer.bytes(b"e");
        assert_eq!(composer.made(), 4 + 11 + 7 + 4000 + 1);
        let (body, made) = composer.take();
        assert!(composer.is_empty());
        let pieces = vec![
            Piece::Bytes(b"abcd"),
            Piece::Members {
                offset: 10,
                members: vec![member(5), member(6)],
            },
            Piece::Members {
                offset: 100,
                members: vec![member(7)],
            },
            Piece::Repeated {
                bytes: b"zero",
                count: 1000,
            },
            Piece::Bytes(b"e"),
        ];
        assert_eq!(Pieces::parse(&body), Ok(Pieces { pieces, made }));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let huge = |count: u32| {
            let mut composer = Composer::default();
            composer.repeated(&vec![0; 1 << 20], count);
            composer.take().0
        };
        assert_eq!(Pieces::parse(&huge(80)).map(|it| it.made), Ok(MOST_MADE));
        assert_eq!(Pieces::parse(&huge(81)), Err(BadPieces::TooMuch));
        assert_eq!(Pieces::parse(&[4]), Err(BadPieces::Kind(4)));
        assert_eq!(Pieces::parse(&[1, 0, 0, 0, 0]), Err(BadPieces::Empty));
        assert_eq!(Pieces::parse(&[1, 2, 0, 0, 0, 7]), Err(BadPieces::Short));
        let many = [&[3; 1][..], &[0; 8], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(Pieces::parse(&many), Err(BadPieces::Short));
        let mut composer = Composer::default();
        composer.member(u64::MAX - 3, member(9));
        assert_eq!(Pieces::parse(&composer.take().0), Err(BadPieces::Place));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            body in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
        ) {
            if let Ok(pieces) = Pieces::parse(&body) {
                prop_assert!(pieces.made <= MOST_MADE);
            }
        }

        #[test]
        fn what_is_composed_reads_back(
            steps in prop::collection::vec((0u8..3, 1u32..50, any::<u8>()), 0..40),
        ) {
            let (mut composer, mut expected, mut at) = (Composer::default(), Vec::new(), 0u64);
            // Told apart by a letter, so that the order is seen.
            for (kind, count, letter) in steps {
                let bytes = vec![letter; count as usize];
                match kind {
                    0 => composer.bytes(&bytes),
                    1 => composer.repeated(&bytes[..1], count),
                    _ => {
                        at += u64::from(letter & 1);
                        composer.member(at, member(count));
                        at += u64::from(count);
                    }
                }
                expected.push((kind, bytes));
            }
            let made = composer.made();
            let (body, told) = composer.take();
            let read = Pieces::parse(&body).unwrap();
            prop_assert_eq!((read.made, told), (made, made));
            let mut found = Vec::new();
            for piece in read.pieces {
                match piece {
                    Piece::Bytes(bytes) => found.extend_from_slice(bytes),
                    Piece::Repeated { bytes, count } => found.extend(bytes.repeat(count as usize)),
                    Piece::Members { members, .. } => {
                        found.extend(members.iter().flat_map(|it| vec![0; it.size as usize]));
                    }
                }
            }
            let all: Vec<u8> = expected
                .into_iter()
                .flat_map(|(kind, bytes)| if kind == 2 { vec![0; bytes.len()] } else { bytes })
                .collect();
            prop_assert_eq!(found, all);
        }
    }
}
