//! What compressing harder takes and saves: a table of every way that [`Deflater`] knows, in chunks of 1 MiB on one core.
//!
//! ```text
//! cargo run --release -p pitstop-imaging --example levels -- FILE
//! ```

use nix::time::{ClockId, clock_gettime};
use pitstop_imaging::image::members::{Deflater, Method, member_bound};
use std::time::Duration;

const CHUNK: usize = 1 << 20;
/// Of slow ways one chunk in so many is tried.
const SOME: usize = 16;

fn main() -> anyhow::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        anyhow::bail!("usage: levels FILE    FILE: what to compress, a disk or a tar");
    };
    let data = std::fs::read(path)?;
    let fast = measure(Method::Isal(1), &data, 1)?;
    println!("| way | MB/s a core | time | size | size of the fastest |\n|---|---|---|---|---|");
    row("ISA-L 1", &fast, &fast);
    row("ISA-L 2", &measure(Method::Isal(2), &data, 1)?, &fast);
    for level in 1..=12 {
        let step = if level > 7 { SOME } else { 1 };
        let found = measure(Method::Libdeflate(level), &data, step)?;
        row(&format!("libdeflate {level}"), &found, &fast);
    }
    Ok(())
}

/// Of a TiB of such data, so that integers do.
struct Measured {
    milliseconds: u64,
    packed_mib: u64,
}

fn measure(method: Method, data: &[u8], step: usize) -> anyhow::Result<Measured> {
    let mut deflater = Deflater::default();
    let mut member = vec![0; member_bound(CHUNK)];
    let (mut raw, mut packed) = (0u64, 0u64);
    let begun = processor()?;
    for chunk in data.chunks(CHUNK).step_by(step) {
        packed += deflater.member(method, chunk, &mut member) as u64;
        raw += chunk.len() as u64;
    }
    let took = processor()?.saturating_sub(begun).as_micros();
    let scaled = |of: u128, to: u128| u64::try_from(of * to / u128::from(raw.max(1)));
    Ok(Measured {
        milliseconds: scaled(took, (1 << 40) / 1000)?,
        packed_mib: scaled(packed.into(), 1 << 20)?,
    })
}

fn row(name: &str, found: &Measured, fast: &Measured) {
    println!(
        "| {name} | {} | {} | {} | {} |",
        ((1 << 40) / 1000) / found.milliseconds.max(1),
        percent(found.milliseconds, fast.milliseconds),
        percent(found.packed_mib, 1 << 20),
        percent(found.packed_mib, fast.packed_mib)
    );
}

fn percent(part: u64, of: u64) -> String {
    let tenths = part * 1000 / of.max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Time that this thread has computed.
fn processor() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
