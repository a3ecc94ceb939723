//! Has the kernel read the new table of a disk, and compares the partitions that it sees with those that were written.

use crate::disk::{Output, Target};
use crate::event::Reporter;
use crate::source::Window;
use crate::table;

/// Has the kernel read the table that was written, and compares. Nothing here undoes a restore that is proven: what
/// is wrong is a warning.
pub fn reread_table(output: &Target, reporter: &dyn Reporter) {
    let name = output.name();
    match output.reread_table() {
        Ok(false) => {}
        Ok(true) => {
            for difference in differences(output) {
                reporter.warn(format!(
                    "{name} is written, but the kernel sees other partitions: {difference}"
                ));
            }
        }
        Err(error) => reporter.warn(format!(
            "{name} is written, but the kernel keeps its old partition table: {error}"
        )),
    }
}

fn differences(output: &Target) -> Vec<String> {
    let (Some(limit), Some(sector)) = (output.limit(), output.sector_size()) else {
        return Vec::new();
    };
    match table::read(&Window::new(output, 0, limit), sector) {
        Ok(table) => output.differs_for_the_kernel(&table),
        // Images of disks with such tables are restored as they are; the capture told why it is in doubt.
        Err(_) => Vec::new(),
    }
}
