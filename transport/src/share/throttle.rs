//! A limit on how fast images go over the network, for a share of any kind.

use super::{NewAgain, Pending, PendingAgain, Share, Standing, Stat};
use pitstop_imaging::image::{Again, Before, Held, ImageSource, Place};
use pitstop_imaging::source::ReadAt;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What may come at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The most that is moved before the bucket is asked again, so that a limit is a flow and not a row of bursts.
const PIECE: usize = 256 << 10;

/// A token bucket that may be overdrawn: who takes more than is there waits until it is back.
#[derive(Debug)]
struct Bucket {
    /// Bytes per second.
    rate: NonZeroU64,
    /// When all that was taken will have been paid for.
    paid: Duration,
}

impl Bucket {
    /// Takes `bytes` at `now`; returns how long whoever took them has to wait.
    fn take(&mut self, bytes: usize, now: Duration) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rate.get());
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let saved = now.saturating_sub(BURST);
        self.paid = self.paid.max(saved).saturating_add(cost);
        self.paid.saturating_sub(now)
    }
}

/// A limit that all who have a clone of it keep together.
#[derive(Debug, Clone)]
pub struct Throttle(Arc<(Mutex<Bucket>, Instant)>);

impl Throttle {
    /// `rate` is in bytes per second.
    pub fn new(rate: NonZeroU64) -> Self {
        let bucket = Bucket {
            rate,
            paid: Duration::ZERO,
        };
        Self(Arc::new((Mutex::new(bucket), Instant::now())))
    }

    fn take(&self, bytes: usize) {
        let (bucket, start) = &*self.0;
        let wait = bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes, start.elapsed());
        thread::sleep(wait);
    }
}

/// Something whose image bytes keep to a limit: a share, a source, a reader, a file being written.
pub struct Throttled<T> {
    inner: T,
    throttle: Throttle,
}

impl<T> Throttled<T> {
    pub fn new(inner: T, throttle: Throttle) -> Self {
        Self { inner, throttle }
    }
}

impl<T: Read> Read for Throttled<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(PIECE);
        let count = self.inner.read(&mut buf[..most])?;
        self.throttle.take(count);
        Ok(count)
    }
}

impl<T: Write> Write for Throttled<T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(&data[..data.len().min(PIECE)])?;
        self.throttle.take(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Pending for Throttled<Box<dyn Pending>> {
    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.inner.finish()
    }

    fn land(&mut self) -> anyhow::Result<()> {
        self.inner.land()
    }

    fn finish_new(self: Box<Self>) -> anyhow::Result<()> {
        self.inner.finish_new()
    }

    fn standing(&self) -> Standing {
        self.inner.standing()
    }
}

impl Pending for Throttled<Box<dyn PendingAgain>> {
    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.inner.finish()
    }
}

/// What is not sent is not slowed down.
impl Again for Throttled<Box<dyn PendingAgain>> {
    fn read_index(&mut self, before: &Before) {
        self.inner.read_index(before);
    }

    fn next_offset(&self) -> Option<u64> {
        self.inner.next_offset()
    }

    fn member(&mut self, member: &Held) -> io::Result<()> {
        self.inner.member(member)
    }

    fn repeated(&mut self, bytes: &[u8], count: u32) -> io::Result<()> {
        self.inner.repeated(bytes, count)
    }
}

impl PendingAgain for Throttled<Box<dyn PendingAgain>> {}

impl ReadAt for Throttled<Box<dyn ImageSource>> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)?;
        self.throttle.take(buf.len());
        Ok(())
    }
}

impl ImageSource for Throttled<Box<dyn ImageSource>> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let stream = self.inner.stream_from(offset)?;
        Ok(Box::new(Throttled::new(stream, self.throttle.clone())))
    }

    fn came_wrong(&self, bytes: Range<u64>) -> bool {
        self.inner.came_wrong(bytes)
    }

    fn places(&self) -> Vec<Place> {
        self.inner.places()
    }
}

impl Share for Throttled<Box<dyn Share>> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        self.inner.stat(path)
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        self.inner.open(path)
    }

    fn folder(&self, path: &str) -> anyhow::Result<Option<PathBuf>> {
        self.inner.folder(path)
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        let source = self.inner.image(path)?;
        Ok(Box::new(Throttled::new(source, self.throttle.clone())))
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        let pending = self.inner.create(path)?;
        Ok(Box::new(Throttled::new(pending, self.throttle.clone())))
    }

    fn create_again(&self, path: &str, before: &str) -> anyhow::Result<Option<NewAgain>> {
        let again = self.inner.create_again(path, before)?;
        Ok(again.map(|NewAgain { before, pending }| NewAgain {
            before: Box::new(Throttled::new(before, self.throttle.clone())),
            pending: Box::new(Throttled::new(pending, self.throttle.clone())),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.inner.remove(path)
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.inner.append(path, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::DirectoryShare;

    fn bucket(rate: u64) -> Bucket {
        Bucket {
            rate: NonZeroU64::new(rate).unwrap(),
            paid: Duration::ZERO,
        }
    }

    #[test]
    fn a_bucket_gives_its_rate_over_any_time() {
        let mut bucket = bucket(1000);
        let mut now = Duration::from_secs(5);
        let begun = now;
        for _ in 0..500 {
            now += bucket.take(70, now);
        }
        // 35 000 bytes, less what had been saved up.
        assert_eq!(now, begun + Duration::from_millis(35_000 - 100));
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let mut bucket = bucket(1000);
        assert_eq!(
            bucket.take(2000, Duration::ZERO),
            Duration::from_secs(2),
            "nothing is saved at the start"
        );
        let later = Duration::from_secs(3600);
        assert_eq!(bucket.take(100, later), Duration::ZERO);
        assert_eq!(bucket.take(50, later), Duration::from_millis(50));
    }

    #[test]
    fn a_slowed_share_moves_the_same_bytes() {
        let root = tempfile::tempdir().unwrap();
        let inner: Box<dyn Share> = Box::new(DirectoryShare::open(root.path()).unwrap());
        let throttle = Throttle::new(NonZeroU64::new(1 << 30).unwrap());
        let share = Throttled::new(inner, throttle);
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * PIECE).collect();
        let mut pending = share.create("m/x").unwrap();
        pending.write_all(&bytes).unwrap();
        pending.finish().unwrap();
        let image = share.image("m/x").unwrap();
        let mut part = [0; 100];
        image.read_exact_at(&mut part, 5000).unwrap();
        assert_eq!(part, bytes[5000..5100]);
        let mut rest = Vec::new();
        image
            .stream_from(7)
            .unwrap()
            .read_to_end(&mut rest)
            .unwrap();
        assert_eq!(rest, bytes[7..]);
    }
}
