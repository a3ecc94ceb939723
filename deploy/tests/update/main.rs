//! An update against its table: by real files on real filesystems. As root.

#[path = "../../../trees/tests/common/mod.rs"]
mod common;
#[path = "../update_common/mod.rs"]
mod update_common;

mod kept;
mod refused;
mod table;
mod unrecorded;
