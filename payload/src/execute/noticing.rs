//! An image as the share gives it, and whether the share failed to: bytes that make no sense end a look at it as well.

use pitstop_imaging::image::ImageSource;
use pitstop_imaging::source::ReadAt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Notices when bytes that an image has are not given.
pub(super) struct Noticing<'a> {
    inner: &'a dyn ImageSource,
    failed: Arc<AtomicBool>,
}

impl<'a> Noticing<'a> {
    pub(super) fn new(inner: &'a dyn ImageSource) -> Self {
        Self {
            inner,
            failed: Arc::default(),
        }
    }

    /// Whether the share has failed so far.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// A damaged image may lead beyond its own end: that is not the share's doing.
    fn notice(&self, end: u64) {
        if end <= self.inner.size() {
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}

impl ReadAt for Noticing<'_> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let outcome = self.inner.read_exact_at(buf, offset);
        if outcome.is_err() {
            self.notice(offset.saturating_add(buf.len() as u64));
        }
        outcome
    }
}

impl ImageSource for Noticing<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match self.inner.stream_from(offset) {
            Ok(inner) => Ok(Box::new(Stream {
                inner,
                failed: self.failed.clone(),
            })),
            Err(error) => {
                self.notice(offset);
                Err(error)
            }
        }
    }
}

struct Stream {
    inner: Box<dyn Read + Send>,
    failed: Arc<AtomicBool>,
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let outcome = self.inner.read(buf);
        let broke = |error: &io::Error| error.kind() != io::ErrorKind::Interrupted;
        if outcome.as_ref().is_err_and(broke) {
            self.failed.store(true, Ordering::SeqCst);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight bytes, of which the share gives the first four.
    struct Half;

    impl ReadAt for Half {
        fn size(&self) -> u64 {
            8
        }

        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            if offset + buf.len() as u64 > 4 {
                return Err(io::Error::other("gone"));
            }
            buf.fill(7);
            Ok(())
        }
    }

    impl ImageSource for Half {
        fn name(&self) -> &'static str {
            "half"
        }

        fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
            if offset > 4 {
                return Err(io::Error::other("gone"));
            }
            Ok(Box::new(Gone))
        }
    }

    struct Gone;

    impl Read for Gone {
        fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    #[test]
    fn what_an_image_has_and_the_share_does_not_give_is_noticed() {
        let failed = |look: &dyn Fn(&Noticing<'_>)| {
            let source = Noticing::new(&Half);
            look(&source);
            source.has_failed()
        };
        let read = |source: &Noticing<'_>, offset| {
            let _ = source.read_exact_at(&mut [0; 4], offset);
        };
        assert!(!failed(&|source| read(source, 0)));
        assert!(failed(&|source| read(source, 4)));
        assert!(!failed(&|source| read(source, 5)), "beyond its end");
        assert!(failed(&|source| {
            let mut stream = source.stream_from(0).unwrap();
            stream.read(&mut [0; 4]).unwrap_err();
        }));
        assert!(failed(&|source| drop(source.stream_from(6))));
    }
}
