//! An image with an index goes back to a disk. What could boot is written last, and only when all else is proven.

use super::loaded_index::LoadedIndex;
use super::restored::Restored;
use super::restoring::Restoring;
use super::target_writes::{check_fits, flush, invalidate};
use super::workers::Meter;
use super::{Delta, Feed, ImageSource, RestoreOptions, delta, feed, readback};
use crate::disk::Output;
use crate::event::{Act, Reporter};
use anyhow::Context;

/// Writes an image with an index to `output`.
pub fn restore_indexed(
    image: &dyn ImageSource,
    loaded: &LoadedIndex,
    output: &dyn Output,
    options: &RestoreOptions,
    feed: Option<&dyn Feed>,
    reporter: &dyn Reporter,
) -> anyhow::Result<Restored> {
    let LoadedIndex { index, meta, .. } = loaded;
    let size = index.raw_size();
    check_fits(output, size)?;
    output.set_size(size)?;
    let compare = match options.delta {
        _ if output.is_blank() => false,
        Delta::Off => false,
        Delta::On => true,
        Delta::Auto => delta::worth_comparing(index, output, options.ahead.as_deref()),
    };
    if compare && options.delta == Delta::Auto {
        reporter.info(format!(
            "{} has much of the image already: only what differs is moved",
            output.name()
        ));
    }
    let meter = Meter::new(Act::Restore, output.name(), Some(index.walked()), reporter);
    let restoring = Restoring::new(image, index, output, &meter).after(options.ahead.as_deref());
    let finish = || {
        finish(&restoring)?;
        if options.verify {
            readback::verify(&restoring, options.threads, reporter)?;
        }
        Ok(())
    };
    run(&restoring, feed, compare, options.threads, finish)
        .with_context(|| format!("restoring {} to {}", image.name(), output.name()))?;
    Ok(Restored {
        size,
        written: restoring.written.into_inner(),
        zeroed: restoring.zeroed.into_inner(),
        unchanged: restoring.unchanged.into_inner(),
        transferred: meter.transferred(),
        verified: options.verify,
        meta: Some(meta.clone()),
    })
}

fn run(
    restoring: &Restoring,
    feed: Option<&dyn Feed>,
    compare: bool,
    threads: usize,
    finish: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    invalidate(restoring.output, Some(restoring.index.raw_size()))?;
    match feed {
        Some(feed) => return feed::run(restoring, feed, compare, threads, finish),
        None if compare || restoring.has_ahead() => delta::run(restoring, compare, threads)?,
        None => restoring.stream(threads)?,
    }
    finish()
}

fn finish(restoring: &Restoring) -> anyhow::Result<()> {
    flush(restoring.output)?;
    // Every chunk was inflated and matched its hash, or was found on the target as it should be.
    let verified = restoring.pass.verified()?;
    restoring.write_held(&verified)?;
    flush(restoring.output)
}
