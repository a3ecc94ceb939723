//! Numbers and bytes of the index: LEB128, as DWARF has it, seven bits a byte, the lowest first.

/// Why a column cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// A number that may be negative: 0, -1, 1, -2 are 0, 1, 2, 3.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_number(out, (value << 1 ^ value >> 63).cast_unsigned());
}

/// A length, and so many bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A column being read.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn number(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Broken);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    pub fn signed(&mut self) -> Result<i64, Broken> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A number that fits a smaller type.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Broken> {
        T::try_from(self.number()?).map_err(|_| Broken)
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.small()?;
        self.take(length)
    }

    pub fn hash(&mut self) -> Result<[u8; 32], Broken> {
        self.take(32)?.try_into().map_err(|_| Broken)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// # Errors
    /// When something is left.
    pub fn end(self) -> Result<(), Broken> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Broken)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(values in prop::collection::vec((any::<u64>(), any::<i64>()), 0..20)) {
            let mut out = Vec::new();
            for (plain, signed) in &values {
                put_number(&mut out, *plain);
                put_signed(&mut out, *signed);
            }
            let mut reader = Reader::new(&out);
            for (plain, signed) in values {
                prop_assert_eq!(reader.number(), Ok(plain));
                prop_assert_eq!(reader.signed(), Ok(signed));
            }
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn a_number_that_is_too_large_or_ends_early_is_none() {
        assert_eq!(Reader::new(&[0x80]).number(), Err(Broken));
        assert_eq!(Reader::new(&[0xff; 11]).number(), Err(Broken));
        assert_eq!(Reader::new(&[0xff, 0x03]).small::<u8>(), Err(Broken));
    }
}
