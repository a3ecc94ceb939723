//! Netascii, the mode in which tftp-hpa's client asks unless it is told otherwise (RFC 1350 1).

use std::io::{self, BufRead, BufReader, Read};

/// The mode's name.
pub const NETASCII: &str = "netascii";

/// Lines end in CR LF, and a CR that ends none is followed by a zero (RFC 764, "The NVT printer and keyboard").
pub struct Netascii<R> {
    plain: BufReader<R>,
    /// The second byte of two whose first was sent.
    second: Option<u8>,
}

impl<R: Read> Netascii<R> {
    pub fn new(plain: R) -> Self {
        Self {
            plain: BufReader::new(plain),
            second: None,
        }
    }

    fn next(&mut self) -> io::Result<Option<u8>> {
        if let Some(second) = self.second.take() {
            return Ok(Some(second));
        }
        let Some(byte) = self.plain.fill_buf()?.first().copied() else {
            return Ok(None);
        };
        self.plain.consume(1);
        let (first, second) = match byte {
            b'\n' => (b'\r', Some(b'\n')),
            b'\r' => (b'\r', Some(0)),
            other => (other, None),
        };
        self.second = second;
        Ok(Some(first))
    }
}

impl<R: Read> Read for Netascii<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        for (count, place) in buf.iter_mut().enumerate() {
            match self.next() {
                Ok(Some(byte)) => *place = byte,
                Err(error) if count == 0 => return Err(error),
                // What was read until then is not lost, also where it was only a signal: the next call meets the error.
                Ok(None) | Err(_) => return Ok(count),
            }
        }
        Ok(buf.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Netascii::new(plain).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn lines_end_in_two_bytes_and_nothing_else_does() {
        assert_eq!(sent(b"a\nb\r\n\r"), b"a\r\nb\r\0\r\n\r\0");
        assert_eq!(sent(b""), b"");
    }

    /// A byte a call, and a signal before each.
    struct Disturbed<'a> {
        rest: &'a [u8],
        is_quiet: bool,
    }

    impl Read for Disturbed<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.is_quiet = !self.is_quiet;
            if self.is_quiet {
                let length = buf.len().min(1);
                return self.rest.read(&mut buf[..length]);
            }
            Err(io::ErrorKind::Interrupted.into())
        }
    }

    #[test]
    fn a_signal_costs_no_byte() {
        let mut bytes = Vec::new();
        let plain = Disturbed {
            rest: b"one\ntwo\n",
            is_quiet: true,
        };
        Netascii::new(plain).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"one\r\ntwo\r\n");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_can_be_read_back(plain in prop::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(0), any::<u8>(),
        ], 0..200)) {
            let mut read = Vec::new();
            let mut bytes = sent(&plain).into_iter();
            while let Some(byte) = bytes.next() {
                read.push(match (byte, byte == b'\r') {
                    (_, true) if bytes.next() == Some(b'\n') => b'\n',
                    (byte, _) => byte,
                });
            }
            prop_assert_eq!(read, plain);
        }
    }
}
