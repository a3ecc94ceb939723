//! What every machine loads at every boot.

use anyhow::{Result, ensure};
use qemu_tests::paths::Payload;
use std::fs;

/// In bytes; a little above what it is. What makes `/init` larger than this is worth a look: `make image` tells the size.
const LARGEST_INIT: u64 = 9_200_000;

#[test]
fn init_is_no_larger_than_it_was() -> Result<()> {
    let size = fs::metadata(Payload::Debian.file("init")?)?.len();
    ensure!(
        size <= LARGEST_INIT,
        "/init has {size} bytes, and every machine loads it at every boot: {LARGEST_INIT} were enough"
    );
    Ok(())
}
